//! Deciding about a packet in one program, for another one to carry it out: the stack is too small for all of it, and what is in memory
//! in between is nothing that the kernel's verifier would have to follow.

use voip_ha_ebpf::{
    abi::{ANY_CALL, ANY_MESSAGE, ANY_VERDICT, Class, FROM_MASK},
    packet::{Frame, Network},
    steer::{self, Kind, Tables, Verdict},
};

use crate::memory;

/// Decides about a packet but one that carries ICMP. Returns the index of the program to go on in.
#[inline(always)]
pub(crate) fn datagram(frame: &mut Frame<'_>, network: &Network, tables: &impl Tables) -> Option<u32> {
    let receiver = tables.endpoint(&network.destination);
    // Each at once, because there is no room for all that they have in common.
    if let Some(verdict) = steer::to_vip(frame, network, receiver, tables) {
        return decided(verdict);
    }
    if let Some(verdict) = steer::from_server(frame, network, receiver, tables) {
        return decided(verdict);
    }
    decided(steer::not_service())
}

/// The same for one that carries ICMP.
#[inline(always)]
pub(crate) fn error(frame: &mut Frame<'_>, network: &Network, tables: &impl Tables) -> Option<u32> {
    let receiver = tables.endpoint(&network.destination);
    decided(steer::icmp(frame, network, receiver, tables))
}

#[inline(always)]
fn decided(verdict: Verdict) -> Option<u32> {
    let verdict = memory::verdict(verdict)?;
    Some(match (verdict.action.kind, verdict.class) {
        (Kind::AskCalls, Class::Sip) => ANY_MESSAGE,
        (Kind::AskCalls, _) => ANY_CALL,
        _ if verdict.action.masked != 0 => FROM_MASK,
        _ => ANY_VERDICT,
    })
}
