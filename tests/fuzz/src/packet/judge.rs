//! What must be true of a frame and what became of it, whatever the tables and the code say.

use std::ops::Range;

use anyhow::{Context as _, Result, ensure};
use voip_ha_ebpf::{
    abi::{MAX_COUNTERS, MAX_FLIPS, MAX_PENDING, Outcome, counter_index, pending_index},
    steer::{Hop, Note, Tables as _, Verdict},
};

use super::{
    addresses,
    wire::Packet,
    world::{Done, Fate, World},
};

/// Says what does not hold.
pub(super) fn judge(world: &World, before: &[u8], after: &[u8], verdict: &Verdict, done: &Done) -> Result<()> {
    counted(verdict, done.outcome)?;
    heard(world, before, verdict)?;
    match done.fate {
        Fate::Kept => ensure!(before == after, "changed, then {}", done.outcome.name()),
        Fate::ToServer(hop) => {
            let [old, new] = rewritten(before, after, hop.as_ref())?;
            addresses::to_server(world, &old, &new, hop.as_ref())?;
        }
        Fate::ToClient(hop) => {
            let [old, new] = rewritten(before, after, hop.as_ref())?;
            addresses::to_client(world, &old, &new, hop.as_ref())?;
        }
        Fate::Answered => answer(world, before, after)?,
    }
    remembered(before, done)
}

/// It is a right ICMP "fragmentation needed" (RFC 1191, section 4), to the sender of the packet, which may be told (RFC 1122,
/// section 3.2.2), as of the VIP.
fn answer(world: &World, before: &[u8], after: &[u8]) -> Result<()> {
    let old = Packet::of_frame(before).context("this is no whole packet, and was answered")?;
    ensure!(before[0] & 1 == 0, "not for the gateway alone, and answered");
    let new = Packet::of_frame(after).context("the answer is no whole packet")?;
    let vip = world.owner(old.ip.source()).map_or(old.ip.destination(), |service| service.vip);
    ensure!(world.service(vip).is_some_and(|_| new.ip.source() == vip), "from {:?}", new.ip.source());
    ensure!(new.ip.destination() == old.ip.source(), "to {:?}", new.ip.destination());
    ensure!([&after[..6], &after[6..12]] == [&before[6..12], &before[..6]], "to another Ethernet address");
    ensure!(new.sums() == (0, Some(0)), "its sums are {:?}", new.sums());
    ensure!(new.ip.dont_fragment() || new.is_whole(), "in fragments");
    let icmp = &after[34..];
    let mtu = u16::from_be_bytes([icmp[6], icmp[7]]);
    ensure!(icmp[..2] == [3, 4] && icmp[4..6] == [0, 0], "not a fragmentation needed");
    ensure!(mtu >= 68 && mtu < old.ip.total_len(), "of {} bytes only {mtu} would get through", old.ip.total_len());
    ensure!(icmp[8..] == before[14..42], "quotes something else");
    ensure!(old.ip.dont_fragment(), "could have been fragmented");
    ensure!(old.is_start(), "about a fragment but the first");
    ensure!(!matches!(old.ip.source(), [0 | 127 | 224.., ..]), "to no single host");
    ensure!(old.quoted().is_none(), "about an ICMP error");
    Ok(())
}

/// Of a first fragment what the others have in common with it, and where it went.
fn remembered(before: &[u8], done: &Done) -> Result<()> {
    let Some((key, _)) = done.remembered else { return Ok(()) };
    let packet = Packet::of_frame(before).context("no whole packet is remembered")?;
    ensure!(packet.is_start() && !packet.is_whole(), "no first fragment is remembered");
    let ip = &packet.ip;
    let found = (key.source, key.destination, u16::from_be_bytes(key.identification));
    ensure!(found == (ip.source(), ip.destination(), ip.identification()), "remembered as {key:?}");
    Ok(())
}

