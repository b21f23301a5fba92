//! When the kernel's memory of calls is asked, renewed and forgotten.

use std::net::IpAddr;

use anyhow::{Context as _, Result, ensure};
use aya::maps::{Map, MapData, ProgramArray};
use voip_ha::{
    datapath::{Datapath as _, Ledger, Pins, Replica, Tables},
    journal::monotonic,
};
use voip_ha_ebpf::abi::{ANY_CALL, ANY_MESSAGE, FlowEntry, SEEN_GRAIN_NS};

use super::{
    RTP, SIP, VOICE, answer_rtp, send_rtp, send_sip,
    wire::{CLOUD, MASTER, PLAIN, WIRES, expect_calls, flows, request, response},
};
use crate::{
    net::{FRONT, Ipv4, OTHER_VIP, PHONE, VIP},
    rig::{PBX, Rig, SERVICES, TRUNK, apart, with_rig},
};

const TRUNK_RTP: u16 = 20_000;

/// Ends what is remembered of the service with this VIP as the controller does.
pub(super) fn forget(rig: &mut Rig, vip: Ipv4) -> Result<()> {
    rig.steer(if vip == VIP { PBX } else { TRUNK }, Some(if vip == VIP { "cloud" } else { "one" }), None)?;
    take_flows(rig, vip).map(drop)
}

fn take_flows(rig: &Rig, vip: Ipv4) -> Result<u64> {
    Ledger::open(&Pins::new(rig.pin_dir()))?.take_flows(IpAddr::from(vip))
}

/// Takes the programs away that ask the memory. What would go on in one of them is lost, and fails the test.
fn forbid_asking(rig: &Rig) -> Result<()> {
    let pin = Pins::new(rig.pin_dir()).map("PROGRAMS");
    let mut programs = ProgramArray::try_from(Map::from_map_data(MapData::from_pin(pin)?)?)?;
    for index in [ANY_CALL, ANY_MESSAGE] {
        programs.clear_index(&index)?;
    }
    Ok(())
}

#[test]
fn nothing_is_asked_or_noted_where_nothing_is_to_be_remembered() -> Result<()> {
    with_rig(|rig| {
        rig.steer(PBX, Some("cloud"), None)?;
        rig.datapath.end_census(PBX);
        forbid_asking(rig)?;
        for draining in [None, Some("master")] {
            rig.steer(PBX, Some("cloud"), draining)?;
            for wire in WIRES {
                ensure!(send_rtp(rig, wire, 4000)? == CLOUD, "{wire:?}: RTP, {draining:?} draining");
                for message in [request("INVITE", false, "new"), request("BYE", true, "old")] {
                    ensure!(send_sip(rig, wire, &message)? == CLOUD, "{wire:?}: SIP, {draining:?} draining");
                }
                for server in [Some(CLOUD), draining.map(|_| MASTER)].into_iter().flatten() {
                    answer_rtp(rig, wire, server, 4000)?;
                    wire.answer(rig, (server, SIP), 40_000, &response("old"))?;
                }
            }
        }
        ensure!(flows(rig)?.is_empty(), "{:?}", flows(rig)?);
        expect_calls(rig, &[])?;
        // The other way round, so that it is known what would have happened.
        rig.steer_remembering(PBX, "cloud", None)?;
        ensure!(send_rtp(rig, PLAIN, 4000).is_err(), "the memory was not asked, although it should be");
        ensure!(send_sip(rig, PLAIN, &request("BYE", true, "old")).is_err(), "it was not asked for a message");
        Ok(())
    })
}

#[test]
fn a_census_without_affinity_counts_flows_and_sends_nothing_to_the_draining_server() -> Result<()> {
    with_rig(|rig| {
        rig.steer(PBX, Some("cloud"), Some("master"))?;
        for (port, wire) in (4000..).zip(WIRES) {
            ensure!(send_rtp(rig, wire, port)? == CLOUD, "{wire:?}: a new packet on the draining server");
            ensure!(send_rtp(rig, wire, port)? == CLOUD, "{wire:?}: a new packet on the draining server");
            ensure!(send_sip(rig, wire, &request("BYE", true, "old"))? == CLOUD, "{wire:?}: SIP");
            answer_rtp(rig, wire, MASTER, port)?;
        }
        let counted: Vec<_> = (4000..).zip(WIRES).map(|(port, _)| (0, port, RTP, "former")).collect();
        ensure!(flows(rig)? == counted, "{:?}", flows(rig)?);
        expect_calls(rig, &[])
    })
}

