//! Datagrams in fragments: the first one decides, the others follow it.

use etherparse::{IpNumber, PacketBuilder, SlicedPacket};

use super::*;

/// Of the second of two fragments, in units of 8 bytes.
const OFFSET: u16 = 185;

/// The two fragments of one datagram.
fn fragments(from: (Address, u16), to: (Address, u16), id: u32) -> [Vec<u8>; 2] {
    let [first, later] = [(0, true), (OFFSET, false)].map(|(offset, more)| part(ip(from.0, to.0), id, offset, more));
    let mut rest = Vec::new();
    let ethernet = PacketBuilder::ethernet2([2; 6], [4; 6]).ip(later);
    ethernet.write(&mut rest, IpNumber::UDP, b"the rest of a long INVITE").unwrap();
    [datagram_with(first, (from.1, to.1), &[b'.'; 1472]), rest]
}

/// Gives the world a frame, which then knows what it says about other fragments.
fn learn(world: &mut World, frame: &[u8]) -> Verdict {
    let verdict = world.verdict(frame.to_vec());
    let network = packet::network(&mut Frame::from_slice(&mut frame.to_vec())).unwrap();
    world.fragments.extend(verdict.to_remember().map(|first| (network.fragment_key(), first)));
    verdict
}

fn large() -> World {
    World::new().with_master(|entry| entry.mtu = 1600)
}

/// As [`large`], with the backup for media.
fn apart() -> World {
    let words = World::split(MASTER, BACKUP, None).words;
    World { words, ..large() }.with_way_to_backup()
}

fn destination(frame: &[u8]) -> Address {
    sound_ip(&SlicedPacket::from_ethernet(frame).unwrap()).1
}

#[test]
fn the_others_follow_the_first_one_even_if_another_server_is_active_by_then() {
    for Hosts { vip, master, backup, phone, .. } in BOTH {
        for (port, class, server, address) in [(SIP, Class::Sip, MASTER, master), (RTP, Class::Rtp, BACKUP, backup)] {
            let mut world = apart();
            let [first, later] = fragments((phone, PHONE_PORT), (vip, port), 7);
            let verdict = learn(&mut world, &first);
            assert_eq!((verdict.server, verdict.action.outcome), (server, Outcome::ToServer));
            for active in [None, MASTER, BACKUP] {
                world.words = World::steered(active, None).words;
                let verdict = world.verdict(later.clone());
                let found = (verdict.server, verdict.class, verdict.action.outcome);
                assert_eq!(found, (server, class, Outcome::ToServer), "{active:?} is active");
                assert_eq!(destination(&world.carried_out(later.clone())), address);
            }
        }
    }
}

#[test]
fn where_all_goes_to_one_server_a_fragment_that_comes_before_the_first_one_goes_there_too() {
    for Hosts { vip, phone, .. } in BOTH {
        let [_, later] = fragments((phone, PHONE_PORT), (vip, SIP), 7);
        let verdict = large().verdict(later.clone());
        assert_eq!((verdict.server, verdict.action.outcome), (MASTER, Outcome::ToServer));
        assert_eq!(apart().verdict(later.clone()).action, Action::drop(Outcome::Fragment), "to which of the two?");
        let nobody = nobody().verdict(later);
        assert_eq!(nobody.action, Action::drop(Outcome::NoActiveServer));
    }
}

#[test]
fn fragments_of_what_is_not_for_the_service_pass_together() {
    for Hosts { vip, master, phone, .. } in BOTH {
        for (from, to) in [((phone, PHONE_PORT), (vip, 53)), ((master, 53), (phone, PHONE_PORT))] {
            let mut world = large();
            for (frame, what) in fragments(from, to, 7).iter().zip(["first", "later"]) {
                let verdict = learn(&mut world, frame);
                assert_eq!(verdict.action, Action::pass(Outcome::NotServicePort), "{what} from {from:?}");
            }
            let [_, of_another] = fragments(from, to, 8);
            assert_ne!(world.verdict(of_another).action.outcome, Outcome::NotServicePort, "another datagram");
        }
    }
}

#[test]
fn datagrams_of_ipv6_are_told_apart_by_all_32_bits_of_their_identification() {
    let Hosts { vip, phone, .. } = SIX;
    let mut world = apart();
    let id = 0x0102_0304;
    let [first, later] = fragments((phone, PHONE_PORT), (vip, SIP), id);
    learn(&mut world, &first);
    assert_eq!(world.verdict(later).action.outcome, Outcome::ToServer);
    for bit in 0..32 {
        let [_, of_another] = fragments((phone, PHONE_PORT), (vip, SIP), id ^ 1 << bit);
        assert_eq!(world.verdict(of_another).action, Action::drop(Outcome::Fragment), "bit {bit}");
    }
}

#[test]
fn a_server_is_fenced_fragment_by_fragment() {
    for hosts @ Hosts { phone, gateway, .. } in BOTH {
        for ((server, address), expected) in hosts.servers().into_iter().zip([Outcome::ToClient, Outcome::Fenced]) {
            let mut world = large();
            for frame in fragments((address, SIP), (phone, PHONE_PORT), 7) {
                let verdict = learn(&mut world, &frame);
                assert_eq!((verdict.server, verdict.action.outcome), (Some(server), expected));
            }
            // Not seen from the first one on.
            let [_, later] = fragments((address, SIP), (phone, PHONE_PORT), 8);
            assert_eq!(world.verdict(later).action.outcome, expected);
            let [_, to_gateway] = fragments((address, SIP), (gateway, 33_000), 9);
            assert_eq!(world.verdict(to_gateway).action.outcome, Outcome::NotForwarded, "the answer to a probe");
        }
    }
}

