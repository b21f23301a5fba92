//! Keeps the way to every server known, so that the packet path never has to look for it.
//!
//! The way is the kernel's own: route, interface and neighbour are read through rtnetlink and followed by its
//! notifications. The probes, which take the same way, keep the neighbour resolved. A neighbour that fails to resolve
//! is not forgotten: whether the server is dead is for the detector to say.

use std::{net::Ipv4Addr, time::Duration};

use anyhow::{Context as _, Result, bail};
use futures_util::{FutureExt as _, StreamExt as _};
use rtnetlink::{
    Handle, MulticastGroup, new_multicast_connection,
    packet_core::{NetlinkMessage, NetlinkPayload},
    packet_route::RouteNetlinkMessage,
};
use tokio::sync::mpsc::UnboundedSender;

use crate::{
    config::Config,
    datapath::NextHop,
    ids::ServerId,
    network::{self, Interface, Neighbours, Way},
};

/// Notifications that come close together are answered once.
const SETTLE: Duration = Duration::from_millis(5);

/// News about the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// The way to a server is known, or has changed.
    Way {
        /// The server.
        server: ServerId,
        /// The way.
        hop: NextHop,
        /// Name of the interface.
        interface: String,
    },
    /// There is no way to a server that could be used now. A way that was known before stays in use.
    NoWay {
        /// The server.
        server: ServerId,
        /// Why.
        why: String,
    },
    /// The carrier of an interface changed.
    Carrier {
        /// Name of the interface.
        interface: String,
        /// Whether it has one now.
        up: bool,
        /// The servers behind it.
        servers: Vec<ServerId>,
    },
}

/// Follows the network until the receiver of the news is gone.
///
/// # Errors
///
/// The kernel ends the conversation. What is known stays in use.
pub async fn watch(config: &Config, news: UnboundedSender<News>) -> Result<()> {
    let groups = [MulticastGroup::Link, MulticastGroup::Neigh, MulticastGroup::Ipv4Route, MulticastGroup::Ipv4Ifaddr];
    let (connection, handle, mut messages) =
        new_multicast_connection(&groups).context("cannot follow the kernel's routes and neighbours")?;
    let connection = tokio::spawn(connection);
    let mut watcher = Watcher::new(config, handle, news).await?;
    while !watcher.news.is_closed() {
        watcher.resolve_all().await;
        loop {
            let (message, _) = messages.next().await.context("rtnetlink ended the conversation")?;
            let mut concerned = watcher.take(&message);
            tokio::time::sleep(SETTLE).await;
            while let Some(Some((message, _))) = messages.next().now_or_never() {
                concerned |= watcher.take(&message);
            }
            if concerned {
                break;
            }
        }
    }
    connection.abort();
    Ok(())
}

struct Watcher {
    handle: Handle,
    news: UnboundedSender<News>,
    servers: Vec<Server>,
    /// Front and back: the interfaces that packets may leave by.
    interfaces: Vec<Interface>,
}

struct Server {
    id: ServerId,
    address: Ipv4Addr,
    way: Option<Way>,
    /// What was told last, so that nothing is told twice.
    told: Option<Result<NextHop, String>>,
}

impl Watcher {
    async fn new(config: &Config, handle: Handle, news: UnboundedSender<News>) -> Result<Self> {
        let mut interfaces = Vec::new();
        for name in config.gateway.interfaces() {
            interfaces.push(network::interface(&handle, name).await?);
        }
        let servers =
            config.servers().map(|(id, _, server)| Server { id, address: server.address, way: None, told: None });
        Ok(Self { handle, news, servers: servers.collect(), interfaces })
    }

    /// Looks at a notification. Carrier changes are told at once; says whether the ways have to be looked at again.
    fn take(&mut self, message: &NetlinkMessage<RouteNetlinkMessage>) -> bool {
        let NetlinkPayload::InnerMessage(message) = &message.payload else { return true };
        match message {
            RouteNetlinkMessage::NewNeighbour(neighbour) => network::neighbour_address(neighbour)
                .is_some_and(|address| self.servers.iter().any(|server| server.is_behind(address))),
            RouteNetlinkMessage::NewLink(link) | RouteNetlinkMessage::DelLink(link) => {
                let gone = matches!(message, RouteNetlinkMessage::DelLink(_));
                self.carrier_is(link.header.index, !gone && network::has_carrier(link))
            }
            RouteNetlinkMessage::DelNeighbour(_) => false,
            _ => true,
        }
    }

    fn carrier_is(&mut self, index: u32, up: bool) -> bool {
        let Some(interface) = self.interfaces.iter_mut().find(|interface| interface.index == index) else {
            return false;
        };
        if std::mem::replace(&mut interface.carrier, up) != up {
            let behind = |server: &&Server| server.way.is_some_and(|way| way.ifindex == index);
            let servers = self.servers.iter().filter(behind).map(|server| server.id).collect();
            let _ = self.news.send(News::Carrier { interface: interface.name.clone(), up, servers });
        }
        true
    }

    async fn resolve_all(&mut self) {
        let neighbours = match network::neighbours(&self.handle).await {
            Ok(neighbours) => neighbours,
            Err(error) => {
                tracing::warn!("{error:#}");
                return;
            }
        };
        for index in 0..self.servers.len() {
            let found = self.resolve(index, &neighbours).await.map_err(|error| format!("{error:#}"));
            let server = &mut self.servers[index];
            if server.told.as_ref() == Some(&found) {
                continue;
            }
            let news = match found.clone() {
                Ok(hop) => News::Way { server: server.id, hop, interface: name_of(&self.interfaces, hop.ifindex) },
                Err(why) => News::NoWay { server: server.id, why },
            };
            server.told = Some(found);
            let _ = self.news.send(news);
        }
    }

    async fn resolve(&mut self, index: usize, neighbours: &Neighbours) -> Result<NextHop> {
        let server = &mut self.servers[index];
        let way = network::way_to(&self.handle, server.address).await?;
        server.way = Some(way);
        let Some(interface) = self.interfaces.iter().find(|interface| interface.index == way.ifindex) else {
            let name = network::interface_at(&self.handle, way.ifindex).await?.name;
            bail!("the route leaves by {name}, which is neither gateway.front nor gateway.back");
        };
        let Some(&destination) = neighbours.get(&(way.ifindex, way.neighbour)) else {
            bail!("{} does not answer ARP on {}", way.neighbour, interface.name);
        };
        Ok(NextHop { ifindex: way.ifindex, source: interface.mac, destination })
    }
}

impl Server {
    fn is_behind(&self, neighbour: Ipv4Addr) -> bool {
        self.way.is_none_or(|way| way.neighbour == neighbour)
    }
}

fn name_of(interfaces: &[Interface], index: u32) -> String {
    interfaces.iter().find(|interface| interface.index == index).map_or_else(String::new, |found| found.name.clone())
}
