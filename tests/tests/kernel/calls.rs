//! Whose a call is while the kernel remembers calls: to which server its packets go, and what the maps hold then.

mod memory;
mod wire;

use anyhow::{Context as _, Result, ensure};
use etherparse::{IpFragOffset, Ipv4Header};
use voip_ha::datapath::{Datapath as _, Memory};
use voip_ha_ebpf::abi::Outcome;

use super::{
    frame::{datagram_with, ip_header},
    net::{FRONT, Ipv4, PHONE, VIP},
    rig::{Act, PBX, Rig, with_rig},
};

use self::wire::{CLOUD, MASTER, PLAIN, WIRES, Wire, expect_calls, flows, request, response, sip};

const SIP: u16 = 5060;
const RTP: u16 = 10_000;
const VOICE: &[u8] = &[0xd5; 172];

/// Sends SIP from the phone. Says which server it went to.
fn send_sip(rig: &mut Rig, wire: Wire, message: &[u8]) -> Result<Ipv4> {
    wire.send(rig, 40_000, (VIP, SIP), message)
}

/// Sends RTP from this port of the phone.
fn send_rtp(rig: &mut Rig, wire: Wire, client_port: u16) -> Result<Ipv4> {
    wire.send(rig, client_port, (VIP, RTP), VOICE)
}

/// A server sends RTP to this port of the phone.
fn answer_rtp(rig: &mut Rig, wire: Wire, server: Ipv4, client_port: u16) -> Result<()> {
    wire.answer(rig, (server, RTP), client_port, VOICE)
}

#[test]
fn messages_of_running_calls_stay_with_the_draining_server_and_new_calls_begin_on_the_active_one() -> Result<()> {
    with_rig(|rig| {
        rig.steer_remembering(PBX, "cloud", Some("master"))?;
        let mut wanted = Vec::new();
        for (number, wire) in WIRES.into_iter().enumerate() {
            let id = |name: &str| format!("{name}-{number}@example.org");
            let call = |name: &str, field: &str| format!("{field}{}", id(name));
            let bye = |line: &str| sip("BYE sip:b@example.org SIP/2.0", true, line);
            let invite = |line: &str| sip("INVITE sip:b@example.org SIP/2.0", false, line);
            let sent = [
                (request("INVITE", false, &id("new")), CLOUD),
                (request("CANCEL", false, &id("new")), CLOUD),
                (request("ACK", true, &id("new")), CLOUD),
                (request("INVITE", true, &id("new")), CLOUD),
                (bye(&call("new", "i:")), CLOUD),
                (bye(&call("new", "CALL-id \t:\r\n\t")), CLOUD),
                (request("INVITE", true, &id("reinvite")), MASTER),
                (request("ACK", true, &id("ack")), MASTER),
                (request("BYE", true, &id("bye")), MASTER),
                (request("CANCEL", false, &id("cancel")), MASTER),
                (response(&id("response")), MASTER),
                (invite(&call("compact", "i: ")), CLOUD),
                (request("BYE", true, &id("compact")), CLOUD),
                (bye(""), MASTER),
                (invite(""), CLOUD),
                (b"\r\n\r\n".to_vec(), CLOUD),
                (vec![], CLOUD),
                (VOICE.to_vec(), CLOUD),
            ];
            for (turn, (message, server)) in sent.iter().enumerate() {
                let found = send_sip(rig, wire, message)?;
                ensure!(found == *server, "{wire:?}, message {turn} went to {found:?}");
            }
            wanted.extend(["new", "compact"].map(|name| (id(name), "cloud")));
            wanted.extend(["reinvite", "ack", "bye", "cancel", "response"].map(|name| (id(name), "master")));
        }
        let wanted: Vec<_> = wanted.iter().map(|(call, server)| (0, call.as_str(), *server)).collect();
        expect_calls(rig, &wanted)?;
        ensure!(flows(rig)?.is_empty(), "SIP is no flow");
        Ok(())
    })
}

#[test]
fn a_message_of_a_server_makes_a_call_its_own_if_it_drains_or_begins_the_call() -> Result<()> {
    with_rig(|rig| {
        for (number, wire) in WIRES.into_iter().enumerate() {
            rig.steer_remembering(PBX, "cloud", Some("master"))?;
            let id = |name: &str| format!("{name}-{number}");
            for (server, message) in [
                (MASTER, response(&id("answered"))),
                (MASTER, request("INVITE", false, &id("callback"))),
                (CLOUD, request("INVITE", false, &id("new"))),
                // What it says about a call that nobody knows makes it nobody's.
                (CLOUD, response(&id("unknown"))),
                (CLOUD, response(&id("answered"))),
                (MASTER, response(&id("new"))),
            ] {
                wire.answer(rig, (server, SIP), 40_000, &message)?;
            }
            // A stranger on the front can write any sender.
            wire.answer_by(rig, FRONT, (MASTER, SIP), 40_000, &response(&id("forged")))?;
            for (message, server) in [
                (request("INVITE", false, &id("answered")), MASTER),
                (request("BYE", true, &id("answered")), MASTER),
                (response(&id("callback")), MASTER),
                (response(&id("new")), CLOUD),
                (request("INVITE", false, &id("forged")), CLOUD),
            ] {
                let found = send_sip(rig, wire, &message)?;
                ensure!(found == server, "{wire:?} to {found:?}: {}", String::from_utf8_lossy(&message));
            }
            let [answered, callback, new, forged] = ["answered", "callback", "new", "forged"].map(id);
            let owners = [(&answered, "master"), (&callback, "master"), (&new, "cloud"), (&forged, "cloud")];
            expect_calls(rig, &owners.map(|(call, server)| (0, call.as_str(), server)))?;
            memory::forget(rig, VIP)?;
        }
        Ok(())
    })
}

