//! Frames of both families with right checksums.

use std::net::IpAddr;

use etherparse::{
    Ethernet2Header, Icmpv4Type, Icmpv6Type, IpFragOffset, IpHeaders, IpNumber, Ipv4Header, Ipv6Extensions,
    Ipv6FlowLabel, Ipv6FragmentHeader, Ipv6Header, Ipv6RawExtHeader, PacketBuilder, PacketBuilderStep,
};

pub(super) const FIRST: u16 = 0x2000;
/// Says nothing of an IPv6 packet.
pub(super) const DONT_FRAGMENT: u16 = 0x4000;

pub(super) fn ip(from: IpAddr, to: IpAddr) -> IpHeaders {
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let header = Ipv4Header::new(0, 64, IpNumber::UDP, from.octets(), to.octets());
            let header = header.expect("nothing is not too large");
            IpHeaders::Ipv4(Ipv4Header { dont_fragment: false, ..header }, Default::default())
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let header = Ipv6Header {
                traffic_class: 0xb8,
                flow_label: Ipv6FlowLabel::try_new(0x1_2345).expect("20 bits"),
                payload_length: 0,
                next_header: IpNumber::UDP,
                hop_limit: 64,
                source: from.octets(),
                destination: to.octets(),
            };
            IpHeaders::Ipv6(header, Ipv6Extensions::default())
        }
        _ => panic!("addresses of two families"),
    }
}

pub(super) fn with_ttl(mut ip: IpHeaders, ttl: u8) -> IpHeaders {
    match &mut ip {
        IpHeaders::Ipv4(header, _) => header.time_to_live = ttl,
        IpHeaders::Ipv6(header, _) => header.hop_limit = ttl,
    }
    ip
}

/// With options, or extension headers that say nothing.
pub(super) fn with_options(mut ip: IpHeaders) -> IpHeaders {
    match &mut ip {
        IpHeaders::Ipv4(header, _) => header.options = [1; 8].into(),
        IpHeaders::Ipv6(_, extensions) => {
            let header = |payload: &[u8]| Ipv6RawExtHeader::new_raw(IpNumber::UDP, payload).expect("whole units");
            extensions.hop_by_hop_options = Some(header(&[1, 4, 0, 0, 0, 0]));
            extensions.destination_options = Some(header(&[1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]));
        }
    }
    ip
}

/// With the fragment word of RFC 791, section 3.1, or the header that says the same.
pub(super) fn with_flags(mut ip: IpHeaders, word: u16) -> IpHeaders {
    let offset = IpFragOffset::try_new(word & 0x1fff).expect("13 bits");
    let [dont_fragment, more] = [DONT_FRAGMENT, FIRST].map(|bit| word & bit != 0);
    match &mut ip {
        IpHeaders::Ipv4(header, _) => {
            header.dont_fragment = dont_fragment;
            header.more_fragments = more;
            header.fragment_offset = offset;
        }
        IpHeaders::Ipv6(_, extensions) if word & !DONT_FRAGMENT != 0 => {
            extensions.fragment = Some(Ipv6FragmentHeader::new(IpNumber::UDP, offset, more, 0xabcd_ef01));
        }
        IpHeaders::Ipv6(..) => {}
    }
    ip
}

fn to(ip: IpHeaders) -> PacketBuilderStep<IpHeaders> {
    PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]).ip(ip)
}

pub(super) fn datagram(ip: IpHeaders, ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    to(ip).udp(ports.0, ports.1).write(&mut frame, payload).expect("memory takes every frame");
    frame
}

pub(super) fn tcp(ip: IpHeaders) -> Vec<u8> {
    let mut frame = Vec::new();
    to(ip).tcp(5060, 5060, 1, 1000).write(&mut frame, b"OPTIONS").expect("memory takes every frame");
    frame
}

/// An ICMP message of this type and code, with the packet of a frame in it up to its ports.
pub(super) fn error(from: IpAddr, to: IpAddr, kind: (u8, u8), about: &[u8]) -> Vec<u8> {
    let packet = packet_of(about);
    let length = if from.is_ipv4() { usize::from(packet[0] & 15) * 4 + 8 } else { 56 };
    message(ip(from, to), kind, &packet[..packet.len().min(length)])
}

pub(super) fn message(ip: IpHeaders, (type_u8, code_u8): (u8, u8), quoted: &[u8]) -> Vec<u8> {
    let bytes5to8 = [0, 0, 1, 200];
    let mut frame = Vec::new();
    let written = match ip {
        IpHeaders::Ipv4(..) => {
            to(ip).icmpv4(Icmpv4Type::Unknown { type_u8, code_u8, bytes5to8 }).write(&mut frame, quoted)
        }
        IpHeaders::Ipv6(..) => {
            to(ip).icmpv6(Icmpv6Type::Unknown { type_u8, code_u8, bytes5to8 }).write(&mut frame, quoted)
        }
    };
    written.expect("memory takes every frame");
    frame
}

/// What follows the Ethernet header of a frame.
pub(super) fn packet_of(frame: &[u8]) -> &[u8] {
    &frame[Ethernet2Header::LEN..]
}

/// The frame with these VLAN tags, each with the EtherType that announces it.
pub(super) fn tagged(frame: &[u8], tags: &[[u8; 4]]) -> Vec<u8> {
    let (addresses, rest) = frame.split_at(12);
    [addresses, tags.as_flattened(), rest].concat()
}
