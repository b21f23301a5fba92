//! What the program does with one frame at a time: each outcome, and how it follows the decision word.

use std::{collections::BTreeSet, fs};

use anyhow::{Context as _, Result, ensure};
use etherparse::{IpNumber, Ipv4Header};
use voip_ha::{datapath::Datapath as _, ids::Family};
use voip_ha_ebpf::abi::Outcome;

use super::{
    frame::{Datagram, datagram, datagram_with, ip_header, patched, unreachable},
    net::{BACK, FAR_PHONE, FRONT, GATEWAY, Ipv4, MTU, NEW_PHONE, NOWHERE, PHONE, REFUSED, SIDE_PHONE, VIP},
    rig::{Act, PBX, Rig, by_back, with_rig},
};

const SIP: u16 = 5060;
const RTP: u16 = 10_000;
const PHONE_PORT: u16 = 40_000;
const MASTER: Ipv4 = [10, 0, 0, 2];
const CLOUD: Ipv4 = [10, 8, 0, 2];

/// What is expected of one frame: the action, whose counter, which class and outcome.
type Expected = (Act, Option<&'static str>, &'static str, Outcome);

fn expect(rig: &mut Rig, from: u32, frame: &[u8], (act, server, class, outcome): Expected) -> Result<Vec<u8>> {
    let (ran, place) = rig.observe(from, frame)?;
    let server = server.map(|server| rig.number(server)).transpose()?;
    let found = (ran.act, place);
    ensure!(found == (act, (server, class, outcome.name())), "{found:?}, not {act:?} {class} {outcome:?}");
    Ok(ran.frame)
}

fn request(port: u16) -> Vec<u8> {
    datagram((PHONE, PHONE_PORT), (VIP, port))
}

fn reply(server: Ipv4, port: u16, client: Ipv4) -> Vec<u8> {
    datagram((server, port), (client, PHONE_PORT))
}

/// Sender and receiver of a datagram whose checksums are right.
fn ends(frame: &[u8]) -> Result<(Ipv4, Ipv4)> {
    let datagram = Datagram::read(frame).context("no whole datagram")?;
    ensure!(datagram.checksums_hold(), "a wrong checksum");
    Ok((datagram.ip.source(), datagram.ip.destination()))
}

