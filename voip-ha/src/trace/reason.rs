//! Why, in a sentence.

use std::net::IpAddr;

use voip_ha_ebpf::abi::{Class, Outcome};

use super::{Ends, Names};
use crate::{
    config::Addresses,
    plan::{NextHops, ServerPlan, ServicePlan},
};

/// What is known about a packet.
pub(super) struct Facts<'a> {
    pub(super) names: &'a Names,
    pub(super) class: Class,
    pub(super) service: Option<&'a ServicePlan>,
    pub(super) server: Option<IpAddr>,
    pub(super) ends: Option<Ends>,
    /// Bytes of the frame.
    pub(super) length: usize,
}

/// Says why a packet has this outcome.
pub(super) fn sentence(outcome: Outcome, facts: &Facts<'_>) -> String {
    let (service, server, class) = (facts.service_text(), facts.server_text(), facts.class_text());
    let (from, to) = facts.ends.map_or_else(Default::default, |ends| (ends.from(), ends.to()));
    match outcome {
        Outcome::ToServer if facts.class == Class::Other => {
            format!("an ICMP error or a fragment, which goes to {server} as what it belongs to does")
        }
        Outcome::ToServer => format!("{class} to {service} goes to {server}, which is active"),
        Outcome::ToServerByStack => {
            format!("{class} to {service} goes to {server}; the kernel's stack sends it, {}", facts.why_by_stack())
        }
        Outcome::ToClient => {
            format!("{server} may send to clients, being {}; {to} sees it come from the VIP", facts.role())
        }
        Outcome::ToClientByStack => format!(
            "{server} may send to clients, being {}; the kernel's stack sends it, because the Ethernet address of the next \
             hop to {to} is not known yet, the packet is larger than the MTU, or XDP cannot send to the device",
            facts.role()
        ),
        Outcome::Fenced => format!("fenced: {server} is neither active nor draining{}", facts.active_text()),
        Outcome::NoActiveServer => format!("{service} has no active server for {class}"),
        Outcome::NoNextHop => format!("{class} goes to {server}, and the way to it is not known: see `voip-ha status`"),
        Outcome::NoDevice => {
            format!(
                "{class} goes to {server}, whose way leaves by an interface that is not the gateway's, or that XDP cannot send to"
            )
        }
        Outcome::TtlExpired => {
            format!("the time to live of the packet from {from} is used up: is there a loop of routes?")
        }
        Outcome::TooLarge => {
            let (length, mtu) = (facts.length, facts.mtu_text());
            format!(
                "a packet in a frame of {length} bytes is larger than the MTU{mtu}; it must not be fragmented and cannot be \
                 answered, or the server has the VIP (dsr), which keeps the kernel's stack from fragmenting it"
            )
        }
        Outcome::ToldTooBig => format!(
            "a packet in a frame of {} bytes is larger than an MTU on its way and must not be fragmented: its sender is told \
             (ICMP)",
            facts.length
        ),
        Outcome::Unroutable => {
            format!("a route refuses packets to {to}, or forwarding is off: see `ip route get {}`", facts.to_address())
        }
        Outcome::NotForwarded => {
            format!("from {server} to the gateway itself, or without a route to {}", facts.to_address())
        }
        Outcome::Fragment => format!(
            "a fragment without ports, and the first one of its datagram was not seen: SIP and RTP to {service} do not go to one \
             server"
        ),
        Outcome::RateLimited => format!(
            "{from} has sent more SIP than one sender may: {service} takes {}",
            facts
                .service
                .and_then(|service| service.protection.sip)
                .map_or("less".to_owned(), |limit| limit.to_string())
        ),
        Outcome::NoPort => format!(
            "no port of the gateway is left that could stand for {from} at {server}: see `voip-ha maps masquerade`; or an ICMP error \
             about a flow that has none any more"
        ),
        Outcome::Denied => format!("{service} denies {from}: see `voip-ha maps protection`"),
        Outcome::Malformed => "the lengths of frame, packet and datagram contradict each other".to_owned(),
        passed => passed_because(passed, facts),
    }
}

