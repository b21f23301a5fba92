//! What a packet says about a server, and what the words for signalling and media make of it.

use super::*;

#[test]
fn signalling_and_media_go_to_different_servers_and_both_may_answer() {
    let (master, backup) = (Some(NUMBER_OF_MASTER), Some(NUMBER_OF_BACKUP));
    let world = World::split(master, backup, None).with_way_to_backup();
    for (port, server, address) in [(SIP, master, MASTER), (RTP, backup, BACKUP)] {
        let sent = world.verdict(datagram((PHONE, PHONE_PORT), (VIP, port)));
        assert_eq!((sent.server, outcome(sent.action)), (server, Outcome::ToServer));
        assert!(matches!(sent.action, Action::ToServer(rewrite, _) if rewrite.destination == address));
        for from in [MASTER, BACKUP] {
            let back = world.verdict(datagram((from, port), (PHONE, PHONE_PORT)));
            assert_eq!(outcome(back.action), Outcome::ToClient, "{from:?} {port}");
            // Only the server that the class goes to is where the flip led.
            assert_eq!(matches!(back.note, Note::Heard { flip: Some(_) }), from == address, "{from:?} {port}");
        }
    }
    let only_media = World::split(None, backup, None).with_way_to_backup();
    let lost = only_media.verdict(datagram((PHONE, PHONE_PORT), (VIP, SIP)));
    assert_eq!((lost.action, lost.note), (Action::Drop(Outcome::NoActiveServer), Note::Nothing));
}

#[test]
fn a_flow_is_noted_only_of_media_to_a_server_and_under_the_census_bit() {
    let mut world = World::new();
    let (request, media) = (datagram((PHONE, 9), (VIP, SIP)), datagram((PHONE, PHONE_PORT), (VIP, RTP)));
    let flow = |world: &World, frame: &[u8]| match world.verdict(frame.to_vec()).note {
        Note::Sent { flow, .. } => flow,
        other => panic!("{other:?}"),
    };
    assert_eq!((flow(&world, &request), flow(&world, &media)), (None, None));
    world.words[0] = world.words[0].with_census(true);
    let key = FlowKey { service: 0, client: PHONE, client_port: PHONE_PORT, service_port: RTP };
    assert_eq!((flow(&world, &request), flow(&world, &media)), (None, Some(key)));
    assert_eq!(world.verdict(datagram((MASTER, RTP), (PHONE, PHONE_PORT))).note, heard(RTP));
}

/// What a packet of the active server to a client says in [`World::new`].
fn heard(port: u16) -> Note {
    let class = if port == RTP { Class::Rtp } else { Class::Sip };
    Note::Heard { flip: Some(FlipId { index: flip_index(0, 1, class), epoch: 1 }) }
}

#[test]
fn what_claims_to_be_of_a_server_and_comes_by_another_way_is_no_sign_of_life() {
    let reply = datagram((MASTER, RTP), (PHONE, PHONE_PORT));
    for (ingress, note) in [(TO_MASTER.ifindex, heard(RTP)), (TO_PHONE.ifindex, Note::Nothing)] {
        let verdict = World { ingress, ..World::new() }.verdict(reply.clone());
        assert_eq!((outcome(verdict.action), verdict.note), (Outcome::ToClient, note), "by {ingress}");
    }
}

#[test]
fn what_is_not_sent_on_says_nothing_of_a_server_but_its_refusal() {
    for (number, (world, frame, .., action)) in cases().into_iter().enumerate() {
        let note = world.verdict(frame).note;
        let fits = match action {
            Action::ToServer(..) | Action::ToServerByStack(_) => matches!(note, Note::Sent { .. }),
            Action::ToClient(Rewrite { inside: Inside::Error(_), .. }, _) => note == Note::Refused { code: 3 },
            Action::ToClient(..) | Action::ToClientByStack(_) => matches!(note, Note::Heard { .. }),
            // Whether the packet is sent is known only then.
            Action::TellTooBig(_) | Action::Drop(Outcome::TooLarge) => true,
            Action::Pass(Outcome::ServerUnreachable) => matches!(note, Note::Refused { .. }),
            Action::Pass(Outcome::NotForwarded) | Action::Drop(Outcome::TtlExpired | Outcome::Unroutable) => true,
            Action::Pass(_) | Action::Drop(_) => note == Note::Nothing,
        };
        assert!(fits, "case {number}: {action:?} with {note:?}");
    }
}

#[test]
fn an_unreachable_counts_for_the_server_that_it_is_about_whoever_sends_it_to_whom() {
    for (server, number) in [(MASTER, NUMBER_OF_MASTER), (BACKUP, NUMBER_OF_BACKUP)] {
        for (from, to) in [(server, PHONE), (ROUTER, GATEWAY), (server, VIP), (BACKUP, MASTER), (STRANGER, ROUTER)] {
            for code in 0..16 {
                let news = unreachable(from, to, code, &datagram((PHONE, PHONE_PORT), (server, SIP)));
                let verdict = World::new().verdict(news);
                let note = if code == 4 { Note::Nothing } else { Note::Refused { code } };
                assert_eq!((verdict.server, verdict.note), (Some(number), note));
            }
        }
    }
}

#[test]
fn icmp_that_is_about_nothing_of_a_server_is_passed_and_counted_as_before() {
    let about_server = datagram((PHONE, PHONE_PORT), (MASTER, SIP));
    let news = unreachable(MASTER, PHONE, 3, &about_server);
    const ICMP: usize = ETHERNET_LEN + 20;
    const QUOTED: usize = ICMP + 8;
    let others = [
        ("from a server", unreachable(MASTER, PHONE, 3, &datagram((MASTER, SIP), (PHONE, PHONE_PORT)))),
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
        assert_eq!((verdict.action, verdict.note), (Action::Pass(Outcome::NotUdp), Note::Nothing), "{name}");
    }
    let first_fragment = patched(news.clone(), ETHERNET_LEN + 6, &[0x20, 0]);
    for frame in [first_fragment, patched(news, ETHERNET_LEN + 2, &[0, 48])] {
        let verdict = World::new().verdict(frame);
        assert_eq!(verdict.action, Action::Pass(Outcome::ServerUnreachable), "all that it takes, but for ports");
    }
}
