//! VLAN tags: those of the way that a frame came by give way to those of the way that it leaves by.

use etherparse::{LinkExtSlice, SlicedPacket};

use super::*;

const QINQ: u16 = 0x88a8;
const VLAN: u16 = 0x8100;

/// Tags of the way that a frame leaves by.
const WAYS: [[VlanTag; MAX_TAGS]; 4] = [
    NO_TAGS,
    [VlanTag { protocol: VLAN, id: 100 }, VlanTag { protocol: 0, id: 0 }],
    [VlanTag { protocol: QINQ, id: 200 }, VlanTag { protocol: VLAN, id: 201 }],
    [VlanTag { protocol: VLAN, id: 4094 }, VlanTag { protocol: VLAN, id: 1 }],
];

/// EtherTypes and control words of the tags that a frame came with, of all priorities (and drop eligible).
const FRAMES: [&[(u16, u16)]; 6] = [
    &[],
    &[(VLAN, 0x0007)],
    &[(VLAN, 0xb007)],
    &[(VLAN, 0xe000)],
    &[(QINQ, 0x7064), (VLAN, 0x2fff)],
    &[(VLAN, 0x0064), (VLAN, 0xffff)],
];

/// Both directions, with these tags on the way out.
fn directions(hosts: &Hosts, tags: [VlanTag; MAX_TAGS]) -> [(World, Vec<u8>); 2] {
    let world = World::new().with_master(|entry| entry.tags = tags);
    let world = world.with_route_to_phone(Route::Hop(Hop { tags, ..TO_PHONE }));
    let there = datagram((hosts.phone, PHONE_PORT), (hosts.vip, SIP));
    let back = datagram((hosts.master, RTP), (hosts.phone, PHONE_PORT));
    [there, back].map(|frame| (world.clone(), frame))
}

/// EtherType of each tag's announcement and its control word, as etherparse reads them.
fn tags_of(frame: &[u8]) -> Vec<(u16, u16)> {
    let packet = SlicedPacket::from_ethernet(frame).unwrap();
    let mut announced = u16::from_be_bytes([frame[12], frame[13]]);
    let tags = packet.link_exts.iter().map(|tag| {
        let LinkExtSlice::Vlan(tag) = tag else { panic!("{tag:?}") };
        let eligible = u16::from(tag.drop_eligible_indicator()) << 12;
        let control = u16::from(tag.priority_code_point().value()) << 13 | eligible | tag.vlan_identifier().value();
        (std::mem::replace(&mut announced, tag.ether_type().0), control)
    });
    tags.collect()
}

#[test]
fn a_frame_leaves_with_the_tags_of_its_way_out_whatever_it_came_with_and_keeps_its_priority() {
    for hosts in BOTH {
        for (tags, came_with) in WAYS.into_iter().flat_map(|tags| FRAMES.map(|came_with| (tags, came_with))) {
            for (world, plain) in directions(&hosts, tags) {
                let after = world.carried_out(tagged(plain.clone(), came_with));
                let priority = came_with.first().map_or(0, |(_, control)| control & 0xf000);
                let wanted: Vec<_> =
                    tags.iter().filter(|tag| tag.id != 0).map(|tag| (tag.protocol, tag.id | priority)).collect();
                assert_eq!(tags_of(&after), wanted, "{tags:?} in place of {came_with:x?}");
                // But for the tags, as the same packet that needs none.
                let without = directions(&hosts, NO_TAGS).into_iter().find(|(_, frame)| *frame == plain).unwrap().0;
                assert_eq!(after, tagged(without.carried_out(plain), &wanted), "{tags:?} in place of {came_with:x?}");
                sound(&after);
            }
        }
    }
}

#[test]
fn a_frame_grows_by_the_tags_that_it_gets_and_shrinks_by_those_that_it_loses() {
    for hosts in BOTH {
        for (tags, more) in WAYS.into_iter().zip([0, 4, 8, 8]) {
            for came_with in FRAMES {
                let [(_, there), _] = directions(&hosts, tags);
                let network = packet::network(&mut Frame::from_slice(&mut tagged(there, came_with))).unwrap();
                let growth = rewrite::growth(&network, &Hop { tags, ..TO_PHONE });
                assert_eq!(growth, more - 4 * came_with.len() as i32, "{tags:?} in place of {came_with:x?}");
            }
        }
    }
}

#[test]
fn a_frame_with_three_tags_passes() {
    for hosts in BOTH {
        for tags in [[VLAN; 3], [QINQ, VLAN, VLAN], [QINQ; 3]] {
            for (world, frame) in directions(&hosts, NO_TAGS) {
                let verdict = world.verdict(tagged(frame, &tags.map(|protocol| (protocol, 7))));
                assert_eq!((verdict.server, verdict.action), (None, Action::pass(Outcome::NotIp)));
            }
        }
    }
}

#[test]
fn a_tag_that_ends_the_frame_or_another_protocol_behind_one_passes() {
    let frame = tagged(datagram((FOUR.phone, PHONE_PORT), (FOUR.vip, SIP)), &[(VLAN, 7), (VLAN, 8)]);
    for length in 14..22 {
        assert_eq!(World::new().verdict(frame[..length].to_vec()).action, Action::pass(Outcome::NotIp), "{length}");
    }
    // ARP, and IPv6 that is IPv4.
    for ethertype in [[0x08, 0x06], [0x86, 0xdd]] {
        let other = patched(frame.clone(), 20, &ethertype);
        assert_eq!(World::new().verdict(other).action, Action::pass(Outcome::NotIp), "{ethertype:x?}");
    }
}

#[test]
fn what_goes_by_the_stack_or_passes_keeps_its_tags() {
    for Hosts { vip, master, phone, stranger, .. } in BOTH {
        for tags in FRAMES {
            let by_stack = tagged(datagram((master, SIP), (stranger, PHONE_PORT)), tags);
            let after = World::new().carried_out(by_stack.clone());
            assert_eq!(sound(&after), (vip, stranger, 64));
            assert_eq!((after.len(), tags_of(&after)), (by_stack.len(), tags_of(&by_stack)));
            let passed = tagged(datagram((phone, PHONE_PORT), (vip, 53)), tags);
            assert_eq!(World::new().carried_out(passed.clone()), passed);
        }
    }
}

#[test]
fn an_error_in_a_tagged_frame_is_translated_as_in_a_plain_one() {
    for Hosts { vip, master, phone, .. } in BOTH {
        let news = unreachable(phone, vip, &datagram((vip, SIP), (phone, PHONE_PORT)));
        let plain = World::new().carried_out(news.clone());
        for tags in FRAMES {
            let after = World::new().carried_out(tagged(news.clone(), tags));
            assert_eq!(after, plain);
            let (source, destination, _) = sound_icmp(&after);
            assert_eq!((source, destination), (phone, master));
        }
    }
}