#[test]
fn when_a_flow_was_seen_is_written_again_only_half_a_second_later_by_either_end() -> Result<()> {
    with_rig(|rig| {
        rig.steer_remembering(PBX, "cloud", Some("master"))?;
        let begin = monotonic().as_nanos() as u64;
        send_rtp(rig, PLAIN, 4000)?;
        let mut map = Tables::open(&Pins::new(rig.pin_dir()))?.flows;
        let (key, first) = map.iter().next().context("no flow")??;
        let now = monotonic().as_nanos() as u64;
        ensure!((begin..=now).contains(&first.seen_at), "{first:?} is not between {begin} and {now}");
        for is_back in [false, true] {
            let end = |rig: &mut Rig| match is_back {
                true => answer_rtp(rig, PLAIN, MASTER, 4000),
                false => send_rtp(rig, PLAIN, 4000).map(drop),
            };
            let server = rig.number("master")?.0 + 1;
            let now = monotonic().as_nanos() as u64;
            let recent = FlowEntry { seen_at: now, server, reserved: 0 };
            map.insert(key, recent, 0)?;
            end(rig)?;
            let found = map.get(&key, 0)?;
            ensure!(found == recent || found.seen_at >= now + SEEN_GRAIN_NS, "{recent:?} became {found:?}");
            let old = FlowEntry { seen_at: now - SEEN_GRAIN_NS, ..recent };
            map.insert(key, old, 0)?;
            end(rig)?;
            let found = map.get(&key, 0)?;
            ensure!(found.seen_at >= now && found.server == server, "{old:?} became {found:?}");
        }
        Ok(())
    })
}

/// Lets both services remember a flow and a call, the first one with a server that drains.
fn remember(rig: &mut Rig) -> Result<()> {
    rig.steer_remembering(PBX, "cloud", Some("master"))?;
    rig.steer_remembering(TRUNK, "two", None)?;
    for (vip, port) in [(VIP, RTP), (OTHER_VIP, TRUNK_RTP)] {
        PLAIN.send(rig, 4000, (vip, port), VOICE)?;
        PLAIN.send(rig, 40_000, (vip, SIP), &request("INVITE", false, "new"))?;
    }
    ensure!(flows(rig)? == BOTH_FLOWS, "{:?}", flows(rig)?);
    expect_calls(rig, &BOTH_CALLS)
}

const BOTH_FLOWS: [(u32, u16, u16, &str); 2] = [(0, 4000, RTP, "former"), (1, 4000, TRUNK_RTP, "former")];
/// The same Call-ID, which is another call of another service.
const BOTH_CALLS: [(u32, &str, &str); 2] = [(0, "new", "cloud"), (1, "new", "two")];

#[test]
fn what_is_remembered_of_one_service_is_forgotten_when_it_remembers_no_more_and_not_before() -> Result<()> {
    with_rig(|rig| {
        remember(rig)?;
        ensure!(take_flows(rig, VIP)? == 1 && take_flows(rig, OTHER_VIP)? == 1, "each has one");
        ensure!(flows(rig)? == BOTH_FLOWS, "forgotten in the middle of a drain: {:?}", flows(rig)?);
        expect_calls(rig, &BOTH_CALLS)?;
        rig.steer(PBX, Some("cloud"), None)?;
        ensure!(take_flows(rig, VIP)? == 1, "the last count");
        ensure!(flows(rig)? == BOTH_FLOWS[1..], "{:?}", flows(rig)?);
        expect_calls(rig, &BOTH_CALLS[1..])
    })
}

#[test]
fn a_restart_keeps_what_a_drain_remembers_and_forgets_what_other_services_do() -> Result<()> {
    apart(|| {
        let mut rig = Rig::ready()?;
        remember(&mut rig)?;
        let mut rig = rig.restarted(SERVICES)?;
        ensure!(flows(&rig)? == BOTH_FLOWS[..1], "{:?}", flows(&rig)?);
        expect_calls(&rig, &BOTH_CALLS[..1])?;
        ensure!(send_rtp(&mut rig, PLAIN, 4000)? == MASTER, "a running call is cut");
        ensure!(send_rtp(&mut rig, PLAIN, 4001)? == CLOUD, "the census went on");
        ensure!(send_sip(&mut rig, PLAIN, &request("BYE", true, "new"))? == CLOUD, "a new call is forgotten");
        ensure!(send_sip(&mut rig, PLAIN, &request("BYE", true, "old"))? == MASTER, "a running call is cut");
        Ok(())
    })
}

#[test]
fn a_replica_knows_whose_a_call_is_and_tells_the_live_program_of_none() -> Result<()> {
    with_rig(|rig| {
        remember(rig)?;
        rig.datapath.end_census(PBX);
        let mut replica = Replica::of(&Pins::new(rig.pin_dir()))?;
        for (port, client_port, payload, server) in [
            (RTP, 4000, VOICE.to_vec(), "master"),
            (RTP, 4001, VOICE.to_vec(), "cloud"),
            (SIP, 40_000, request("BYE", true, "new"), "cloud"),
            (SIP, 40_000, request("BYE", true, "old"), "master"),
        ] {
            for wire in WIRES.into_iter().take(2) {
                let seen = replica.observe(FRONT, &wire.frame((PHONE, client_port), (VIP, port), &payload))?;
                ensure!(seen.server == Some(rig.number(server)?), "{port}: {:?}, not {server}", seen.server);
            }
        }
        ensure!(flows(rig)? == BOTH_FLOWS, "{:?}", flows(rig)?);
        expect_calls(rig, &BOTH_CALLS)
    })
}
