//! A tunnel between the gateway and the host of the backup, beside the cable:
//!
//! ```text
//!   gateway back ── 10.66.1.0/24 ── router ── 10.66.2.0/24 ── backup .2, and .3 for the outer packets
//!   gateway vpn0 ══ 10.99.0.1, fd99::1 ══════ 10.99.0.2, fd99::2 ══ vpn0 backup
//! ```
//!
//! The backup keeps its address; routes alone decide by which of the two it is reached, and by which it answers.

mod relay;

use anyhow::Result;

use self::relay::Relay;
use crate::{Lab, netns::Namespace};

/// Name of the tunnel's ends.
pub const DEVICE: &str = "vpn0";

/// What kind of tunnel to build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// VXLAN: with Ethernet headers, in the kernel.
    Vxlan,
    /// The same over a cable of its own, whose ends leave it to each other to complete checksums: nobody does.
    Offloaded,
    /// Two `tun` devices, and a program that carries IP packets from one to the other: a VPN of user space.
    Tun,
}

/// The tunnel, up. Dropping it ends its program.
#[derive(Debug)]
pub struct Tunnel<'lab> {
    lab: &'lab Lab,
    kind: Kind,
    _relay: Option<Relay>,
}

impl<'lab> Tunnel<'lab> {
    /// Builds a tunnel. Nothing is led by it yet.
    pub fn new(lab: &'lab Lab, kind: Kind) -> Result<Self> {
        let (gateway, backup) = (lab.gateway(), &lab.server("backup")?.namespace);
        let mut relay = None;
        match kind {
            Kind::Vxlan => {
                backup.ip("address add 10.66.2.3/24 dev eth0\nroute add 10.66.1.0/24 via 10.66.2.254")?;
                vxlan([(gateway, "10.66.1.1"), (backup, "10.66.2.3")])?
            }
            Kind::Offloaded => {
                gateway.ip(&format!("link add name wan type veth peer name wan netns {}", backup.name()))?;
                let ends = [(gateway, "10.98.0.1"), (backup, "10.98.0.2")];
                for (end, address) in ends {
                    end.ip(&format!("address add {address}/24 dev wan\nlink set dev wan up"))?;
                }
                vxlan(ends)?
            }
            Kind::Tun => relay = Some(Relay::between(gateway, backup, DEVICE)?),
        }
        for (end, last) in [(gateway, 1), (backup, 2)] {
            end.ip(&format!("link set dev {DEVICE} up\naddress add 10.99.0.{last}/24 dev {DEVICE}"))?;
            if lab.vips().any(|vip| vip.is_ipv6()) {
                end.ip(&format!("address add fd99::{last}/64 dev {DEVICE} nodad"))?;
            }
        }
        Ok(Self { lab, kind, _relay: relay })
    }

    /// Leads what the gateway sends to the backup by the tunnel, or by the cable.
    pub fn lead_to_backup(&self, by_tunnel: bool) -> Result<()> {
        for address in self.lab.server("backup")?.addresses() {
            let length = if address.is_ipv4() { 32 } else { 128 };
            let (verb, via) = if by_tunnel { ("add", self.via(2, address.is_ipv6())) } else { ("del", String::new()) };
            self.lab.gateway().ip(&format!("route {verb} {address}/{length} {via}"))?;
        }
        Ok(())
    }

    /// Leads what the backup sends to phones by the tunnel, or by the cable.
    pub fn lead_from_backup(&self, by_tunnel: bool) -> Result<()> {
        let backup = self.lab.server("backup")?;
        for address in backup.addresses() {
            let router = if address.is_ipv4() { "via 10.66.2.254" } else { "via 2001:db8:2::254" };
            let via = if by_tunnel { self.via(1, address.is_ipv6()) } else { router.to_owned() };
            let family = if address.is_ipv4() { "0.0.0.0/0" } else { "::/0" };
            backup.namespace.ip(&format!("route replace {family} {via}"))?;
        }
        Ok(())
    }

    /// How a route names the other end.
    fn via(&self, last: u8, v6: bool) -> String {
        match (self.kind, v6) {
            (Kind::Vxlan | Kind::Offloaded, false) => format!("via 10.99.0.{last} dev {DEVICE}"),
            (Kind::Vxlan | Kind::Offloaded, true) => format!("via fd99::{last} dev {DEVICE}"),
            (Kind::Tun, _) => format!("dev {DEVICE}"),
        }
    }
}

fn vxlan([one, other]: [(&Namespace, &str); 2]) -> Result<()> {
    for ((end, local), (_, remote)) in [(one, other), (other, one)] {
        end.ip(&format!(
            "link add {DEVICE} type vxlan id 7 local {local} remote {remote} dstport 4789\n\
             link set dev {DEVICE} mtu 1400"
        ))?;
    }
    Ok(())
}
