//! What a packet says about a server, and what the words for signalling and media make of it.

use super::*;

pub(super) fn refused(code: u8) -> Note {
    Note { news: News::Refused, code, ..Note::NOTHING }
}

#[test]
fn signalling_and_media_go_to_different_servers_and_both_may_answer() {
    let world = World::split(MASTER, BACKUP, None).with_way_to_backup();
    let only_media = World::split(None, BACKUP, None).with_way_to_backup();
    for Hosts { vip, master, backup, phone, .. } in BOTH {
        for (port, server, address) in [(SIP, MASTER, master), (RTP, BACKUP, backup)] {
            let sent = world.verdict(datagram((phone, PHONE_PORT), (vip, port)));
            assert_eq!((sent.server, sent.action.outcome), (server, Outcome::ToServer));
            assert_eq!((sent.action.kind, sent.action.rewrite.destination), (Kind::Redirect, address));
            for from in [master, backup] {
                let back = world.verdict(datagram((from, port), (phone, PHONE_PORT)));
                assert_eq!((back.action.outcome, back.note.news), (Outcome::ToClient, News::Heard));
                // Only the server that the class goes to is where the flip led.
                assert_eq!(back.note.is_target, from == address, "{from:?} {port}");
            }
        }
        let lost = only_media.verdict(datagram((phone, PHONE_PORT), (vip, SIP)));
        assert_eq!((lost.action, lost.note), (Action::drop(Outcome::NoActiveServer), Note::NOTHING));
    }
}

#[test]
fn a_flow_is_noted_only_of_media_to_a_server_and_under_the_census_bit() {
    for Hosts { vip, master, phone, .. } in BOTH {
        let mut world = World::new();
        let (request, media) = (datagram((phone, 9), (vip, SIP)), datagram((phone, PHONE_PORT), (vip, RTP)));
        let is_flow = |world: &World, frame: &[u8]| {
            let note = world.verdict(frame.to_vec()).note;
            assert_eq!((note.news, note.flip), (News::Sent, FlipId { service: 0, epoch: 1 }));
            note.is_flow
        };
        assert_eq!((is_flow(&world, &request), is_flow(&world, &media)), (false, false));
        world.words[0] = world.words[0].with_census(true);
        assert_eq!((is_flow(&world, &request), is_flow(&world, &media)), (false, true));
        let note = world.verdict(media).note;
        assert_eq!((note.client_port, note.service_port), (PHONE_PORT, RTP));
        assert_eq!(world.verdict(datagram((master, RTP), (phone, PHONE_PORT))).note, heard());
    }
}

/// What a packet of the active server to a client says in [`World::new`].
fn heard() -> Note {
    Note { news: News::Heard, flip: FlipId { service: 0, epoch: 1 }, is_target: true, ..Note::NOTHING }
}

#[test]
fn what_claims_to_be_of_a_server_and_comes_by_another_way_is_no_sign_of_life() {
    for Hosts { master, phone, .. } in BOTH {
        let reply = datagram((master, RTP), (phone, PHONE_PORT));
        for (ingress, note) in [(BACK, heard()), (FRONT, Note::NOTHING)] {
            let verdict = World { ingress, ..World::new() }.verdict(reply.clone());
            assert_eq!((verdict.action.outcome, verdict.note), (Outcome::ToClient, note), "by {ingress}");
        }
    }
}

#[test]
fn what_is_not_sent_on_says_nothing_of_a_server_but_its_refusal() {
    for (number, (world, frame, .., action)) in all_cases().enumerate() {
        let note = world.verdict(frame).note;
        let fits = match (action.kind, action.outcome) {
            (Kind::Redirect | Kind::ByStack, Outcome::ToServer | Outcome::ToServerByStack) => note.news == News::Sent,
            (Kind::Redirect, Outcome::ToClient) if action.rewrite.inside.error.icmp != 0 => note == refused(3),
            (Kind::Redirect | Kind::ByStack, _) => note.news == News::Heard,
            // Whether the packet is sent is known only then.
            (Kind::TellTooBig, _) | (_, Outcome::TooLarge | Outcome::TtlExpired | Outcome::Unroutable) => true,
            (_, Outcome::ServerUnreachable) => note.news == News::Refused,
            (_, Outcome::NotForwarded) => true,
            (Kind::Pass | Kind::Drop | Kind::AskCalls | Kind::Unmask, _) => note == Note::NOTHING,
        };
        assert!(fits, "case {number}: {action:?} with {note:?}");
    }
}

/// Kind and code of each destination unreachable and too big message, and the code of IPv4 that says the same.
fn unreachables(family: Family) -> Vec<((u8, u8), Option<u8>)> {
    match family {
        Family::V4 => (0..16).map(|code| ((3, code), (code != 4).then_some(code))).collect(),
        // RFC 4443, section 3.1, as RFC 792 and RFC 1812, section 5.2.7.1, would say it.
        Family::V6 => {
            let codes = [(0, 0), (1, 13), (2, 1), (3, 1), (4, 3), (5, 13), (6, 13), (7, 1)];
            codes.map(|(code, same)| ((1, code), Some(same))).into_iter().chain([((2, 0), None)]).collect()
        }
    }
}

