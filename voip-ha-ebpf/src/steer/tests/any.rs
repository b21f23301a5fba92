//! Promises about any frame at all, some of them checked by another parser.

use proptest::prelude::*;

use super::*;

/// Whether this frame may be forwarded at all, in the words of another parser: a datagram, a fragment of one, or an ICMP error.
fn is_forwarded(frame: &[u8]) -> bool {
    SlicedPacket::from_ethernet(frame).is_ok_and(|packet| {
        let ip = packet.net.as_ref().and_then(|net| net.ipv4_ref());
        let is_error =
            matches!(&packet.transport, Some(TransportSlice::Icmpv4(icmp)) if [3, 11, 12].contains(&icmp.type_u8()));
        let is_udp = ip.is_some_and(|ip| ip.header().protocol() == IpNumber::UDP);
        let is_part = packet.is_ip_payload_fragmented() || matches!(packet.transport, Some(TransportSlice::Udp(_)));
        packet.vlan().is_none() && (is_error || (is_udp && is_part))
    })
}

/// Whether this frame is an ICMP error about a datagram to a server, as another parser reads packets.
fn is_about_a_server(frame: &[u8]) -> bool {
    let Ok(packet) = SlicedPacket::from_ethernet(frame) else { return false };
    let Some(ip) = packet.net.as_ref().and_then(|net| net.ipv4_ref()) else { return false };
    let (header, icmp) = (ip.header(), ip.payload().payload);
    let Some(quoted) = icmp.get(8..28) else { return false };
    let first =
        header.fragments_offset().value() == 0 && header.protocol() == IpNumber::ICMP && [3, 11, 12].contains(&icmp[0]);
    // Not left to the parser, which wants the options too.
    let datagram = quoted[0] >> 4 == 4 && quoted[0] & 15 >= 5 && quoted[9] == IpNumber::UDP.0;
    first && datagram && [MASTER, BACKUP].iter().any(|server| quoted[16..] == *server)
}

proptest! {
    #[test]
    fn any_datagram_arrives_with_its_payload_and_right_checksums(
        payload in proptest::collection::vec(any::<u8>(), 0..300),
        options in proptest::collection::vec(any::<u8>(), 0..=10).prop_map(|words| words.repeat(4)),
        client: Address, port: u16, ttl in 2u8.., id: u16, to_server: bool, unchecked: bool,
    ) {
        prop_assume!(![VIP, MASTER, BACKUP].contains(&client));
        let (from, to) = if to_server { (client, VIP) } else { (MASTER, client) };
        let ports = if to_server { (port, RTP) } else { (RTP, port) };
        let header = Ipv4Header { time_to_live: ttl, identification: id, ..ip_header(from, to, &options) };
        let mut before = datagram_with(header, ports, &payload);
        let udp = ETHERNET_LEN + 20 + options.len();
        if unchecked {
            before[udp + 6..udp + 8].fill(0);
        }
        let mut world = World::new();
        world.routes.insert(client, Route::Hop(TO_PHONE));
        let after = carried_out(&world, before.clone());
        let (from, to) = if to_server { (client, MASTER) } else { (VIP, client) };
        prop_assert_eq!(sound(&after), (from, to, ttl - 1));
        let payload_offset = udp + size_of::<Udp>();
        prop_assert_eq!(&after[payload_offset..], &before[payload_offset..]);
        prop_assert_eq!(&after[34..udp + 6], &before[34..udp + 6], "options, ports and length");
        prop_assert_eq!(after[udp + 6..udp + 8] == [0, 0], unchecked);
    }

    #[test]
    fn a_garbled_frame_is_redirected_only_if_another_parser_finds_in_it_what_may_be(
        index: prop::sample::Index,
        patches in proptest::collection::vec((0usize..46, any::<u8>()), 1..5),
        length: Option<prop::sample::Index>,
    ) {
        let (world, mut frame, ..) = index.get(&cases()).clone();
        for (offset, byte) in patches {
            frame[offset] = byte;
        }
        frame.truncate(length.map_or(frame.len(), |length| length.index(frame.len())));
        let action = world.verdict(frame.clone()).action;
        let rewritten = !matches!(action, Action::Pass(_) | Action::Drop(_));
        prop_assert!(!rewritten || is_forwarded(&frame), "{action:?}");
        prop_assert!(outcome(action) != Outcome::ServerUnreachable || is_about_a_server(&frame));
    }

    #[test]
    fn any_bytes_at_all_are_left_alone(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
        let action = World::new().verdict(bytes).action;
        prop_assert!(matches!(action, Action::Pass(_)), "{action:?}");
    }
}
