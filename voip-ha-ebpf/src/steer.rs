//! The decision about one packet: which server or client it goes to, or why not.
//!
//! Pure: the tables are an argument, nothing is changed. The XDP program passes the kernel's maps, a test a few hash
//! maps.
//!
//! ```text
//!                       ICMP: a datagram to a server could not be delivered ──► pass, and say so
//!                       to a VIP ──► service port? ──► server of its class ──► its next hop ──► fits? ──► redirect
//! frame ──► IPv4? ──┤
//!                       from a server ──► to no server? ──► service port? ──► route ──► may send?
//!                                                                              ──► redirect (or by the stack)
//!                       neither ──► pass, untouched
//! ```

use crate::{
    abi::{
        Address, Class, FlowKey, Mac, OriginEntry, Outcome, ServerEntry, ServerNumber, ServiceEntry, Slot,
        SteeringWord, flip_index,
    },
    packet::{self, Datagram, Frame, Network, NotDatagram, NotNetwork, Unreachable},
    rewrite::Rewrite,
};

/// What the decision looks up.
pub trait Tables {
    /// The service that owns `vip`.
    fn service(&self, vip: &Address) -> Option<&ServiceEntry>;
    /// The server that owns `address`.
    fn origin(&self, address: &Address) -> Option<&OriginEntry>;
    /// The decision word of the service with this index.
    fn steering(&self, service: u32) -> Option<SteeringWord>;
    /// The entry in this slot.
    fn server(&self, slot: Slot) -> Option<&ServerEntry>;
    /// The way to a client.
    fn route(&self, query: &RouteQuery) -> Route;
}

/// A question to the routing table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteQuery {
    /// Sender, as the client will see it: the VIP.
    pub source: Address,
    /// Receiver.
    pub destination: Address,
    /// Sender's port, in host order.
    pub source_port: u16,
    /// Receiver's port, in host order.
    pub destination_port: u16,
    /// Bytes of the IP packet, to be compared with the MTU.
    pub total_length: u16,
}

/// An answer of the routing table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// Send it there.
    Hop(Hop),
    /// There is a route, but only the kernel's stack can use it now: the neighbour is not resolved, the packet is too
    /// large, or the route needs an encapsulation.
    Stack,
    /// To the gateway itself, or no route.
    NotForwarded,
    /// A route that refuses, or forwarding is switched off on the interface.
    Refused,
}

/// The next hop of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    /// Index of the device that the packet leaves by.
    pub ifindex: u32,
    /// Ethernet address of that device.
    pub source: Mac,
    /// Ethernet address of the neighbour.
    pub destination: Mac,
}

/// What is to be done with a packet, whom it is counted for, and what it says about that server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The server concerned.
    pub server: Option<ServerNumber>,
    /// What the packet carries.
    pub class: Class,
    /// What is to be done.
    pub action: Action,
    /// What is to be noted once that is done.
    pub note: Note,
}

/// What a packet says about a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// Nothing.
    Nothing,
    /// If it is redirected: the server was sent one packet more.
    Sent {
        /// Under which flip.
        flip: FlipId,
        /// The flow to be noted, while flows are counted.
        flow: Option<FlowKey>,
    },
    /// If it goes to the client: the server is alive.
    Heard {
        /// Under which flip, if packets of this class go to the server.
        flip: Option<FlipId>,
    },
    /// Somebody says that the server, or its port, cannot be reached.
    Refused {
        /// Code of the ICMP message.
        code: u8,
    },
}

/// Where the first packets of one flip and class are stamped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlipId {
    /// Index in the map `FLIPS`.
    pub index: u32,
    /// The stamp there is this flip's if it has this epoch.
    pub epoch: u16,
}

impl FlipId {
    #[inline(always)]
    fn of(service: u32, word: SteeringWord, class: Class) -> Self {
        Self { index: flip_index(service, word.epoch(), class), epoch: word.epoch() }
    }
}

