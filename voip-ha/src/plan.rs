//! What the kernel's tables should hold, in words that can be compared with what they do hold.

use std::{fmt, net::Ipv4Addr, ops::RangeInclusive};

use anyhow::Result;
use serde::{Deserialize, Serialize};
use voip_ha_ebpf::abi::{Ports, Slot};

use crate::{
    datapath::{NextHop, Tables},
    status::mac_text,
};

/// All services.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// One for each VIP.
    pub services: Vec<ServicePlan>,
}

/// One service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServicePlan {
    /// The address that clients know.
    pub vip: Ipv4Addr,
    /// SIP ports.
    pub sip_ports: Vec<u16>,
    /// RTP ports.
    pub rtp_ports: RangeInclusive<u16>,
    /// Address of the server that SIP goes to.
    pub signalling: Option<Ipv4Addr>,
    /// Address of the server that RTP goes to.
    pub media: Option<Ipv4Addr>,
    /// Address of a server that may still send to clients.
    pub draining: Option<Ipv4Addr>,
    /// The servers.
    pub servers: Vec<ServerPlan>,
}

/// One server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerPlan {
    /// Its own address.
    pub address: Ipv4Addr,
    /// The way to it, if one is known.
    pub next_hop: Option<NextHop>,
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
        let origins = tables.origins()?;
        let mut services = Vec::new();
        for (vip, entry) in tables.services()? {
            let word = tables.word(entry.service)?;
            let named = word.named();
            let address = |slot: Option<Slot>| -> Result<Option<Ipv4Addr>> {
                slot.map(|slot| Ok(tables.slot(slot)?.address.into())).transpose()
            };
            let mut servers = Vec::new();
            for (address, origin) in origins.iter().filter(|(_, origin)| origin.service == entry.service) {
                // Packets follow the word; where it names the server's other slot, that is what counts.
                let slot = named.slots().find(|slot| slot.server() == origin.server()).unwrap_or(Slot(origin.slot));
                servers.push(ServerPlan { address: *address, next_hop: NextHop::of(&tables.slot(slot)?) });
            }
            services.push(ServicePlan {
                vip,
                sip_ports: entry.ports.sip.into_iter().filter(|port| *port != 0).collect(),
                rtp_ports: rtp(&entry.ports),
                signalling: address(named.signalling)?,
                media: address(named.media)?,
                draining: address(named.draining)?,
                servers,
            });
        }
        Ok(Self { services })
    }

    /// Everything in which `found` differs from this plan.
    pub fn differences(&self, found: &Self) -> Vec<Difference> {
        let mut differences = Vec::new();
        for wanted in &self.services {
            let subject = format!("service {}", wanted.vip);
            match found.services.iter().find(|service| service.vip == wanted.vip) {
                Some(service) => wanted.compare(service, &subject, &mut differences),
                None => differences.push(difference(&subject, "it", "nothing")),
            }
        }
        for extra in &found.services {
            if !self.services.iter().any(|service| service.vip == extra.vip) {
                differences.push(difference(&format!("service {}", extra.vip), "nothing", "it"));
            }
        }
        differences
    }
}

impl ServicePlan {
    fn compare(&self, found: &Self, subject: &str, differences: &mut Vec<Difference>) {
        let address = |address: Option<Ipv4Addr>| address.map_or("none".to_owned(), |address| address.to_string());
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
        check("server of signalling", address(self.signalling), address(found.signalling));
        check("server of media", address(self.media), address(found.media));
        check("draining server", address(self.draining), address(found.draining));
        let hop = |servers: &[ServerPlan], address| {
            servers.iter().find(|server| server.address == address).map_or("no server".to_owned(), |server| {
                server.next_hop.as_ref().map_or("no next hop".to_owned(), hop_text)
            })
        };
        let addresses = self.servers.iter().chain(&found.servers).map(|server| server.address);
        for address in std::collections::BTreeSet::from_iter(addresses) {
            check(&format!("server {address}"), hop(&self.servers, address), hop(&found.servers, address));
        }
    }
}

/// A next hop as people read it.
pub fn hop_text(hop: &NextHop) -> String {
    format!("{} by interface {}, MTU {}", mac_text(hop.destination), hop.ifindex, hop.mtu)
}

fn difference(subject: &str, wanted: &str, found: &str) -> Difference {
    Difference { subject: subject.to_owned(), wanted: wanted.to_owned(), found: found.to_owned() }
}

fn rtp(ports: &Ports) -> RangeInclusive<u16> {
    ports.rtp_first..=ports.rtp_last
}
