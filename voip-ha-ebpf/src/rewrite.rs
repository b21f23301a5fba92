//! Applying a verdict to the bytes of a packet.

mod ports;
mod tags;
mod too_big;

use core::mem::size_of;

use crate::{
    abi::{Address, Family},
    checksum::{self, Change},
    packet::{ErrorOffsets, Frame, Icmp, Ipv4, Ipv6, Network, Udp, Word, kept},
    steer::Hop,
};

pub use self::{
    ports::{PortChange, mask, unmask},
    tags::{growth, priority, tag_frame},
    too_big::{too_big, too_big_growth, too_big_length},
};

/// The addresses a packet is to have. The ports stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rewrite {
    /// Sender.
    pub source: Address,
    /// Receiver.
    pub destination: Address,
    /// What else changes with them.
    pub inside: Inside,
}

/// What follows from other addresses behind the IP header. All offsets are from the start of the frame, and 0 where there is no such
/// thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inside {
    /// Offset of the UDP header, whose checksum covers the addresses. A fragment but the first has none.
    pub udp: usize,
    /// Where the packet is that an ICMP error quotes.
    pub error: ErrorOffsets,
    /// Sender that the quotation is to have.
    pub source: Address,
    /// Its receiver.
    pub destination: Address,
}

impl Inside {
    /// Nothing: a fragment without a UDP header. The checksum is in the first one.
    pub const NO_PORTS: Self =
        Self { udp: 0, error: ErrorOffsets { icmp: 0, udp: 0 }, source: Address::NONE, destination: Address::NONE };

    /// A UDP header.
    #[inline(always)]
    pub const fn datagram(udp: usize) -> Self {
        Self { udp, ..Self::NO_PORTS }
    }
}

impl Rewrite {
    /// Nothing is sent.
    pub const NONE: Self = Self { source: Address::NONE, destination: Address::NONE, inside: Inside::NO_PORTS };
}

/// The change of the addresses, for a UDP checksum that covers them.
#[inline(always)]
pub fn change_of(network: &Network, rewrite: &Rewrite) -> Change {
    match network.family {
        Family::V4 => {
            let source = Change::of_word(network.source.last_word(), rewrite.source.last_word());
            source.and(Change::of_word(network.destination.last_word(), rewrite.destination.last_word()))
        }
        Family::V6 => {
            let source = Change::of_address(network.source, rewrite.source);
            source.and(Change::of_address(network.destination, rewrite.destination))
        }
    }
}

/// Replaces the addresses of a packet, which `network` was read from, and updates all checksums that cover them. Returns `None`,
/// with nothing changed, if the headers do not lie inside the frame.
#[inline(always)]
pub fn addresses(frame: &mut Frame<'_>, network: &Network, rewrite: &Rewrite) -> Option<()> {
    // Looked at first, so that nothing is half done.
    match network.family {
        Family::V4 => {
            frame.at::<Ipv4>(network.offset)?;
        }
        Family::V6 => {
            frame.at::<Ipv6>(network.offset)?;
        }
    }
    let (inside, is_error) = (&rewrite.inside, rewrite.inside.error.icmp != 0);
    let mut message = Change::default();
    if inside.udp != 0 {
        frame.at::<Udp>(kept(inside.udp))?;
    }
    if is_error {
        message = quoted(frame, network.family, inside)?;
    }
    let change = replace(frame, network.family, network.offset, rewrite.source, rewrite.destination)?.0;
    if inside.udp != 0 {
        let udp: &mut Udp = frame.at(kept(inside.udp))?;
        udp.checksum.set(change.apply_udp(udp.checksum.get()));
    }
    if is_error {
        // That of ICMPv6 covers the addresses too (RFC 4443, section 2.3).
        let covered = if network.family == Family::V6 { message.and(change) } else { message };
        let icmp: &mut Icmp = frame.at(kept(inside.error.icmp))?;
        icmp.checksum.set(covered.apply(icmp.checksum.get()));
    }
    Some(())
}

/// Replaces the addresses in the IP header at `offset`, and updates its checksum. Returns the change of the addresses, and that
/// of the header.
#[inline(always)]
fn replace(
    frame: &mut Frame<'_>,
    family: Family,
    offset: usize,
    source: Address,
    destination: Address,
) -> Option<(Change, Change)> {
    match family {
        Family::V4 => {
            let ip: &mut Ipv4 = frame.at(offset)?;
            let (source, destination) = (source.last_word(), destination.last_word());
            let change = Change::of_word(ip.source.get(), source);
            let change = change.and(Change::of_word(ip.destination.get(), destination));
            ip.source.set(source);
            ip.destination.set(destination);
            let before = ip.checksum.get();
            let after = change.apply(before);
            ip.checksum.set(after);
            Some((change, change.and(Change::of_pair(before, after))))
        }
        Family::V6 => {
            let ip: &mut Ipv6 = frame.at(offset)?;
            let change = Change::of_address(ip.source.address(), source);
            let change = change.and(Change::of_address(ip.destination.address(), destination));
            ip.source.set(source);
            ip.destination.set(destination);
            Some((change, change))
        }
    }
}

/// Replaces the addresses in a quotation, and updates its checksums. Returns the change of the quotation.
#[inline(always)]
fn quoted(frame: &mut Frame<'_>, family: Family, inside: &Inside) -> Option<Change> {
    let (icmp, udp) = (kept(inside.error.icmp), kept(inside.error.udp));
    frame.at::<Icmp>(icmp)?;
    frame.at::<Udp>(udp)?;
    let (addresses, header) = replace(frame, family, icmp + size_of::<Icmp>(), inside.source, inside.destination)?;
    let udp: &mut Udp = frame.at(udp)?;
    let before = udp.checksum.get();
    let after = addresses.apply_udp(before);
    udp.checksum.set(after);
    Some(header.and(Change::of_pair(before, after)))
}

/// Counts down the time to live, which the caller knows to be above 1, as a router does with a packet that it sends on. Returns
/// `None`, with nothing changed, if the header does not lie inside the frame.
#[inline(always)]
pub fn count_down(frame: &mut Frame<'_>, network: &Network) -> Option<()> {
    match network.family {
        Family::V4 => {
            let ip: &mut Ipv4 = frame.at(network.offset)?;
            ip.ttl_protocol[0] = ip.ttl_protocol[0].wrapping_sub(1);
            ip.checksum.set(checksum::after_one_less(ip.checksum.get()));
        }
        Family::V6 => {
            let ip: &mut Ipv6 = frame.at(network.offset)?;
            ip.hop_limit = ip.hop_limit.wrapping_sub(1);
        }
    }
    Some(())
}

/// Addresses a frame that has no VLAN tags, and needs none, to the next hop. Returns `None`, with nothing changed, if the header does
/// not lie inside the frame.
#[inline(always)]
pub fn address_frame(frame: &mut Frame<'_>, hop: &Hop) -> Option<()> {
    let ends: &mut [Word; 3] = frame.at(0)?;
    for (there, word) in ends.iter_mut().zip(hop.ends.0) {
        there.set(word);
    }
    Some(())
}
