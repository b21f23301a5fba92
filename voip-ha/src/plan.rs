//! What the kernel's tables should hold, in words that can be compared with what they do hold.

use std::{fmt, ops::RangeInclusive};

use anyhow::Result;
use serde::{Deserialize, Serialize};
use voip_ha_ebpf::abi::{Ports, Slot};

use crate::{
    config::{Addresses, Forwarding, Protection},
    datapath::{KernelServer, NextHop, Tables},
    ids::Family,
    status::mac_text,
};

/// All services.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// In the order of the kernel's indexes.
    pub services: Vec<ServicePlan>,
}

/// One service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServicePlan {
    /// The addresses that clients know.
    pub vips: Addresses,
    /// SIP ports.
    pub sip_ports: Vec<u16>,
    /// RTP ports.
    pub rtp_ports: RangeInclusive<u16>,
    /// What is asked of its senders.
    pub protection: Protection,
    /// Addresses of the server that SIP goes to.
    pub signalling: Option<Addresses>,
    /// Addresses of the server that RTP goes to.
    pub media: Option<Addresses>,
    /// Addresses of a server that may still send to clients.
    pub draining: Option<Addresses>,
    /// Whether calls are remembered, so that those of the draining server stay with it.
    pub affinity: bool,
    /// The servers.
    pub servers: Vec<ServerPlan>,
}

/// One server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerPlan {
    /// Its own addresses.
    pub addresses: Addresses,
    /// How packets reach it.
    pub forwarding: Forwarding,
    /// The ways to it, as far as they are known.
    pub next_hops: NextHops,
}

/// The ways to a server, one for each family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NextHops {
    /// To its IPv4 address.
    pub v4: Option<NextHop>,
    /// To its IPv6 address.
    pub v6: Option<NextHop>,
}

impl NextHops {
    /// What `find` finds for each family.
    pub fn by(mut find: impl FnMut(Family) -> Option<NextHop>) -> Self {
        Self { v4: find(Family::V4), v6: find(Family::V6) }
    }

    /// That of one family.
    pub fn of(&self, family: Family) -> Option<NextHop> {
        match family {
            Family::V4 => self.v4,
            Family::V6 => self.v6,
        }
    }

    /// All of them as people read them. `name` makes of a device's index what they call it.
    pub fn text(&self, name: impl Fn(u32) -> String) -> String {
        let hops: Vec<_> = self.v4.iter().chain(&self.v6).map(|hop| hop_text(hop, &name)).collect();
        if hops.is_empty() { "no next hop".to_owned() } else { hops.join("; ") }
    }

    /// The smallest MTU.
    pub fn mtu(&self) -> Option<u32> {
        self.v4.iter().chain(&self.v6).map(|hop| hop.mtu).min()
    }
}

/// A difference between the plan and the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// What it is about, such as `service 192.0.2.10 active`.
    pub subject: String,
    /// What the daemon wants.
    pub wanted: String,
    /// What the kernel holds.
    pub found: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: the daemon wants {}, the kernel has {}", self.subject, self.wanted, self.found)
    }
}

impl Plan {
    /// Reads from the maps what the kernel acts on, following the same pointers as the XDP program: from the VIP to the
    /// word, to the slot, to the server.
    ///
    /// # Errors
    ///
    /// A map cannot be read.
    pub fn from_kernel(tables: &Tables) -> Result<Self> {
        let known = tables.servers();
        let mut services = Vec::new();
        for service in tables.services()? {
            let word = tables.word(service.place.service())?;
            let named = word.named();
            let of = |slot: Option<Slot>| {
                let number = slot?.server();
                known.iter().find(|server| server.slot.server() == number).map(|server| server.addresses)
            };
            let mut servers = Vec::new();
            for server in known.iter().filter(|server| server.service == service.place.service()) {
                // Packets follow the word; where it names the server's other slot, that is what counts.
                let is_it = |slot: &Slot| slot.server() == server.slot.server();
                let slot = named.slots().find(is_it).unwrap_or(server.slot);
                servers.push(ServerPlan::in_slot(tables, server, slot)?);
            }
            services.push(ServicePlan {
                vips: service.vips,
                sip_ports: service.ports.sip.into_iter().filter(|port| *port != 0).collect(),
                rtp_ports: rtp(&service.ports),
                protection: tables.protection(service.place)?,
                signalling: of(named.signalling),
                media: of(named.media),
                draining: of(named.draining),
                affinity: word.is_affine(),
                servers,
            });
        }
        Ok(Self { services })
    }

