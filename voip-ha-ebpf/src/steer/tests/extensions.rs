//! What IPv6 has and IPv4 has not.

use etherparse::{Icmpv6Type, IpNumber, PacketBuilder};

use super::*;

fn there() -> Vec<u8> {
    datagram((SIX.phone, PHONE_PORT), (SIX.vip, SIP))
}

fn back() -> Vec<u8> {
    datagram((SIX.master, SIP), (SIX.phone, PHONE_PORT))
}

#[test]
fn up_to_four_extension_headers_of_any_length_are_walked_and_no_more() {
    let chain =
        [(HOP_BY_HOP, 0), (DESTINATION_OPTIONS, 1), (ROUTING, 2), (DESTINATION_OPTIONS, 0), (DESTINATION_OPTIONS, 0)];
    for length in 1..=chain.len() {
        for (frame, found) in [(there(), (SIX.phone, SIX.master, 63)), (back(), (SIX.vip, SIX.phone, 63))] {
            let (server, world) = (MASTER, World::new());
            let before = extended(frame, &chain[..length]);
            let headers: usize = chain[..length].iter().map(|(_, more)| 8 * (usize::from(*more) + 1)).sum();
            if length <= 4 {
                let after = world.carried_out(before.clone());
                assert_eq!(sound(&after), found, "{length} headers");
                assert_eq!(after[SIX.udp..SIX.udp + headers], before[SIX.udp..SIX.udp + headers], "as they were");
            } else {
                let verdict = world.verdict(before);
                assert_eq!(verdict.action, Action::pass(Outcome::NotUdp), "{length} headers");
                assert_eq!(verdict.server, if found.0 == SIX.phone { None } else { server });
            }
        }
    }
}

#[test]
fn an_extension_header_of_the_greatest_length_is_walked() {
    let world = World::new().with_master(|entry| entry.mtu = 9000);
    let after = world.carried_out(extended(there(), &[(DESTINATION_OPTIONS, 255), (DESTINATION_OPTIONS, 255)]));
    assert_eq!(sound(&after), (SIX.phone, SIX.master, 63));
}

#[test]
fn a_fragment_header_is_one_of_the_four() {
    let options = |count| vec![(DESTINATION_OPTIONS, 0); count];
    let first = datagram_with(part(ip(SIX.phone, SIX.vip), 7, 0, true), (PHONE_PORT, SIP), b"INVITE");
    let outcome = |count| World::new().verdict(extended(first.clone(), &options(count))).action.outcome;
    assert_eq!((outcome(3), outcome(4)), (Outcome::ToServer, Outcome::NotUdp));
}

#[test]
fn behind_the_header_of_a_later_fragment_is_payload_whatever_it_looks_like() {
    // As if it were 8 bytes of options with a datagram behind them.
    let looks_like_options = [17, 0, 1, 4, 0, 0, 0, 0, 0x9c, 0x40, 0x13, 0xc4, 0, 8, 0, 0];
    for (offset, outcome) in [(0, Outcome::ToServer), (1, Outcome::NotUdp), (185, Outcome::NotUdp)] {
        let headers = part(ip(SIX.phone, SIX.vip), 7, offset, true);
        let mut frame = Vec::new();
        let builder = PacketBuilder::ethernet2([2; 6], [4; 6]).ip(headers);
        builder.write(&mut frame, IpNumber::IPV6_DESTINATION_OPTIONS, &looks_like_options).unwrap();
        assert_eq!(World::new().verdict(frame).action.outcome, outcome, "offset {offset}");
    }
}

#[test]
fn a_datagram_behind_a_header_that_is_not_known_passes() {
    // Authentication, ESP, mobility, an experiment, no next header.
    for number in [51, 50, 135, 253, 59] {
        let frame = patched(there(), ETHERNET_LEN + 6, &[number]);
        assert_eq!(World::new().verdict(frame).action, Action::pass(Outcome::NotUdp), "{number}");
    }
}

#[test]
fn an_extension_header_that_ends_behind_the_packet_is_no_way_into_what_follows() {
    // The packet ends with its 8 bytes of options; what follows in the frame looks like a datagram.
    let frame = extended(there(), &[(DESTINATION_OPTIONS, 0)]);
    let cut = patched(frame, ETHERNET_LEN + 4, &8u16.to_be_bytes());
    assert_eq!(World::new().verdict(cut).action, Action::drop(Outcome::Malformed));
    let beyond = extended(there(), &[(DESTINATION_OPTIONS, 200)]);
    let short = beyond[..beyond.len() - 100].to_vec();
    assert!(matches!(World::new().verdict(short).action.kind, Kind::Pass | Kind::Drop));
}

#[test]
fn an_ipv4_mapped_address_on_the_wire_is_no_address_of_anybody() {
    for (offset, address) in [(8, FOUR.master), (8, FOUR.phone), (24, FOUR.vip), (24, FOUR.phone)] {
        for frame in [there(), back()] {
            let frame = patched(frame, ETHERNET_LEN + offset, &address.octets());
            assert_eq!(World::new().verdict(frame).action, Action::pass(Outcome::NotIp), "{address:?} at {offset}");
        }
    }
}

#[test]
fn what_the_gateway_itself_answers_passes() {
    let (phone, vip, master) = (SIX.phone.octets(), SIX.vip.octets(), SIX.master.octets());
    let echo = |from, to| {
        let mut frame = Vec::new();
        let builder = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv6(from, to, 64);
        builder.icmpv6_echo_request(1, 2).write(&mut frame, b"who is there?").unwrap();
        frame
    };
    // Neighbour discovery (RFC 4861), from router solicitation to redirect, to the VIP itself.
    let discovery = (133..=137).map(|kind| {
        let mut frame = Vec::new();
        let builder = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv6(phone, vip, 255);
        builder
            .icmpv6(Icmpv6Type::Unknown { type_u8: kind, code_u8: 0, bytes5to8: [0; 4] })
            .write(&mut frame, &vip)
            .unwrap();
        frame
    });
    for frame in discovery.chain([echo(phone, vip)]) {
        let verdict = World::new().verdict(frame.clone());
        assert_eq!((verdict.server, verdict.action), (None, Action::pass(Outcome::NotUdp)), "{:?}", frame[54]);
    }
    let of_server = World::new().verdict(echo(master, phone));
    assert_eq!((of_server.server, of_server.action), (MASTER, Action::pass(Outcome::NotUdp)));
    let solicitation = patched(echo(phone, vip), 0, &[0x33, 0x33, 0xff, 0, 0, 0x10]);
    assert_eq!(World::new().verdict(solicitation).action, Action::pass(Outcome::NotUnicast));
}

#[test]
fn the_icmp_of_one_family_is_nothing_in_a_packet_of_the_other() {
    for (hosts, at, protocol) in [(FOUR, 9, IpNumber::IPV6_ICMP), (SIX, 6, IpNumber::ICMP)] {
        let news = unreachable(hosts.phone, hosts.vip, &datagram((hosts.vip, SIP), (hosts.phone, PHONE_PORT)));
        assert_eq!(World::new().verdict(news.clone()).action.outcome, Outcome::ToServer);
        let other = World::new().verdict(patched(news, ETHERNET_LEN + at, &[protocol.0]));
        assert_eq!(other.action, Action::pass(Outcome::NotUdp), "{}", hosts.family);
    }
}