#[test]
fn every_outcome_is_counted_once_for_its_server_and_class() -> Result<()> {
    use Outcome as O;
    let ttl_1 = |from, to| Ipv4Header { time_to_live: 1, ..ip_header(from, to) };
    let fragment =
        |from, to| datagram_with(Ipv4Header { more_fragments: true, ..ip_header(from, to) }, (SIP, SIP), b"");
    let later_fragment = |frame| patched(frame, 20, &[0, 185]);
    let large = datagram_with(ip_header(MASTER, PHONE), (SIP, 1), &[b'.'; 1600]);
    let in_parts = |frame| patched(frame, 20, &[0, 0]);
    let sized =
        |length: u32| datagram_with(ip_header(PHONE, VIP), (PHONE_PORT, SIP), &vec![b'.'; length as usize - 28]);
    let sent = |server| datagram((PHONE, 1), (server, RTP));
    let (probe, answer) = (datagram((GATEWAY, 1), (MASTER, SIP)), datagram((VIP, RTP), (PHONE, 1)));
    let mut options = ip_header(PHONE, VIP);
    (options.options, options.dont_fragment) = ([1; 4].into(), true);
    let with_options = datagram_with(options, (PHONE_PORT, SIP), &[b'.'; 1500]);
    let cases: Vec<(u32, Vec<u8>, Expected)> = vec![
        (FRONT, request(SIP), (Act::Redirect, Some("master"), "sip", O::ToServer)),
        (FRONT, request(RTP), (Act::Redirect, Some("master"), "rtp", O::ToServer)),
        (BACK, reply(MASTER, SIP, PHONE), (Act::Redirect, Some("master"), "sip", O::ToClient)),
        (BACK, reply(MASTER, RTP, FAR_PHONE), (Act::Redirect, Some("master"), "rtp", O::ToClient)),
        (BACK, reply(MASTER, SIP, NEW_PHONE), (Act::Pass, Some("master"), "sip", O::ToClientByStack)),
        (BACK, reply(MASTER, SIP, SIDE_PHONE), (Act::Pass, Some("master"), "sip", O::ToClientByStack)),
        (BACK, in_parts(large.clone()), (Act::Pass, Some("master"), "sip", O::ToClientByStack)),
        (FRONT, patched(request(SIP), 0, &[0xff; 6]), (Act::Pass, None, "other", O::NotUnicast)),
        (FRONT, patched(request(SIP), 12, &[0x86, 0xdd]), (Act::Pass, None, "other", O::NotIp)),
        (FRONT, datagram((PHONE, SIP), (NEW_PHONE, SIP)), (Act::Pass, None, "other", O::NotService)),
        (FRONT, patched(request(SIP), 23, &[IpNumber::TCP.0]), (Act::Pass, None, "other", O::NotUdp)),
        (FRONT, fragment(PHONE, VIP), (Act::Redirect, Some("master"), "sip", O::ToServer)),
        (BACK, fragment(MASTER, PHONE), (Act::Redirect, Some("master"), "sip", O::ToClient)),
        (BACK, later_fragment(reply(CLOUD, SIP, PHONE)), (Act::Drop, Some("cloud"), "other", O::Fenced)),
        (BACK, fragment(CLOUD, GATEWAY), (Act::Pass, Some("cloud"), "sip", O::NotForwarded)),
        (BACK, fragment(CLOUD, MASTER), (Act::Pass, Some("cloud"), "other", O::BetweenServers)),
        (FRONT, request(22), (Act::Pass, None, "other", O::NotServicePort)),
        (BACK, reply(CLOUD, 53, NOWHERE), (Act::Pass, Some("cloud"), "other", O::NotServicePort)),
        (BACK, reply(CLOUD, SIP, GATEWAY), (Act::Pass, Some("cloud"), "sip", O::NotForwarded)),
        (BACK, reply(MASTER, RTP, NOWHERE), (Act::Pass, Some("master"), "rtp", O::NotForwarded)),
        (FRONT, patched(request(SIP), 16, &[0xff]), (Act::Drop, None, "other", O::Malformed)),
        (BACK, patched(reply(MASTER, SIP, PHONE), 38, &[0xff]), (Act::Drop, Some("master"), "other", O::Malformed)),
        (FRONT, datagram_with(ttl_1(PHONE, VIP), (1, SIP), b""), (Act::Drop, Some("master"), "sip", O::TtlExpired)),
        (BACK, datagram_with(ttl_1(MASTER, PHONE), (RTP, 1), b""), (Act::Drop, Some("master"), "rtp", O::TtlExpired)),
        (BACK, reply(CLOUD, RTP, PHONE), (Act::Drop, Some("cloud"), "rtp", O::Fenced)),
        (BACK, reply(MASTER, SIP, REFUSED[0]), (Act::Drop, Some("master"), "sip", O::Unroutable)),
        (BACK, reply(MASTER, SIP, REFUSED[1]), (Act::Drop, Some("master"), "sip", O::Unroutable)),
        (BACK, reply(MASTER, SIP, REFUSED[2]), (Act::Drop, Some("master"), "sip", O::Unroutable)),
        (FRONT, sized(MTU), (Act::Redirect, Some("master"), "sip", O::ToServer)),
        (FRONT, in_parts(sized(MTU + 1)), (Act::Pass, Some("master"), "sip", O::ToServerByStack)),
        (FRONT, sized(MTU + 1), (Act::Transmit, Some("master"), "sip", O::ToldTooBig)),
        (BACK, large, (Act::Transmit, Some("master"), "sip", O::ToldTooBig)),
        (FRONT, with_options, (Act::Drop, Some("master"), "sip", O::TooLarge)),
        (BACK, reply(MASTER, SIP, CLOUD), (Act::Pass, Some("master"), "other", O::BetweenServers)),
        (BACK, reply(CLOUD, SIP, MASTER), (Act::Pass, Some("cloud"), "other", O::BetweenServers)),
        (BACK, unreachable(CLOUD, PHONE, 3, &sent(CLOUD)), (Act::Drop, Some("cloud"), "other", O::Fenced)),
        (BACK, unreachable(MASTER, PHONE, 3, &sent(MASTER)), (Act::Redirect, Some("master"), "other", O::ToClient)),
        (FRONT, unreachable(PHONE, VIP, 3, &answer), (Act::Redirect, Some("master"), "other", O::ToServer)),
        (BACK, unreachable(MASTER, GATEWAY, 3, &probe), (Act::Pass, Some("master"), "other", O::ServerUnreachable)),
    ];
    with_rig(move |rig| {
        let mut reached: BTreeSet<_> = cases.iter().map(|case| case.2.3).collect();
        for (from, frame, expected) in cases {
            expect(rig, from, &frame, expected)?;
        }
        for (active, server, outcome) in [
            (None, None, O::NoActiveServer),
            (Some("lost"), Some("lost"), O::NoNextHop),
            (Some("astray"), Some("astray"), O::NoDevice),
        ] {
            rig.steer(PBX, active, None)?;
            let dropped = expect(rig, FRONT, &request(RTP), (Act::Drop, server, "rtp", outcome))?;
            ensure!(dropped == request(RTP), "{outcome:?}: changed before it is dropped");
            reached.insert(outcome);
        }
        rig.steer_apart(PBX, [Some("master"), Some("cloud")], None)?;
        expect(rig, FRONT, &patched(request(SIP), 18, &[0, 9, 0, 185]), (Act::Drop, None, "other", O::Fragment))?;
        reached.insert(O::Fragment);
        // Of services with protection, and of servers that masquerade: see there.
        reached.extend([O::RateLimited, O::Denied, O::NoPort]);
        ensure!(reached == BTreeSet::from_iter(Outcome::ALL.iter().copied()), "only {reached:?}");
        Ok(())
    })
}

