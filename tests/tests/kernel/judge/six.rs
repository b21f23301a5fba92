//! The same for IPv6, of which the rig's frames are the twins of those of IPv4.

use anyhow::{Context as _, Result, ensure};
use etherparse::{IpNumber, Ipv6HeaderSlice};

use super::Steered;
use crate::{
    frame::{ETHERNET, sum},
    net::{BACK, Ipv4, MTU, beside, is_beside},
    rig::{Act, next_hop},
};

const HEADER: usize = 40;

/// Judges what became of a frame without tags.
pub(super) fn judge(before: &[u8], act: Act, after: &[u8], steered: &[Steered; 2]) -> Result<()> {
    let header = |frame: &'_ [u8]| -> Result<_> { Ok(Ipv6HeaderSlice::from_slice(&frame[ETHERNET..])?.to_header()) };
    let (old, new) = (header(before)?, header(after)?);
    let twin = |octets: [u8; 16]| is_beside(octets.into()).context("an address of nobody");
    if act == Act::Transmit {
        ensure!(u32::from(old.payload_length) + HEADER as u32 > MTU, "an answer to what was not too big");
        ensure!(new.next_header == IpNumber::IPV6_ICMP && new.destination == old.source, "no answer to the sender");
        ensure!(steered.iter().any(|service| beside(service.vip) == new.source), "not from a VIP");
        ensure!(after[ETHERNET + HEADER] == 2 && holds(after) == Some(true), "no right message that it is too big");
        return Ok(());
    }
    ensure!(
        before.len() == after.len() && holds(before) == holds(after),
        "a checksum was broken, or a broken one hidden"
    );
    let down = old.hop_limit.wrapping_sub(new.hop_limit);
    ensure!(down == u8::from(act == Act::Redirect), "hop limit from {} to {}", old.hop_limit, new.hop_limit);
    // Or behind extension headers, which are not read here.
    let is_error = ![IpNumber::UDP, IpNumber::IPV6_FRAGMENTATION_HEADER].contains(&old.next_header);
    // Nothing but addresses, hop limit and what covers them.
    let may_change = |at: usize| match at {
        0..12 | 21..54 => true,
        _ if is_error => at >= ETHERNET + HEADER + 2,
        _ => at >= ETHERNET + HEADER,
    };
    ensure!((0..before.len()).all(|at| before[at] == after[at] || may_change(at)), "changed where it must not be");
    match steered.iter().find(|service| beside(service.vip) == old.destination) {
        Some(service) => to_server(after, act, (old.source, new.source), twin(new.destination)?, service),
        None => {
            ensure!(new.destination == old.destination, "to another client");
            let from = is_beside(old.source.into());
            let owner = steered.iter().find_map(|service| Some((service, service.name_of(from?)?)));
            let Some((service, name)) = owner else {
                ensure!(is_error && new.source == old.source, "neither to a VIP nor from a server, and changed");
                return Ok(());
            };
            ensure!(service.may_send(name), "{name} got through the fence");
            ensure!(new.source == beside(service.vip), "not from the VIP");
            Ok(())
        }
    }
}

fn to_server(after: &[u8], act: Act, (old, from): ([u8; 16], [u8; 16]), to: Ipv4, service: &Steered) -> Result<()> {
    let name = service.name_of(to).with_context(|| format!("to {to:?}, which is no server of the service"))?;
    let targets = [service.signalling, service.media];
    // A later fragment follows the first one, wherever that went; it may be behind extension headers.
    let may_get = targets.contains(&Some(name)) || service.may_keep(name);
    ensure!(may_get || !is_datagram(after), "to {name}, which is not active");
    if act == Act::Redirect {
        let hop = next_hop(name).context("to a server without a next hop")?;
        ensure!(hop.ifindex == BACK && after[..12] == [hop.destination, hop.source].concat(), "by a wrong next hop");
    }
    ensure!(from == if old == beside(to) { beside(service.vip) } else { old }, "with {from:02x?} as its source");
    Ok(())
}

fn is_datagram(frame: &[u8]) -> bool {
    frame[ETHERNET + 6] == IpNumber::UDP.0
}

/// Whether the checksum of UDP or ICMPv6 right behind the header is right; nothing if there is none.
fn holds(frame: &[u8]) -> Option<bool> {
    let (length, next) = (&frame[ETHERNET + 4..ETHERNET + 6], frame[ETHERNET + 6]);
    let payload = frame.get(ETHERNET + HEADER..)?.get(..usize::from(u16::from_be_bytes([length[0], length[1]])))?;
    (next == 17 && payload.len() >= 8 || next == 58).then(|| {
        let covered =
            if next == 17 { usize::from(u16::from_be_bytes([payload[4], payload[5]])) } else { payload.len() };
        let payload = &payload[..covered.min(payload.len())];
        let pseudo =
            [&frame[ETHERNET + 8..ETHERNET + HEADER], &(covered as u32).to_be_bytes(), &[0, 0, 0, next]].concat();
        sum(&[&pseudo, payload]) == 0xffff
    })
}
