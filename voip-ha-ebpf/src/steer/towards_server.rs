//! Packets to a VIP.

use super::{
    Action, FlipId, Hop, Kind, News, Note, Tables, Verdict,
    admission::{Admission, admission},
    calls,
};
use crate::{
    abi::{Address, Class, FirstFragment, FlowKey, Forwarding, Outcome, ServiceEntry, ServicePlace, Slot},
    packet::{Datagram, Network},
    rewrite::{Inside, Rewrite},
};

/// The service that a packet is for.
pub(super) struct Towards<'a> {
    /// Its place.
    pub(super) place: ServicePlace,
    /// Its entry.
    pub(super) service: &'a ServiceEntry,
}

impl Towards<'_> {
    /// Index of its word in the map `STEERING`.
    #[inline(always)]
    fn index(&self) -> u32 {
        self.place.service()
    }
}

/// A datagram, or the first fragment of one.
#[inline(always)]
pub(super) fn datagram<T: Tables>(network: &Network, datagram: &Datagram, to: &Towards<'_>, tables: &T) -> Verdict {
    let class = to.service.ports.class(datagram.destination_port);
    if class == Class::Other {
        return Verdict::pass(Outcome::NotServicePort).leading(network, Slot(0));
    }
    let word = tables.steering(to.index()).unwrap_or_default();
    let Some(active) = word.target(class) else {
        return Verdict::plain(None, class, Action::drop(Outcome::NoActiveServer));
    };
    let (client_port, service_port) = (datagram.source_port, datagram.destination_port);
    let (mut slot, mut note) = (active, Note::NOTHING);
    let is_asked = word.asks_about(class);
    if is_asked && !T::HAS_CALLS {
        return Verdict::plain(None, class, Action::ask_calls());
    }
    let mut action = send(network, active, tables, |_| Inside::datagram(datagram.offset));
    if T::PLAIN && !action.is_plain() {
        return Verdict::plain(None, class, Action::ask_calls());
    }
    // After that: who answers looks at the sender, and a sender spends once.
    let admission = admission(&network.source, class, to, tables);
    if admission != Admission::Admitted {
        return refused(admission, class);
    }
    if is_asked {
        let flow = FlowKey { client: network.source, service: to.index(), client_port, service_port };
        let choice = calls::to_server(datagram, &flow, (class, active), word, tables);
        (slot, note) = (choice.slot, choice.note);
        action = send(network, slot, tables, |_| Inside::datagram(datagram.offset));
    }
    if action.kind == Kind::Drop {
        return Verdict::plain(Some(slot.server()), class, action);
    }
    let flip = FlipId { service: to.index(), epoch: word.epoch() };
    let note = Note { news: News::Sent, flip, is_target: slot == active, client_port, service_port, ..note };
    Verdict { note, ..Verdict::plain(Some(slot.server()), class, action) }.leading(network, slot)
}

/// A fragment without ports.
#[inline(always)]
pub(super) fn later_fragment(network: &Network, to: &Towards<'_>, tables: &impl Tables) -> Verdict {
    let word = tables.steering(to.index()).unwrap_or_default();
    let drop = |outcome| Verdict::plain(None, Class::Other, Action::drop(outcome));
    let (slot, class, by_stack) = match tables.first_fragment(&network.fragment_key()) {
        Some(FirstFragment::Passed) => return Verdict::pass(Outcome::NotServicePort),
        Some(FirstFragment::OfServer { slot, class, by_stack }) => (slot, class, by_stack),
        // Whose call it is of, only the first one says.
        None if word.is_affine() && word.draining().is_some() => return drop(Outcome::Fragment),
        None => match (word.target(Class::Sip), word.target(Class::Rtp)) {
            (None, None) => return drop(Outcome::NoActiveServer),
            (Some(one), Some(other)) if one == other => {
                // Nobody has looked at its sender yet, or the first one was refused.
                let admission = admission(&network.source, Class::Other, to, tables);
                if admission != Admission::Admitted {
                    return refused(admission, Class::Other);
                }
                (one, Class::Other, false)
            }
            _ => return drop(Outcome::Fragment),
        },
    };
    let mut action = send(network, slot, tables, |_| Inside::NO_PORTS);
    if by_stack && action.kind == Kind::Redirect {
        action = Action { kind: Kind::ByStack, outcome: Outcome::ToServerByStack, ..action };
    }
    Verdict::plain(Some(slot.server()), class, action)
}

#[inline(always)]
fn refused(admission: Admission, class: Class) -> Verdict {
    let outcome = if admission == Admission::Denied { Outcome::Denied } else { Outcome::RateLimited };
    Verdict::plain(None, class, Action::drop(outcome))
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
    let entry = match tables.server(slot, network.family) {
        Some(entry) if entry.ifindex != 0 => entry,
        _ => return Action::drop(Outcome::NoNextHop),
    };
    if network.ttl <= 1 {
        return Action::drop(Outcome::TtlExpired);
    }
    // A server with `dsr` has the VIP itself.
    let is_dsr = entry.forwarding == Forwarding::Dsr as u32;
    let destination = if is_dsr { network.destination } else { entry.address };
    // A server that calls its own VIP (two legs of a call that meet on it) would refuse a packet from its own address.
    let source = if !is_dsr && network.source == entry.address { network.destination } else { network.source };
    let rewrite = Rewrite { source, destination, inside: inside(destination) };
    let masked = if entry.forwarding == Forwarding::Masquerade as u32 { slot.0 + 1 } else { 0 };
    // The device would drop it as well, but after it has been counted as redirected.
    if network.total_length > entry.mtu {
        // The stack would take what is still for the VIP for its own.
        if !network.dont_fragment() && !is_dsr {
            return Action { masked, ..Action::by_stack(rewrite, Outcome::ToServerByStack) };
        }
        if !network.dont_fragment() || !network.may_be_told() {
            return Action::drop(Outcome::TooLarge);
        }
        return Action::tell_too_big(entry.mtu);
    }
    if entry.by_stack != 0 {
        if is_dsr {
            return Action::drop(Outcome::NoDevice);
        }
        return Action { masked, ..Action::by_stack(rewrite, Outcome::ToServerByStack) };
    }
    let hop = Hop { exit: entry.exit, ends: entry.ends, tags: entry.tags };
    Action { masked, ..Action::redirect(rewrite, hop, Outcome::ToServer) }
}
