//! Datagrams in fragments: the first one decides, the others follow it.

use super::*;
use crate::rewrite::{TOO_BIG_GROWTH, TOO_BIG_LEN, too_big};

/// Of the second of two fragments, in units of 8 bytes.
const OFFSET: u16 = 185;

/// The two fragments of one datagram.
fn fragments(from: (Address, u16), to: (Address, u16), id: u16) -> [Vec<u8>; 2] {
    let header = Ipv4Header { identification: id, ..ip_header(from.0, to.0, &[]) };
    let first = Ipv4Header { more_fragments: true, ..header.clone() };
    let later = Ipv4Header { fragment_offset: IpFragOffset::try_new(OFFSET).unwrap(), ..header };
    let mut rest = Vec::new();
    let ethernet = PacketBuilder::ethernet2([2; 6], [4; 6]).ip(IpHeaders::Ipv4(later, Default::default()));
    ethernet.write(&mut rest, IpNumber::UDP, b"the rest of a long INVITE").unwrap();
    [datagram_with(first, (from.1, to.1), &[b'.'; 1472]), rest]
}

/// Gives the world a frame, which then knows what it says about other fragments.
fn learn(world: &mut World, frame: &[u8]) -> Verdict {
    let verdict = world.verdict(frame.to_vec());
    world.fragments.extend(verdict.to_remember(&mut Frame::from_slice(&mut frame.to_vec())));
    verdict
}

fn large() -> World {
    let mut world = World::new();
    world.servers.get_mut(&NUMBER_OF_MASTER.slot(0).0).unwrap().mtu = 1500;
    world
}

/// As [`large`], with the backup for media.
fn apart() -> World {
    let words = World::split(Some(NUMBER_OF_MASTER), Some(NUMBER_OF_BACKUP), None).words;
    World { words, ..large() }.with_way_to_backup()
}

fn destination(frame: &[u8]) -> &[u8] {
    &frame[30..34]
}

#[test]
fn the_others_follow_the_first_one_even_if_another_server_is_active_by_then() {
    for (port, class, server, address) in
        [(SIP, Class::Sip, NUMBER_OF_MASTER, MASTER), (RTP, Class::Rtp, NUMBER_OF_BACKUP, BACKUP)]
    {
        let mut world = apart();
        let [first, later] = fragments((PHONE, PHONE_PORT), (VIP, port), 7);
        let verdict = learn(&mut world, &first);
        assert_eq!((verdict.server, outcome(verdict.action)), (Some(server), Outcome::ToServer));
        for active in [None, Some(NUMBER_OF_MASTER), Some(NUMBER_OF_BACKUP)] {
            world.words = World::steered(active, None).words;
            let verdict = world.verdict(later.clone());
            let found = (verdict.server, verdict.class, outcome(verdict.action));
            assert_eq!(found, (Some(server), class, Outcome::ToServer), "{active:?} is active");
            assert_eq!(destination(&carried_out(&world, later.clone())), address);
        }
    }
}

#[test]
fn where_all_goes_to_one_server_a_fragment_that_comes_before_the_first_one_goes_there_too() {
    let [_, later] = fragments((PHONE, PHONE_PORT), (VIP, SIP), 7);
    let verdict = large().verdict(later.clone());
    assert_eq!((verdict.server, outcome(verdict.action)), (Some(NUMBER_OF_MASTER), Outcome::ToServer));
    assert_eq!(apart().verdict(later.clone()).action, Action::Drop(Outcome::Fragment), "to which of the two?");
    let nobody = World::steered(None, None).verdict(later);
    assert_eq!(nobody.action, Action::Drop(Outcome::NoActiveServer));
}

#[test]
fn fragments_of_what_is_not_for_the_service_pass_together() {
    for (from, to) in [((PHONE, PHONE_PORT), (VIP, 53)), ((MASTER, 53), (PHONE, PHONE_PORT))] {
        let mut world = large();
        for (frame, what) in fragments(from, to, 7).iter().zip(["first", "later"]) {
            let verdict = learn(&mut world, frame);
            assert_eq!(verdict.action, Action::Pass(Outcome::NotServicePort), "{what} from {from:?}");
        }
        let [_, of_another] = fragments(from, to, 8);
        assert_ne!(outcome(world.verdict(of_another).action), Outcome::NotServicePort, "another datagram");
    }
}

#[test]
fn a_server_is_fenced_fragment_by_fragment() {
    for (server, address, expected) in
        [(NUMBER_OF_MASTER, MASTER, Outcome::ToClient), (NUMBER_OF_BACKUP, BACKUP, Outcome::Fenced)]
    {
        let mut world = large();
        for frame in fragments((address, SIP), (PHONE, PHONE_PORT), 7) {
            let verdict = learn(&mut world, &frame);
            assert_eq!((verdict.server, outcome(verdict.action)), (Some(server), expected));
        }
        // Not seen from the first one on.
        let [_, later] = fragments((address, SIP), (PHONE, PHONE_PORT), 8);
        assert_eq!(outcome(world.verdict(later).action), expected);
        let [_, to_gateway] = fragments((address, SIP), (GATEWAY, 33_000), 9);
        assert_eq!(outcome(world.verdict(to_gateway).action), Outcome::NotForwarded, "the answer to a probe");
    }
}

