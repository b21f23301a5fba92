//! The decision on the host: each verdict for a packet that deserves it, and the bytes that carrying it out leaves. Whatever is
//! said here of a packet is said of both families, unless it is of one only.

use std::collections::BTreeSet;

use super::*;
use crate::{
    packet::{ETHERNET_LEN, ErrorOffsets, Udp},
    rewrite::{self, Inside, Rewrite},
};

use self::{frames::*, world::*};

mod any;
mod calls;
mod errors;
mod extensions;
mod fragments;
mod frames;
mod masquerade;
mod notes;
mod tags;
mod too_big;
mod ways;
mod world;

/// A world, a frame and the verdict it deserves.
type Case = (World, Vec<u8>, Option<ServerNumber>, Class, Action);

const MASTER: Option<ServerNumber> = Some(NUMBER_OF_MASTER);
const BACKUP: Option<ServerNumber> = Some(NUMBER_OF_BACKUP);

fn all_cases() -> impl Iterator<Item = Case> {
    BOTH.into_iter().flat_map(|hosts| cases(&hosts))
}

fn cases(hosts: &Hosts) -> Vec<Case> {
    [cases_towards_server(hosts), cases_towards_client(hosts), cases_of_any(hosts), cases_of_family(hosts)].concat()
}

fn nobody() -> World {
    World::steered(None, None)
}

fn cases_towards_server(hosts: &Hosts) -> Vec<Case> {
    use Class::{Other, Rtp, Sip};
    use Outcome as O;
    let &Hosts { family, vip, master, phone, udp, .. } = hosts;
    let to_vip = |port| datagram((phone, PHONE_PORT), (vip, port));
    let of_size = |length| sized(length, (phone, PHONE_PORT), (vip, SIP));
    let short = |ttl| datagram_with(with_ttl(ip(phone, vip), ttl), (1, SIP), b"voice");
    let to_server = Rewrite { source: phone, destination: master, inside: Inside::datagram(udp) };
    let redirect = Action::redirect(to_server, TO_MASTER, O::ToServer);
    let later_fragment = datagram_with(part(ip(phone, vip), 7, 185, false), (0, 0), b"the rest");
    let first_fragment = datagram_with(part(ip(phone, vip), 7, 0, true), (SIP, 1), b"INVITE");
    // The answer has no room for the options of IPv4.
    let long = if family == Family::V4 { Action::drop(O::TooLarge) } else { Action::tell_too_big(MTU) };
    let only_stack = World::new().with_master(|entry| entry.by_stack = 1);
    let world = World::new;
    vec![
        (world(), to_vip(SIP), MASTER, Sip, redirect),
        (world(), to_vip(RTP), MASTER, Rtp, redirect),
        (world(), first_fragment, None, Other, Action::pass(O::NotServicePort)),
        (World::split(MASTER, BACKUP, None), later_fragment, None, Other, Action::drop(O::Fragment)),
        (world(), to_vip(22), None, Other, Action::pass(O::NotServicePort)),
        (world(), patched(to_vip(SIP), udp + 4, &[0xff]), None, Other, Action::drop(O::Malformed)),
        (nobody(), to_vip(RTP), None, Rtp, Action::drop(O::NoActiveServer)),
        (World::steered(BACKUP, None), to_vip(SIP), BACKUP, Sip, Action::drop(O::NoNextHop)),
        (world(), short(1), MASTER, Sip, Action::drop(O::TtlExpired)),
        (world(), short(0), MASTER, Sip, Action::drop(O::TtlExpired)),
        (world(), of_size(MTU), MASTER, Sip, redirect),
        (world(), of_size(MTU + 1), MASTER, Sip, Action::tell_too_big(MTU)),
        (world(), with_options(of_size(MTU)), MASTER, Sip, long),
        (only_stack, to_vip(SIP), MASTER, Sip, Action::by_stack(to_server, O::ToServerByStack)),
    ]
}

