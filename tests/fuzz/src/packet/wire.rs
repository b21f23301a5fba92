//! IPv4 as etherparse reads and sums it: nothing here is of the code under test.

use std::{iter, ops::Range};

use etherparse::{IpNumber, Ipv4HeaderSlice, checksum::Sum16BitWords};

const ETHERNET: usize = 14;
const ICMP: usize = 8;
const UDP: usize = 8;
/// Destination unreachable, time exceeded, parameter problem.
const ERRORS: [u8; 3] = [3, 11, 12];

/// An IPv4 packet, in a frame or quoted by another one.
pub(super) struct Packet<'a> {
    pub(super) ip: Ipv4HeaderSlice<'a>,
    payload: &'a [u8],
    /// Offset of the IP header from the start of the frame.
    at: usize,
}

impl<'a> Packet<'a> {
    /// The packet in a frame; nothing if there is no whole one.
    pub(super) fn of_frame(frame: &'a [u8]) -> Option<Self> {
        let (ethernet, bytes) = frame.split_at_checked(ETHERNET)?;
        let ip = Ipv4HeaderSlice::from_slice(bytes).ok()?;
        let payload = bytes.get(ip.slice().len()..usize::from(ip.total_len()))?;
        (ethernet[12..] == [8, 0]).then_some(Self { ip, payload, at: ETHERNET })
    }

    /// The packet that this one quotes, if it is an ICMP error. It may be cut off anywhere behind its IP header.
    pub(super) fn quoted(&self) -> Option<Self> {
        let is_error =
            self.ip.protocol() == IpNumber::ICMP && self.is_start() && ERRORS.contains(self.payload.first()?);
        let bytes = self.payload.get(ICMP..).filter(|_| is_error)?;
        let ip = Ipv4HeaderSlice::from_slice(bytes).ok()?;
        let payload = &bytes[ip.slice().len()..];
        Some(Self { ip, payload, at: self.at + self.ip.slice().len() + ICMP })
    }

    /// Whether it is no fragment.
    pub(super) fn is_whole(&self) -> bool {
        self.is_start() && !self.ip.more_fragments()
    }

    /// Whether it is no fragment, or the first one.
    pub(super) fn is_start(&self) -> bool {
        self.ip.fragments_offset().value() == 0
    }

    /// Its ports, source first, if it has a UDP header.
    pub(super) fn ports(&self) -> Option<(u16, u16)> {
        let [a, b, c, d, ..] = *self.udp()? else { return None };
        Some((u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])))
    }

    /// Whether it has a UDP header that says that no checksum was computed.
    pub(super) fn has_no_checksum(&self) -> bool {
        self.udp().is_some_and(|udp| udp[6..8] == [0, 0])
    }

    /// UDP header and what is there of the rest.
    fn udp(&self) -> Option<&'a [u8]> {
        let is_udp = self.ip.protocol() == IpNumber::UDP && self.is_start() && self.payload.len() >= UDP;
        is_udp.then_some(self.payload)
    }

    /// The sums over all that a checksum covers and is there, the checksum itself included: of the IP header, and of UDP or
    /// ICMP. Zero where the checksum is right and all is there. What may change in a packet changes none of them, whether the
    /// checksum was right or not.
    pub(super) fn sums(&self) -> (u16, Option<u16>) {
        let transport = match self.udp() {
            Some(_) if self.has_no_checksum() => None,
            Some(udp) => {
                let length = usize::from(u16::from_be_bytes([udp[4], udp[5]])).max(UDP);
                let pseudo =
                    [&self.ip.source()[..], &self.ip.destination(), &[0, IpNumber::UDP.0], &udp[4..6]].concat();
                Some(sum(&[&pseudo, udp.get(..length).unwrap_or(udp)]))
            }
            None => (self.ip.protocol() == IpNumber::ICMP).then(|| sum(&[self.payload])),
        };
        (sum(&[self.ip.slice()]), transport)
    }

    /// Where a frame may change with the addresses of this packet.
    pub(super) fn changes(&self) -> impl Iterator<Item = Range<usize>> + use<'_> {
        let transport = self.at + self.ip.slice().len();
        let udp = self.udp().map(|_| transport + 6..transport + 8);
        iter::once(self.at + 10..self.at + 20).chain(udp)
    }

    /// Where a frame may change with the addresses of the packet that this one quotes.
    pub(super) fn changes_around_quoted(&self) -> Range<usize> {
        let transport = self.at + self.ip.slice().len();
        transport + 2..transport + 4
    }
}

/// The one's complement of the one's complement sum (RFC 1071), with one zero instead of two.
pub(super) fn sum(parts: &[&[u8]]) -> u16 {
    let sum = parts.iter().fold(Sum16BitWords::new(), |sum, part| sum.add_slice(part));
    sum.ones_complement() % 0xffff
}
