//! Frames as others send them, and what etherparse finds in frames that were sent on.

use std::net::IpAddr;

use etherparse::{
    IpFragOffset, IpHeaders, IpNumber, Ipv4Header, Ipv6Extensions, Ipv6FragmentHeader, Ipv6Header, PacketBuilder,
    SlicedPacket, TransportSlice,
};

use super::*;

/// Numbers of extension headers (RFC 8200, section 4).
pub(super) const HOP_BY_HOP: u8 = 0;
pub(super) const ROUTING: u8 = 43;
pub(super) const DESTINATION_OPTIONS: u8 = 60;

/// An IP header, with a time to live of 64.
pub(super) fn ip(source: Address, destination: Address) -> IpHeaders {
    match (source.into(), destination.into()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let header = Ipv4Header::new(0, 64, IpNumber::UDP, source.octets(), destination.octets());
            IpHeaders::Ipv4(header.unwrap(), Default::default())
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let (source, destination) = (source.octets(), destination.octets());
            let header = Ipv6Header { hop_limit: 64, source, destination, ..Default::default() };
            IpHeaders::Ipv6(header, Default::default())
        }
        families => panic!("no packet is of two families: {families:?}"),
    }
}

pub(super) fn with_ttl(mut headers: IpHeaders, ttl: u8) -> IpHeaders {
    match &mut headers {
        IpHeaders::Ipv4(header, _) => header.time_to_live = ttl,
        IpHeaders::Ipv6(header, _) => header.hop_limit = ttl,
    }
    headers
}

/// A fragment's header. Of IPv4 it forbids further fragments, so that it is as that of IPv6.
pub(super) fn part(mut headers: IpHeaders, id: u32, offset: u16, more: bool) -> IpHeaders {
    let offset = IpFragOffset::try_new(offset).unwrap();
    match &mut headers {
        IpHeaders::Ipv4(header, _) => {
            header.identification = id as u16;
            (header.fragment_offset, header.more_fragments) = (offset, more);
        }
        IpHeaders::Ipv6(_, extensions) => {
            let fragment = Some(Ipv6FragmentHeader::new(IpNumber::UDP, offset, more, id));
            *extensions = Ipv6Extensions { fragment, ..Default::default() };
        }
    }
    headers
}

pub(super) fn datagram_with(headers: IpHeaders, ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    let builder = PacketBuilder::ethernet2([2; 6], [4; 6]).ip(headers).udp(ports.0, ports.1);
    builder.write(&mut frame, payload).unwrap();
    frame
}

pub(super) fn datagram(from: (Address, u16), to: (Address, u16)) -> Vec<u8> {
    datagram_with(ip(from.0, to.0), (from.1, to.1), b"twenty ms of a voice")
}

/// A datagram whose IP packet has this length.
pub(super) fn sized(length: u32, from: (Address, u16), to: (Address, u16)) -> Vec<u8> {
    let empty = datagram_with(ip(from.0, to.0), (from.1, to.1), b"").len() - ETHERNET_LEN;
    datagram_with(ip(from.0, to.0), (from.1, to.1), &vec![b'.'; length as usize - empty])
}

/// The same frame with IP options, or one extension header, of 8 bytes.
pub(super) fn with_options(frame: Vec<u8>) -> Vec<u8> {
    if frame[ETHERNET_LEN] >> 4 == 6 {
        return extended(frame, &[(DESTINATION_OPTIONS, 0)]);
    }
    let mut header = Ipv4Header::from_slice(&frame[ETHERNET_LEN..]).unwrap().0;
    header.options = (&[1; 8][..]).try_into().unwrap();
    header.total_len += 8;
    header.header_checksum = header.calc_header_checksum();
    [&frame[..ETHERNET_LEN], &header.to_bytes(), &frame[ETHERNET_LEN + 20..]].concat()
}

/// The same IPv6 frame with these extension headers before all others: number, and length in units of 8 bytes, without the
/// first ones.
pub(super) fn extended(mut frame: Vec<u8>, headers: &[(u8, u8)]) -> Vec<u8> {
    let last = frame[ETHERNET_LEN + 6];
    let following = headers[1..].iter().map(|(number, _)| *number).chain([last]);
    let bytes = headers.iter().zip(following).flat_map(|((_, length), next)| {
        // Padding options (RFC 8200, section 4.2); to a routing header, a kind that nobody knows with no segments left.
        let mut header = vec![next, *length, 1, 0, 1, 2, 0, 0];
        header.resize(8 * (usize::from(*length) + 1), 0);
        header
    });
    let bytes: Vec<u8> = bytes.collect();
    let length = (frame.len() - ETHERNET_LEN - 40 + bytes.len()) as u16;
    frame.splice(ETHERNET_LEN + 40..ETHERNET_LEN + 40, bytes);
    frame[ETHERNET_LEN + 6] = headers[0].0;
    patched(frame, ETHERNET_LEN + 4, &length.to_be_bytes())
}