#[test]
fn an_unreachable_counts_for_the_server_that_it_is_about_whoever_sends_it_to_whom() {
    for hosts in BOTH {
        let Hosts { vip, master, backup, phone, stranger, gateway, router, .. } = hosts;
        for (number, server) in hosts.servers() {
            for (from, to) in [(server, phone), (router, gateway), (server, vip), (backup, master), (stranger, router)]
            {
                for (kind, code) in unreachables(hosts.family) {
                    let news = error(from, to, kind, &datagram((phone, PHONE_PORT), (server, SIP)));
                    let verdict = World::new().verdict(news);
                    let note = code.map_or(Note::NOTHING, refused);
                    assert_eq!((verdict.server, verdict.note), (Some(number), note), "{kind:?}");
                }
            }
        }
    }
}

#[test]
fn icmp_that_is_about_nothing_of_a_server_is_passed_and_counted_as_before() {
    let Hosts { master, phone, .. } = FOUR;
    let about_server = datagram((phone, PHONE_PORT), (master, SIP));
    let news = unreachable(master, phone, &about_server);
    const ICMP: usize = ETHERNET_LEN + 20;
    const QUOTED: usize = ICMP + 8;
    let others = [
        ("from a server", unreachable(master, phone, &datagram((master, SIP), (phone, PHONE_PORT)))),
        ("an answer", patched(news.clone(), ICMP, &[0])),
        ("about TCP", patched(news.clone(), QUOTED + 9, &[6])),
        ("IPv6 inside", patched(news.clone(), QUOTED, &[0x65])),
        ("no header inside", patched(news.clone(), QUOTED, &[0x44])),
        ("a later fragment", patched(news.clone(), ETHERNET_LEN + 6, &[0, 1])),
        ("a short packet", patched(news.clone(), ETHERNET_LEN + 2, &[0, 47])),
        ("cut", news[..news.len() - 1].to_vec()),
    ];
    for (name, frame) in others {
        let verdict = World::new().verdict(frame);
        assert_eq!((verdict.action, verdict.note), (Action::pass(Outcome::NotUdp), Note::NOTHING), "{name}");
    }
    let first_fragment = patched(news.clone(), ETHERNET_LEN + 6, &[0x20, 0]);
    for frame in [first_fragment, patched(news, ETHERNET_LEN + 2, &[0, 48])] {
        let verdict = World::new().verdict(frame);
        assert_eq!(verdict.action, Action::pass(Outcome::ServerUnreachable), "all that it takes, but for ports");
    }
}

#[test]
fn icmpv6_that_is_about_nothing_of_a_server_is_passed_and_counted_as_before() {
    let Hosts { master, phone, .. } = SIX;
    let about_server = datagram((phone, PHONE_PORT), (master, SIP));
    let news = unreachable(master, phone, &about_server);
    const ICMP: usize = ETHERNET_LEN + 40;
    const QUOTED: usize = ICMP + 8;
    let mapped_server = FOUR.master.octets();
    let others = [
        ("from a server", unreachable(master, phone, &datagram((master, SIP), (phone, PHONE_PORT)))),
        ("an answer", patched(news.clone(), ICMP, &[129])),
        ("a type of IPv4", patched(news.clone(), ICMP, &[11])),
        ("about TCP", patched(news.clone(), QUOTED + 6, &[6])),
        ("about ICMP behind a fragment header", patched(news.clone(), QUOTED + 6, &[44])),
        ("about options", patched(news.clone(), QUOTED + 6, &[DESTINATION_OPTIONS])),
        ("IPv4 inside", patched(news.clone(), QUOTED, &[0x45])),
        ("from an IPv4 address inside", patched(news.clone(), QUOTED + 8, &mapped_server)),
        ("to an IPv4 address inside", patched(news.clone(), QUOTED + 24, &mapped_server)),
        ("ICMP of IPv4", patched(news.clone(), ETHERNET_LEN + 6, &[1])),
        ("a short packet", patched(news.clone(), ETHERNET_LEN + 4, &[0, 47])),
        ("cut", news[..news.len() - 1].to_vec()),
    ];
    for (name, frame) in others {
        let verdict = World::new().verdict(frame);
        assert_eq!((verdict.action, verdict.note), (Action::pass(Outcome::NotUdp), Note::NOTHING), "{name}");
    }
    let header_only = patched(news, ETHERNET_LEN + 4, &[0, 48]);
    assert_eq!(World::new().verdict(header_only).action, Action::pass(Outcome::ServerUnreachable), "but for ports");
}
