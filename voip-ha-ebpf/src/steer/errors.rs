//! ICMP. All of it passes untouched, but for errors about packets that the gateway rewrote: they quote addresses that their
//! receiver does not know. They are rewritten the other way, outside and in the quotation, and go to who sent the packet, as any
//! packet to him would: with the same fence, next hops and counts.

use super::{
    Action, Note, Route, Tables, Verdict,
    towards_client::{by_route, route},
    towards_server::send,
};
use crate::{
    abi::{Address, Class, OriginEntry, Outcome, ServiceEntry},
    packet::{self, Frame, ICMP_TOO_BIG, IcmpError, Network, Piece},
    rewrite::{Inside, Quotation, Rewrite},
};

/// Decides about a packet that carries ICMP.
#[inline(always)]
pub(super) fn icmp(frame: &mut Frame<'_>, network: &Network, tables: &impl Tables) -> Verdict {
    if let Some(error) = packet::icmp_error(frame, network) {
        if let Some(origin) = tables.origin(&error.destination) {
            return about_packet_to_server(network, &error, origin, tables);
        }
        if let Some(service) = tables.service(&network.destination)
            && let Some(verdict) = about_packet_to_client(network, &error, service, tables)
        {
            return verdict;
        }
    }
    if tables.service(&network.destination).is_some() {
        return Verdict::pass(Outcome::NotUdp);
    }
    let Some(origin) = tables.origin(&network.source) else { return Verdict::pass(Outcome::NotService) };
    let to_server = tables.origin(&network.destination).is_some();
    let outcome = if to_server { Outcome::BetweenServers } else { Outcome::NotUdp };
    Verdict::plain(Some(origin.server()), Class::Other, Action::Pass(outcome))
}

/// To whoever sent that packet. What became of it is news about the server, whoever tells it to whom.
#[inline(always)]
fn about_packet_to_server(network: &Network, error: &IcmpError, origin: &OriginEntry, tables: &impl Tables) -> Verdict {
    let note = match error.unreachable {
        // The way is there, only narrower.
        Some(ICMP_TOO_BIG) | None => Note::Nothing,
        Some(code) => Note::Refused { code },
    };
    let verdict = |action| Verdict { note, ..Verdict::plain(Some(origin.server()), Class::Other, action) };
    let untouched = verdict(Action::Pass(Outcome::ServerUnreachable));
    let is_service = origin.ports.class(error.destination_port) != Class::Other;
    // What servers tell each other is not rewritten, so neither are errors about it.
    let is_clients = network.destination == error.source && tables.origin(&error.source).is_none();
    if !is_service || !is_clients || network.piece() != Piece::Whole {
        return untouched;
    }
    let reporter = tables.origin(&network.source);
    // Clients know no server by its own address.
    let source = reporter.map_or(network.source, |reporter| reporter.vip);
    let route = route(network, source, (0, 0), tables);
    if route == Route::NotForwarded {
        return untouched;
    }
    // No server speaks for another one.
    let is_foreign = reporter.is_some_and(|reporter| reporter.server() != origin.server());
    if is_foreign || !tables.steering(origin.service).unwrap_or_default().may_send(origin.server()) {
        return verdict(Action::Drop(Outcome::Fenced));
    }
    let inside = quotation(error, error.source, origin.vip);
    let rewrite = Rewrite { source, destination: network.destination, inside };
    verdict(by_route(network, route, rewrite))
}

/// To the server that clients' packets to the same port go to; nothing if the VIP's service did not send that packet.
#[inline(always)]
fn about_packet_to_client(
    network: &Network,
    error: &IcmpError,
    service: &ServiceEntry,
    tables: &impl Tables,
) -> Option<Verdict> {
    let class = service.ports.class(error.source_port);
    if class == Class::Other || error.source != network.destination || network.piece() != Piece::Whole {
        return None;
    }
    let Some(slot) = tables.steering(service.service).unwrap_or_default().target(class) else {
        return Some(Verdict::plain(None, Class::Other, Action::Drop(Outcome::NoActiveServer)));
    };
    let action = send(network, slot, tables, |server| quotation(error, server, error.destination));
    Some(Verdict::plain(Some(slot.server()), Class::Other, action))
}

#[inline(always)]
fn quotation(error: &IcmpError, source: Address, destination: Address) -> Inside {
    Inside::Error(Quotation { offsets: error.offsets, source, destination })
}
