//! Frames to try the program with, and a judgement of frames that owes nothing to the code under test.

use etherparse::{
    Icmpv4Type, IpHeaders, IpNumber, Ipv4Header, Ipv4HeaderSlice, NetSlice, PacketBuilder, SlicedPacket,
    TransportSlice, UdpSlice,
};

use super::net::Ipv4;

/// Bytes of an Ethernet header.
pub(crate) const ETHERNET: usize = 14;

/// An IPv4 header of a UDP datagram.
pub(crate) fn ip_header(source: Ipv4, destination: Ipv4) -> Ipv4Header {
    Ipv4Header::new(0, 64, IpNumber::UDP, source, destination).expect("no payload is too large")
}

/// A frame with a datagram and right checksums.
pub(crate) fn datagram_with(header: Ipv4Header, ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2])
        .ip(IpHeaders::Ipv4(header, Default::default()))
        .udp(ports.0, ports.1)
        .write(&mut frame, payload)
        .expect("memory takes every frame");
    frame
}

/// A frame like one of a call: 20 ms of G.711.
pub(crate) fn datagram(from: (Ipv4, u16), to: (Ipv4, u16)) -> Vec<u8> {
    datagram_with(ip_header(from.0, to.0), (from.1, to.1), &[0xd5; 172])
}

/// An ICMP destination unreachable about a datagram, with its IP header and the eight bytes behind that.
pub(crate) fn unreachable(from: Ipv4, to: Ipv4, code: u8, about: &[u8]) -> Vec<u8> {
    let kind = Icmpv4Type::Unknown { type_u8: 3, code_u8: code, bytes5to8: [0; 4] };
    let mut frame = Vec::new();
    PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2])
        .ipv4(from, to, 64)
        .icmpv4(kind)
        .write(&mut frame, &about[ETHERNET..ETHERNET + 28])
        .expect("memory takes every frame");
    frame
}

/// The frame with other bytes at `offset`.
pub(crate) fn patched(mut frame: Vec<u8>, offset: usize, bytes: &[u8]) -> Vec<u8> {
    frame[offset..offset + bytes.len()].copy_from_slice(bytes);
    frame
}

/// A whole, unfragmented UDP datagram over IPv4, right behind the Ethernet header, as etherparse reads it.
pub(crate) struct Datagram<'a> {
    pub(crate) ip: Ipv4HeaderSlice<'a>,
    pub(crate) udp: UdpSlice<'a>,
}

impl<'a> Datagram<'a> {
    /// Nothing if the frame is anything else, or its lengths contradict each other.
    pub(crate) fn read(frame: &'a [u8]) -> Option<Self> {
        let packet = SlicedPacket::from_ethernet(frame).ok().filter(|packet| packet.vlan().is_none())?;
        match (packet.net, packet.transport) {
            (Some(NetSlice::Ipv4(ip)), Some(TransportSlice::Udp(udp))) if !ip.is_payload_fragmented() => {
                let ip = Ipv4HeaderSlice::from_slice(frame.get(ETHERNET..)?).ok()?;
                Some(Self { ip, udp })
            }
            _ => None,
        }
    }

    /// Whether a receiver would accept both checksums: all words with their checksum add up to all ones (RFC 1071).
    /// Not left to etherparse, which wants one of the two zeros where a garbled frame may well have the other.
    pub(crate) fn checksums_hold(&self) -> bool {
        let length = self.udp.length().to_be_bytes();
        let pseudo = [&self.ip.source()[..], &self.ip.destination(), &[0, IpNumber::UDP.0], &length].concat();
        sum(&[self.ip.slice()]) == 0xffff && (self.udp.checksum() == 0 || sum(&[&pseudo, self.udp.slice()]) == 0xffff)
    }
}

/// The sum of all words, folded: all ones if a right checksum is among them.
pub(crate) fn sum(parts: &[&[u8]]) -> u32 {
    let pairs = parts.iter().flat_map(|part| part.chunks(2));
    let sum = pairs.map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0))).sum::<u32>();
    let sum = (sum & 0xffff) + (sum >> 16);
    (sum & 0xffff) + (sum >> 16)
}
