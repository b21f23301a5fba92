//! What is known of the network, and what a notification or a reading means for it. No kernel is asked here.

use std::net::Ipv4Addr;

use anyhow::Result;
use rtnetlink::{
    Handle,
    packet_core::NetlinkPayload,
    packet_route::{AddressFamily, RouteNetlinkMessage, link::LinkMessage},
};
use voip_ha_ebpf::abi::Mac;

use super::{
    News,
    reading::{Questions, Reading},
};
use crate::{
    config::Config,
    datapath::NextHop,
    ids::ServerId,
    network::{self, Interface, Way},
};

/// What has to be read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Need {
    Nothing,
    /// Routes and neighbours.
    Ways,
    /// Interfaces too: notifications were lost.
    Everything,
}

pub(super) struct View {
    /// Front and back: the interfaces that packets may leave by.
    interfaces: Vec<Watched>,
    servers: Vec<Server>,
}

struct Watched {
    /// The XDP program is on the interface with this index, whatever its name becomes.
    index: u32,
    name: String,
    mac: Mac,
    mtu: u32,
    /// As it was told last.
    carrier: bool,
    lost: bool,
    /// A notification came after the last questions were asked, and may be newer than the answer.
    notified: bool,
}

struct Server {
    id: ServerId,
    address: Ipv4Addr,
    /// The latest way that the kernel had.
    way: Option<Way>,
}

impl View {
    /// The interfaces and servers of the configuration. Nothing is known of the ways yet.
    ///
    /// # Errors
    ///
    /// There is no such interface.
    pub(super) async fn open(config: &Config, handle: &Handle) -> Result<Self> {
        let mut interfaces = Vec::new();
        for name in config.gateway.interfaces() {
            interfaces.push(network::interface(handle, name).await?);
        }
        Ok(Self::new(interfaces, config.servers().map(|(id, _, server)| (id, server.address))))
    }

    pub(super) fn new(interfaces: Vec<Interface>, servers: impl Iterator<Item = (ServerId, Ipv4Addr)>) -> Self {
        // As if there had been a carrier: that there is none is news.
        let watched = |Interface { index, name, mac, mtu, .. }| Watched {
            index,
            name,
            mac,
            mtu,
            carrier: true,
            lost: false,
            notified: false,
        };
        Self {
            interfaces: interfaces.into_iter().map(watched).collect(),
            servers: servers.map(|(id, address)| Server { id, address, way: None }).collect(),
        }
    }

    /// What to ask the kernel.
    pub(super) fn questions(&mut self, need: Need) -> Questions {
        for watched in &mut self.interfaces {
            watched.notified = false;
        }
        Questions {
            servers: self.servers.iter().map(|server| server.address).collect(),
            known: self.interfaces.iter().map(|watched| watched.index).collect(),
            links: need == Need::Everything,
        }
    }

    /// Looks at a notification.
    pub(super) fn take(&mut self, message: &NetlinkPayload<RouteNetlinkMessage>) -> (Vec<News>, Need) {
        // What is no notification says that some were lost.
        let NetlinkPayload::InnerMessage(message) = message else { return (Vec::new(), Need::Everything) };
        match message {
            RouteNetlinkMessage::NewNeighbour(neighbour) => {
                let concerns = |address| self.servers.iter().any(|server| server.is_behind(address));
                let concerned = network::neighbour_address(neighbour).is_some_and(concerns);
                (Vec::new(), if concerned { Need::Ways } else { Need::Nothing })
            }
            RouteNetlinkMessage::DelNeighbour(_) => (Vec::new(), Need::Nothing),
            RouteNetlinkMessage::NewLink(link) => match network::read_interface(link) {
                Ok(interface) if is_whole(link) => self.notified(link.header.index, Some(&interface)),
                _ => (Vec::new(), Need::Nothing),
            },
            RouteNetlinkMessage::DelLink(link) if is_whole(link) => self.notified(link.header.index, None),
            RouteNetlinkMessage::DelLink(_) => (Vec::new(), Need::Nothing),
            _ => (Vec::new(), Need::Ways),
        }
    }

    /// Looks at what was read.
    pub(super) fn found(&mut self, reading: &Reading) -> Vec<News> {
        for (server, way) in self.servers.iter_mut().zip(&reading.ways) {
            // Whoever was behind an interface still is when the interface took the routes away with it.
            server.way = way.as_ref().ok().copied().or(server.way);
        }
        let mut news = Vec::new();
        for (index, link) in &reading.links {
            if self.interfaces.iter().any(|watched| watched.index == *index && !watched.notified) {
                news.extend(self.link_is(*index, link.as_ref()));
            }
        }
        news.extend(self.servers.iter().zip(&reading.ways).map(|(server, way)| self.way(server.id, way, reading)));
        news
    }

    fn notified(&mut self, index: u32, link: Option<&Interface>) -> (Vec<News>, Need) {
        let Some(watched) = self.interfaces.iter_mut().find(|watched| watched.index == index) else {
            return (Vec::new(), Need::Nothing);
        };
        watched.notified = true;
        (self.link_is(index, link), Need::Ways)
    }

    /// An interface is as told, or gone.
    fn link_is(&mut self, index: u32, link: Option<&Interface>) -> Vec<News> {
        let behind = |server: &&Server| server.way.is_some_and(|way| way.ifindex == index);
        let servers = self.servers.iter().filter(behind).map(|server| server.id).collect();
        let alive = |watched: &&mut Watched| watched.index == index && !watched.lost;
        let Some(watched) = self.interfaces.iter_mut().find(alive) else { return Vec::new() };
        let mut news = Vec::new();
        let up = link.is_some_and(|link| link.carrier);
        if std::mem::replace(&mut watched.carrier, up) != up {
            news.push(News::Carrier { interface: watched.name.clone(), up, servers });
        }
        match link {
            Some(link) => (watched.mac, watched.mtu) = (link.mac, link.mtu),
            None => {
                watched.lost = true;
                news.push(News::InterfaceLost { interface: watched.name.clone() });
            }
        }
        news
    }

    fn way(&self, server: ServerId, way: &Result<Way, String>, reading: &Reading) -> News {
        let no_way = |why| News::NoWay { server, why };
        let way = match way {
            Ok(way) => way,
            Err(why) => return no_way(why.clone()),
        };
        let Some(Watched { index, name, mac, mtu, .. }) =
            self.interfaces.iter().find(|watched| watched.index == way.ifindex && !watched.lost)
        else {
            let name = reading.strangers.get(&way.ifindex).map_or("an interface that is gone", String::as_str);
            return no_way(self.astray(name));
        };
        match reading.neighbours.get(&(*index, way.neighbour)) {
            Some(&destination) => {
                let hop = NextHop { ifindex: *index, mtu: *mtu, source: *mac, destination };
                News::Way { server, hop, interface: name.clone() }
            }
            None => no_way(format!("{} does not answer ARP on {name}", way.neighbour)),
        }
    }

    fn astray(&self, name: &str) -> String {
        if self.interfaces.iter().any(|watched| watched.name == name) {
            return format!("{name} was removed and made anew, and has no XDP program now: restart voip-ha");
        }
        format!("the route leaves by {name}, which is neither gateway.front nor gateway.back")
    }
}

impl Server {
    fn is_behind(&self, neighbour: Ipv4Addr) -> bool {
        self.way.is_none_or(|way| way.neighbour == neighbour)
    }
}

/// A bridge tells of its ports by messages of the same kind: a port that leaves it is not removed.
fn is_whole(link: &LinkMessage) -> bool {
    link.header.interface_family == AddressFamily::Unspec
}

#[cfg(test)]
mod tests;
