//! What must be true of a frame and what became of it, whatever the tables and the code say.

use std::{net::IpAddr, ops::Range};

use anyhow::{Context as _, Result, ensure};
use voip_ha_ebpf::{
    abi::{Class, Family, MAX_FLIPS, MAX_TALLIES, Outcome, ServerNumber, flip_index, tally_index},
    steer::{Hop, News, Verdict},
};

use super::{
    addresses,
    wire::Packet,
    world::{Done, Fate, GATEWAY, KNOWN, MASK_PORTS, NARROW_MTU, World},
};

/// Says what does not hold.
pub(super) fn judge(world: &World, before: &[u8], after: &[u8], verdict: &Verdict, done: &Done) -> Result<()> {
    counted(verdict, done.outcome)?;
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

/// It is a right ICMP "fragmentation needed" (RFC 1191, section 4) or "packet too big" (RFC 4443, section 3.2), to the sender of
/// the packet, which may be told (RFC 1122, section 3.2.2; RFC 4443, section 2.4), as of the VIP.
fn answer(world: &World, before: &[u8], after: &[u8]) -> Result<()> {
    let old = Packet::of_frame(before).context("this is no whole packet, and was answered")?;
    ensure!(before[0] & 1 == 0, "not for the gateway alone, and answered");
    let new = Packet::of_frame(after).context("the answer is no whole packet")?;
    let vip = world.owner(old.source).map_or(old.destination, |(service, _)| service.vip.by(Family::of(old.source)));
    // A server that masquerades knows the gateway's own name.
    let is_known = new.source == old.destination && GATEWAY.has(new.source);
    ensure!(is_known || world.service(vip).is_some_and(|_| new.source == vip), "from {:?}", new.source);
    ensure!(new.destination == old.source, "to {:?}", new.destination);
    let link = [&before[6..12], &before[..6], &before[12..old.at]].concat();
    ensure!(after[..new.at] == link, "with another link header");
    ensure!(after.len() == new.at + new.len() as usize, "something is behind it");
    ensure!(matches!(new.sums(), (0, Some(0))), "its sums are {:?}", new.sums());
    ensure!(new.is_whole(), "in fragments");
    let packet = &before[old.at..];
    let icmp = new.payload;
    let mtu = u32::from_be_bytes([icmp[4], icmp[5], icmp[6], icmp[7]]);
    let (kind, quoted) = if old.source.is_ipv4() { ([3, 4], &packet[..28]) } else { ([2, 0], &packet[..96]) };
    ensure!(icmp[..2] == kind, "says something else");
    ensure!((NARROW_MTU..old.len()).contains(&mtu), "of {} bytes only {mtu} would get through", old.len());
    ensure!(icmp[8..] == *quoted, "quotes something else");
    ensure!(old.source.is_ipv4() || new.header[..4] == [0x60, 0, 0, 0] && new.ttl == 64, "an odd header");
    ensure!(old.dont_fragment, "could have been fragmented");
    ensure!(old.is_start(), "about a fragment but the first");
    ensure!(old.is_udp(), "about something else than UDP");
    let is_host = match old.source {
        IpAddr::V4(source) => !matches!(source.octets(), [0 | 127 | 224.., ..]),
        IpAddr::V6(source) => !source.is_unspecified() && !source.is_loopback() && !source.is_multicast(),
    };
    ensure!(is_host, "to no single host");
    Ok(())
}

/// Of a first fragment what the others have in common with it, and where it went.
fn remembered(before: &[u8], done: &Done) -> Result<()> {
    let Some((key, _)) = done.remembered else { return Ok(()) };
    let packet = Packet::of_frame(before).context("no whole packet is remembered")?;
    ensure!(packet.is_start() && !packet.is_whole(), "no first fragment is remembered");
    let found = (key.source.into(), key.destination.into(), key.identification, key.reserved);
    let wanted = (packet.source, packet.destination, packet.identification, 0);
    ensure!(found == wanted, "remembered as {key:?}");
    Ok(())
}

/// It has a place in the counters, and what it notes has one in the maps.
fn counted(verdict: &Verdict, outcome: Outcome) -> Result<()> {
    let Verdict { server, class, note, .. } = *verdict;
    ensure!(Outcome::ALL.contains(&outcome), "an outcome that nobody knows");
    ensure!(tally_index(server, class) < MAX_TALLIES, "no place in the counters");
    ensure!(flip_index(note.flip.service, note.flip.epoch, class) < MAX_FLIPS, "no place among the flips");
    ensure!(server.is_some() || note.news == News::Nothing, "news about nobody");
    Ok(())
}

/// Only what came in by the way to a server is a sign of its life, only an ICMP error about a datagram to it one of its death, and a
/// flow has the ports of its packet.
pub(super) fn noted(world: &World, before: &[u8], Verdict { server, note, class, .. }: &Verdict) -> Result<()> {
    let Some(packet) = Packet::of_frame(before) else {
        ensure!(note.news == News::Nothing, "news out of no whole packet");
        return Ok(());
    };
    let owner = |address| world.owner(address).map(|(_, number)| ServerNumber(number as u32));
    let is_heard = || owner(packet.source) == *server && world.is_way_to(packet.source);
    ensure!(note.news != News::Heard || is_heard(), "heard from where the server is not");
    let is_refused = || packet.quoted_receiver().is_some_and(|receiver| owner(receiver) == *server);
    ensure!(note.news != News::Refused || is_refused(), "refused without a word about this server");
    let is_flow = || *class == Class::Rtp && packet.ports() == Some((note.client_port, note.service_port));
    ensure!(!note.is_flow || is_flow(), "a flow of other ports");
    Ok(())
}

/// Headers of the link, IP addresses, time to live and checksums have changed, at most, and the checksums with the rest. Gives both
/// packets back.
fn rewritten<'a>(before: &'a [u8], after: &'a [u8], hop: Option<&Hop>) -> Result<[Packet<'a>; 2]> {
    let old = Packet::of_frame(before).context("this is no whole packet, and was rewritten")?;
    ensure!(before[0] & 1 == 0, "not for the gateway alone, and rewritten");
    let new = Packet::of_frame(after).context("this is no whole packet any more")?;
    let link = hop.map_or_else(|| before[..old.at].to_vec(), |hop| link_of(hop, &before[..old.at]));
    ensure!(after[..new.at] == link, "with another link header than {link:02x?}");

    let quoted = old.quoted();
    let is_error = old.is_whole() && quoted.as_ref().is_some_and(|quoted| quoted.ports().is_some());
    ensure!(old.is_udp() || is_error, "neither UDP nor an ICMP error about UDP, and rewritten");
    let around = quoted.as_ref().map(|_| old.changes_around_quoted());
    let inside = quoted.iter().flat_map(|quoted| quoted.changes().map(|range| shifted(range, quoted.at)));
    let ttl = hop.map(|_| old.ttl_at());
    let allowed: Vec<_> = old.changes().chain(ttl).chain(around).chain(inside).collect();
    let [old_packet, new_packet] = [&before[old.at..], &after[new.at..]];
    ensure!(masked(old_packet, &allowed) == masked(new_packet, &allowed), "changed where it must not be");

    same_sums(&old, &new)?;
    if let (Some(old), Some(new)) = (&quoted, &new.quoted()) {
        same_sums(old, new).context("in the quotation")?;
    }
    ensure!(old.ttl.checked_sub(u8::from(hop.is_some())) == Some(new.ttl), "time to live to {}", new.ttl);
    ensure!(hop.is_none() || new.ttl > 0, "sent with no time to live");
    Ok([old, new])
}