/// What is to be done with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Rewrite it and send it to the server of its class.
    ToServer(Rewrite, Hop),
    /// Rewrite it and send it to the client.
    ToClient(Rewrite, Hop),
    /// Rewrite it and let the kernel's stack send it to the client.
    ToClientByStack(Rewrite),
    /// Leave it to the kernel's stack as it is.
    Pass(Outcome),
    /// Drop it.
    Drop(Outcome),
}

impl Verdict {
    /// A verdict that says nothing about a server.
    #[inline(always)]
    fn plain(server: Option<ServerNumber>, class: Class, action: Action) -> Self {
        Self { server, class, action, note: Note::Nothing }
    }

    #[inline(always)]
    fn pass(outcome: Outcome) -> Self {
        Self::plain(None, Class::Other, Action::Pass(outcome))
    }

    /// A packet of a service whose UDP header cannot be used.
    #[inline(always)]
    fn unreadable(server: Option<ServerNumber>, why: NotDatagram) -> Self {
        let action = match why {
            NotDatagram::NotUdp => Action::Pass(Outcome::NotUdp),
            NotDatagram::Fragment => Action::Drop(Outcome::Fragment),
            NotDatagram::Malformed => Action::Drop(Outcome::Malformed),
        };
        Self::plain(server, Class::Other, action)
    }
}

/// Decides about one frame.
#[inline(always)]
pub fn steer(frame: &mut Frame<'_>, tables: &impl Tables) -> Verdict {
    let network = match packet::network(frame) {
        Ok(network) => network,
        Err(NotNetwork::NotUnicast) => return Verdict::pass(Outcome::NotUnicast),
        Err(NotNetwork::NotIpv4) => return Verdict::pass(Outcome::NotIpv4),
    };
    if network.is_icmp() {
        return icmp(frame, &network, tables);
    }
    if let Some(service) = tables.service(&network.destination) {
        return match packet::datagram(frame, &network) {
            Ok(datagram) => towards_server(&network, &datagram, service, tables),
            Err(why) => Verdict::unreadable(None, why),
        };
    }
    if let Some(origin) = tables.origin(&network.source) {
        // The servers may share their registrations over a service port, and the one that is fenced has to hear them.
        if tables.origin(&network.destination).is_some() {
            let action = Action::Pass(Outcome::BetweenServers);
            return Verdict::plain(Some(origin.server()), Class::Other, action);
        }
        return match packet::datagram(frame, &network) {
            Ok(datagram) => towards_client(&network, &datagram, origin, tables),
            Err(NotDatagram::Fragment) => fragment_from(&network, origin, tables),
            Err(why) => Verdict::unreadable(Some(origin.server()), why),
        };
    }
    Verdict::pass(Outcome::NotService)
}

/// All ICMP passes untouched. What became of a datagram to a server is news, whoever tells it to whom.
#[inline(always)]
fn icmp(frame: &mut Frame<'_>, network: &Network, tables: &impl Tables) -> Verdict {
    if let Some(Unreachable { code, about }) = packet::unreachable(frame, network)
        && let Some(origin) = tables.origin(&about)
    {
        let (server, action) = (Some(origin.server()), Action::Pass(Outcome::ServerUnreachable));
        return Verdict { server, class: Class::Other, action, note: Note::Refused { code } };
    }
    if tables.service(&network.destination).is_some() {
        return Verdict::pass(Outcome::NotUdp);
    }
    let Some(origin) = tables.origin(&network.source) else { return Verdict::pass(Outcome::NotService) };
    let to_server = tables.origin(&network.destination).is_some();
    let outcome = if to_server { Outcome::BetweenServers } else { Outcome::NotUdp };
    Verdict::plain(Some(origin.server()), Class::Other, Action::Pass(outcome))
}