/// It has a place in the counters, and what it notes has one in the maps.
fn counted(verdict: &Verdict, outcome: Outcome) -> Result<()> {
    ensure!(Outcome::ALL.contains(&outcome), "an outcome that nobody knows");
    ensure!(counter_index(verdict.server, verdict.class, outcome) < MAX_COUNTERS, "no place in the counters");
    let server = verdict.server;
    ensure!(server.is_none_or(|server| pending_index(server, verdict.class) < MAX_PENDING), "no place among pending");
    let flip = match verdict.note {
        Note::Sent { flip, .. } => Some(flip),
        Note::Heard { flip } => flip,
        Note::Nothing | Note::Refused { .. } => None,
    };
    ensure!(flip.is_none_or(|flip| flip.index < MAX_FLIPS), "no place among the flips");
    ensure!(server.is_some() || verdict.note == Note::Nothing, "news about nobody");
    Ok(())
}

/// Only what came in by the way to a server is a sign of its life.
fn heard(world: &World, before: &[u8], verdict: &Verdict) -> Result<()> {
    if let Note::Heard { .. } = verdict.note {
        let hop = Packet::of_frame(before).and_then(|packet| world.next_hop(packet.ip.source()));
        ensure!(hop.is_some_and(|hop| hop.ifindex == world.ingress()), "heard from where the server is not");
    }
    Ok(())
}

/// Ethernet addresses, IP addresses, time to live and checksums have changed, at most, and the checksums with the rest. Gives
/// both packets back.
fn rewritten<'a>(before: &'a [u8], after: &'a [u8], hop: Option<&Hop>) -> Result<[Packet<'a>; 2]> {
    let old = Packet::of_frame(before).context("this is no whole packet, and was rewritten")?;
    ensure!(before[0] & 1 == 0, "not for the gateway alone, and rewritten");
    let new = Packet::of_frame(after).context("this is no whole packet any more")?;
    let quoted = old.quoted();
    let is_udp = old.ip.protocol() == etherparse::IpNumber::UDP;
    let is_error = old.is_whole() && quoted.as_ref().is_some_and(|quoted| quoted.ports().is_some());
    ensure!(is_udp || is_error, "neither UDP nor an ICMP error about UDP, and rewritten");
    let around = quoted.as_ref().map(|_| old.changes_around_quoted());
    let inside = quoted.iter().flat_map(Packet::changes);
    let link = hop.map(|_| [0..12, 22..23]).into_iter().flatten();
    let allowed: Vec<_> = link.chain(old.changes()).chain(around).chain(inside).collect();
    ensure!(masked(before, &allowed) == masked(after, &allowed), "changed where it must not be");

    same_sums(&old, &new)?;
    if let (Some(old), Some(new)) = (&quoted, &new.quoted()) {
        same_sums(old, new).context("in the quotation")?;
    }
    let down = u8::from(hop.is_some());
    ensure!(old.ip.ttl().checked_sub(down) == Some(new.ip.ttl()), "time to live to {}", new.ip.ttl());
    if let Some(hop) = hop {
        ensure!(new.ip.ttl() > 0, "sent with no time to live");
        ensure!(after[..12] == [hop.destination, hop.source].concat(), "with other Ethernet addresses than the hop's");
    }
    Ok([old, new])
}

/// What was right stays right, what was wrong stays as wrong as it was, and what was not computed stays so.
fn same_sums(old: &Packet<'_>, new: &Packet<'_>) -> Result<()> {
    ensure!(old.sums() == new.sums(), "the sums were {:?} and are {:?}", old.sums(), new.sums());
    ensure!(old.has_no_checksum() == new.has_no_checksum(), "a UDP checksum out of nothing, or none any more");
    Ok(())
}

/// The bytes but those that may change.
fn masked(bytes: &[u8], allowed: &[Range<usize>]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for range in allowed {
        bytes[range.clone()].fill(0);
    }
    bytes
}

#[cfg(test)]
mod tests;
