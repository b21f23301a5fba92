//! Ways to a server that are not the usual ones.

use super::*;
use crate::abi::Forwarding;

/// What a host is sent: signalling, media, a first and a later fragment, and an error about what it sent.
fn frames_to_vip(&Hosts { vip, phone, .. }: &Hosts) -> Vec<Vec<u8>> {
    let fragment = |offset, more| datagram_with(part(ip(phone, vip), 7, offset, more), (PHONE_PORT, SIP), b"INVITE");
    vec![
        datagram((phone, PHONE_PORT), (vip, SIP)),
        datagram((phone, PHONE_PORT), (vip, RTP)),
        fragment(0, true),
        fragment(185, false),
        unreachable(phone, vip, &datagram((vip, RTP), (phone, PHONE_PORT))),
    ]
}

fn dsr() -> World {
    World::new().with_master(|entry| entry.forwarding = Forwarding::Dsr as u32)
}

#[test]
fn to_a_server_with_the_vip_nothing_changes_but_ethernet_addresses_and_time_to_live() {
    for hosts in BOTH {
        // The last one is of a server that has the VIP and yet calls it.
        let own = datagram((hosts.master, RTP), (hosts.vip, RTP));
        for before in frames_to_vip(&hosts).into_iter().chain([own]) {
            let after = dsr().carried_out(before.clone());
            assert_eq!((&after[..6], &after[6..12]), (&TO_MASTER.ends.destination()[..], &TO_MASTER.ends.source()[..]));
            let mut wanted = patched(before.clone(), 0, &after[..12]);
            let time_to_live = ETHERNET_LEN + if hosts.family == Family::V4 { 8 } else { 7 };
            wanted[time_to_live] = 63;
            if hosts.family == Family::V4 {
                // The only checksum that covers it.
                wanted = patched(wanted, ETHERNET_LEN + 10, &after[ETHERNET_LEN + 10..ETHERNET_LEN + 12]);
                assert_eq!(sum(&after[ETHERNET_LEN..ETHERNET_LEN + 20]), 0xffff);
            }
            assert_eq!(after, wanted, "{}", hosts.family);
        }
    }
}

#[test]
fn a_server_with_the_vip_gets_what_any_other_one_gets() {
    for hosts in BOTH {
        for frame in frames_to_vip(&hosts) {
            let [one, other] = [dsr(), World::new()].map(|world| world.verdict(frame.clone()));
            assert_eq!(
                (one.server, one.class, one.note, one.leads),
                (other.server, other.class, other.note, other.leads)
            );
            assert_eq!((one.action.outcome, one.action.hop), (other.action.outcome, other.action.hop));
        }
    }
}

#[test]
fn what_keeps_the_vip_is_never_left_to_the_stack_which_would_take_it_for_its_own() {
    let large = sized(MTU + 1, (FOUR.phone, PHONE_PORT), (FOUR.vip, SIP));
    let may_be_fragmented = patched(large, ETHERNET_LEN + 6, &[0]);
    assert_eq!(World::new().verdict(may_be_fragmented.clone()).action.kind, Kind::ByStack);
    assert_eq!(dsr().verdict(may_be_fragmented).action, Action::drop(Outcome::TooLarge));
    for Hosts { vip, phone, .. } in BOTH {
        let must_not = sized(MTU + 1, (phone, PHONE_PORT), (vip, SIP));
        assert_eq!(dsr().verdict(must_not).action, Action::tell_too_big(MTU));
        let by_stack = dsr().with_master(|entry| entry.by_stack = 1);
        let verdict = by_stack.verdict(datagram((phone, PHONE_PORT), (vip, RTP)));
        assert_eq!((verdict.server, verdict.action), (MASTER, Action::drop(Outcome::NoDevice)));
    }
}

#[test]
fn by_a_device_that_only_the_stack_can_use_the_packet_is_rewritten_and_left_to_it() {
    let world = World::new().with_master(|entry| entry.by_stack = 1);
    for Hosts { vip, master, phone, .. } in BOTH {
        for tags in [&[][..], &[(0x8100, 7)]] {
            let before = tagged(datagram((phone, PHONE_PORT), (vip, RTP)), tags);
            let verdict = world.verdict(before.clone());
            assert_eq!((verdict.action.kind, verdict.action.outcome), (Kind::ByStack, Outcome::ToServerByStack));
            assert_eq!((verdict.server, verdict.note.news), (MASTER, News::Sent));
            let after = world.carried_out(before.clone());
            assert_eq!(sound(&after), (phone, master, 64), "the stack counts down");
            assert_eq!(after[..ETHERNET_LEN], before[..ETHERNET_LEN]);
        }
        // What it could not send either is no matter of the way.
        let expired = datagram_with(with_ttl(ip(phone, vip), 1), (PHONE_PORT, RTP), b"voice");
        assert_eq!(world.verdict(expired).action, Action::drop(Outcome::TtlExpired));
        let large = sized(MTU + 1, (phone, PHONE_PORT), (vip, SIP));
        assert_eq!(world.verdict(large).action, Action::tell_too_big(MTU));
    }
}

#[test]
fn a_server_without_an_address_of_the_family_gets_nothing_by_it_and_all_by_the_other() {
    for (lacking, other) in [(FOUR, SIX), (SIX, FOUR)] {
        let absent = [Some(ServerEntry::default()), None];
        for entry in absent {
            let mut world = World::new();
            match entry {
                Some(entry) => drop(world.servers.insert((slot(NUMBER_OF_MASTER), lacking.family), entry)),
                None => drop(world.servers.remove(&(slot(NUMBER_OF_MASTER), lacking.family))),
            }
            for frame in frames_to_vip(&lacking) {
                let verdict = world.verdict(frame);
                assert_eq!((verdict.server, verdict.action), (MASTER, Action::drop(Outcome::NoNextHop)));
                assert_eq!(verdict.note, Note::NOTHING);
            }
            let frame = datagram((other.phone, PHONE_PORT), (other.vip, SIP));
            assert_eq!(world.verdict(frame).action.outcome, Outcome::ToServer, "{}", other.family);
        }
    }
}