fn cases_towards_client(hosts: &Hosts) -> Vec<Case> {
    use Class::{Other, Rtp, Sip};
    use Outcome as O;
    let &Hosts { vip, master, backup, phone, stranger, banned, narrow, gateway, udp, .. } = hosts;
    let from = |server, port, to| datagram((server, port), (to, PHONE_PORT));
    let to_client = |client| Rewrite { source: vip, destination: client, inside: Inside::datagram(udp) };
    let redirect = Action::redirect(to_client(phone), TO_PHONE, O::ToClient);
    let by_stack = Action::by_stack(to_client(stranger), O::ToClientByStack);
    let behind_fragment_header = Inside::datagram(udp + hosts.fragment_header());
    let in_part = Rewrite { inside: behind_fragment_header, ..to_client(phone) };
    let in_part = Action::redirect(in_part, TO_PHONE, O::ToClient);
    let fragment = |from, to| datagram_with(part(ip(from, to), 7, 0, true), (SIP, 1), b"INVITE");
    let short = datagram_with(with_ttl(ip(master, phone), 1), (RTP, 1), b"voice");
    let length = ETHERNET_LEN + if hosts.family == Family::V4 { 2 } else { 4 };
    let world = World::new;
    vec![
        (world(), from(master, SIP, phone), MASTER, Sip, redirect),
        (world(), from(master, RTP, stranger), MASTER, Rtp, by_stack),
        (world(), fragment(master, phone), MASTER, Sip, in_part),
        (world(), fragment(backup, gateway), BACKUP, Sip, Action::pass(O::NotForwarded)),
        (world(), fragment(backup, master), BACKUP, Other, Action::pass(O::BetweenServers)),
        (world(), from(backup, 53, phone), BACKUP, Other, Action::pass(O::NotServicePort)),
        (world(), from(master, SIP, gateway), MASTER, Sip, Action::pass(O::NotForwarded)),
        (world(), patched(from(backup, SIP, phone), length, &[0xff]), BACKUP, Other, Action::drop(O::Malformed)),
        (world(), short, MASTER, Rtp, Action::drop(O::TtlExpired)),
        (world(), from(backup, RTP, phone), BACKUP, Rtp, Action::drop(O::Fenced)),
        (nobody(), from(master, SIP, phone), MASTER, Sip, Action::drop(O::Fenced)),
        (world(), from(master, SIP, banned), MASTER, Sip, Action::drop(O::Unroutable)),
        (world(), from(master, RTP, narrow), MASTER, Rtp, Action::tell_too_big(NARROW_MTU)),
        (world(), from(master, SIP, backup), MASTER, Other, Action::pass(O::BetweenServers)),
    ]
}

fn cases_of_any(hosts: &Hosts) -> Vec<Case> {
    use Class::Other;
    use Outcome as O;
    let &Hosts { vip, master, backup, phone, stranger, gateway, router, udp, .. } = hosts;
    let to_vip = || datagram((phone, PHONE_PORT), (vip, SIP));
    let tcp = patched(to_vip(), ETHERNET_LEN + if hosts.family == Family::V4 { 9 } else { 6 }, &[6]);
    let refusal_to_phone = unreachable(master, phone, &datagram((phone, PHONE_PORT), (master, RTP)));
    let refusal_to_gateway = unreachable(router, gateway, &datagram((gateway, 33_000), (backup, SIP)));
    let error = ErrorOffsets { icmp: udp, udp: udp + 8 + udp - ETHERNET_LEN };
    let inside = Inside { udp: 0, error, source: phone, destination: vip };
    let refused = Action::redirect(Rewrite { source: vip, destination: phone, inside }, TO_PHONE, O::ToClient);
    let world = World::new;
    vec![
        (world(), patched(to_vip(), 0, &[1]), None, Other, Action::pass(O::NotUnicast)),
        (world(), tagged(to_vip(), &[(0x8100, 7); 3]), None, Other, Action::pass(O::NotIp)),
        // Another version, and an IPv4 header of 16 bytes.
        (world(), patched(to_vip(), ETHERNET_LEN, &[0x54]), None, Other, Action::pass(O::NotIp)),
        (world(), patched(to_vip(), ETHERNET_LEN, &[0x44]), None, Other, Action::pass(O::NotIp)),
        (world(), datagram((phone, SIP), (stranger, SIP)), None, Other, Action::pass(O::NotService)),
        (world(), tcp, None, Other, Action::pass(O::NotUdp)),
        (world(), refusal_to_phone, MASTER, Other, refused),
        (nobody(), refusal_to_gateway, BACKUP, Other, Action::pass(O::ServerUnreachable)),
    ]
}