/// The same for packets that are none of the program's business.
fn passed_because(outcome: Outcome, facts: &Facts<'_>) -> String {
    let (service, server) = (facts.service_text(), facts.server_text());
    let (from, to) = facts.ends.map_or_else(Default::default, |ends| (ends.from(), ends.to()));
    match outcome {
        Outcome::NotServicePort => format!("{} is no port of {service}", facts.port_text()),
        Outcome::NotUdp => format!("no UDP: {service} is served over UDP only"),
        Outcome::NotService => format!("{from} is no server, and {to} is no VIP"),
        Outcome::NotIp => "no whole header of IPv4 or IPv6 behind the Ethernet header and its VLAN tags".to_owned(),
        Outcome::NotUnicast => "an Ethernet broadcast or multicast".to_owned(),
        Outcome::BetweenServers => format!("from {server} to another server's own address"),
        Outcome::ServerUnreachable => format!("somebody says that a datagram to {server} could not be delivered"),
        other => other.name().to_owned(),
    }
}

impl Facts<'_> {
    fn service_text(&self) -> String {
        self.service.map_or_else(
            || "the service".to_owned(),
            |service| {
                let destination =
                    self.ends.map(|ends| ends.destination).filter(|address| service.vips.contains(*address));
                self.names.of(destination.unwrap_or_else(|| service.vips.first()))
            },
        )
    }

    fn server_text(&self) -> String {
        self.server.map_or_else(|| "the server".to_owned(), |server| self.names.of(server))
    }

    fn class_text(&self) -> &'static str {
        match self.class {
            Class::Sip => "SIP",
            Class::Rtp => "RTP",
            Class::Other => "it",
        }
    }

    fn to_address(&self) -> String {
        self.ends.map_or_else(|| "the client".to_owned(), |ends| ends.destination.to_string())
    }

    fn role(&self) -> &'static str {
        let is = |named: Option<Addresses>| {
            named.is_some_and(|addresses| self.server.is_some_and(|server| addresses.contains(server)))
        };
        match self.service {
            Some(service) => match (is(service.signalling), is(service.media)) {
                (true, true) => "active",
                (true, false) => "active for SIP",
                (false, true) => "active for RTP",
                (false, false) => "draining",
            },
            None => "active or draining",
        }
    }

    fn active_text(&self) -> String {
        let Some(service) = self.service else { return String::new() };
        match (service.signalling, service.media) {
            (None, None) => "; no server is active".to_owned(),
            (Some(both), Some(media)) if both == media => format!("; {} is active", self.names.of(both.first())),
            (signalling, media) => {
                let name =
                    |of: Option<Addresses>| of.map_or("nobody".to_owned(), |server| self.names.of(server.first()));
                format!("; {} is active for SIP, {} for RTP", name(signalling), name(media))
            }
        }
    }

    fn way(&self) -> Option<&NextHops> {
        let is_it = |server: &&ServerPlan| self.server.is_some_and(|address| server.addresses.contains(address));
        let server = self.service.and_then(|service| service.servers.iter().find(is_it));
        server.map(|server| &server.next_hops)
    }

    fn why_by_stack(&self) -> String {
        let is_tunnel = |hops: &NextHops| hops.v4.iter().chain(&hops.v6).any(|hop| hop.by_stack);
        if self.way().is_some_and(is_tunnel) {
            return "because the way there leads by a tunnel, by which XDP cannot send".to_owned();
        }
        format!(
            "because it, or what it is a fragment of, is larger than the MTU{} and has to be fragmented",
            self.mtu_text()
        )
    }

    fn mtu_text(&self) -> String {
        match self.way().and_then(NextHops::mtu) {
            Some(mtu) => format!(" of {mtu} on the way to {}", self.server_text()),
            None => format!(" on the way to {}", self.server_text()),
        }
    }

    /// The port that would have to be the service's: the sender's, if that is a server.
    fn port_text(&self) -> String {
        match self.ends.and_then(|ends| ends.ports) {
            Some((source, destination)) => (if self.server.is_some() { source } else { destination }).to_string(),
            None => "this".to_owned(),
        }
    }
}
