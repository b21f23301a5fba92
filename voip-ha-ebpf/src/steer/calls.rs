//! Whose a call is, while calls are remembered: in a drain, and for a while after a failover.
//!
//! | | draining server | active server |
//! |---|---|---|
//! | RTP of a flow that was noted | its own, and those that nobody has sent on since | those that it has sent on since |
//! | RTP of another flow | in the first moments of a flip that nobody foresaw | then |
//! | SIP of a call that was noted | its own | its own |
//! | SIP of another call | with a tag in `To`, or no request that may begin a call | what may begin one, and what is no SIP |
//!
//! Without a draining server all goes to the active one, and calls are only noted: whoever comes back gets them then.
//!
//! Before a flip that is foreseen there is a census: what the active server is sent, and sends, is noted as its own. So what
//! shows after the flip is new, from its first packet on.

use super::{Note, Tables};
use crate::{
    abi::{CallKey, Class, FlowKey, ServerNumber, Slot, SteeringWord},
    packet::Datagram,
    sip::{Kind, Scan},
};

/// What is known about the owner of a flow or call. Plain integers, see [`Action`](super::Action).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Owner {
    /// Whether it was noted at all.
    pub is_known: bool,
    /// Number plus one of the server; 0 if it is the one that was active before.
    pub server: u32,
}

impl Owner {
    /// Nothing was noted.
    pub const UNKNOWN: Self = Self { is_known: false, server: 0 };

    /// Whether what it owns stays with the server in this slot, which drains.
    #[inline(always)]
    pub(super) const fn keeps(self, drain: Slot) -> bool {
        self.is_known && (self.server == 0 || self.is(drain))
    }

    #[inline(always)]
    const fn is(self, slot: Slot) -> bool {
        self.is_known && self.server == slot.server().0 + 1
    }
}

/// Where a packet from a client goes, and what is to be noted of it.
pub(super) struct Choice {
    pub(super) slot: Slot,
    pub(super) note: Note,
}

/// Chooses between the draining server and `active` for a packet from a client.
#[inline(always)]
pub(super) fn to_server(
    datagram: &Datagram,
    flow: &FlowKey,
    (class, active): (Class, Slot),
    word: SteeringWord,
    tables: &impl Tables,
) -> Choice {
    // Without the order to remember, a draining server is only not fenced.
    let draining = if word.is_affine() { word.draining() } else { None };
    // Where nobody drains, every answer below is the active server.
    let drain = draining.unwrap_or(active);
    if class == Class::Rtp {
        let owner = tables.flow(flow);
        let is_former = if owner.is_known { owner.keeps(drain) } else { word.notes_flows_of_former() };
        let is_noted_as = if !owner.is_known && word.notes_flows_of_active() { active.server().0 + 1 } else { 0 };
        let is_flow = owner.is_known || word.notes_flows();
        let note = Note { is_flow, owner: is_noted_as, ..Note::NOTHING };
        return Choice { slot: if is_former { drain } else { active }, note };
    }
    let scan = tables.scan(datagram);
    let owner = known_call(&scan, flow.service, tables);
    let begins = may_begin(&scan);
    let slot = if owner.is(drain) {
        drain
    } else if owner.is(active) || begins {
        active
    } else {
        drain
    };
    // Of a call that began before, nobody knows whose it is until somebody drains.
    let is_certain = begins || draining.is_some();
    let call = if !owner.is_known && scan.kind != Kind::None && is_certain { scan.call } else { 0 };
    Choice { slot, note: Note { call, owner: slot.server().0 + 1, ..Note::NOTHING } }
}

/// What is to be noted of a packet that a server sends to a client.
#[inline(always)]
pub(super) fn from_server(
    datagram: &Datagram,
    service: u32,
    (class, sender): (Class, ServerNumber),
    word: SteeringWord,
    tables: &impl Tables,
) -> Note {
    let owner = sender.0 + 1;
    let is_draining = word.draining().is_some_and(|slot| slot.server() == sender);
    // Or it will: then what it serves now is its own, too.
    let keeps_all = is_draining || word.notes_flows_of_active();
    if class == Class::Rtp {
        // A new call of the active server needs no note: what is not known is its own.
        let (client_port, service_port) = (datagram.destination_port, datagram.source_port);
        return Note { is_flow: true, is_new_flow: keeps_all, owner, client_port, service_port, ..Note::NOTHING };
    }
    let scan = tables.scan(datagram);
    let is_known = known_call(&scan, service, tables).is_known;
    let is_its_own = keeps_all || may_begin(&scan);
    let call = if !is_known && scan.kind != Kind::None && is_its_own { scan.call } else { 0 };
    Note { call, owner, ..Note::NOTHING }
}

#[inline(always)]
fn known_call(scan: &Scan, service: u32, tables: &impl Tables) -> Owner {
    if scan.call == 0 {
        return Owner::UNKNOWN;
    }
    tables.call(&CallKey { service, reserved: 0, call: scan.call })
}

/// Whether a message may begin a call, or is no SIP at all.
#[inline(always)]
fn may_begin(scan: &Scan) -> bool {
    match scan.kind {
        Kind::None => true,
        Kind::Initial => !scan.to_tag,
        _ => false,
    }
}
