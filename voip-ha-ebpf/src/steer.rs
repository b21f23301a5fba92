//! The decision about one packet: which server or client it goes to, or why not.
//!
//! Pure: the tables are an argument, and nothing is changed but what a sender with a limit has spent ([`Tables::spend`]). The XDP
//! program passes the kernel's maps, a test a few hash maps.
//!
//! ```text
//!           to a VIP ──► service port? ──► may send? ──► server of its class ──► its next hop ──► fits? ──► redirect
//! IP? ────► from a server ──► to no server? ──► service port? ──► route ──► may send? ──► redirect (or by the stack)
//!           ICMP error about one of these ──► to whom the other end of that is ──► redirect
//!           anything else ──► pass, untouched
//! ```
//!
//! Of a datagram in fragments the first one decides, as if it were whole. The others have no ports: they go where the first one
//! went ([`FirstFragment`]). The decision changes no port, so where it was not seen (fragments overtake each other) and the whole
//! VIP goes to one server, they go there all the same.

mod admission;
mod calls;
mod errors;
mod masquerade;
mod note;
mod towards_client;
mod towards_server;

use crate::{
    abi::{
        Address, CallKey, Class, Endpoint, Ends, Family, FirstFragment, FlowKey, FragmentKey, Listing, MAX_TAGS,
        NO_EXIT, Outcome, ServerEntry, ServerNumber, ServiceEntry, ServicePlace, Slot, SteeringWord, VlanTag,
    },
    packet::{self, Datagram, Frame, Network, NotDatagram, NotNetwork, Piece},
    rewrite::Rewrite,
    sip::Scan,
};

pub use self::{
    calls::Owner,
    errors::icmp,
    masquerade::{Masks, Unmasked, mask, unmask},
    note::{FlipId, News, Note},
};

/// What the decision looks up.
pub trait Tables {
    /// Whether the decision may ask for flows and calls. Where it may not, and has to, its answer is [`Kind::AskCalls`].
    const HAS_CALLS: bool = false;
    /// Whether only [plain](Action::is_plain) redirects are asked for. Of a packet that is none, nothing is spent then, because it is
    /// decided about once more: [`Kind::AskCalls`].
    const PLAIN: bool = false;

    /// What an address is.
    fn endpoint(&self, address: &Address) -> Endpoint;
    /// The service in this place.
    fn service(&self, place: ServicePlace) -> Option<&ServiceEntry>;
    /// The decision word of the service with this index.
    fn steering(&self, service: u32) -> Option<SteeringWord>;
    /// The way to the server in this slot by this family.
    fn server(&self, slot: Slot, family: Family) -> Option<&ServerEntry>;
    /// Index of the device that the frame came in by.
    fn ingress(&self) -> u32;
    /// What the first fragment of a datagram says about the others, if it was seen.
    fn first_fragment(&self, key: &FragmentKey) -> Option<FirstFragment>;
    /// The way to a client.
    fn route(&self, query: &RouteQuery) -> Route;
    /// What the lists of the service in this place say about a sender. Asked only where the service's entry says that there are some.
    fn listing(&self, _place: ServicePlace, _source: &Address) -> Listing {
        Listing::Unlisted
    }
    /// Counts a packet of SIP against its sender's limit at the service in this place: whether it may go on. Asked only where the
    /// service's entry says that there is one.
    fn spend(&self, _place: ServicePlace, _source: &Address) -> bool {
        true
    }
    /// Whose an RTP flow is.
    fn flow(&self, _: &FlowKey) -> Owner {
        Owner::UNKNOWN
    }
    /// Whose a call is.
    fn call(&self, _: &CallKey) -> Owner {
        Owner::UNKNOWN
    }
    /// What the SIP message in the frame is.
    fn scan(&self, _: &Datagram) -> Scan {
        Scan::NOTHING
    }
}

/// A question to the routing table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteQuery {
    /// Family of both addresses.
    pub family: Family,
    /// Sender, as the client will see it: the VIP.
    pub source: Address,
    /// Receiver.
    pub destination: Address,
    /// Sender's port, in host order.
    pub source_port: u16,
    /// Receiver's port, in host order.
    pub destination_port: u16,
    /// Bytes of the IP packet, to be compared with the MTU.
    pub total_length: u32,
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
    TooLarge(u32),
    /// To the gateway itself, or no route.
    NotForwarded,
    /// A route that refuses, or forwarding is switched off on the interface.
    Refused,
}