/// What is too large, and may be fragmented on its way (IPv4) or has extension headers (IPv6): the stack knows what to do with it.
/// And what has extension headers and fits.
fn cases_of_family(hosts: &Hosts) -> Vec<Case> {
    use Class::{Rtp, Sip};
    use Outcome as O;
    let &Hosts { vip, master, phone, narrow, udp, .. } = hosts;
    let large = sized(MTU + 1, (phone, PHONE_PORT), (vip, SIP));
    let back = datagram((master, RTP), (narrow, PHONE_PORT));
    let to_server = |udp| Rewrite { source: phone, destination: master, inside: Inside::datagram(udp) };
    let to_client = |udp| Rewrite { source: vip, destination: narrow, inside: Inside::datagram(udp) };
    let world = World::new;
    if hosts.family == Family::V4 {
        let in_parts = |frame| patched(frame, ETHERNET_LEN + 6, &[0]);
        let (there, here) = (Action::by_stack(to_server(udp), O::ToServerByStack), to_client(udp));
        return vec![
            (world(), in_parts(large), MASTER, Sip, there),
            (world(), in_parts(back), MASTER, Rtp, Action::by_stack(here, O::ToClientByStack)),
        ];
    }
    let told = Action::tell_too_big(NARROW_MTU);
    let through = Action::redirect(to_server(udp + 16), TO_MASTER, O::ToServer);
    let options = extended(datagram((phone, PHONE_PORT), (vip, SIP)), &[(DESTINATION_OPTIONS, 1)]);
    let later = datagram_with(part(ip(phone, vip), 7, 185, false), (0, 0), &[b'.'; MTU as usize]);
    vec![
        (world(), with_options(back), MASTER, Rtp, told),
        (world(), options, MASTER, Sip, through),
        (world(), later, MASTER, Class::Other, Action::drop(O::TooLarge)),
    ]
}

#[test]
fn every_outcome_that_the_decision_can_reach_is_reached_with_the_exact_verdict_by_both_families() {
    for hosts in BOTH {
        let mut seen = BTreeSet::new();
        for (number, (world, frame, server, class, action)) in cases(&hosts).into_iter().enumerate() {
            let verdict = world.verdict(frame);
            let name = format!("case {number} of {}", hosts.family);
            assert_eq!((verdict.server, verdict.class, verdict.action), (server, class, action), "{name}");
            seen.insert(action.outcome);
        }
        // Only the program learns from the map of devices that a hop leads nowhere; senders are looked at in `admission`, and mapped
        // ports come after the decision.
        let elsewhere = [Outcome::NoDevice, Outcome::RateLimited, Outcome::Denied, Outcome::NoPort];
        let all = Outcome::ALL.iter().copied().filter(|outcome| !elsewhere.contains(outcome)).collect();
        assert_eq!(seen, all, "{}", hosts.family);
    }
}

#[test]
fn a_packet_that_is_not_redirected_keeps_every_byte() {
    for (world, frame, _, _, action) in all_cases() {
        if matches!(action.kind, Kind::Pass | Kind::Drop) {
            assert_eq!(world.carried_out(frame.clone()), frame, "{action:?}");
        }
    }
}

#[test]
fn a_datagram_finds_its_way_to_the_server_and_back_with_right_checksums() {
    for Hosts { vip, master, phone, .. } in BOTH {
        for port in [SIP, RTP] {
            let there = World::new().carried_out(datagram((phone, PHONE_PORT), (vip, port)));
            assert_eq!(sound(&there), (phone, master, 63));
            assert_eq!((&there[..6], &there[6..12]), (&TO_MASTER.ends.destination()[..], &TO_MASTER.ends.source()[..]));
            let back = World::new().carried_out(datagram((master, port), (phone, PHONE_PORT)));
            assert_eq!(sound(&back), (vip, phone, 63));
            assert_eq!((&back[..6], &back[6..12]), (&TO_PHONE.ends.destination()[..], &TO_PHONE.ends.source()[..]));
        }
    }
}

