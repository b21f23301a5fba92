//! Promises about any frame at all, some of them checked by another parser.

use etherparse::{
    IpHeaders, IpNumber, SlicedPacket, TransportSlice,
    err::{ipv6_exts::HeaderError, packet::SliceError},
};
use proptest::prelude::*;

use super::*;

/// Types of ICMP errors, without and with IPv6.
const ERRORS: [[u8; 4]; 2] = [[3, 11, 12, 12], [1, 2, 3, 4]];

/// Whether this frame may be forwarded at all, in the words of another parser: a datagram, a fragment of one, or an ICMP error.
fn is_forwarded(frame: &[u8]) -> bool {
    let packet = match SlicedPacket::from_ethernet(frame) {
        Ok(packet) => packet,
        // Only this parser minds where it is.
        Err(SliceError::Ipv6Exts(HeaderError::HopByHopNotAtStart)) => return true,
        Err(_) => return false,
    };
    let is_error = match &packet.transport {
        Some(TransportSlice::Icmpv4(icmp)) => ERRORS[0].contains(&icmp.type_u8()),
        Some(TransportSlice::Icmpv6(icmp)) => ERRORS[1].contains(&icmp.type_u8()),
        _ => false,
    };
    let is_udp = packet.ip_payload().is_some_and(|payload| payload.ip_number == IpNumber::UDP);
    let is_part = packet.is_ip_payload_fragmented() || matches!(packet.transport, Some(TransportSlice::Udp(_)));
    packet.link_exts.len() <= MAX_TAGS && (is_error || (is_udp && is_part))
}

/// Whether this frame is an ICMP error about a datagram to a server, as another parser reads packets.
fn is_about_a_server(frame: &[u8]) -> bool {
    let Ok(packet) = SlicedPacket::from_ethernet(frame) else { return false };
    let Some(payload) = packet.ip_payload() else { return false };
    let (is_six, icmp) = (packet.net.as_ref().is_some_and(|net| net.is_ipv6()), payload.payload);
    let protocol = if is_six { IpNumber::IPV6_ICMP } else { IpNumber::ICMP };
    let is_error = icmp.first().is_some_and(|kind| ERRORS[usize::from(is_six)].contains(kind));
    let is_later = packet
        .net
        .as_ref()
        .and_then(|net| net.ipv4_ref())
        .is_some_and(|ip| ip.header().fragments_offset().value() != 0);
    // Not left to the parser, which wants the options too.
    let Some(quoted) = icmp.get(8..28) else { return false };
    let is_quoted = if is_six {
        let next = if quoted[6] == IpNumber::IPV6_FRAGMENTATION_HEADER.0 { icmp.get(48) } else { Some(&quoted[6]) };
        let is_servers = [SIX.master, SIX.backup].iter().any(|server| icmp.get(32..48) == Some(&server.octets()));
        quoted[0] >> 4 == 6 && next == Some(&IpNumber::UDP.0) && is_servers
    } else {
        let is_servers = [FOUR.master, FOUR.backup].iter().any(|server| quoted[16..] == server.octets()[12..]);
        quoted[0] >> 4 == 4 && quoted[0] & 15 >= 5 && quoted[9] == IpNumber::UDP.0 && is_servers
    };
    payload.ip_number == protocol && is_error && !is_later && is_quoted
}

/// A case's frame with up to two VLAN tags and a few bytes of its headers changed, perhaps cut.
fn garbled() -> impl Strategy<Value = (World, Vec<u8>)> {
    let patches = proptest::collection::vec((0usize..110, any::<u8>()), 0..5);
    let tags = proptest::sample::select(vec![&[][..], &[(0x8100, 0xf007)], &[(0x88a8, 0x2064), (0x8100, 7)]]);
    let cases: Vec<Case> = all_cases().collect();
    let cut = any::<Option<prop::sample::Index>>();
    (any::<prop::sample::Index>(), tags, patches, cut).prop_map(move |(case, tags, patches, cut)| {
        let (world, frame, ..) = case.get(&cases).clone();
        let mut frame = tagged(frame, tags);
        for (offset, byte) in patches {
            if let Some(place) = frame.get_mut(offset) {
                *place = byte;
            }
        }
        frame.truncate(cut.map_or(frame.len(), |cut| cut.index(frame.len())));
        (world, frame)
    })
}

fn client(is_six: bool, octets: [u8; 16]) -> Address {
    if is_six { Address::v6(octets) } else { Address::v4([octets[0], octets[1], octets[2], octets[3]]) }
}

