//! ICMP errors about packets that were rewritten: they reach who sent them, and speak of what that one knows.

use super::*;

/// Sender and receiver of an ICMP error and of the datagram that it quotes, all of whose checksums are right. Those of the quoted
/// datagram are looked at as its sender would: a part of it is not there.
fn sound_error(frame: &[u8], whole_quoted: &[u8]) -> [Address; 4] {
    let packet = SlicedPacket::from_ethernet(frame).unwrap();
    let ip = packet.net.as_ref().unwrap().ipv4_ref().unwrap().header().to_header();
    assert_eq!(ip.header_checksum, ip.calc_header_checksum(), "checksum of the IP header");
    let Some(TransportSlice::Icmpv4(icmp)) = packet.transport else { panic!("no ICMP in {frame:02x?}") };
    assert_eq!(sum(icmp.slice()), 0xffff, "checksum of the message");
    let quoted = Ipv4Header::from_slice(icmp.payload()).unwrap().0;
    assert_eq!(quoted.header_checksum, quoted.calc_header_checksum(), "checksum of the quoted header");
    // The quoted datagram as a whole: what is quoted, and behind that what is not.
    let mut whole = whole_quoted.to_vec();
    whole[ETHERNET_LEN..ETHERNET_LEN + icmp.payload().len()].copy_from_slice(icmp.payload());
    sound(&whole);
    [ip.source, ip.destination, quoted.source, quoted.destination]
}

fn error(from: Address, to: Address, (kind, code): (u8, u8), about: &[u8]) -> Vec<u8> {
    let frame = patched(unreachable(from, to, code, about), UDP_OFFSET, &[kind, code, 0, 0]);
    let checksum = !sum(&frame[UDP_OFFSET..]);
    patched(frame, UDP_OFFSET + 2, &checksum.to_be_bytes())
}

const KINDS: [(u8, u8); 5] = [(3, 3), (3, 1), (3, 4), (11, 0), (12, 0)];

#[test]
fn an_error_about_a_packet_of_a_server_reaches_that_server_as_if_about_its_own() {
    for kind in KINDS {
        for (reporter, port) in [(PHONE, RTP), (STRANGER, SIP)] {
            let sent = datagram((VIP, port), (PHONE, PHONE_PORT));
            let before = error(reporter, VIP, kind, &sent);
            sound_error(&before, &sent);
            let world = World::new();
            let verdict = world.verdict(before.clone());
            let found = (verdict.server, verdict.class, outcome(verdict.action), verdict.note);
            assert_eq!(found, (Some(NUMBER_OF_MASTER), Class::Other, Outcome::ToServer, Note::Nothing), "{kind:?}");
            let after = carried_out(&world, before);
            assert_eq!(sound_error(&after, &sent), [reporter, MASTER, MASTER, PHONE]);
        }
    }
}

#[test]
fn an_error_about_a_packet_of_a_phone_reaches_the_phone_as_if_about_the_vip() {
    for kind in KINDS {
        for (reporter, seen_as) in [(MASTER, VIP), (ROUTER, ROUTER)] {
            let sent = datagram((PHONE, PHONE_PORT), (MASTER, RTP));
            let before = error(reporter, PHONE, kind, &sent);
            let world = World::new();
            assert_eq!(outcome(world.verdict(before.clone()).action), Outcome::ToClient, "{kind:?} of {reporter:?}");
            let after = carried_out(&world, before);
            assert_eq!(sound_error(&after, &sent), [seen_as, PHONE, PHONE, VIP]);
        }
    }
}

#[test]
fn a_server_that_is_fenced_tells_clients_nothing_by_icmp_and_the_gateway_still_hears_it() {
    let news = error(BACKUP, PHONE, (3, 3), &datagram((PHONE, PHONE_PORT), (BACKUP, RTP)));
    let verdict = World::new().verdict(news);
    assert_eq!((verdict.action, verdict.note), (Action::Drop(Outcome::Fenced), Note::Refused { code: 3 }));
}

#[test]
fn no_server_speaks_for_another_one() {
    let news = error(BACKUP, PHONE, (3, 3), &datagram((PHONE, PHONE_PORT), (MASTER, SIP)));
    assert_eq!(World::new().verdict(news).action, Action::Drop(Outcome::Fenced));
}

#[test]
fn what_servers_tell_each_other_by_icmp_is_left_alone_whoever_is_active() {
    for (from, to) in [(MASTER, BACKUP), (BACKUP, MASTER)] {
        let verdict = World::new().verdict(error(from, to, (3, 3), &datagram((to, SIP), (from, SIP))));
        assert_eq!(verdict.action, Action::Pass(Outcome::ServerUnreachable));
    }
}

#[test]
fn a_narrow_way_is_no_refusal() {
    for (kind, note) in [((3, 4), Note::Nothing), ((11, 0), Note::Nothing), ((3, 1), Note::Refused { code: 1 })] {
        let news = error(ROUTER, PHONE, kind, &datagram((PHONE, PHONE_PORT), (MASTER, RTP)));
        assert_eq!(World::new().verdict(news).note, note, "{kind:?}");
    }
}

#[test]
fn an_error_about_what_the_service_never_sent_is_left_alone() {
    let about = |from, to| datagram(from, to);
    for (name, frame) in [
        ("another port", error(PHONE, VIP, (3, 3), &about((VIP, 53), (PHONE, 1)))),
        ("another sender", error(PHONE, VIP, (3, 3), &about((GATEWAY, SIP), (PHONE, 1)))),
    ] {
        assert_eq!(World::new().verdict(frame).action, Action::Pass(Outcome::NotUdp), "{name}");
    }
    for (name, frame) in [
        ("another port", error(MASTER, PHONE, (3, 3), &about((PHONE, 1), (MASTER, 53)))),
        ("to somebody else", error(MASTER, STRANGER, (3, 3), &about((PHONE, 1), (MASTER, SIP)))),
    ] {
        let verdict = World::new().verdict(frame);
        assert_eq!(verdict.action, Action::Pass(Outcome::ServerUnreachable), "{name}");
        assert_eq!(verdict.note, Note::Refused { code: 3 }, "{name}");
    }
}
