//! What the kernel's networking says about interfaces, routes and neighbours, through rtnetlink.

mod tunnel;
mod vlan;

use std::{collections::HashMap, net::IpAddr};

use anyhow::{Context as _, Result, bail};
use futures_util::TryStreamExt as _;
use rtnetlink::{
    Handle, RouteMessageBuilder,
    packet_route::{
        AddressFamily,
        link::{LinkAttribute, LinkFlags, LinkMessage, LinkXdp, XdpAttached},
        neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState},
        route::{RouteAddress, RouteAttribute, RouteMessage, RouteType, RouteVia},
    },
};
use rustix::io::Errno;
use voip_ha_ebpf::abi::Mac;

pub use self::{
    tunnel::{Tunnel, tunnel_at},
    vlan::{Listing, Stack, StackError, stack_at},
};
use crate::datapath::XdpMode;

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Index.
    pub index: u32,
    /// Name.
    pub name: String,
    /// Ethernet address.
    pub mac: Mac,
    /// Most bytes of an IP packet that it takes.
    pub mtu: u32,
    /// Whether it is up and has a carrier.
    pub carrier: bool,
    /// The XDP program on it: how it runs, and its id.
    pub xdp: Option<(XdpMode, u32)>,
}

/// The kernel's choice of a way to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// Index of the interface that packets leave by.
    pub ifindex: u32,
    /// The address that is asked for an Ethernet address: a router's, which need not be of the destination's family, or the
    /// destination itself.
    pub neighbour: IpAddr,
    /// The address that the gateway itself would send from.
    pub source: Option<IpAddr>,
}

/// Ethernet addresses of neighbours that can be used, by interface index and address.
pub type Neighbours = HashMap<(u32, IpAddr), Mac>;

/// The interface with this name.
///
/// # Errors
///
/// There is none, or it is no Ethernet interface.
pub async fn interface(handle: &Handle, name: &str) -> Result<Interface> {
    let message = handle.link().get().match_name(name).execute().try_next().await;
    let message = message.with_context(|| format!("there is no interface {name}: see `ip link`"))?;
    read_interface(&message.with_context(|| format!("the kernel says nothing about interface {name}"))?)
}

/// The interface with this index, `None` if there is none.
///
/// # Errors
///
/// It is no Ethernet interface, or the kernel does not answer.
pub async fn interface_at(handle: &Handle, index: u32) -> Result<Option<Interface>> {
    link_at(handle, index).await?.as_ref().map(read_interface).transpose()
}

async fn link_at(handle: &Handle, index: u32) -> Result<Option<LinkMessage>> {
    match handle.link().get().match_index(index).execute().try_next().await {
        Err(rtnetlink::Error::NetlinkError(error)) if error.raw_code() == -Errno::NODEV.raw_os_error() => Ok(None),
        answer => answer.with_context(|| format!("the kernel says nothing about interface {index}")),
    }
}

/// The way that the kernel itself would use.
///
/// # Errors
///
/// There is no route, or the address is the gateway's own.
pub async fn way_to(handle: &Handle, destination: IpAddr) -> Result<Way> {
    let length = if destination.is_ipv4() { 32 } else { 128 };
    let query = RouteMessageBuilder::<IpAddr>::new().destination_prefix(destination, length)?.build();
    let route = handle.route().get(query).execute().try_next().await.context("there is no route")?;
    let route = route.context("the kernel names no route")?;
    if route.header.kind != RouteType::Unicast {
        bail!("the route is of kind {:?}, not to another host", route.header.kind);
    }
    Ok(read_way(&route, destination))
}

fn read_way(route: &RouteMessage, destination: IpAddr) -> Way {
    let mut way = Way { ifindex: 0, neighbour: destination, source: None };
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Oif(index) => way.ifindex = *index,
            RouteAttribute::Gateway(RouteAddress::Inet(router)) => way.neighbour = (*router).into(),
            RouteAttribute::Gateway(RouteAddress::Inet6(router)) => way.neighbour = (*router).into(),
            RouteAttribute::PrefSource(RouteAddress::Inet(own)) => way.source = Some((*own).into()),
            RouteAttribute::PrefSource(RouteAddress::Inet6(own)) => way.source = Some((*own).into()),
            // An IPv4 route by an IPv6 router.
            RouteAttribute::Via(RouteVia::Inet6(router)) => way.neighbour = (*router).into(),
            _ => {}
        }
    }
    way
}

/// All usable neighbours of both families.
///
/// # Errors
///
/// The kernel does not answer.
pub async fn neighbours(handle: &Handle) -> Result<Neighbours> {
    let mut neighbours = Neighbours::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let request = handle.neighbours().get().set_address_family(family).execute();
        let messages: Vec<NeighbourMessage> = request.try_collect().await.context("cannot list the neighbours")?;
        neighbours.extend(messages.iter().filter_map(read_neighbour));
    }
    Ok(neighbours)
}

/// The address that a neighbour message is about.
pub fn neighbour_address(message: &NeighbourMessage) -> Option<IpAddr> {
    message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(address)) => Some((*address).into()),
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(address)) => Some((*address).into()),
        _ => None,
    })
}

fn has_carrier(message: &LinkMessage) -> bool {
    message.header.flags.contains(LinkFlags::Up | LinkFlags::LowerUp)
}

fn read_neighbour(message: &NeighbourMessage) -> Option<((u32, IpAddr), Mac)> {
    if matches!(message.header.state, NeighbourState::Incomplete | NeighbourState::Failed | NeighbourState::None) {
        return None;
    }
    let mac = message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::LinkLayerAddress(mac) => Mac::try_from(mac.as_slice()).ok(),
        _ => None,
    })?;
    Some(((message.header.ifindex, neighbour_address(message)?), mac))
}

/// The interface that a link message tells of.
///
/// # Errors
///
/// It is no Ethernet interface.
pub fn read_interface(message: &LinkMessage) -> Result<Interface> {
    let (mut name, mut mac, mut mtu, mut xdp) = (String::new(), None, None, None);
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(text) => name.clone_from(text),
            LinkAttribute::Address(bytes) => mac = Mac::try_from(bytes.as_slice()).ok(),
            LinkAttribute::Mtu(bytes) => mtu = Some(*bytes),
            LinkAttribute::Xdp(facts) => xdp = read_xdp(facts),
            _ => {}
        }
    }
    let mac = mac.with_context(|| format!("{name} has no Ethernet address"))?;
    let mtu = mtu.with_context(|| format!("{name} has no MTU"))?;
    Ok(Interface { index: message.header.index, name, mac, mtu, carrier: has_carrier(message), xdp })
}

fn read_xdp(facts: &[LinkXdp]) -> Option<(XdpMode, u32)> {
    let mode = facts.iter().find_map(|fact| match fact {
        LinkXdp::Attached(XdpAttached::Driver | XdpAttached::Hardware) => Some(XdpMode::Native),
        LinkXdp::Attached(XdpAttached::SocketBuffer) => Some(XdpMode::Generic),
        _ => None,
    })?;
    let program = facts.iter().find_map(|fact| match fact {
        LinkXdp::ProgId(id) => Some(*id),
        _ => None,
    })?;
    Some((mode, program))
}
