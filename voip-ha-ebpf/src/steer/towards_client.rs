//! Packets from a server.

use super::{Action, FlipId, Kind, News, Note, Route, RouteQuery, Tables, Verdict, calls};
use crate::{
    abi::{Address, Class, Endpoint, FirstFragment, Forwarding, Outcome, ServerNumber, ServiceEntry},
    packet::{Datagram, Network},
    rewrite::{Inside, Rewrite},
};

/// The server that a packet comes from.
pub(super) struct Origin<'a> {
    /// What its address is.
    pub(super) server: Endpoint,
    /// Its service.
    pub(super) service: &'a ServiceEntry,
}

impl Origin<'_> {
    #[inline(always)]
    pub(super) fn number(&self) -> ServerNumber {
        self.server.number()
    }

    /// Index of its service's word in the map `STEERING`.
    #[inline(always)]
    pub(super) fn index(&self) -> u32 {
        self.server.place().service()
    }
}

/// A datagram, or the first fragment of one.
#[inline(always)]
pub(super) fn datagram<T: Tables>(network: &Network, datagram: &Datagram, origin: &Origin<'_>, tables: &T) -> Verdict {
    let number = origin.number();
    let class = origin.service.ports.class(datagram.source_port);
    let plain = |action| Verdict::plain(Some(number), class, action);
    if class == Class::Other {
        return plain(Action::pass(Outcome::NotServicePort)).leading(network, origin.server.slot());
    }
    let word = tables.steering(origin.index()).unwrap_or_default();
    if word.is_affine() && !T::HAS_CALLS {
        return plain(Action::ask_calls());
    }
    let vip = origin.service.vip(network.family);
    let route = route(network, vip, (datagram.source_port, datagram.destination_port), tables);
    // Before the fence: the answer to a probe comes from a service port too, and a fenced server must be probed.
    if route == Route::NotForwarded {
        return plain(Action::pass(Outcome::NotForwarded));
    }
    if !word.may_send(number) {
        return plain(Action::drop(Outcome::Fenced));
    }
    let rewrite = Rewrite { source: vip, destination: network.destination, inside: Inside::datagram(datagram.offset) };
    let mut verdict = plain(by_route(network, route, rewrite)).leading(network, origin.server.slot());
    let entry = tables.server(origin.server.slot(), network.family);
    if verdict.action.kind == Kind::TellTooBig
        && entry.is_some_and(|entry| entry.forwarding == Forwarding::Masquerade as u32)
    {
        verdict.action.masked = origin.server.slot().0 + 1;
    }
    if entry.is_some_and(|entry| entry.ifindex == tables.ingress()) {
        let flip = FlipId { service: origin.index(), epoch: word.epoch() };
        let is_target = word.goes_to(class, number);
        let mut note = Note::NOTHING;
        if word.is_affine() {
            note = calls::from_server(datagram, origin.index(), (class, number), word, tables);
        }
        verdict.note = Note { news: News::Heard, flip, is_target, ..note };
    }
    verdict
}

/// A fragment without ports. Where the first one was not seen, it is taken for one of the service's: what else does a server send
/// to clients in fragments?
#[inline(always)]
pub(super) fn later_fragment(network: &Network, origin: &Origin<'_>, tables: &impl Tables) -> Verdict {
    let number = origin.number();
    let first = tables.first_fragment(&network.fragment_key());
    let (class, by_stack) = match first {
        Some(FirstFragment::OfServer { class, by_stack, .. }) => (class, by_stack),
        _ => (Class::Other, false),
    };
    let plain = |action| Verdict::plain(Some(number), class, action);
    if first == Some(FirstFragment::Passed) {
        return plain(Action::pass(Outcome::NotServicePort));
    }
    let vip = origin.service.vip(network.family);
    let route = route(network, vip, (0, 0), tables);
    if route == Route::NotForwarded {
        return plain(Action::pass(Outcome::NotForwarded));
    }
    if !tables.steering(origin.index()).unwrap_or_default().may_send(number) {
        return plain(Action::drop(Outcome::Fenced));
    }
    let route = if by_stack && matches!(route, Route::Hop(_)) { Route::Stack } else { route };
    let rewrite = Rewrite { source: vip, destination: network.destination, inside: Inside::NO_PORTS };
    plain(by_route(network, route, rewrite))
}

/// The way to the client of a packet that will come from `source`.
#[inline(always)]
pub(super) fn route(network: &Network, source: Address, ports: (u16, u16), tables: &impl Tables) -> Route {
    tables.route(&RouteQuery {
        family: network.family,
        source,
        destination: network.destination,
        source_port: ports.0,
        destination_port: ports.1,
        total_length: network.total_length,
    })
}

/// The action that a route asks for.
#[inline(always)]
pub(super) fn by_route(network: &Network, route: Route, rewrite: Rewrite) -> Action {
    match route {
        Route::Hop(_) if network.ttl <= 1 => Action::drop(Outcome::TtlExpired),
        Route::Hop(hop) => Action::redirect(rewrite, hop, Outcome::ToClient),
        Route::Stack => Action::by_stack(rewrite, Outcome::ToClientByStack),
        // Linux before 5.12 says that a route is too small, and not how small.
        Route::TooLarge(mtu) if mtu < network.total_length && network.dont_fragment() && network.may_be_told() => {
            Action::tell_too_big(mtu)
        }
        Route::TooLarge(_) => Action::by_stack(rewrite, Outcome::ToClientByStack),
        Route::NotForwarded => Action::pass(Outcome::NotForwarded),
        Route::Refused => Action::drop(Outcome::Unroutable),
    }
}