#[test]
fn rtp_after_a_flip_that_nobody_foresaw_stays_with_the_draining_server_until_the_active_one_sends_on_it() -> Result<()>
{
    with_rig(|rig| {
        for wire in WIRES {
            rig.steer(PBX, Some("master"), None)?;
            rig.steer_remembering(PBX, "cloud", Some("master"))?;
            ensure!(send_rtp(rig, wire, 4000)? == MASTER, "{wire:?}: a running call is cut");
            rig.datapath.end_census(PBX);
            ensure!(send_rtp(rig, wire, 4000)? == MASTER, "{wire:?}: a running call is cut after the census");
            ensure!(send_rtp(rig, wire, 4001)? == CLOUD, "{wire:?}: a new call on the draining server");
            answer_rtp(rig, wire, CLOUD, 4001)?;
            ensure!(flows(rig)? == [(0, 4000, RTP, "former")], "{wire:?}: {:?}", flows(rig)?);
            // A call on hold: its server is the first to send.
            answer_rtp(rig, wire, MASTER, 4002)?;
            ensure!(send_rtp(rig, wire, 4002)? == MASTER, "{wire:?}: a call that was on hold is cut");
            answer_rtp(rig, wire, MASTER, 4000)?;
            let owners = [(0, 4000, RTP, "master"), (0, 4002, RTP, "master")];
            ensure!(flows(rig)? == owners, "{wire:?}: {:?}", flows(rig)?);
            answer_rtp(rig, wire, CLOUD, 4000)?;
            ensure!(send_rtp(rig, wire, 4000)? == CLOUD, "{wire:?}: the active server does not take its flow over");
            ensure!(send_rtp(rig, wire, 4002)? == MASTER, "{wire:?}: it takes another one over too");
            let owners = [(0, 4000, RTP, "cloud"), (0, 4002, RTP, "master")];
            ensure!(flows(rig)? == owners, "{wire:?}: {:?}", flows(rig)?);
            memory::forget(rig, VIP)?;
        }
        Ok(())
    })
}

#[test]
fn after_a_census_running_calls_stay_and_every_packet_of_new_ones_goes_to_the_active_server() -> Result<()> {
    with_rig(|rig| {
        for wire in WIRES {
            rig.steer(PBX, Some("master"), None)?;
            send_sip(rig, wire, &request("INVITE", false, "answered"))?;
            rig.steer_as(PBX, [Some("master"), Some("master"), None], Memory::Census)?;
            ensure!(send_rtp(rig, wire, 4000)? == MASTER, "{wire:?}: no flip has happened");
            answer_rtp(rig, wire, MASTER, 4001)?;
            ensure!(send_sip(rig, wire, &request("INVITE", false, "begun"))? == MASTER, "{wire:?}: so early");
            wire.answer(rig, (MASTER, SIP), 40_000, &response("answered"))?;
            let owners = [(0, 4000, RTP, "master"), (0, 4001, RTP, "master")];
            ensure!(flows(rig)? == owners, "{wire:?}: {:?}", flows(rig)?);

            rig.steer_as(PBX, [Some("cloud"), Some("cloud"), Some("master")], Memory::AfterCensus)?;
            for (port, server) in [(4000, MASTER), (4001, MASTER), (4002, CLOUD), (4002, CLOUD)] {
                ensure!(send_rtp(rig, wire, port)? == server, "{wire:?}: the flow of port {port}");
            }
            ensure!(flows(rig)? == owners, "{wire:?}: {:?}", flows(rig)?);
            // Repeated, because what was said to it is lost.
            for (call, server) in [("answered", MASTER), ("begun", MASTER), ("new", CLOUD)] {
                let found = send_sip(rig, wire, &request("INVITE", false, call))?;
                ensure!(found == server, "{wire:?}: {call} to {found:?}");
            }
            memory::forget(rig, VIP)?;
        }
        Ok(())
    })
}

