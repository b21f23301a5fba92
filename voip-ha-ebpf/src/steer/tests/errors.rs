//! ICMP errors about packets that were rewritten: they reach who sent them, and speak of what that one knows.

use super::{notes::refused, *};

/// Sender and receiver of an ICMP error and of the datagram that it quotes, all of whose checksums are right. Those of the quoted
/// datagram are looked at as its sender would: a part of it is not there.
fn sound_error(frame: &[u8], whole_quoted: &[u8]) -> [Address; 4] {
    let (source, destination, message) = sound_icmp(frame);
    // The quoted datagram as a whole: what is quoted, and behind that what is not.
    let quotation = &message[8..];
    let whole = patched(whole_quoted.to_vec(), ETHERNET_LEN, quotation);
    let (quoted_source, quoted_destination, ttl) = sound(&whole);
    assert_eq!(ttl, 64, "as it was quoted");
    [source, destination, quoted_source, quoted_destination]
}

/// Port unreachable, host unreachable, too big, time exceeded and parameter problem.
fn kinds(family: Family) -> [(u8, u8); 5] {
    match family {
        Family::V4 => [(3, 3), (3, 1), (3, 4), (11, 0), (12, 0)],
        Family::V6 => [(1, 4), (1, 3), (2, 0), (3, 0), (4, 0)],
    }
}

#[test]
fn an_error_about_a_packet_of_a_server_reaches_that_server_as_if_about_its_own() {
    for Hosts { family, vip, master, phone, stranger, .. } in BOTH {
        for kind in kinds(family) {
            for (reporter, port) in [(phone, RTP), (stranger, SIP)] {
                let sent = datagram((vip, port), (phone, PHONE_PORT));
                let before = error(reporter, vip, kind, &sent);
                sound_error(&before, &sent);
                let world = World::new();
                let verdict = world.verdict(before.clone());
                let found = (verdict.server, verdict.class, verdict.action.outcome, verdict.note);
                assert_eq!(found, (MASTER, Class::Other, Outcome::ToServer, Note::NOTHING), "{kind:?}");
                let after = world.carried_out(before);
                assert_eq!(sound_error(&after, &sent), [reporter, master, master, phone]);
            }
        }
    }
}

#[test]
fn an_error_about_a_packet_of_a_phone_reaches_the_phone_as_if_about_the_vip() {
    for Hosts { family, vip, master, phone, router, .. } in BOTH {
        for kind in kinds(family) {
            for (reporter, seen_as) in [(master, vip), (router, router)] {
                let sent = datagram((phone, PHONE_PORT), (master, RTP));
                let before = error(reporter, phone, kind, &sent);
                let world = World::new();
                let outcome = world.verdict(before.clone()).action.outcome;
                assert_eq!(outcome, Outcome::ToClient, "{kind:?} of {reporter:?}");
                let after = world.carried_out(before);
                assert_eq!(sound_error(&after, &sent), [seen_as, phone, phone, vip]);
            }
        }
    }
}

#[test]
fn an_error_about_a_first_fragment_is_translated_too_and_one_about_a_later_fragment_is_left_alone() {
    for Hosts { family, vip, master, phone, .. } in BOTH {
        let world = World::new();
        for kind in kinds(family) {
            let first = datagram_with(part(ip(phone, master), 7, 0, true), (PHONE_PORT, SIP), &[b'.'; 80]);
            let after = world.carried_out(error(master, phone, kind, &first));
            let (source, destination, message) = sound_icmp(&after);
            assert_eq!((source, destination), (vip, phone), "{kind:?}");
            // The headers of the quotation, as the phone sent them, are quoted back; the checksum is looked at of what is whole.
            let sent = datagram_with(part(ip(phone, vip), 7, 0, true), (PHONE_PORT, SIP), &[b'.'; 80]);
            assert_eq!(message[8..], sent[ETHERNET_LEN..][..message.len() - 8], "{kind:?}");
            let later = datagram_with(part(ip(phone, master), 7, 185, false), (PHONE_PORT, SIP), &[b'.'; 80]);
            let verdict = world.verdict(error(master, phone, kind, &later));
            assert_eq!(verdict.action, Action::pass(Outcome::ServerUnreachable), "{kind:?}");
        }
    }
}

#[test]
fn a_server_that_is_fenced_tells_clients_nothing_by_icmp_and_the_gateway_still_hears_it() {
    for Hosts { backup, phone, .. } in BOTH {
        let news = unreachable(backup, phone, &datagram((phone, PHONE_PORT), (backup, RTP)));
        let verdict = World::new().verdict(news);
        assert_eq!((verdict.action, verdict.note), (Action::drop(Outcome::Fenced), refused(3)));
    }
}

#[test]
fn no_server_speaks_for_another_one() {
    for Hosts { master, backup, phone, .. } in BOTH {
        let news = unreachable(backup, phone, &datagram((phone, PHONE_PORT), (master, SIP)));
        assert_eq!(World::new().verdict(news).action, Action::drop(Outcome::Fenced));
    }
}

#[test]
fn what_servers_tell_each_other_by_icmp_is_left_alone_whoever_is_active() {
    for Hosts { master, backup, .. } in BOTH {
        for (from, to) in [(master, backup), (backup, master)] {
            let verdict = World::new().verdict(unreachable(from, to, &datagram((to, SIP), (from, SIP))));
            assert_eq!(verdict.action, Action::pass(Outcome::ServerUnreachable));
        }
    }
}

#[test]
fn a_narrow_way_is_no_refusal() {
    for Hosts { family, master, phone, router, .. } in BOTH {
        let [_, host, too_big, time_exceeded, parameter] = kinds(family);
        for (kind, note) in
            [(too_big, Note::NOTHING), (time_exceeded, Note::NOTHING), (parameter, Note::NOTHING), (host, refused(1))]
        {
            let news = error(router, phone, kind, &datagram((phone, PHONE_PORT), (master, RTP)));
            assert_eq!(World::new().verdict(news).note, note, "{kind:?}");
        }
    }
}

#[test]
fn an_error_about_what_the_service_never_sent_is_left_alone() {
    for Hosts { vip, master, phone, stranger, gateway, .. } in BOTH {
        for (name, frame) in [
            ("another port", unreachable(phone, vip, &datagram((vip, 53), (phone, 1)))),
            ("another sender", unreachable(phone, vip, &datagram((gateway, SIP), (phone, 1)))),
        ] {
            assert_eq!(World::new().verdict(frame).action, Action::pass(Outcome::NotUdp), "{name}");
        }
        for (name, frame) in [
            ("another port", unreachable(master, phone, &datagram((phone, 1), (master, 53)))),
            ("to somebody else", unreachable(master, stranger, &datagram((phone, 1), (master, SIP)))),
        ] {
            let verdict = World::new().verdict(frame);
            assert_eq!(verdict.action, Action::pass(Outcome::ServerUnreachable), "{name}");
            assert_eq!(verdict.note, refused(3), "{name}");
        }
    }
}
