//! Packets from a server.

use super::{Action, FlipId, Note, Route, RouteQuery, Tables, Verdict};
use crate::{
    abi::{Address, Class, FirstFragment, OriginEntry, Outcome, Slot},
    packet::{Datagram, Network},
    rewrite::{Inside, Rewrite},
};

/// A datagram, or the first fragment of one.
#[inline(always)]
pub(super) fn datagram(network: &Network, datagram: &Datagram, origin: &OriginEntry, tables: &impl Tables) -> Verdict {
    let number = origin.server();
    let server = Some(number);
    let class = origin.ports.class(datagram.source_port);
    if class == Class::Other {
        return Verdict::plain(server, class, Action::Pass(Outcome::NotServicePort)).leading(network);
    }
    let ports = (datagram.source_port, datagram.destination_port);
    let route = route(network, origin.vip, ports, tables);
    // Before the fence: the answer to a probe comes from a service port too, and a fenced server must be probed.
    if route == Route::NotForwarded {
        return Verdict::plain(server, class, Action::Pass(Outcome::NotForwarded));
    }
    let word = tables.steering(origin.service).unwrap_or_default();
    if !word.may_send(number) {
        return Verdict::plain(server, class, Action::Drop(Outcome::Fenced));
    }
    let action = send(network, origin, route, Inside::Datagram(datagram.offset));
    let mut verdict = Verdict::plain(server, class, action).leading(network);
    if tables.server(Slot(origin.slot)).is_some_and(|entry| entry.ifindex == tables.ingress()) {
        let flip = word.goes_to(class, number).then_some(FlipId::of(origin.service, word, class));
        verdict.note = Note::Heard { flip };
    }
    verdict
}

/// A fragment without ports. Where the first one was not seen, it is taken for one of the service's: what else does a server send
/// to clients in fragments?
#[inline(always)]
pub(super) fn later_fragment(network: &Network, origin: &OriginEntry, tables: &impl Tables) -> Verdict {
    let number = origin.server();
    let first = tables.first_fragment(&network.fragment_key());
    let (class, by_stack) = match first {
        Some(FirstFragment::OfServer { class, by_stack, .. }) => (class, by_stack),
        _ => (Class::Other, false),
    };
    let plain = |action| Verdict::plain(Some(number), class, action);
    if first == Some(FirstFragment::Passed) {
        return plain(Action::Pass(Outcome::NotServicePort));
    }
    let route = route(network, origin.vip, (0, 0), tables);
    if route == Route::NotForwarded {
        return plain(Action::Pass(Outcome::NotForwarded));
    }
    if !tables.steering(origin.service).unwrap_or_default().may_send(number) {
        return plain(Action::Drop(Outcome::Fenced));
    }
    let route = if by_stack && matches!(route, Route::Hop(_)) { Route::Stack } else { route };
    plain(send(network, origin, route, Inside::NoPorts))
}

/// The way to the client of a packet that will come from `source`.
#[inline(always)]
pub(super) fn route(network: &Network, source: Address, ports: (u16, u16), tables: &impl Tables) -> Route {
    tables.route(&RouteQuery {
        source,
        destination: network.destination,
        source_port: ports.0,
        destination_port: ports.1,
        total_length: network.total_length,
    })
}

/// What to do with a packet of a server that may send, on a route that leads to the client.
#[inline(always)]
fn send(network: &Network, origin: &OriginEntry, route: Route, inside: Inside) -> Action {
    let rewrite = Rewrite { source: origin.vip, destination: network.destination, inside };
    by_route(network, route, rewrite)
}

/// The action that a route asks for.
#[inline(always)]
pub(super) fn by_route(network: &Network, route: Route, rewrite: Rewrite) -> Action {
    match route {
        Route::Hop(_) if network.ttl <= 1 => Action::Drop(Outcome::TtlExpired),
        Route::Hop(hop) => Action::ToClient(rewrite, hop),
        Route::Stack => Action::ToClientByStack(rewrite),
        // Linux before 5.12 says that a route is too small, and not how small.
        Route::TooLarge(mtu) if mtu < network.total_length && network.dont_fragment() && network.may_be_told() => {
            Action::TellTooBig(mtu)
        }
        Route::TooLarge(_) => Action::ToClientByStack(rewrite),
        Route::NotForwarded => Action::Pass(Outcome::NotForwarded),
        Route::Refused => Action::Drop(Outcome::Unroutable),
    }
}