#[test]
fn a_draining_server_may_send_to_clients_and_gets_nothing_new() {
    let world = World::steered(MASTER, BACKUP);
    for Hosts { vip, backup, phone, .. } in BOTH {
        let reply = world.verdict(datagram((backup, RTP), (phone, PHONE_PORT)));
        assert_eq!((reply.server, reply.action.outcome), (BACKUP, Outcome::ToClient));
        let request = world.verdict(datagram((phone, PHONE_PORT), (vip, RTP)));
        assert_eq!((request.server, request.action.outcome), (MASTER, Outcome::ToServer));
    }
}

#[test]
fn the_answer_of_a_fenced_server_to_a_probe_reaches_the_gateway() {
    for Hosts { backup, gateway, .. } in BOTH {
        let answer = World::new().verdict(datagram((backup, SIP), (gateway, 33_000)));
        assert_eq!((answer.server, answer.action), (BACKUP, Action::pass(Outcome::NotForwarded)));
    }
}

#[test]
fn servers_hear_each_other_untouched_whoever_is_active() {
    for Hosts { master, backup, .. } in BOTH {
        for active in [MASTER, BACKUP, None] {
            for (from, to) in [(master, backup), (backup, master)] {
                let action = World::steered(active, None).verdict(datagram((from, SIP), (to, SIP))).action;
                assert_eq!(action, Action::pass(Outcome::BetweenServers));
            }
        }
    }
}

#[test]
fn a_server_that_calls_its_own_vip_sees_the_vip_as_its_peer() {
    for Hosts { vip, master, .. } in BOTH {
        let frame = World::new().carried_out(datagram((master, RTP), (vip, RTP + 2)));
        assert_eq!(sound(&frame), (vip, master, 63));
        assert_eq!((&frame[..6], &frame[6..12]), (&TO_MASTER.ends.destination()[..], &TO_MASTER.ends.source()[..]));
    }
}

#[test]
fn a_reply_by_the_stack_keeps_its_time_to_live_and_ethernet_addresses() {
    for Hosts { vip, master, stranger, .. } in BOTH {
        let before = datagram((master, SIP), (stranger, PHONE_PORT));
        let after = World::new().carried_out(before.clone());
        assert_eq!(sound(&after), (vip, stranger, 64));
        assert_eq!(after[..ETHERNET_LEN], before[..ETHERNET_LEN]);
    }
}

#[test]
fn a_datagram_without_a_checksum_is_forwarded_without_one() {
    for Hosts { vip, master, phone, udp, .. } in BOTH {
        let before = patched(datagram((phone, PHONE_PORT), (vip, RTP)), udp + 6, &[0, 0]);
        let after = World::new().carried_out(before);
        assert_eq!(sound(&after), (phone, master, 63));
        assert_eq!(after[udp + 6..udp + 8], [0, 0]);
    }
}

#[test]
fn ethernet_padding_and_bytes_after_the_datagram_are_no_reason_to_drop() {
    for Hosts { vip, phone, .. } in BOTH {
        let mut padded = datagram_with(ip(phone, vip), (PHONE_PORT, SIP), b"\r\n\r\n");
        padded.resize(padded.len() + 14, 0);
        assert_eq!(World::new().verdict(padded).action.outcome, Outcome::ToServer);
    }
}

#[test]
fn a_frame_cut_anywhere_is_never_redirected() {
    for (world, frame, ..) in all_cases() {
        for length in 0..frame.len() {
            let action = world.verdict(frame[..length].to_vec()).action;
            assert!(matches!(action.kind, Kind::Pass | Kind::Drop), "cut at {length}: {action:?}");
        }
    }
}
