//! ICMP. All of it passes, but for errors about packets that the gateway rewrote: they quote addresses that their receiver does not
//! know. They are rewritten the other way, outside and in the quotation, and go to who sent the packet.

use super::{Action, Note, Route, RouteQuery, Tables, Verdict, towards_client::by_route, towards_server::send};
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
    if !is_service || network.destination != error.source || network.piece() != Piece::Whole {
        return untouched;
    }
    // Clients know no server by its own address.
    let source = tables.origin(&network.source).map_or(network.source, |reporter| reporter.vip);
    let route = tables.route(&RouteQuery {
        source,
        destination: network.destination,
        source_port: 0,
        destination_port: 0,
        total_length: network.total_length,
    });
    if route == Route::NotForwarded {
        return untouched;
    }
    if !tables.steering(origin.service).unwrap_or_default().may_send(origin.server()) {
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