#[test]
fn a_flip_changes_the_very_next_packet_of_both_directions() -> Result<()> {
    with_rig(|rig| {
        let flips = [("master", MASTER, "cloud", CLOUD), ("cloud", CLOUD, "master", MASTER)];
        for (active, its_address, fenced, other_address) in flips.into_iter().cycle().take(20) {
            rig.steer(PBX, Some(active), None)?;
            let sent = expect(rig, FRONT, &request(RTP), (Act::Redirect, Some(active), "rtp", Outcome::ToServer))?;
            ensure!(ends(&sent)? == (PHONE, its_address), "to {active}");
            let expected = (Act::Redirect, Some(active), "rtp", Outcome::ToClient);
            let sent = expect(rig, BACK, &reply(its_address, RTP, PHONE), expected)?;
            ensure!(ends(&sent)? == (VIP, PHONE), "from {active}");
            let late = reply(other_address, RTP, PHONE);
            expect(rig, BACK, &late, (Act::Drop, Some(fenced), "rtp", Outcome::Fenced))?;
        }
        Ok(())
    })
}

#[test]
fn a_draining_server_still_sends_and_is_fenced_when_draining_ends() -> Result<()> {
    with_rig(|rig| {
        let late = reply(MASTER, RTP, PHONE);
        rig.steer(PBX, Some("cloud"), Some("master"))?;
        let sent = expect(rig, BACK, &late, (Act::Redirect, Some("master"), "rtp", Outcome::ToClient))?;
        ensure!(ends(&sent)? == (VIP, PHONE), "the phone knows the VIP only");
        expect(rig, FRONT, &request(RTP), (Act::Redirect, Some("cloud"), "rtp", Outcome::ToServer))?;
        rig.steer(PBX, Some("cloud"), None)?;
        expect(rig, BACK, &late, (Act::Drop, Some("master"), "rtp", Outcome::Fenced))?;
        Ok(())
    })
}

