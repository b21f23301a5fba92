//! Frames of IPv6 made of frames of IPv4.

use etherparse::{IpFragOffset, IpNumber, Ipv4Header, Ipv4HeaderSlice, Ipv6FragmentHeader, Ipv6Header, UdpHeader};
use fastrand::Rng;

use crate::{
    frame::{ETHERNET, sum},
    net::beside,
};

/// The same packet between the same hosts by IPv6, now and then with extension headers; nothing if it is no IPv4 packet.
pub(crate) fn twin(rng: &mut Rng, frame: &[u8]) -> Option<Vec<u8>> {
    let ip = Ipv4HeaderSlice::from_slice(frame.get(ETHERNET..)?).ok()?.to_header();
    let inside = frame.get(ETHERNET + ip.header_len()..)?;
    let (next, inside) = match ip.protocol {
        IpNumber::UDP => (IpNumber::UDP, datagram(&ip, inside)?),
        IpNumber::ICMP => (IpNumber::IPV6_ICMP, error(rng, &ip, inside)?),
        other => (other, inside.to_vec()),
    };
    let (mut first, mut payload) = (next, inside);
    if ip.more_fragments || ip.fragment_offset.value() != 0 {
        let offset = IpFragOffset::try_new(ip.fragment_offset.value()).ok()?;
        let id = ip.identification.into();
        payload = [&Ipv6FragmentHeader::new(first, offset, ip.more_fragments, id).to_bytes()[..], &payload].concat();
        first = IpNumber::IPV6_FRAGMENTATION_HEADER;
    }
    if rng.u8(..4) == 0 {
        for _ in 0..rng.u8(1..6) {
            let kind =
                [IpNumber::IPV6_HEADER_HOP_BY_HOP, IpNumber::IPV6_DESTINATION_OPTIONS, IpNumber::IPV6_ROUTE_HEADER];
            let length = rng.u8(..2);
            let header = [&[first.0, length][..], &vec![0; 6 + usize::from(length) * 8]].concat();
            payload = [header, payload].concat();
            first = kind[rng.usize(..kind.len())];
        }
    }
    let mut header = six(&ip, first);
    header.payload_length = payload.len().try_into().ok()?;
    Some([&frame[..12], &[0x86, 0xdd], &header.to_bytes(), &payload].concat())
}

fn six(ip: &Ipv4Header, next_header: IpNumber) -> Ipv6Header {
    Ipv6Header {
        next_header,
        hop_limit: ip.time_to_live,
        source: beside(ip.source),
        destination: beside(ip.destination),
        ..Ipv6Header::default()
    }
}

/// With a checksum of IPv6, where it is whole.
fn datagram(ip: &Ipv4Header, inside: &[u8]) -> Option<Vec<u8>> {
    if ip.fragment_offset.value() != 0 {
        return Some(inside.to_vec());
    }
    let (mut udp, payload) = UdpHeader::from_slice(inside).ok()?;
    udp.checksum = udp.calc_checksum_ipv6(&six(ip, IpNumber::UDP), payload).ok()?;
    Some([&udp.to_bytes()[..], payload].concat())
}

/// An ICMPv6 error about the twin of the packet that is quoted.
fn error(rng: &mut Rng, ip: &Ipv4Header, inside: &[u8]) -> Option<Vec<u8>> {
    let about = Ipv4HeaderSlice::from_slice(inside.get(8..)?).ok()?.to_header();
    let rest = inside.get(8 + about.header_len()..)?;
    let next = if about.protocol == IpNumber::UDP { IpNumber::UDP } else { IpNumber::TCP };
    let kind = [1, 1, 1, 2, 3, 4, 128, 135][rng.usize(..8)];
    let quoted = six(&about, next);
    let mut message = [&[kind, rng.u8(..8), 0, 0, 0, 0, 5, 0][..], &quoted.to_bytes(), rest].concat();
    let outer = six(ip, IpNumber::IPV6_ICMP);
    let length = (message.len() as u32).to_be_bytes();
    let pseudo = [&outer.source[..], &outer.destination, &length, &[0, 0, 0, 58]].concat();
    let checksum = !(sum(&[&pseudo, &message]) as u16);
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    Some(message)
}