#[test]
fn the_others_go_by_the_stack_if_the_first_one_did() {
    for (from, to, expected) in [
        ((PHONE, PHONE_PORT), (VIP, SIP), Outcome::ToServerByStack),
        ((MASTER, SIP), (PHONE, PHONE_PORT), Outcome::ToClientByStack),
    ] {
        let mut world = World::new();
        world.routes.insert(PHONE, Route::Stack);
        let [first, later] = fragments(from, to, 7);
        // Larger than the MTU of 1400 bytes, and it may be fragmented further.
        let verdict = learn(&mut world, &patched(first, ETHERNET_LEN + 6, &[0x20]));
        assert_eq!(outcome(verdict.action), expected);
        world.routes.insert(PHONE, Route::Hop(TO_PHONE));
        assert_eq!(outcome(world.verdict(later).action), expected, "the others are small");
    }
}

#[test]
fn nobody_is_told_of_what_is_no_single_hosts_or_no_beginning() {
    let large = |from: Address| datagram_with(ip_header(from, VIP, &[]), (PHONE_PORT, SIP), &[b'.'; 1500]);
    assert_eq!(World::new().verdict(large(PHONE)).action, Action::TellTooBig(MTU));
    for from in [[255; 4], [224, 0, 0, 1], [0; 4], [127, 0, 0, 1], VIP] {
        assert_eq!(outcome(World::new().verdict(large(from)).action), Outcome::TooLarge, "{from:?}");
    }
    let later = patched(large(PHONE), ETHERNET_LEN + 6, &[0x40, 185]);
    assert_eq!(outcome(World::new().verdict(later).action), Outcome::TooLarge, "its ports are payload");
}

#[test]
fn only_the_addresses_of_a_later_fragment_change() {
    let [_, later] = fragments((MASTER, SIP), (PHONE, PHONE_PORT), 7);
    let after = carried_out(&large(), later.clone());
    assert_eq!(after[34..], later[34..], "no UDP header, so no checksum of UDP");
    let packet = SlicedPacket::from_ethernet(&after).unwrap();
    let ip = packet.net.as_ref().unwrap().ipv4_ref().unwrap().header().to_header();
    assert_eq!(ip.header_checksum, ip.calc_header_checksum());
    assert_eq!((ip.source, ip.destination, ip.fragment_offset.value()), (VIP, PHONE, OFFSET));
}

#[test]
fn a_fragment_whose_lengths_contradict_each_other_is_malformed() {
    for frame in fragments((PHONE, PHONE_PORT), (VIP, SIP), 7) {
        let cut = large().verdict(frame[..frame.len() - 1].to_vec());
        assert_eq!(cut.action, Action::Drop(Outcome::Malformed));
        let empty = patched(frame, ETHERNET_LEN + 2, &20u16.to_be_bytes());
        assert_eq!(large().verdict(empty).action, Action::Drop(Outcome::Malformed));
    }
}

#[test]
fn what_is_remembered_says_the_same_when_it_is_read_and_is_forgotten_in_time() {
    use crate::abi::FRAGMENTS_WAIT_NS;
    let at = 5_000_000_000;
    for first in [
        FirstFragment::Passed,
        FirstFragment::OfServer { server: MASTER, class: Class::Sip, by_stack: true },
        FirstFragment::OfServer { server: BACKUP, class: Class::Rtp, by_stack: false },
    ] {
        let entry = first.entry(at);
        assert_eq!(entry.at_time(at), Some(first));
        assert_eq!(entry.at_time(at + FRAGMENTS_WAIT_NS), Some(first));
        assert_eq!(entry.at_time(at + FRAGMENTS_WAIT_NS + 1), None);
    }
}

#[test]
fn who_sends_too_large_a_packet_is_told_the_mtu_and_what_it_was_about() {
    let mut frame = datagram((PHONE, PHONE_PORT), (VIP, SIP));
    let original = frame.clone();
    frame.splice(0..0, [0; TOO_BIG_GROWTH]);
    too_big(&mut Frame::from_slice(&mut frame), VIP, MTU).unwrap();
    frame.truncate(TOO_BIG_LEN);
    let packet = SlicedPacket::from_ethernet(&frame).unwrap();
    let ip = packet.net.as_ref().unwrap().ipv4_ref().unwrap().header().to_header();
    assert_eq!((ip.source, ip.destination, ip.header_checksum), (VIP, PHONE, ip.calc_header_checksum()));
    let Some(TransportSlice::Icmpv4(icmp)) = packet.transport else { panic!("no ICMP in {frame:02x?}") };
    assert_eq!(sum(icmp.slice()), 0xffff);
    let wanted = etherparse::icmpv4::DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: MTU };
    assert_eq!(icmp.icmp_type(), Icmpv4Type::DestinationUnreachable(wanted));
    assert_eq!(icmp.payload(), &original[ETHERNET_LEN..ETHERNET_LEN + 28], "the header and 8 bytes of the original");
    assert_eq!((&frame[..6], &frame[6..12]), (&original[6..12], &original[..6]), "back to where it came from");
}