#[test]
fn signalling_and_media_go_to_different_servers_and_the_fence_lets_three_through() -> Result<()> {
    with_rig(|rig| {
        let astray: Ipv4 = [10, 0, 0, 5];
        let everybody = [("master", MASTER), ("cloud", CLOUD), ("astray", astray), ("lost", [10, 0, 0, 4])];
        rig.steer_apart(PBX, [Some("master"), Some("cloud")], Some("astray"))?;
        for (port, class, name, address) in [(SIP, "sip", "master", MASTER), (RTP, "rtp", "cloud", CLOUD)] {
            let sent = expect(rig, FRONT, &request(port), (Act::Redirect, Some(name), class, Outcome::ToServer))?;
            ensure!(ends(&sent)? == (PHONE, address), "{class} to {:?}", ends(&sent)?);
            for (name, from) in everybody {
                let (act, outcome) = match name {
                    "lost" => (Act::Drop, Outcome::Fenced),
                    _ => (Act::Redirect, Outcome::ToClient),
                };
                expect(rig, BACK, &reply(from, port, PHONE), (act, Some(name), class, outcome))?;
            }
        }
        rig.steer_apart(PBX, [None, Some("cloud")], None)?;
        expect(rig, FRONT, &request(SIP), (Act::Drop, None, "sip", Outcome::NoActiveServer))?;
        expect(rig, FRONT, &request(RTP), (Act::Redirect, Some("cloud"), "rtp", Outcome::ToServer))?;
        expect(rig, BACK, &reply(MASTER, SIP, PHONE), (Act::Drop, Some("master"), "sip", Outcome::Fenced))?;
        Ok(())
    })
}

#[test]
fn a_flip_of_one_service_does_not_touch_another() -> Result<()> {
    with_rig(|rig| {
        let from_trunk = reply([10, 0, 0, 3], SIP, PHONE);
        for active in [Some("cloud"), None] {
            rig.steer(PBX, active, None)?;
            expect(rig, BACK, &from_trunk, (Act::Redirect, Some("one"), "sip", Outcome::ToClient))?;
        }
        Ok(())
    })
}

#[test]
fn a_server_that_calls_its_own_vip_sees_the_vip_as_its_peer() -> Result<()> {
    with_rig(|rig| {
        let call = datagram((MASTER, RTP), (VIP, RTP + 2));
        let sent = expect(rig, BACK, &call, (Act::Redirect, Some("master"), "rtp", Outcome::ToServer))?;
        ensure!(ends(&sent)? == (VIP, MASTER), "{:?}", ends(&sent)?);
        Ok(())
    })
}

#[test]
fn a_new_next_hop_is_used_by_the_very_next_packet_and_leaves_the_others_alone() -> Result<()> {
    with_rig(|rig| {
        rig.steer(PBX, Some("master"), Some("cloud"))?;
        for last in 1..=5 {
            let hop = by_back([2, 9, 9, 9, 9, last]);
            let (master, before) = (rig.server("master")?, rig.datapath.steering(PBX));
            rig.datapath.set_next_hop(master, Family::V4, hop)?;
            ensure!(rig.datapath.steering(PBX) == before, "a next hop is no decision");
            let sent = expect(rig, FRONT, &request(SIP), (Act::Redirect, Some("master"), "sip", Outcome::ToServer))?;
            ensure!(sent[..6] == hop.destination, "to {:02x?}", &sent[..6]);
            let late = reply(CLOUD, SIP, PHONE);
            expect(rig, BACK, &late, (Act::Redirect, Some("cloud"), "sip", Outcome::ToClient))?;
        }
        Ok(())
    })
}

#[test]
fn a_server_that_had_no_next_hop_gets_packets_as_soon_as_it_has_one() -> Result<()> {
    with_rig(|rig| {
        rig.steer(PBX, Some("lost"), None)?;
        expect(rig, FRONT, &request(SIP), (Act::Drop, Some("lost"), "sip", Outcome::NoNextHop))?;
        let hop = by_back([2, 0, 10, 0, 0, 4]);
        let lost = rig.server("lost")?;
        rig.datapath.set_next_hop(lost, Family::V4, hop)?;
        let sent = expect(rig, FRONT, &request(SIP), (Act::Redirect, Some("lost"), "sip", Outcome::ToServer))?;
        ensure!(ends(&sent)? == (PHONE, [10, 0, 0, 4]) && sent[..6] == hop.destination, "{:?}", ends(&sent)?);
        Ok(())
    })
}

#[test]
fn without_forwarding_replies_are_dropped_with_a_reason() -> Result<()> {
    with_rig(|rig| {
        fs::write("/proc/sys/net/ipv4/conf/back/forwarding", "0")?;
        let expected = (Act::Drop, Some("master"), "rtp", Outcome::Unroutable);
        expect(rig, BACK, &reply(MASTER, RTP, PHONE), expected)?;
        Ok(())
    })
}