    /// Everything in which `found` differs from this plan.
    pub fn differences(&self, found: &Self) -> Vec<Difference> {
        let mut differences = Vec::new();
        for wanted in &self.services {
            let subject = format!("service {}", wanted.vips);
            match found.services.iter().find(|service| service.vips == wanted.vips) {
                Some(service) => wanted.compare(service, &subject, &mut differences),
                None => differences.push(difference(&subject, "it", "nothing")),
            }
        }
        for extra in &found.services {
            if !self.services.iter().any(|service| service.vips == extra.vips) {
                differences.push(difference(&format!("service {}", extra.vips), "nothing", "it"));
            }
        }
        differences
    }
}

impl ServerPlan {
    fn in_slot(tables: &Tables, server: &KernelServer, slot: Slot) -> Result<Self> {
        let [v4, v6] = Family::ALL.map(|family| tables.slot(slot, family));
        let (v4, v6) = (v4?, v6?);
        let next_hops = NextHops { v4: NextHop::of(&v4), v6: NextHop::of(&v6) };
        Ok(Self { addresses: server.addresses, forwarding: Forwarding::from(&v4), next_hops })
    }
}

impl ServicePlan {
    fn compare(&self, found: &Self, subject: &str, differences: &mut Vec<Difference>) {
        let address = |of: Option<Addresses>| of.map_or("none".to_owned(), |addresses| addresses.to_string());
        let mut check = |what: &str, wanted: String, found: String| {
            if wanted != found {
                differences.push(difference(&format!("{subject} {what}"), &wanted, &found));
            }
        };
        let sorted = |ports: &[u16]| {
            let mut ports = ports.to_vec();
            ports.sort_unstable();
            format!("{ports:?}")
        };
        check("SIP ports", sorted(&self.sip_ports), sorted(&found.sip_ports));
        check("RTP ports", format!("{:?}", self.rtp_ports), format!("{:?}", found.rtp_ports));
        check("protection", self.protection.to_string(), found.protection.to_string());
        check("server of signalling", address(self.signalling), address(found.signalling));
        check("server of media", address(self.media), address(found.media));
        check("draining server", address(self.draining), address(found.draining));
        check("affinity", self.affinity.to_string(), found.affinity.to_string());
        let hops = |servers: &[ServerPlan], addresses| {
            let server = servers.iter().find(|server| server.addresses == addresses);
            let text = |server: &ServerPlan| {
                format!("{}, {}", server.forwarding, server.next_hops.text(|index| index.to_string()))
            };
            server.map_or("no server".to_owned(), text)
        };
        let addresses = self.servers.iter().chain(&found.servers).map(|server| server.addresses);
        for addresses in std::collections::BTreeSet::from_iter(addresses) {
            check(&format!("server {addresses}"), hops(&self.servers, addresses), hops(&found.servers, addresses));
        }
    }
}

/// A next hop as people read it.
fn hop_text(hop: &NextHop, name: impl Fn(u32) -> String) -> String {
    let mask = hop.mask.map_or_else(String::new, |mask| format!(", {mask}"));
    if hop.by_stack {
        return format!("by the stack, device {}, MTU {}{mask}", name(hop.ifindex), hop.mtu);
    }
    let tags: String = hop.vlans.iter().filter(|tag| tag.id != 0).map(|tag| format!(", VLAN {}", tag.id)).collect();
    format!("{} by interface {}{tags}, MTU {}{mask}", mac_text(hop.destination), hop.ifindex, hop.mtu)
}

fn difference(subject: &str, wanted: &str, found: &str) -> Difference {
    Difference { subject: subject.to_owned(), wanted: wanted.to_owned(), found: found.to_owned() }
}

fn rtp(ports: &Ports) -> RangeInclusive<u16> {
    ports.rtp_first..=ports.rtp_last
}