#[inline(always)]
fn towards_server(network: &Network, datagram: &Datagram, service: &ServiceEntry, tables: &impl Tables) -> Verdict {
    let class = service.ports.class(datagram.destination_port);
    if class == Class::Other {
        return Verdict::pass(Outcome::NotServicePort);
    }
    let word = tables.steering(service.service).unwrap_or_default();
    let Some(slot) = word.target(class) else {
        return Verdict::plain(None, class, Action::Drop(Outcome::NoActiveServer));
    };
    let server = Some(slot.server());
    let entry = match tables.server(slot) {
        Some(entry) if entry.ifindex != 0 => entry,
        _ => return Verdict::plain(server, class, Action::Drop(Outcome::NoNextHop)),
    };
    if network.ttl <= 1 {
        return Verdict::plain(server, class, Action::Drop(Outcome::TtlExpired));
    }
    // The device would drop it as well, but after it has been counted as redirected.
    if u32::from(network.total_length) > entry.mtu {
        return Verdict::plain(server, class, Action::Drop(Outcome::TooLarge));
    }
    // A server that calls its own VIP (two legs of a call that meet on it) would refuse a packet from its own address.
    let source = if network.source == entry.address { network.destination } else { network.source };
    let rewrite = Rewrite { source, destination: entry.address, udp: datagram.offset };
    let hop = Hop { ifindex: entry.ifindex, source: entry.source, destination: entry.next_hop };
    let flow = (class == Class::Rtp && word.is_census()).then_some(FlowKey {
        service: service.service,
        client: network.source,
        client_port: datagram.source_port,
        service_port: datagram.destination_port,
    });
    let note = Note::Sent { flip: FlipId::of(service.service, word, class), flow };
    Verdict { server, class, action: Action::ToServer(rewrite, hop), note }
}

#[inline(always)]
fn towards_client(network: &Network, datagram: &Datagram, origin: &OriginEntry, tables: &impl Tables) -> Verdict {
    let number = origin.server();
    let server = Some(number);
    let class = origin.ports.class(datagram.source_port);
    if class == Class::Other {
        return Verdict::plain(server, class, Action::Pass(Outcome::NotServicePort));
    }
    let route = tables.route(&RouteQuery {
        source: origin.vip,
        destination: network.destination,
        source_port: datagram.source_port,
        destination_port: datagram.destination_port,
        total_length: network.total_length,
    });
    // Before the fence: the answer to a probe comes from a service port too, and a fenced server must be probed.
    if route == Route::NotForwarded {
        return Verdict::plain(server, class, Action::Pass(Outcome::NotForwarded));
    }
    let word = tables.steering(origin.service).unwrap_or_default();
    if !word.may_send(number) {
        return Verdict::plain(server, class, Action::Drop(Outcome::Fenced));
    }
    let rewrite = Rewrite { source: origin.vip, destination: network.destination, udp: datagram.offset };
    let action = match route {
        Route::Hop(_) if network.ttl <= 1 => Action::Drop(Outcome::TtlExpired),
        Route::Hop(hop) => Action::ToClient(rewrite, hop),
        Route::Stack => Action::ToClientByStack(rewrite),
        Route::NotForwarded => Action::Pass(Outcome::NotForwarded),
        Route::Refused => Action::Drop(Outcome::Unroutable),
    };
    let flip = word.goes_to(class, number).then_some(FlipId::of(origin.service, word, class));
    Verdict { server, class, action, note: Note::Heard { flip } }
}

/// A fragment has no ports to tell whether a client may see it. What goes to the gateway needs no rewriting.
#[inline(always)]
fn fragment_from(network: &Network, origin: &OriginEntry, tables: &impl Tables) -> Verdict {
    let route = tables.route(&RouteQuery {
        source: origin.vip,
        destination: network.destination,
        source_port: 0,
        destination_port: 0,
        total_length: network.total_length,
    });
    let action = match route {
        Route::NotForwarded => Action::Pass(Outcome::NotForwarded),
        _ => Action::Drop(Outcome::Fragment),
    };
    Verdict::plain(Some(origin.server()), Class::Other, action)
}

#[cfg(test)]
mod tests;
