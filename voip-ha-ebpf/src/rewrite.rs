//! Applying a verdict to the bytes of a packet.

mod too_big;

use crate::{
    abi::Address,
    checksum::Change,
    packet::{ETHERNET_LEN, ErrorOffsets, Ethernet, Frame, Icmp, Ipv4, Udp},
    steer::Hop,
};

pub use too_big::{TOO_BIG_GROWTH, TOO_BIG_LEN, too_big};

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

/// What follows from other addresses behind the IP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inside {
    /// The checksum of the UDP header at this offset from the start of the frame, which covers the addresses.
    Datagram(usize),
    /// Nothing: a fragment without a UDP header. The checksum is in the first one.
    NoPorts,
    /// The packet that an ICMP error quotes.
    Error(Quotation),
}

/// The addresses that a quoted packet is to have, and where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quotation {
    /// Where it is.
    pub offsets: ErrorOffsets,
    /// Sender.
    pub source: Address,
    /// Receiver.
    pub destination: Address,
}

/// Replaces the addresses of a packet and updates all checksums that cover them. Returns `None`, with nothing changed, if
/// the headers do not lie inside the frame.
#[inline(always)]
pub fn addresses(frame: &mut Frame<'_>, rewrite: &Rewrite) -> Option<()> {
    let _: &mut Ipv4 = frame.at(ETHERNET_LEN)?;
    // Looked at first, so that nothing is half done.
    match &rewrite.inside {
        Inside::Datagram(udp) => {
            let _: &mut Udp = frame.at(*udp)?;
        }
        Inside::NoPorts => {}
        Inside::Error(quotation) => quoted(frame, quotation)?,
    }
    let ip: &mut Ipv4 = frame.at(ETHERNET_LEN)?;
    let change = replace(ip, rewrite.source, rewrite.destination);
    if let Inside::Datagram(udp) = rewrite.inside {
        let udp: &mut Udp = frame.at(udp)?;
        udp.checksum = change.apply_udp(udp.checksum);
    }
    Some(())
}

/// Replaces the addresses in an IP header and updates its checksum. Returns the change of the addresses.
#[inline(always)]
fn replace(ip: &mut Ipv4, source: Address, destination: Address) -> Change {
    let change = Change::of_address(ip.source, source).and(Change::of_address(ip.destination, destination));
    ip.source = source;
    ip.destination = destination;
    ip.checksum = change.apply(ip.checksum);
    change
}

/// Replaces the addresses in a quotation, and updates its checksums and that of the message, which covers it all.
#[inline(always)]
fn quoted(frame: &mut Frame<'_>, quotation: &Quotation) -> Option<()> {
    let Quotation { offsets, source, destination } = quotation;
    let _: &mut Icmp = frame.at(offsets.icmp)?;
    let _: &mut Udp = frame.at(offsets.udp)?;
    let ip: &mut Ipv4 = frame.at(offsets.quoted())?;
    let before = ip.checksum;
    let addresses = replace(ip, *source, *destination);
    let mut change = addresses.and(Change::of_pair(before, ip.checksum));
    let udp: &mut Udp = frame.at(offsets.udp)?;
    let before = udp.checksum;
    udp.checksum = addresses.apply_udp(before);
    change = change.and(Change::of_pair(before, udp.checksum));
    let icmp: &mut Icmp = frame.at(offsets.icmp)?;
    icmp.checksum = change.apply(icmp.checksum);
    Some(())
}

/// Does what a router does to a packet that it sends on: counts down the time to live, which the caller knows to be
/// above 1, and addresses the frame to the next hop. Returns `None`, with nothing changed, if the headers do not lie
/// inside the frame.
#[inline(always)]
pub fn forward(frame: &mut Frame<'_>, hop: &Hop) -> Option<()> {
    let ip: &mut Ipv4 = frame.at(ETHERNET_LEN)?;
    let [ttl, protocol] = ip.ttl_protocol;
    let counted_down = [ttl.wrapping_sub(1), protocol];
    ip.checksum = Change::of_pair(ip.ttl_protocol, counted_down).apply(ip.checksum);
    ip.ttl_protocol = counted_down;
    let ethernet: &mut Ethernet = frame.at(0)?;
    ethernet.source = hop.source;
    ethernet.destination = hop.destination;
    Some(())
}
