//! The decision about one packet: which server or client it goes to, or why not.
//!
//! Pure: the tables are an argument, nothing is changed. The XDP program passes the kernel's maps, a test a few hash
//! maps.
//!
//! ```text
//!           to a VIP ──► service port? ──► server of its class ──► its next hop ──► fits? ──► redirect
//! IPv4? ──► from a server ──► to no server? ──► service port? ──► route ──► may send? ──► redirect (or by the stack)
//!           ICMP error about one of these ──► to whom the other end of that is ──► redirect
//!           anything else ──► pass, untouched
//! ```
//!
//! Of a datagram in fragments the first one decides, as if it were whole. The others have no ports: they go where the first one
//! went ([`FirstFragment`]). No port is ever rewritten, so where it was not seen (fragments overtake each other) and the whole
//! VIP goes to one server, they go there all the same.

mod errors;
mod towards_client;
mod towards_server;

use crate::{
    abi::{
        Address, Class, FirstFragment, FlowKey, FragmentKey, Mac, OriginEntry, Outcome, ServerEntry, ServerNumber,
        ServiceEntry, Slot, SteeringWord, flip_index,
    },
    packet::{self, Frame, Network, NotDatagram, NotNetwork, Piece},
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
    /// Index of the device that the frame came in by.
    fn ingress(&self) -> u32;
    /// What the first fragment of a datagram says about the others, if it was seen.
    fn first_fragment(&self, key: &FragmentKey) -> Option<FirstFragment>;
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
    /// There is a route, but only the kernel's stack can use it now: the neighbour is not resolved, or the route needs an
    /// encapsulation.
    Stack,
    /// There is a route, and the packet is larger than this MTU of it.
    TooLarge(u16),
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
    /// Whether this is the first fragment of a datagram, which the others will follow: see [`Verdict::to_remember`].
    pub is_first: bool,
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
    /// If it goes to the client: the server is alive. Only what came in by the way to the server says so: a stranger on the
    /// front can write any sender into a packet.
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
    /// Rewrite it and let the kernel's stack send it to that server.
    ToServerByStack(Rewrite),
    /// Rewrite it and send it to the client.
    ToClient(Rewrite, Hop),
    /// Rewrite it and let the kernel's stack send it to the client.
    ToClientByStack(Rewrite),
    /// Send its sender an ICMP "fragmentation needed" with this MTU instead (RFC 1191, section 4). The packet has no IP options.
    TellTooBig(u16),
    /// Leave it to the kernel's stack as it is.
    Pass(Outcome),
    /// Drop it.
    Drop(Outcome),
}

impl Verdict {
    /// A verdict that says nothing about a server.
    #[inline(always)]
    fn plain(server: Option<ServerNumber>, class: Class, action: Action) -> Self {
        Self { server, class, action, note: Note::Nothing, is_first: false }
    }

    #[inline(always)]
    fn pass(outcome: Outcome) -> Self {
        Self::plain(None, Class::Other, Action::Pass(outcome))
    }

    /// The fragments that follow this packet, if there are any, belong to what it was taken for.
    #[inline(always)]
    fn leading(self, network: &Network) -> Self {
        Self { is_first: network.piece() == Piece::First, ..self }
    }

    /// What the other fragments of the same datagram have to know. `frame` is as it was when it was decided about.
    #[inline(always)]
    pub fn to_remember(&self, frame: &mut Frame<'_>) -> Option<(FragmentKey, FirstFragment)> {
        if !self.is_first {
            return None;
        }
        let key = packet::fragment_key(frame)?;
        let of_server = |server, by_stack| FirstFragment::OfServer { server, class: self.class, by_stack };
        let first = match self.action {
            Action::Pass(_) => FirstFragment::Passed,
            Action::ToServer(rewrite, _) => of_server(rewrite.destination, false),
            Action::ToServerByStack(rewrite) => of_server(rewrite.destination, true),
            Action::ToClient(..) => of_server(key.source, false),
            Action::ToClientByStack(_) => of_server(key.source, true),
            Action::TellTooBig(_) | Action::Drop(_) => return None,
        };
        Some((key, first))
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
        return errors::icmp(frame, &network, tables);
    }
    if let Some(service) = tables.service(&network.destination) {
        return match packet::datagram(frame, &network) {
            Ok(datagram) => towards_server::datagram(&network, &datagram, service, tables),
            Err(NotDatagram::LaterFragment) => towards_server::later_fragment(&network, service, tables),
            Err(NotDatagram::NotUdp) => Verdict::pass(Outcome::NotUdp),
            Err(NotDatagram::Malformed) => Verdict::plain(None, Class::Other, Action::Drop(Outcome::Malformed)),
        };
    }
    if let Some(origin) = tables.origin(&network.source) {
        let plain = |action| Verdict::plain(Some(origin.server()), Class::Other, action);
        // The servers may share their registrations over a service port, and the one that is fenced has to hear them.
        if tables.origin(&network.destination).is_some() {
            return plain(Action::Pass(Outcome::BetweenServers));
        }
        return match packet::datagram(frame, &network) {
            Ok(datagram) => towards_client::datagram(&network, &datagram, origin, tables),
            Err(NotDatagram::LaterFragment) => towards_client::later_fragment(&network, origin, tables),
            Err(NotDatagram::NotUdp) => plain(Action::Pass(Outcome::NotUdp)),
            Err(NotDatagram::Malformed) => plain(Action::Drop(Outcome::Malformed)),
        };
    }
    Verdict::pass(Outcome::NotService)
}

#[cfg(test)]
mod tests;