proptest! {
    #[test]
    fn any_datagram_arrives_with_its_payload_and_right_checksums(
        payload in proptest::collection::vec(any::<u8>(), 0..300),
        octets: [u8; 16], port: u16, ttl in 2u8.., id: u16, label in 0u32..1 << 20,
        [is_six, to_server, unchecked, has_options]: [bool; 4],
    ) {
        let (hosts, client) = (BOTH[usize::from(is_six)], client(is_six, octets));
        let mut world = World::new();
        prop_assume!(client.is_v4() != is_six && world.endpoint(&client) == Endpoint::NONE);
        let (from, to) = if to_server { (client, hosts.vip) } else { (hosts.master, client) };
        let ports = if to_server { (port, RTP) } else { (RTP, port) };
        let mut headers = with_ttl(ip(from, to), ttl);
        match &mut headers {
            IpHeaders::Ipv4(header, _) => header.identification = id,
            IpHeaders::Ipv6(header, _) => header.flow_label = label.try_into().unwrap(),
        }
        let mut before = datagram_with(headers, ports, &payload);
        before = if has_options { with_options(before) } else { before };
        let udp = hosts.udp + if has_options { 8 } else { 0 };
        if unchecked {
            before[udp + 6..udp + 8].fill(0);
        }
        world.routes.insert(client, Route::Hop(TO_PHONE));
        let after = world.carried_out(before.clone());
        let (from, to) = if to_server { (client, hosts.master) } else { (hosts.vip, client) };
        prop_assert_eq!(sound(&after), (from, to, ttl - 1));
        let payload_offset = udp + size_of::<Udp>();
        prop_assert_eq!(&after[payload_offset..], &before[payload_offset..]);
        prop_assert_eq!(&after[hosts.udp..udp + 6], &before[hosts.udp..udp + 6], "options, ports and length");
        prop_assert_eq!(after[udp + 6..udp + 8] == [0, 0], unchecked);
        let kept = ETHERNET_LEN..ETHERNET_LEN + if is_six { 7 } else { 8 };
        prop_assert_eq!(&after[kept.clone()], &before[kept], "class, label, lengths and what follows");
    }

    #[test]
    fn a_garbled_frame_is_redirected_only_if_another_parser_finds_in_it_what_may_be((world, frame) in garbled()) {
        let action = world.verdict(frame.clone()).action;
        let rewritten = !matches!(action.kind, Kind::Pass | Kind::Drop);
        prop_assert!(!rewritten || is_forwarded(&frame), "{action:?}");
        prop_assert!(action.outcome != Outcome::ServerUnreachable || is_about_a_server(&frame));
    }

    #[test]
    fn the_short_way_of_reading_a_frame_finds_what_the_long_one_does((_, mut frame) in garbled()) {
        let mut view = Frame::from_slice(&mut frame);
        let (plain, network) = (packet::plain(&mut view), packet::network(&mut view));
        prop_assert!(plain.is_none() || plain == network.ok(), "{plain:?} and {network:?}");
    }

    #[test]
    fn any_bytes_at_all_are_left_alone(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
        let action = World::new().verdict(bytes).action;
        prop_assert_eq!(action.kind, Kind::Pass, "{:?}", action);
    }
}

#[test]
fn whatever_one_byte_of_a_datagram_is_the_short_way_of_reading_finds_what_the_long_one_does() {
    let whole = datagram((FOUR.phone, PHONE_PORT), (FOUR.vip, SIP));
    for offset in 0..whole.len() {
        for byte in 0..=u8::MAX {
            let mut frame = patched(whole.clone(), offset, &[byte]);
            let mut view = Frame::from_slice(&mut frame);
            let (plain, network) = (packet::plain(&mut view), packet::network(&mut view));
            assert!(plain.is_none() || plain == network.ok(), "{byte:#x} at {offset}: {plain:?} and {network:?}");
        }
    }
}

#[test]
fn the_short_way_of_reading_takes_whole_plain_datagrams_of_ipv4_and_nothing_else() {
    let whole = datagram((FOUR.phone, PHONE_PORT), (FOUR.vip, SIP));
    let fragments = [0x20, 0x01].map(|high| patched(whole.clone(), ETHERNET_LEN + 6, &[high]));
    let others = [
        patched(whole.clone(), 0, &[1]),
        patched(whole.clone(), ETHERNET_LEN + 9, &[1]),
        with_options(whole.clone()),
        tagged(whole.clone(), &[(0x8100, 7)]),
        datagram((SIX.phone, PHONE_PORT), (SIX.vip, SIP)),
        whole[..ETHERNET_LEN + 19].to_vec(),
    ];
    let is_plain = |mut frame: Vec<u8>| packet::plain(&mut Frame::from_slice(&mut frame)).is_some();
    // May be fragmented or not, and the reserved bit says nothing.
    for high in [0, 0x40, 0x80, 0xc0] {
        assert!(is_plain(patched(whole.clone(), ETHERNET_LEN + 6, &[high])), "{high:#x}");
    }
    for (number, frame) in others.into_iter().chain(fragments).enumerate() {
        assert!(!is_plain(frame), "frame {number}");
    }
}
