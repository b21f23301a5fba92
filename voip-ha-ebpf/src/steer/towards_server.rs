//! Packets to a VIP.

use super::{Action, FlipId, Hop, Note, Tables, Verdict};
use crate::{
    abi::{Address, Class, FirstFragment, FlowKey, Outcome, ServiceEntry, Slot},
    packet::{Datagram, Network},
    rewrite::{Inside, Rewrite},
};

/// A datagram, or the first fragment of one.
#[inline(always)]
pub(super) fn datagram(
    network: &Network,
    datagram: &Datagram,
    service: &ServiceEntry,
    tables: &impl Tables,
) -> Verdict {
    let class = service.ports.class(datagram.destination_port);
    if class == Class::Other {
        return Verdict::pass(Outcome::NotServicePort).leading(network);
    }
    let word = tables.steering(service.service).unwrap_or_default();
    let Some(slot) = word.target(class) else {
        return Verdict::plain(None, class, Action::Drop(Outcome::NoActiveServer));
    };
    let action = send(network, slot, tables, |_| Inside::Datagram(datagram.offset));
    if let Action::Drop(_) = action {
        return Verdict::plain(Some(slot.server()), class, action);
    }
    let flow = (class == Class::Rtp && word.is_census()).then_some(FlowKey {
        service: service.service,
        client: network.source,
        client_port: datagram.source_port,
        service_port: datagram.destination_port,
    });
    let note = Note::Sent { flip: FlipId::of(service.service, word, class), flow };
    Verdict { note, ..Verdict::plain(Some(slot.server()), class, action) }.leading(network)
}

/// A fragment without ports.
#[inline(always)]
pub(super) fn later_fragment(network: &Network, service: &ServiceEntry, tables: &impl Tables) -> Verdict {
    let word = tables.steering(service.service).unwrap_or_default();
    let drop = |outcome| Verdict::plain(None, Class::Other, Action::Drop(outcome));
    let (slot, class, by_stack) = match tables.first_fragment(&network.fragment_key()) {
        Some(FirstFragment::Passed) => return Verdict::pass(Outcome::NotServicePort),
        Some(FirstFragment::OfServer { server, class, by_stack }) => match tables.origin(&server) {
            Some(origin) => (Slot(origin.slot), class, by_stack),
            None => return drop(Outcome::Fragment),
        },
        None => match (word.target(Class::Sip), word.target(Class::Rtp)) {
            (None, None) => return drop(Outcome::NoActiveServer),
            (Some(one), Some(other)) if one == other => (one, Class::Other, false),
            _ => return drop(Outcome::Fragment),
        },
    };
    let action = match send(network, slot, tables, |_| Inside::NoPorts) {
        Action::ToServer(rewrite, _) if by_stack => Action::ToServerByStack(rewrite),
        action => action,
    };
    Verdict::plain(Some(slot.server()), class, action)
}

/// What to do with a packet to a VIP that is for the server in this slot. `inside` makes of that server's address what is to be
/// rewritten inside the packet.
#[inline(always)]
pub(super) fn send(
    network: &Network,
    slot: Slot,
    tables: &impl Tables,
    inside: impl FnOnce(Address) -> Inside,
) -> Action {
    let entry = match tables.server(slot) {
        Some(entry) if entry.ifindex != 0 => entry,
        _ => return Action::Drop(Outcome::NoNextHop),
    };
    if network.ttl <= 1 {
        return Action::Drop(Outcome::TtlExpired);
    }
    // A server that calls its own VIP (two legs of a call that meet on it) would refuse a packet from its own address.
    let source = if network.source == entry.address { network.destination } else { network.source };
    let rewrite = Rewrite { source, destination: entry.address, inside: inside(entry.address) };
    // The device would drop it as well, but after it has been counted as redirected.
    if u32::from(network.total_length) > entry.mtu {
        if !network.dont_fragment() {
            return Action::ToServerByStack(rewrite);
        }
        if !network.may_be_told() {
            return Action::Drop(Outcome::TooLarge);
        }
        return Action::TellTooBig(entry.mtu as u16);
    }
    Action::ToServer(rewrite, Hop { ifindex: entry.ifindex, source: entry.source, destination: entry.next_hop })
}