/// The next hop of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    /// Index in the map `DEVICES` of the device that the packet leaves by.
    pub exit: u32,
    /// Ethernet addresses of the neighbour, and of that device.
    pub ends: Ends,
    /// VLAN tags, the outer one first.
    pub tags: [VlanTag; MAX_TAGS],
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
    /// If this is the first fragment of a datagram, which the others will follow, one more than the number of the server's slot, or 1
    /// if there is none; otherwise 0. See [`Verdict::to_remember`].
    pub leads: u32,
}

/// What is to be done with a packet, and what it is counted as.
///
/// A plain record with a value in every field, and no enum with payloads: of such the compiler merges what is undefined in one
/// variant with what is not in another, and the kernel's verifier refuses that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Action {
    /// What kind of action it is.
    pub kind: Kind,
    /// What the packet is counted as, if the action succeeds.
    pub outcome: Outcome,
    /// To whatever is sent on.
    pub rewrite: Rewrite,
    /// To whatever is redirected.
    pub hop: Hop,
    /// What the sender is told.
    pub mtu: u32,
    /// Of what goes to a server that masquerades, or is told to one, one more than the number of the server's slot: it goes through
    /// [`mask`] first. 0 for everything else.
    pub masked: u32,
}

/// A kind of action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Rewrite the packet and send it to the next hop.
    Redirect,
    /// Rewrite it and let the kernel's stack send it.
    ByStack,
    /// Tell its sender the MTU by ICMP instead (RFC 1191, section 4; RFC 8201). The packet has no options of IPv4.
    TellTooBig,
    /// Decide anew, with flows and calls, or about what is not plain: [`Tables::HAS_CALLS`], [`Tables::PLAIN`].
    AskCalls,
    /// Leave it to the kernel's stack as it is.
    Pass,
    /// Drop it.
    Drop,
}

impl Action {
    #[inline(always)]
    const fn new(kind: Kind, outcome: Outcome) -> Self {
        Self { kind, outcome, rewrite: Rewrite::NONE, hop: Hop::NONE, mtu: 0, masked: 0 }
    }

    /// Leaves the packet to the kernel's stack as it is.
    #[inline(always)]
    pub const fn pass(outcome: Outcome) -> Self {
        Self::new(Kind::Pass, outcome)
    }

    /// Drops it.
    #[inline(always)]
    pub const fn drop(outcome: Outcome) -> Self {
        Self::new(Kind::Drop, outcome)
    }

    /// Decides anew. Counted as lost where nobody can.
    #[inline(always)]
    pub const fn ask_calls() -> Self {
        Self::new(Kind::AskCalls, Outcome::NoActiveServer)
    }

    /// Tells its sender this MTU.
    #[inline(always)]
    pub const fn tell_too_big(mtu: u32) -> Self {
        Self { mtu, ..Self::new(Kind::TellTooBig, Outcome::ToldTooBig) }
    }

    /// Rewrites it and sends it to the next hop.
    #[inline(always)]
    pub const fn redirect(rewrite: Rewrite, hop: Hop, outcome: Outcome) -> Self {
        Self { rewrite, hop, ..Self::new(Kind::Redirect, outcome) }
    }

    /// Rewrites it and lets the kernel's stack send it.
    #[inline(always)]
    pub const fn by_stack(rewrite: Rewrite, outcome: Outcome) -> Self {
        Self { rewrite, ..Self::new(Kind::ByStack, outcome) }
    }
}

impl Action {
    /// Whether nothing is to be done but to replace addresses and to redirect: no tags, no mapped port.
    #[inline(always)]
    pub fn is_plain(&self) -> bool {
        self.kind == Kind::Redirect && self.hop.tags[0].id == 0 && self.masked == 0
    }
}

impl Hop {
    const NONE: Self = Self { exit: NO_EXIT, ends: Ends([0; 3]), tags: [VlanTag { protocol: 0, id: 0 }; MAX_TAGS] };
}

impl Verdict {
    /// A verdict that says nothing about a server.
    #[inline(always)]
    fn plain(server: Option<ServerNumber>, class: Class, action: Action) -> Self {
        Self { server, class, action, note: Note::NOTHING, leads: 0 }
    }

    #[inline(always)]
    fn pass(outcome: Outcome) -> Self {
        Self::plain(None, Class::Other, Action::pass(outcome))
    }

