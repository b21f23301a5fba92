//! ICMP. All of it passes untouched, but for errors about packets that the gateway rewrote: they quote addresses that their
//! receiver does not know. They are rewritten the other way, outside and in the quotation, and go to who sent the packet, as any
//! packet to him would: with the same fence, next hops and counts.

use super::{
    Action, News, Note, Route, Tables, Verdict,
    towards_client::{by_route, route},
    towards_server::send,
};
use crate::{
    abi::{Address, Class, Endpoint, FlowKey, Outcome},
    packet::{self, CODE_TOO_BIG, Frame, IcmpError, Network, Piece},
    rewrite::{Inside, Rewrite},
};

/// Decides about a packet that carries ICMP to `receiver`.
#[inline(always)]
pub fn icmp(frame: &mut Frame<'_>, network: &Network, receiver: Endpoint, tables: &impl Tables) -> Verdict {
    if let Some(error) = packet::icmp_error(frame, network) {
        let about = tables.endpoint(&error.destination);
        if about.is_server() {
            return about_packet_to_server(network, &error, about, tables);
        }
        if receiver.is_vip()
            && let class = class_of_packet_to_client(network, &error, receiver, tables)
            && class != Class::Other
        {
            return about_packet_to_client(network, &error, class, receiver, tables);
        }
    }
    if receiver.is_vip() {
        return Verdict::pass(Outcome::NotUdp);
    }
    let sender = tables.endpoint(&network.source);
    if !sender.is_server() {
        return Verdict::pass(Outcome::NotService);
    }
    let outcome = if receiver.is_server() { Outcome::BetweenServers } else { Outcome::NotUdp };
    Verdict::plain(Some(sender.number()), Class::Other, Action::pass(outcome))
}

/// To whoever sent that packet. What became of it is news about the server, whoever tells it to whom.
#[inline(always)]
fn about_packet_to_server(network: &Network, error: &IcmpError, server: Endpoint, tables: &impl Tables) -> Verdict {
    let note = match error.unreachable {
        // The way is there, only narrower.
        Some(CODE_TOO_BIG) | None => Note::NOTHING,
        Some(code) => Note { news: News::Refused, code, ..Note::NOTHING },
    };
    let verdict = |action| Verdict { note, ..Verdict::plain(Some(server.number()), Class::Other, action) };
    let untouched = verdict(Action::pass(Outcome::ServerUnreachable));
    let Some(service) = tables.service(server.place()) else { return untouched };
    let is_service = service.ports.class(error.destination_port) != Class::Other;
    // What servers tell each other is not rewritten, so neither are errors about it.
    let is_clients = network.destination == error.source && !tables.endpoint(&error.source).is_server();
    if !is_service || !is_clients || network.piece() != Piece::Whole {
        return untouched;
    }
    let reporter = tables.endpoint(&network.source);
    // Clients know no server by its own address. What another server reports is refused below, whatever its name.
    let vip = service.vip(network.family);
    let source = if reporter.is_server() { vip } else { network.source };
    let route = route(network, source, (0, 0), tables);
    if route == Route::NotForwarded {
        return untouched;
    }
    // No server speaks for another one.
    let is_foreign = reporter.is_server() && reporter.number() != server.number();
    let word = tables.steering(server.place().service()).unwrap_or_default();
    if is_foreign || !word.may_send(server.number()) {
        return verdict(Action::drop(Outcome::Fenced));
    }
    let inside = quotation(error, error.source, vip);
    let rewrite = Rewrite { source, destination: network.destination, inside };
    verdict(by_route(network, route, rewrite))
}

/// What the packet carried that the error is about; [`Class::Other`] if the VIP's service did not send it.
#[inline(always)]
fn class_of_packet_to_client(network: &Network, error: &IcmpError, vip: Endpoint, tables: &impl Tables) -> Class {
    match tables.service(vip.place()) {
        Some(service) if error.source == network.destination && network.piece() == Piece::Whole => {
            service.ports.class(error.source_port)
        }
        _ => Class::Other,
    }
}

/// To the server that clients' packets to the same port go to; while another one drains, to the one whose flow it is. Which of them
/// sent a SIP message is not in what is quoted of that.
#[inline(always)]
fn about_packet_to_client<T: Tables>(
    network: &Network,
    error: &IcmpError,
    class: Class,
    vip: Endpoint,
    tables: &T,
) -> Verdict {
    let service = vip.place().service();
    let word = tables.steering(service).unwrap_or_default();
    let Some(active) = word.target(class) else {
        return Verdict::plain(None, Class::Other, Action::drop(Outcome::NoActiveServer));
    };
    let mut slot = active;
    if class == Class::Rtp
        && word.is_affine()
        && let Some(drain) = word.draining()
    {
        if !T::HAS_CALLS {
            return Verdict::plain(None, class, Action::ask_calls());
        }
        let (client_port, service_port) = (error.destination_port, error.source_port);
        let flow = FlowKey { client: error.destination, service, client_port, service_port };
        if tables.flow(&flow).keeps(drain) {
            slot = drain;
        }
    }
    let action = send(network, slot, tables, |server| quotation(error, server, error.destination));
    Verdict::plain(Some(slot.server()), Class::Other, action)
}

#[inline(always)]
fn quotation(error: &IcmpError, source: Address, destination: Address) -> Inside {
    Inside { error: error.offsets, source, destination, ..Inside::NO_PORTS }
}
