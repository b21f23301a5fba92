//! What would happen to a packet, in words for an operator: the pure part of `voip-ha trace`.
//!
//! The frame comes from two ends and ports ([`frame::datagram`]), from text ([`frame::from_hex`]) or from a capture
//! ([`capture`]). [`crate::datapath::Replica`] says what the program does to it, and [`Trace::tell`] what that means.

pub mod capture;
pub mod frame;
mod headers;
pub mod ingress;
mod reason;

use std::{collections::HashMap, net::IpAddr};

use anyhow::Result;
use serde::Serialize;
use voip_ha_ebpf::abi::{Outcome, ServerNumber};

pub use self::headers::{Ends, Header, ends};
use crate::{
    datapath::{Seen, Tables, XdpAction},
    plan::{Plan, ServicePlan},
};

/// What the gateway is, as far as an answer speaks of it.
pub struct Scene {
    plan: Plan,
    servers: HashMap<ServerNumber, IpAddr>,
    names: Names,
}

/// Names by address: the maps hold none.
#[derive(Clone, Debug, Default)]
pub struct Names(pub HashMap<IpAddr, String>);

/// A service or a server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Party {
    /// Its address: of a service, the VIP.
    pub address: IpAddr,
    /// Its name, if it is known.
    pub name: Option<String>,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Trace {
    /// Name of the interface that the frame is thought to come in by.
    pub came_in_by: String,
    /// `pass`, `drop`, `redirect` or `transmit`.
    pub action: &'static str,
    /// What the packet would be counted as.
    pub outcome: &'static str,
    /// `sip`, `rtp` or `other`.
    pub class: &'static str,
    /// Of the service concerned.
    pub service: Option<Party>,
    /// The server that it would be counted for.
    pub server: Option<Party>,
    /// Name of the interface that it would leave by, if the program sends it itself.
    pub leaves_by: Option<String>,
    /// Why, in a sentence.
    pub reason: String,
    /// What to know about this answer.
    pub notes: Vec<String>,
    /// The headers, before and after.
    pub headers: Vec<Header>,
}

impl Names {
    /// The name, or the address where there is none.
    pub fn of(&self, address: IpAddr) -> String {
        self.0.get(&address).cloned().unwrap_or_else(|| address.to_string())
    }

    fn party(&self, address: IpAddr) -> Party {
        Party { address, name: self.0.get(&address).cloned() }
    }
}

impl Scene {
    /// Reads the maps.
    ///
    /// # Errors
    ///
    /// A map cannot be read.
    pub fn read(tables: &Tables, names: Names) -> Result<Self> {
        let servers = tables.servers().into_iter().map(|server| (server.slot.server(), server.addresses.first()));
        Ok(Self { plan: Plan::from_kernel(tables)?, servers: servers.collect(), names })
    }

    /// The services and servers.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// That of the VIP the frame is for, or that of the server concerned.
    fn service(&self, ends: Option<&Ends>, server: Option<IpAddr>) -> Option<&ServicePlan> {
        let of_vip = |vip| self.plan.services.iter().find(|service| service.vips.contains(vip));
        let has = |service: &&ServicePlan| {
            server.is_some_and(|server| service.servers.iter().any(|one| one.addresses.contains(server)))
        };
        ends.and_then(|ends| of_vip(ends.destination)).or_else(|| self.plan.services.iter().find(has))
    }
}

impl Trace {
    /// Puts into words what the program does to `frame`.
    pub fn tell(
        scene: &Scene,
        frame: &[u8],
        seen: &Seen,
        came_in_by: String,
        device: impl FnOnce(u32) -> String,
    ) -> Self {
        let ends = ends(frame);
        let server = seen.server.and_then(|number| scene.servers.get(&number).copied());
        let service = scene.service(ends.as_ref(), server);
        let leaves_by = seen.leaves_by.map(device);
        // What a server sends to the gateway's own name is for the client that the program puts there.
        let is_unmasked = matches!(seen.outcome, Outcome::ToClient | Outcome::ToClientByStack);
        let told = if is_unmasked { self::ends(&seen.ran.frame) } else { ends };
        let (names, class, length) = (&scene.names, seen.class, frame.len());
        let facts = reason::Facts { names, class, service, server, ends: told.or(ends), length };
        // What is dropped has no after, and what is answered is another packet after.
        let goes_on = !matches!(seen.ran.act, XdpAction::Drop | XdpAction::Transmit);
        let after = goes_on.then_some(&seen.ran.frame[..]);
        Self {
            came_in_by,
            action: seen.ran.act.name(),
            outcome: seen.outcome.name(),
            class: seen.class.name(),
            service: service.map(|service| scene.names.party(service.vips.first())),
            server: server.map(|server| scene.names.party(server)),
            leaves_by,
            reason: reason::sentence(seen.outcome, &facts),
            notes: Vec::new(),
            headers: headers::compare(frame, after),
        }
    }
}

#[cfg(test)]
mod tests;
