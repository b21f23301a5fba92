//! IPv6 beside IPv4, in the two-arm and the one-arm layout:
//!
//! ```text
//!   phones ── 2001:db8::/64 ── front gateway back ── 2001:db8:1::/64 ──┬── router ── 2001:db8:2::/64 ── backup
//!   ::100 …                    ::1, VIP ::10   ::1                    ::254  ::254                     ::2
//!                                                                      └── master ::2
//! ```
//!
//! One-arm, the edge is 2001:db8:1::253. Digits are those of the IPv4 addresses. Duplicate address detection is off, or every
//! lab would wait for it.

use std::net::{IpAddr, Ipv6Addr, SocketAddrV6};

use anyhow::{Context as _, Result, ensure};

use super::{FIRST_PHONE, Lab, Layout, SIP_PORT, ServerHost};
use crate::netns::Namespace;

/// The virtual address that phones call by IPv6.
pub const VIP6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10);
/// Where phones call by IPv6: the VIP's SIP port.
pub const SIP6: SocketAddrV6 = SocketAddrV6::new(VIP6, SIP_PORT, 0, 0);

/// The IPv6 address of a server.
pub(super) fn address(server: &str) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, if server == "master" { 1 } else { 2 }, 0, 0, 0, 0, 2)
}

/// Before there are interfaces.
pub(super) fn prepare(namespace: &Namespace) -> Result<()> {
    for scope in ["all", "default"] {
        namespace.sysctl(&format!("net/ipv6/conf/{scope}/accept_dad"), "0")?;
    }
    Ok(())
}

/// Gives every namespace its addresses and routes.
pub(super) fn wire(lab: &Lab, edge: Option<&Namespace>) -> Result<()> {
    let layout = lab.options.layout;
    ensure!(matches!(layout, Layout::TwoArm | Layout::OneArm), "IPv6 is not drawn in the layout {layout:?}");
    lab.router.sysctl("net/ipv6/conf/all/forwarding", "1")?;
    lab.router.ip("address add 2001:db8:1::254/64 dev lan nodad\n\
         address add 2001:db8:2::254/64 dev cloud nodad\n\
         route add default via 2001:db8:1::1")?;
    for (server, router) in lab.servers.iter().zip(["2001:db8:1::1", "2001:db8:2::254"]) {
        let address = server.address6.context("a server without an IPv6 address")?;
        let lines = format!("address add {address}/64 dev eth0 nodad\nroute add default via {router}");
        server.namespace.ip(&lines)?;
    }
    lab.gateway.ip("address add 2001:db8:1::1/64 dev back nodad\nroute add 2001:db8:2::/64 via 2001:db8:1::254")?;
    let phone = |address| format!("address add {address}/64 dev eth0 nodad\n");
    lab.phones.ip(&format!("{}route add default via 2001:db8::1", phones(lab).map(phone).collect::<String>()))?;
    edge.unwrap_or(&lab.gateway).ip("address add 2001:db8::1/64 dev front nodad")?;
    let Some(edge) = edge else { return lab.gateway.ip(&format!("address add {VIP6}/128 dev front nodad")) };
    edge.sysctl("net/ipv6/conf/all/forwarding", "1")?;
    edge.ip(&format!(
        "address add 2001:db8:1::253/64 dev core nodad\n\
         route add {VIP6}/128 via 2001:db8:1::1\n\
         route add default via 2001:db8:1::1"
    ))?;
    // The VIP lies in the phones' network but is not on their link.
    lab.phones.ip(&format!("route add {VIP6}/128 via 2001:db8::1"))?;
    lab.gateway.ip(&format!("address add {VIP6}/128 dev back nodad\nroute add 2001:db8::/64 via 2001:db8:1::253"))
}

fn phones(lab: &Lab) -> impl Iterator<Item = Ipv6Addr> + use<> {
    // In hex what the IPv4 address has in decimals.
    let digits = |last: u8| u16::from_str_radix(&last.to_string(), 16).unwrap_or_default();
    let phones = FIRST_PHONE..FIRST_PHONE + lab.options.phone_addresses;
    phones.map(move |last| Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, digits(last)))
}

impl Lab {
    /// The addresses of the phones that are of the same family as `peer`.
    pub fn phone_addresses_for(&self, peer: IpAddr) -> Result<Vec<IpAddr>> {
        ensure!(peer.is_ipv4() || self.options.ipv6, "the lab has no IPv6, and {peer} is to be called");
        Ok(if peer.is_ipv4() {
            self.phone_addresses().map(IpAddr::from).collect()
        } else {
            phones(self).map(IpAddr::from).collect()
        })
    }

    /// The VIP of each family that the lab has.
    pub fn vips(&self) -> impl Iterator<Item = IpAddr> + use<> {
        [super::VIP.into()].into_iter().chain(self.options.ipv6.then_some(VIP6.into()))
    }
}

impl ServerHost {
    /// Its address of each family that the lab has.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + use<> {
        [self.address.into()].into_iter().chain(self.address6.map(IpAddr::from))
    }
}
