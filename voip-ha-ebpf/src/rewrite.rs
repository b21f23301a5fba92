//! Applying a verdict to the bytes of a packet.

use crate::{
    abi::Address,
    checksum::Change,
    packet::{ETHERNET_LEN, Ethernet, Frame, Ipv4, Udp},
    steer::Hop,
};

/// The addresses a datagram is to have, and where it is. The ports stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rewrite {
    /// Sender.
    pub source: Address,
    /// Receiver.
    pub destination: Address,
    /// Offset of the UDP header from the start of the frame.
    pub udp: usize,
}

/// Replaces the addresses of a datagram and updates the checksums of IP and UDP. Returns `None`, with nothing changed,
/// if the headers do not lie inside the frame.
#[inline(always)]
pub fn addresses(frame: &mut Frame<'_>, rewrite: &Rewrite) -> Option<()> {
    // Looked at first, so that nothing is half done.
    let _: &mut Udp = frame.at(rewrite.udp)?;
    let ip: &mut Ipv4 = frame.at(ETHERNET_LEN)?;
    let change =
        Change::of_address(ip.source, rewrite.source).and(Change::of_address(ip.destination, rewrite.destination));
    ip.source = rewrite.source;
    ip.destination = rewrite.destination;
    ip.checksum = change.apply(ip.checksum);
    let udp: &mut Udp = frame.at(rewrite.udp)?;
    udp.checksum = change.apply_udp(udp.checksum);
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
