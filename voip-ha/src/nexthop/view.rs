//! What is known of the network, and what a notification or a reading means for it. No kernel is asked here.

use std::net::IpAddr;

use anyhow::Result;
use rtnetlink::{
    Handle,
    packet_core::NetlinkPayload,
    packet_route::{AddressFamily, RouteNetlinkMessage, link::LinkMessage},
};
use voip_ha_ebpf::abi::Mac;

use super::{
    News, mask,
    reading::{Questions, Reading},
};
use crate::{
    config::{Config, Forwarding},
    datapath::{Mask, NextHop, VlanTag},
    ids::{Family, ServerId},
    network::{self, Interface, Stack, StackError, Tunnel, Way},
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
    targets: Vec<Target>,
    /// Indexes of the VLAN interfaces and tunnels that ways lead by.
    others: Vec<u32>,
    /// What cannot stand for clients.
    vips: Vec<IpAddr>,
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

/// An address that packets are to get to.
struct Target {
    server: ServerId,
    family: Family,
    address: IpAddr,
    /// The server's health is found out by its first address.
    is_probed: bool,
    /// Packets reach the server with the VIP as their destination, so a router would send them back.
    has_vip: bool,
    /// Packets reach the server in the gateway's own name.
    masquerades: bool,
    /// The latest way that the kernel had.
    way: Option<Way>,
    /// Index of the front or back interface at its bottom.
    bottom: Option<u32>,
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
        let addresses = config.servers().flat_map(|(id, _, server)| server.addresses.iter().map(move |one| (id, one)));
        let mut view = Self::new(interfaces, addresses);
        for (id, _, server) in config.servers() {
            for target in view.targets.iter_mut().filter(|target| target.server == id) {
                target.has_vip = server.forwarding == Forwarding::Dsr;
                target.masquerades = server.forwarding == Forwarding::Masquerade;
            }
        }
        view.vips = config.services.iter().flat_map(|service| service.vips.iter()).collect();
        Ok(view)
    }

    pub(super) fn new(interfaces: Vec<Interface>, addresses: impl Iterator<Item = (ServerId, IpAddr)>) -> Self {
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
        let mut last = None;
        let target = |(server, address)| {
            let is_probed = last.replace(server) != Some(server);
            let family = Family::of(address);
            let (has_vip, masquerades) = (false, false);
            Target { server, family, address, is_probed, has_vip, masquerades, way: None, bottom: None }
        };
        Self {
            interfaces: interfaces.into_iter().map(watched).collect(),
            targets: addresses.map(target).collect(),
            others: Vec::new(),
            vips: Vec::new(),
        }
    }

    /// What to ask the kernel.
    pub(super) fn questions(&mut self, need: Need) -> Questions {
        for watched in &mut self.interfaces {
            watched.notified = false;
        }
        Questions {
            addresses: self.targets.iter().map(|target| target.address).collect(),
            known: self.interfaces.iter().map(|watched| watched.index).collect(),
            links: need == Need::Everything,
            mask_ports: self.targets.iter().any(|target| target.masquerades),
        }
    }

    /// Looks at a notification.
    pub(super) fn take(&mut self, message: &NetlinkPayload<RouteNetlinkMessage>) -> (Vec<News>, Need) {
        // What is no notification says that some were lost.
        let NetlinkPayload::InnerMessage(message) = message else { return (Vec::new(), Need::Everything) };
        match message {
            RouteNetlinkMessage::NewNeighbour(neighbour) => {
                let concerns = |address| self.targets.iter().any(|target| target.is_behind(address));
                let concerned = network::neighbour_address(neighbour).is_some_and(concerns);
                (Vec::new(), if concerned { Need::Ways } else { Need::Nothing })
            }
            RouteNetlinkMessage::DelNeighbour(_) => (Vec::new(), Need::Nothing),
            RouteNetlinkMessage::NewLink(link) => match network::read_interface(link) {
                Ok(interface) if is_whole(link) => self.notified(link.header.index, Some(&interface)),
                // A tunnel has no Ethernet address.
                Err(_) if is_whole(link) => (Vec::new(), self.need_of_other(link.header.index)),
                _ => (Vec::new(), Need::Nothing),
            },
            RouteNetlinkMessage::DelLink(link) if is_whole(link) => self.notified(link.header.index, None),
            RouteNetlinkMessage::DelLink(_) => (Vec::new(), Need::Nothing),
            _ => (Vec::new(), Need::Ways),
        }
    }

    /// Looks at what was read.
    pub(super) fn found(&mut self, reading: &Reading) -> Vec<News> {
        for (target, way) in self.targets.iter_mut().zip(&reading.ways) {
            // Whoever was behind an interface still is when the interface took the routes away with it.
            let Ok(way) = way else { continue };
            target.way = Some(*way);
            let stack = reading.strangers.get(&way.ifindex).and_then(|found| found.as_ref().ok());
            target.bottom = Some(stack.map_or(way.ifindex, |stack| stack.bottom));
        }
        let others = reading.strangers.values().map(|found| match found {
            Ok(stack) => stack.above.clone(),
            Err(StackError::Tunnel(tunnel)) => vec![tunnel.index],
            Err(_) => Vec::new(),
        });
        self.others = others.flatten().collect();
        let mut news = Vec::new();
        for (index, link) in &reading.links {
            if self.interfaces.iter().any(|watched| watched.index == *index && !watched.notified) {
                news.extend(self.link_is(*index, link.as_ref()));
            }
        }
        news.extend(self.targets.iter().zip(&reading.ways).map(|(target, way)| self.way(target, way, reading)));
        news
    }

    fn notified(&mut self, index: u32, link: Option<&Interface>) -> (Vec<News>, Need) {
        let Some(watched) = self.interfaces.iter_mut().find(|watched| watched.index == index) else {
            return (Vec::new(), self.need_of_other(index));
        };
        watched.notified = true;
        (self.link_is(index, link), Need::Ways)
    }

    fn need_of_other(&self, index: u32) -> Need {
        if self.others.contains(&index) { Need::Ways } else { Need::Nothing }
    }

    /// An interface is as told, or gone.
    fn link_is(&mut self, index: u32, link: Option<&Interface>) -> Vec<News> {
        let behind = self.targets.iter().filter(|target| target.is_probed && target.bottom == Some(index));
        let servers = behind.map(|target| target.server).collect();
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

    fn way(&self, target: &Target, way: &Result<Way, String>, reading: &Reading) -> News {
        let Target { server, family, .. } = *target;
        let found = way.as_ref().map_err(String::clone).and_then(|way| target.may_go(way)).and_then(|way| {
            let (hop, name) = match reading.strangers.get(&way.ifindex) {
                Some(Err(StackError::Tunnel(tunnel))) => target.by_tunnel(tunnel)?,
                _ => self.hop(way, reading)?,
            };
            Ok((NextHop { mask: self.mask(target, way, reading)?, ..hop }, name))
        });
        match found {
            Ok((hop, interface)) => News::Way { server, family, hop, interface },
            Err(why) => News::NoWay { server, family, why },
        }
    }

    fn mask(&self, target: &Target, way: &Way, reading: &Reading) -> Result<Option<Mask>, String> {
        if !target.masquerades {
            return Ok(None);
        }
        let ports = reading.mask_ports.clone().unwrap_or_else(|| Err("its ports were not read".to_owned()));
        mask::of(way, &self.vips, ports).map(Some)
    }

    /// The next hop of a way, and the name of the interface that it leaves by.
    fn hop(&self, way: &Way, reading: &Reading) -> Result<(NextHop, String), String> {
        let (mut hop, name) = match (self.watched(way.ifindex), reading.strangers.get(&way.ifindex)) {
            (Some(Watched { index, name, mac, mtu, .. }), _) => {
                (to_nobody(*index, *mtu, *mac, Default::default()), name)
            }
            (None, Some(Ok(Stack { name, mac, mtu, tags, bottom, .. }))) if self.watched(*bottom).is_some() => {
                (to_nobody(*bottom, *mtu, *mac, *tags), name)
            }
            (None, Some(Err(why))) => return Err(self.astray(why)),
            (None, _) => return Err(self.astray(&StackError::Gone)),
        };
        let neighbour = way.neighbour;
        hop.destination = *reading.neighbours.get(&(way.ifindex, neighbour)).ok_or_else(|| {
            let question = if neighbour.is_ipv4() { "ARP" } else { "neighbour discovery" };
            format!("{neighbour} does not answer {question} on {name}")
        })?;
        Ok((hop, name.clone()))
    }

    fn watched(&self, index: u32) -> Option<&Watched> {
        self.interfaces.iter().find(|watched| watched.index == index && !watched.lost)
    }

    fn astray(&self, why: &StackError) -> String {
        match why {
            StackError::Elsewhere { name, .. } if self.interfaces.iter().any(|watched| watched.name == *name) => {
                format!("{name} was removed and made anew, and has no XDP program now: restart voip-ha")
            }
            StackError::Deep(_) => format!("the route leaves by {why}: no more than two fit"),
            _ => format!(
                "the route leaves by {why}, which is neither gateway.front nor gateway.back nor a VLAN of theirs"
            ),
        }
    }
}

impl Target {
    fn may_go<'a>(&self, way: &'a Way) -> Result<&'a Way, String> {
        if self.has_vip && way.neighbour != self.address {
            let router = way.neighbour;
            return Err(format!(
                "it is behind the router {router}, which would not let packets to the VIP through; forwarding = \"dsr\" is for \
                 servers on a link of the gateway"
            ));
        }
        Ok(way)
    }

    /// The stack finds the neighbour itself, where a tunnel has such.
    fn by_tunnel(&self, tunnel: &Tunnel) -> Result<(NextHop, String), String> {
        let Tunnel { index, name, mtu, .. } = tunnel;
        if self.has_vip {
            return Err(format!(
                "the route leaves by {name}, by which only the kernel's stack can send, and that would take packets to the VIP for \
                 its own; forwarding = \"dsr\" is for servers on a link of the gateway"
            ));
        }
        if !tunnel.carrier {
            return Err(format!("the route leaves by {name}, which has no carrier"));
        }
        Ok((NextHop::by_stack(*index, *mtu), name.clone()))
    }

    fn is_behind(&self, neighbour: IpAddr) -> bool {
        self.way.is_none_or(|way| way.neighbour == neighbour)
    }
}

/// A way whose neighbour is to be found yet.
fn to_nobody(ifindex: u32, mtu: u32, source: Mac, vlans: [VlanTag; 2]) -> NextHop {
    NextHop { ifindex, mtu, source, destination: [0; 6], vlans, by_stack: false, mask: None }
}

/// A bridge tells of its ports by messages of the same kind: a port that leaves it is not removed.
fn is_whole(link: &LinkMessage) -> bool {
    link.header.interface_family == AddressFamily::Unspec
}

#[cfg(test)]
mod tests;