/// An ICMP error from `from` to `to`, as a host or router sends it: with the IP header of `about` and the eight bytes behind that,
/// or, of IPv6, with all of it.
pub(super) fn error(from: Address, to: Address, (kind, code): (u8, u8), about: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    let builder = PacketBuilder::ethernet2([2; 6], [4; 6]).ip(ip(from, to));
    let packet = &about[ETHERNET_LEN..];
    if from.is_v4() {
        let quotation = &packet[..usize::from(packet[0] & 15) * 4 + 8];
        builder.icmpv4_raw(kind, code, [0; 4]).write(&mut frame, quotation).unwrap();
    } else {
        builder.icmpv6_raw(kind, code, [0; 4]).write(&mut frame, packet).unwrap();
    }
    frame
}

/// A port unreachable.
pub(super) fn unreachable(from: Address, to: Address, about: &[u8]) -> Vec<u8> {
    error(from, to, if from.is_v4() { (3, 3) } else { (1, 4) }, about)
}

/// The same frame with these VLAN tags: EtherType, and control word.
pub(super) fn tagged(mut frame: Vec<u8>, tags: &[(u16, u16)]) -> Vec<u8> {
    let bytes: Vec<u8> =
        tags.iter().flat_map(|(protocol, control)| [*protocol, *control]).flat_map(u16::to_be_bytes).collect();
    frame.splice(12..12, bytes);
    frame
}

/// The one's complement sum: all ones if a right checksum is among the bytes (RFC 1071).
pub(super) fn sum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)])));
    let sum = words.sum::<u32>();
    let sum = (sum & 0xffff) + (sum >> 16);
    (sum + (sum >> 16)) as u16
}

pub(super) fn patched(mut frame: Vec<u8>, offset: usize, bytes: &[u8]) -> Vec<u8> {
    frame[offset..offset + bytes.len()].copy_from_slice(bytes);
    frame
}

/// Source, destination and time to live of a packet whose IP header has a right checksum, if it has one at all.
pub(super) fn sound_ip(packet: &SlicedPacket<'_>) -> (Address, Address, u8) {
    let net = packet.net.as_ref().unwrap();
    if let Some(ip) = net.ipv4_ref() {
        let ip = ip.header().to_header();
        assert_eq!(ip.header_checksum, ip.calc_header_checksum(), "checksum of the IP header");
        return (Address::v4(ip.source), Address::v4(ip.destination), ip.time_to_live);
    }
    let ip = net.ipv6_ref().unwrap().header().to_header();
    (Address::v6(ip.source), Address::v6(ip.destination), ip.hop_limit)
}

/// Source, destination and time to live of a datagram whose checksums etherparse finds right.
pub(super) fn sound(frame: &[u8]) -> (Address, Address, u8) {
    let packet = SlicedPacket::from_ethernet(frame).unwrap();
    let found = sound_ip(&packet);
    let Some(TransportSlice::Udp(udp)) = &packet.transport else { panic!("no UDP in {frame:02x?}") };
    if udp.checksum() != 0 {
        let header = udp.to_header();
        let wanted = match packet.net.as_ref().unwrap().ipv4_ref() {
            Some(ip) => header.calc_checksum_ipv4(&ip.header().to_header(), udp.payload()),
            None => header.calc_checksum_ipv6_raw(found.0.octets(), found.1.octets(), udp.payload()),
        };
        assert_eq!(udp.checksum(), wanted.unwrap(), "checksum of the datagram");
    }
    found
}

/// The message of an ICMP packet whose checksums etherparse finds right, and what it quotes; behind sender and receiver.
pub(super) fn sound_icmp(frame: &[u8]) -> (Address, Address, Vec<u8>) {
    let packet = SlicedPacket::from_ethernet(frame).unwrap();
    let (source, destination, _) = sound_ip(&packet);
    let message = match &packet.transport {
        Some(TransportSlice::Icmpv4(icmp)) => {
            assert_eq!(sum(icmp.slice()), 0xffff, "checksum of the message");
            icmp.slice()
        }
        Some(TransportSlice::Icmpv6(icmp)) => {
            assert!(icmp.is_checksum_valid(source.octets(), destination.octets()), "checksum of the message");
            icmp.slice()
        }
        _ => panic!("no ICMP in {frame:02x?}"),
    };
    (source, destination, message.to_vec())
}