    /// The fragments that follow this packet, if there are any, belong to what it was taken for.
    #[inline(always)]
    fn leading(self, network: &Network, slot: Slot) -> Self {
        Self { leads: if network.piece() == Piece::First { slot.0 + 1 } else { 0 }, ..self }
    }

    /// What the other fragments of the same datagram have to know.
    #[inline(always)]
    pub fn to_remember(&self) -> Option<FirstFragment> {
        if self.leads == 0 {
            return None;
        }
        let of_server =
            |by_stack| Some(FirstFragment::OfServer { slot: Slot(self.leads - 1), class: self.class, by_stack });
        match self.action.kind {
            Kind::Pass => Some(FirstFragment::Passed),
            Kind::Redirect => of_server(false),
            Kind::ByStack => of_server(true),
            Kind::TellTooBig | Kind::Drop | Kind::AskCalls => None,
        }
    }
}

/// Decides about a frame without a packet that could be a service's.
#[inline(always)]
pub fn pass_by(reason: NotNetwork) -> Verdict {
    Verdict::pass(match reason {
        NotNetwork::NotUnicast => Outcome::NotUnicast,
        NotNetwork::NotIp => Outcome::NotIp,
    })
}

/// Decides about the packet in a frame.
#[inline(always)]
pub fn steer(frame: &mut Frame<'_>, network: &Network, tables: &impl Tables) -> Verdict {
    let receiver = tables.endpoint(&network.destination);
    if network.is_icmp() {
        return icmp(frame, network, receiver, tables);
    }
    if let Some(verdict) = to_vip(frame, network, receiver, tables) {
        return verdict;
    }
    from_server(frame, network, receiver, tables).unwrap_or(not_service())
}

/// Decides about a packet that is neither to a VIP nor from a server.
#[inline(always)]
pub fn not_service() -> Verdict {
    Verdict::pass(Outcome::NotService)
}

/// Decides about a packet to a VIP, but ICMP; nothing if it is to another address.
#[inline(always)]
pub fn to_vip(frame: &mut Frame<'_>, network: &Network, receiver: Endpoint, tables: &impl Tables) -> Option<Verdict> {
    if !receiver.is_vip() {
        return None;
    }
    let to = towards_server::Towards { place: receiver.place(), service: tables.service(receiver.place())? };
    Some(match packet::datagram(frame, network) {
        Ok(datagram) => towards_server::datagram(network, &datagram, &to, tables),
        Err(NotDatagram::LaterFragment) => towards_server::later_fragment(network, &to, tables),
        Err(NotDatagram::NotUdp) => Verdict::pass(Outcome::NotUdp),
        Err(NotDatagram::Malformed) => Verdict::plain(None, Class::Other, Action::drop(Outcome::Malformed)),
    })
}

/// Decides about a packet from a server, but ICMP; nothing if it is from another address.
#[inline(always)]
pub fn from_server(
    frame: &mut Frame<'_>,
    network: &Network,
    receiver: Endpoint,
    tables: &impl Tables,
) -> Option<Verdict> {
    let server = tables.endpoint(&network.source);
    if !server.is_server() {
        return None;
    }
    let origin = towards_client::Origin { server, service: tables.service(server.place())? };
    let plain = |action| Verdict::plain(Some(server.number()), Class::Other, action);
    // The servers may share their registrations over a service port, and the one that is fenced has to hear them.
    if receiver.is_server() {
        return Some(plain(Action::pass(Outcome::BetweenServers)));
    }
    Some(match packet::datagram(frame, network) {
        Ok(datagram) => towards_client::datagram(network, &datagram, &origin, tables),
        Err(NotDatagram::LaterFragment) => towards_client::later_fragment(network, &origin, tables),
        Err(NotDatagram::NotUdp) => plain(Action::pass(Outcome::NotUdp)),
        Err(NotDatagram::Malformed) => plain(Action::drop(Outcome::Malformed)),
    })
}

/// In whose name the sender of a packet is told something: that of the VIP that it is to, or that its server has. A server that
/// masquerades knows the gateway's own name.
#[inline(always)]
pub fn teller(network: &Network, action: &Action, tables: &impl Tables) -> Address {
    if !action.rewrite.destination.is_none() {
        return action.rewrite.destination;
    }
    let sender = tables.endpoint(&network.source);
    match tables.service(sender.place()) {
        Some(service) if sender.is_server() => service.vip(network.family),
        _ => network.destination,
    }
}

#[cfg(test)]
mod tests;