/// The link header of a frame to this hop: with its tags, which have the priority (IEEE 802.1Q, section 9.6) of the outer one before.
fn link_of(hop: &Hop, before: &[u8]) -> Vec<u8> {
    let priority = if before.len() > 14 { before[14] & 0xf0 } else { 0 };
    let mut link = [hop.ends.destination(), hop.ends.source()].concat();
    for tag in hop.tags.iter().filter(|tag| tag.id != 0) {
        let [high, low] = tag.id.to_be_bytes();
        link.extend(tag.protocol.to_be_bytes());
        link.extend([priority | high, low]);
    }
    [&link, &before[before.len() - 2..]].concat()
}

/// Between the gateway's own name and a client: beside what covers them, addresses and ports have changed, of the packet or of the one
/// that it quotes, on one side only and to what they may be. `to_mask` is the way from the client.
pub(super) fn renamed(before: &[u8], after: &[u8], to_mask: bool) -> Result<()> {
    let old = Packet::of_frame(before).context("this is no whole packet, and was renamed")?;
    let new = Packet::of_frame(after).context("this is no whole packet any more")?;
    ensure!(before[..old.at] == after[..new.at], "with another link header");
    let quoted = old.quoted();
    let around = quoted.as_ref().map(|_| old.changes_around_quoted());
    let inside = quoted.iter().flat_map(|quoted| {
        let of_quoted = quoted.changes().chain(quoted.ports_at());
        of_quoted.map(|range| shifted(range, quoted.at)).collect::<Vec<_>>()
    });
    let own = old.ports_at().filter(|_| quoted.is_none());
    let allowed: Vec<_> = old.changes().chain(own).chain(around).chain(inside).collect();
    ensure!(masked(&before[old.at..], &allowed) == masked(&after[new.at..], &allowed), "changed where it must not be");
    same_sums(&old, &new)?;
    match (&quoted, &new.quoted()) {
        (Some(old), Some(new)) => {
            same_sums(old, new).context("in the quotation")?;
            one_end(old, new, to_mask).context("in the quotation")
        }
        _ => one_end(&old, &new, to_mask),
    }
}

/// One end is another one: the known client in place of the gateway, or a port that may stand for one.
fn one_end(old: &Packet<'_>, new: &Packet<'_>, to_mask: bool) -> Result<()> {
    let ends = |packet: &Packet<'_>| {
        let (from, to) = packet.ports().unzip();
        [(packet.source, from), (packet.destination, to)]
    };
    let changed: Vec<_> = ends(old).into_iter().zip(ends(new)).filter(|(old, new)| old != new).collect();
    // A port may stand for itself.
    let Some(((address, port), (now, its))) = changed.first() else { return Ok(()) };
    ensure!(changed.len() == 1, "both ends");
    ensure!(port.zip(*its).is_none_or(|(port, its)| port % 2 == its % 2), "from port {port:?} to {its:?}");
    let mapped = if to_mask { *its } else { *port };
    ensure!(mapped.is_none_or(|port| (MASK_PORTS[0]..=MASK_PORTS[1]).contains(&port)), "{mapped:?} stands for nobody");
    let is_right = match to_mask {
        true => address == now || GATEWAY.has(*now),
        false => GATEWAY.has(*address) && KNOWN.has(*now),
    };
    ensure!(is_right, "{address} became {now}");
    Ok(())
}

/// What was right stays right, what was wrong stays as wrong as it was, and what was not computed stays so.
fn same_sums(old: &Packet<'_>, new: &Packet<'_>) -> Result<()> {
    ensure!(old.sums() == new.sums(), "the sums were {:?} and are {:?}", old.sums(), new.sums());
    ensure!(old.has_no_checksum() == new.has_no_checksum(), "a UDP checksum out of nothing, or none any more");
    Ok(())
}

fn shifted(range: Range<usize>, by: usize) -> Range<usize> {
    range.start + by..range.end + by
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