#[test]
fn the_others_go_by_the_stack_if_the_first_one_did() {
    for Hosts { vip, master, phone, .. } in BOTH {
        for (from, to, expected) in [
            ((phone, PHONE_PORT), (vip, SIP), Outcome::ToServerByStack),
            ((master, SIP), (phone, PHONE_PORT), Outcome::ToClientByStack),
        ] {
            let mut world = large().with_route_to_phone(Route::Stack).with_master(|entry| entry.by_stack = 1);
            let [first, later] = fragments(from, to, 7);
            let verdict = learn(&mut world, &first);
            assert_eq!(verdict.action.outcome, expected);
            world = world.with_route_to_phone(Route::Hop(TO_PHONE)).with_master(|entry| entry.by_stack = 0);
            let verdict = world.verdict(later);
            assert_eq!((verdict.action.kind, verdict.action.outcome), (Kind::ByStack, expected), "another way by then");
        }
    }
}

#[test]
fn the_others_go_by_the_stack_if_the_first_one_was_too_large_for_another_way() {
    let mut world = World::new();
    let [first, later] = fragments((FOUR.phone, PHONE_PORT), (FOUR.vip, SIP), 7);
    // Larger than the MTU of 1400 bytes, and it may be fragmented further.
    let verdict = learn(&mut world, &patched(first, ETHERNET_LEN + 6, &[0x20]));
    assert_eq!(verdict.action.outcome, Outcome::ToServerByStack);
    assert_eq!(world.verdict(later).action.outcome, Outcome::ToServerByStack, "the others are small");
}

#[test]
fn only_the_addresses_of_a_later_fragment_change() {
    for hosts @ Hosts { vip, master, phone, .. } in BOTH {
        let behind = hosts.udp;
        for (from, to, addresses) in [
            ((master, SIP), (phone, PHONE_PORT), (vip, phone, 63)),
            ((phone, PHONE_PORT), (vip, SIP), (phone, master, 63)),
        ] {
            let [_, later] = fragments(from, to, 7);
            let after = large().carried_out(later.clone());
            assert_eq!(after[behind..], later[behind..], "no UDP header, so no checksum of UDP");
            let packet = SlicedPacket::from_ethernet(&after).unwrap();
            assert_eq!(sound_ip(&packet), addresses);
            assert!(packet.is_ip_payload_fragmented());
        }
    }
}

#[test]
fn a_first_fragment_changes_its_addresses_and_the_checksum_of_the_whole() {
    for hosts @ Hosts { vip, master, phone, .. } in BOTH {
        let udp = hosts.udp + hosts.fragment_header();
        for (from, to, seen_from, seen_to) in
            [((master, SIP), (phone, PHONE_PORT), vip, phone), ((phone, PHONE_PORT), (vip, SIP), phone, master)]
        {
            let [first, _] = fragments(from, to, 7);
            let after = large().carried_out(first.clone());
            // As if it had been sent with these addresses.
            let [wanted, _] = fragments((seen_from, from.1), (seen_to, to.1), 7);
            assert_eq!(after[udp..], wanted[udp..]);
            assert_eq!(sound_ip(&SlicedPacket::from_ethernet(&after).unwrap()), (seen_from, seen_to, 63));
            assert_ne!(after[udp + 6..udp + 8], first[udp + 6..udp + 8], "the checksum");
        }
    }
}

#[test]
fn a_fragment_whose_lengths_contradict_each_other_is_malformed() {
    for hosts @ Hosts { vip, phone, .. } in BOTH {
        let (at, nothing) = if hosts.family == Family::V4 { (2, 20u16) } else { (4, 8) };
        for frame in fragments((phone, PHONE_PORT), (vip, SIP), 7) {
            let cut = large().verdict(frame[..frame.len() - 1].to_vec());
            assert_eq!(cut.action, Action::drop(Outcome::Malformed));
            let empty = patched(frame, ETHERNET_LEN + at, &nothing.to_be_bytes());
            assert_eq!(large().verdict(empty).action, Action::drop(Outcome::Malformed));
        }
    }
}

#[test]
fn a_fragment_header_of_a_whole_datagram_is_no_fragment() {
    // An atomic fragment (RFC 6946).
    let Hosts { vip, master, phone, .. } = SIX;
    let frame = datagram_with(part(ip(phone, vip), 7, 0, false), (PHONE_PORT, SIP), b"INVITE");
    let verdict = World::split(MASTER, BACKUP, None).verdict(frame.clone());
    assert_eq!((verdict.action.outcome, verdict.to_remember()), (Outcome::ToServer, None));
    assert_eq!(sound(&World::new().carried_out(frame)), (phone, master, 63));
}

#[test]
fn what_is_remembered_says_the_same_when_it_is_read_and_is_forgotten_in_time() {
    use crate::abi::FRAGMENTS_WAIT_NS;
    let at = 5_000_000_000;
    for first in [
        FirstFragment::Passed,
        FirstFragment::OfServer { slot: Slot(0), class: Class::Sip, by_stack: true },
        FirstFragment::OfServer { slot: slot(NUMBER_OF_BACKUP), class: Class::Rtp, by_stack: false },
    ] {
        let entry = first.entry(at);
        assert_eq!(entry.at_time(at), Some(first));
        assert_eq!(entry.at_time(at + FRAGMENTS_WAIT_NS), Some(first));
        assert_eq!(entry.at_time(at + FRAGMENTS_WAIT_NS + 1), None);
    }
}