#[test]
fn what_a_stranger_sends_in_the_name_of_a_server_changes_the_owner_of_no_flow() -> Result<()> {
    with_rig(|rig| {
        rig.steer_remembering(PBX, "cloud", Some("master"))?;
        ensure!(send_rtp(rig, PLAIN, 4000)? == MASTER, "a running call is cut");
        for (server, port) in [(CLOUD, 4000), (MASTER, 4001)] {
            PLAIN.answer_by(rig, FRONT, (server, RTP), port, VOICE)?;
        }
        ensure!(flows(rig)? == [(0, 4000, RTP, "former")], "{:?}", flows(rig)?);
        Ok(())
    })
}

#[test]
fn a_server_that_comes_back_gets_its_calls_and_not_those_that_the_other_one_has_by_then() -> Result<()> {
    with_rig(|rig| {
        for wire in WIRES {
            rig.steer(PBX, Some("master"), None)?;
            rig.steer_remembering(PBX, "cloud", None)?;
            for port in [4000, 4001] {
                ensure!(send_rtp(rig, wire, port)? == CLOUD, "{wire:?}: to a server that is down");
            }
            answer_rtp(rig, wire, CLOUD, 4001)?;
            for message in [request("INVITE", false, "new"), request("ACK", true, "old")] {
                ensure!(send_sip(rig, wire, &message)? == CLOUD, "{wire:?}: to a server that is down");
            }
            rig.datapath.end_census(PBX);
            ensure!(send_rtp(rig, wire, 4002)? == CLOUD, "{wire:?}: to a server that is down");
            expect_calls(rig, &[(0, "new", "cloud")])?;
            let owners = [(0, 4000, RTP, "former"), (0, 4001, RTP, "cloud")];
            ensure!(flows(rig)? == owners, "{wire:?}: {:?}", flows(rig)?);

            rig.steer_remembering(PBX, "cloud", Some("master"))?;
            for (port, server) in [(4000, MASTER), (4001, CLOUD), (4002, CLOUD)] {
                ensure!(send_rtp(rig, wire, port)? == server, "{wire:?}: the flow of port {port}");
            }
            for (message, server) in [
                (request("BYE", true, "new"), CLOUD),
                (request("BYE", true, "old"), MASTER),
                (request("INVITE", false, "newer"), CLOUD),
            ] {
                ensure!(send_sip(rig, wire, &message)? == server, "{wire:?}: {}", String::from_utf8_lossy(&message));
            }
            memory::forget(rig, VIP)?;
        }
        Ok(())
    })
}

#[test]
fn a_packet_of_a_remembered_call_is_counted_once_and_for_the_server_that_gets_it() -> Result<()> {
    with_rig(|rig| {
        rig.steer_remembering(PBX, "cloud", Some("master"))?;
        let datagram = |port, payload: &[u8]| datagram_with(ip_header(PHONE, VIP), (40_000, port), payload);
        for (port, message, class, server) in [
            (SIP, request("BYE", true, "old"), "sip", "master"),
            (SIP, request("INVITE", false, "new"), "sip", "cloud"),
            (RTP, VOICE.to_vec(), "rtp", "master"),
        ] {
            let (ran, place) = rig.observe(FRONT, &datagram(port, &message))?;
            let wanted = (Some(rig.number(server)?), class, Outcome::ToServer.name());
            ensure!((ran.act, place) == (Act::Redirect, wanted), "{:?} {place:?}, not {wanted:?}", ran.act);
        }
        Ok(())
    })
}

#[test]
fn a_message_in_fragments_goes_whole_to_the_server_of_its_call() -> Result<()> {
    with_rig(|rig| {
        rig.steer_remembering(PBX, "cloud", Some("master"))?;
        let text = |to_tag, call: &str| [request("INVITE", to_tag, call), vec![b' '; 1472]].concat()[..1472].to_vec();
        let first = |id, message: &[u8]| {
            let header = Ipv4Header { identification: id, more_fragments: true, ..ip_header(PHONE, VIP) };
            datagram_with(header, (40_000, SIP), message)
        };
        let later = |identification| {
            let fragment_offset = IpFragOffset::try_new(185).expect("1480 bytes in units of 8");
            datagram_with(Ipv4Header { identification, fragment_offset, ..ip_header(PHONE, VIP) }, (0, 0), b"the rest")
        };
        let receiver = |frame: &[u8]| -> Result<Ipv4> { Ok(frame.get(30..34).context("no IPv4 header")?.try_into()?) };
        for (id, message, server) in [(7, text(true, "old"), MASTER), (8, text(false, "new"), CLOUD)] {
            for frame in [first(id, &message), later(id)] {
                let ran = rig.run(FRONT, &frame)?;
                ensure!(ran.act == Act::Redirect, "{id}: {:?}", ran.act);
                ensure!(receiver(&ran.frame)? == server, "{id}: to {:?}", receiver(&ran.frame)?);
            }
        }
        let (ran, place) = rig.observe(FRONT, &later(9))?;
        ensure!((ran.act, place.2) == (Act::Drop, Outcome::Fragment.name()), "without its first one: {place:?}");
        Ok(())
    })
}
