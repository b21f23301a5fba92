//! What the program notes for receipts: packets that a server did not answer, the first packets after a flip, and the flows
//! that a flip moved.

use std::net::IpAddr;

use anyhow::{Result, ensure};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use voip_ha::{
    datapath::{Datapath as _, Ledger, Pins, SentSinceHeard, Stamps, Steering, Tables},
    decision::Choice,
    ids::Family,
    journal::monotonic,
};
use voip_ha_ebpf::abi::{Address, EPOCHS_KEPT, FlowEntry, FlowKey, MAX_FLOWS};

use super::{
    frame::datagram,
    net::{BACK, FRONT, GATEWAY, Ipv4, OTHER_VIP, PHONE, VIP},
    rig::{Act, PBX, Rig, SERVICES, TRUNK, apart, by_back, with_rig},
};

const SIP: u16 = 5060;
const RTP: u16 = 10_000;
const MASTER: Ipv4 = [10, 0, 0, 2];
const CLOUD: Ipv4 = [10, 8, 0, 2];

fn ledger(rig: &Rig) -> Result<Ledger> {
    Ledger::open(&Pins::new(rig.pin_dir()))
}

fn send(rig: &mut Rig, client_port: u16, port: u16) -> Result<Act> {
    Ok(rig.run(FRONT, &datagram((PHONE, client_port), (VIP, port)))?.act)
}

fn answer(rig: &mut Rig, server: Ipv4, port: u16) -> Result<Act> {
    Ok(rig.run(BACK, &datagram((server, port), (PHONE, 4000)))?.act)
}

fn pending(rig: &Rig, server: Ipv4) -> Result<(u64, u64)> {
    let SentSinceHeard { sip, rtp, .. } = ledger(rig)?.sent_since_heard(IpAddr::from(server))?;
    Ok((sip, rtp))
}

/// Runs something on each of two CPUs, or twice on the only one.
fn on_two_cpus(mut run: impl FnMut(usize) -> Result<()>) -> Result<()> {
    let all = sched_getaffinity(None)?;
    let mut cpus: Vec<_> = (0..CpuSet::MAX_CPU).filter(|cpu| all.is_set(*cpu)).take(2).collect();
    cpus.resize(2, cpus[0]);
    for (turn, cpu) in cpus.into_iter().enumerate() {
        let mut only = CpuSet::new();
        only.set(cpu);
        sched_setaffinity(None, &only)?;
        run(turn)?;
    }
    Ok(sched_setaffinity(None, &all)?)
}

#[test]
fn packets_to_a_server_are_pending_until_it_is_heard_on_whichever_cpu() -> Result<()> {
    with_rig(|rig| {
        on_two_cpus(|_| {
            (0..2).try_for_each(|_| send(rig, 4000, SIP).map(drop))?;
            (0..3).try_for_each(|_| send(rig, 4000, RTP).map(drop))
        })?;
        ensure!(pending(rig, MASTER)? == (4, 6), "{:?}", pending(rig, MASTER)?);
        ensure!(ledger(rig)?.sent_since_heard(MASTER.into())?.heard_at.is_none(), "it was never heard");
        let begin = monotonic();
        ensure!(answer(rig, MASTER, SIP)? == Act::Redirect, "it is fenced");
        ensure!(pending(rig, MASTER)? == (0, 0), "{:?} after it was heard", pending(rig, MASTER)?);
        // Only one CPU sends from here on: the other one still has its old count.
        send(rig, 4000, RTP)?;
        ensure!(pending(rig, MASTER)? == (0, 1), "{:?}", pending(rig, MASTER)?);
        let (master, sent) = (rig.server("master")?, ledger(rig)?.sent_since_heard(MASTER.into())?);
        ensure!(sent.heard_at.is_some_and(|at| (begin..monotonic()).contains(&at)), "{sent:?}");
        ensure!(rig.datapath.traffic(master).heard == sent.heard_at, "mapped and read are two times");
        Ok(())
    })
}

#[test]
fn what_is_not_sent_is_not_pending_and_who_is_fenced_or_elsewhere_is_not_heard() -> Result<()> {
    with_rig(|rig| {
        rig.steer(PBX, Some("astray"), None)?;
        ensure!(send(rig, 4000, RTP)? == Act::Drop, "to a device that is not ours");
        ensure!(pending(rig, [10, 0, 0, 5])? == (0, 0), "what was dropped is pending");
        rig.steer(PBX, Some("cloud"), None)?;
        send(rig, 4000, RTP)?;
        ensure!(answer(rig, MASTER, RTP)? == Act::Drop, "the master is not fenced");
        ensure!(ledger(rig)?.seen(IpAddr::from(MASTER))?.heard.is_none(), "a fenced server is no sign of life");
        // The answer to a probe is none that a client had.
        rig.run(BACK, &datagram((CLOUD, SIP), (GATEWAY, 33_000)))?;
        ensure!(pending(rig, CLOUD)? == (0, 1), "{:?}", pending(rig, CLOUD)?);
        // A stranger can write any sender.
        rig.run(FRONT, &datagram((CLOUD, RTP), (PHONE, 4000)))?;
        ensure!(ledger(rig)?.seen(IpAddr::from(CLOUD))?.heard.is_none(), "heard from where it is not");
        rig.run(BACK, &datagram((CLOUD, RTP), (PHONE, 4000)))?;
        ensure!(ledger(rig)?.seen(IpAddr::from(CLOUD))?.heard.is_some(), "not heard from where it is");
        Ok(())
    })
}

fn stamps(rig: &Rig, epoch: u16) -> Result<(Stamps, Stamps)> {
    let stamps = ledger(rig)?.flip_stamps(IpAddr::from(VIP), epoch)?;
    Ok((stamps.signalling, stamps.media))
}

#[test]
fn the_first_packets_after_a_flip_are_stamped_and_no_others() -> Result<()> {
    with_rig(|rig| {
        let begin = monotonic();
        let epoch = rig.steer(PBX, Some("cloud"), Some("master"))?;
        ensure!(stamps(rig, epoch)? == Default::default(), "stamped before any packet");
        answer(rig, MASTER, RTP)?;
        ensure!(stamps(rig, epoch)?.1.first_back.is_none(), "the draining server is not where the flip led");
        send(rig, 4000, RTP)?;
        answer(rig, CLOUD, RTP)?;
        let first = stamps(rig, epoch)?;
        let (Some(to), Some(back)) = (first.1.first_to, first.1.first_back) else { panic!("{first:?}") };
        ensure!(begin < to && to < back && back < monotonic(), "{begin:?} {first:?}");
        ensure!(first.0 == Stamps::default(), "there was no signalling");
        send(rig, 4001, RTP)?;
        answer(rig, CLOUD, RTP)?;
        ensure!(stamps(rig, epoch)? == first, "a later packet is stamped");
        send(rig, 4000, SIP)?;
        ensure!(stamps(rig, epoch)?.0.first_to.is_some_and(|at| at > back), "signalling has its own stamps");
        ensure!(ledger(rig)?.flip_stamps(IpAddr::from(VIP), epoch)?.either() == first.1, "media was first");
        Ok(())
    })
}

#[test]
fn each_epoch_has_its_own_stamps_until_the_fourth_one_after_it() -> Result<()> {
    with_rig(|rig| {
        let mut flip = |server: &str| -> Result<(u16, (Stamps, Stamps))> {
            let epoch = rig.steer(PBX, Some(server), None)?;
            ensure!(stamps(rig, epoch)? == Default::default(), "epoch {epoch} has stamps of another one");
            send(rig, 4000, RTP)?;
            Ok((epoch, stamps(rig, epoch)?))
        };
        let names = ["cloud", "master"].into_iter().cycle();
        let flips = names.take(2 * EPOCHS_KEPT as usize + 1).map(&mut flip).collect::<Result<Vec<_>>>()?;
        ensure!(flips.windows(2).all(|pair| pair[1].0 == pair[0].0 + 1), "{flips:?}");
        ensure!(flips.windows(2).all(|pair| pair[1].1.1.first_to > pair[0].1.1.first_to), "{flips:?}");
        let (forgotten, kept) = flips.split_at(flips.len() - EPOCHS_KEPT as usize);
        for (epoch, first) in kept {
            ensure!(stamps(rig, *epoch)? == *first, "epoch {epoch} is forgotten");
        }
        for (epoch, _) in forgotten {
            ensure!(stamps(rig, *epoch)? == Default::default(), "epoch {epoch} has stamps of a later one");
        }
        Ok(())
    })
}

#[test]
fn only_a_flip_begins_an_epoch() -> Result<()> {
    with_rig(|rig| {
        let epoch = rig.steer(PBX, Some("cloud"), Some("master"))?;
        let (cloud, hop) = (rig.server("cloud")?, [2, 9, 9, 9, 9, 9]);
        rig.datapath.set_next_hop(cloud, Family::V4, by_back(hop))?;
        rig.datapath.end_census(PBX);
        ensure!(rig.steer(PBX, Some("cloud"), None)? == epoch, "the fence is no flip");
        ensure!(rig.datapath.steer(PBX, Steering::to(cloud)) == epoch, "the same again is no flip");
        let chosen = Steering { choice: Choice::Chosen, ..Steering::to(cloud) };
        ensure!(rig.datapath.steer(PBX, chosen) == epoch, "an operator's choice is no flip");
        ensure!(rig.steer_apart(PBX, [Some("cloud"), Some("master")], None)? == epoch + 1, "media alone");
        Ok(())
    })
}

fn flows(rig: &Rig, vip: Ipv4) -> Result<u64> {
    ledger(rig)?.take_flows(IpAddr::from(vip))
}

#[test]
fn flows_are_counted_from_a_take_over_to_the_end_of_the_census_and_only_once() -> Result<()> {
    with_rig(|rig| {
        let calls = |rig: &mut Rig| (0..3).try_for_each(|turn| send(rig, 4000 + turn % 2, RTP).map(drop));
        calls(rig)?;
        ensure!(flows(rig, VIP)? == 0, "the first server that is active takes over from nobody");
        rig.steer(PBX, Some("cloud"), None)?;
        calls(rig)?;
        send(rig, 4000, RTP + 2)?;
        send(rig, 4000, SIP)?;
        answer(rig, CLOUD, RTP)?;
        rig.run(FRONT, &datagram((PHONE, 4000), (OTHER_VIP, 20_000)))?;
        ensure!(flows(rig, OTHER_VIP)? == 0, "the other service has not flipped");
        ensure!(flows(rig, VIP)? == 3, "two ports of the phone, and one of them to two ports");
        ensure!(flows(rig, VIP)? == 0, "they are taken");
        rig.datapath.end_census(PBX);
        calls(rig)?;
        ensure!(flows(rig, VIP)? == 0, "the census is over");
        Ok(())
    })
}

#[test]
fn a_full_table_of_flows_stops_no_packet() -> Result<()> {
    with_rig(|rig| {
        rig.steer(PBX, Some("cloud"), None)?;
        let mut flows = Tables::open(&Pins::new(rig.pin_dir()))?.flows;
        for number in 0..MAX_FLOWS {
            let client = Address::v4(number.to_be_bytes());
            flows.insert(FlowKey { service: 0, client, client_port: 1, service_port: RTP }, FlowEntry::default(), 0)?;
        }
        for port in 4000..4100 {
            ensure!(send(rig, port, RTP)? == Act::Redirect, "a flow that finds no room is dropped");
        }
        ensure!(self::flows(rig, VIP)? == u64::from(MAX_FLOWS), "the flows have changed");
        Ok(())
    })
}

#[test]
fn a_restart_keeps_stamps_and_counts_and_ends_a_census() -> Result<()> {
    apart(|| {
        let mut rig = Rig::ready()?;
        let epoch = rig.steer(PBX, Some("cloud"), None)?;
        send(&mut rig, 4000, RTP)?;
        let before = (stamps(&rig, epoch)?, pending(&rig, CLOUD)?);
        ensure!(before.0.1.first_to.is_some() && before.1 == (0, 1), "{before:?}");
        let mut rig = rig.restarted(SERVICES)?;
        ensure!((stamps(&rig, epoch)?, pending(&rig, CLOUD)?) == before, "they have changed");
        ensure!(rig.steer(PBX, Some("cloud"), None)? == epoch, "a restart is no flip");
        ensure!(flows(&rig, VIP)? == 0, "a flow that nobody will take");
        send(&mut rig, 4000, RTP)?;
        ensure!(flows(&rig, VIP)? == 0, "a census that nobody will end");
        Ok(())
    })
}

#[test]
fn a_newcomer_and_a_new_service_find_no_notes_of_those_before_them() -> Result<()> {
    apart(|| {
        let mut rig = Rig::ready()?;
        let epoch = rig.steer(PBX, Some("master"), None)?;
        send(&mut rig, 4000, RTP)?;
        answer(&mut rig, MASTER, RTP)?;
        send(&mut rig, 4000, RTP)?;
        ensure!(pending(&rig, MASTER)? == (0, 1), "{:?}", pending(&rig, MASTER)?);
        // Another VIP and another address: the places in the maps are the same.
        let mut rig = rig.restarted(
            &SERVICES
                .replace("192.0.2.10", "192.0.2.30")
                .replace("::c000:20a", "::c000:21e")
                .replace("10.0.0.2'", "10.0.0.9'")
                .replace("::a00:2'", "::a00:9'"),
        )?;
        let (newcomer, vip) = (IpAddr::from([10, 0, 0, 9]), IpAddr::from([192, 0, 2, 30]));
        let ledger = ledger(&rig)?;
        ensure!(rig.number("master")?.0 == 0, "another place");
        ensure!(ledger.sent_since_heard(newcomer)? == SentSinceHeard::default(), "old counts");
        ensure!(ledger.seen(newcomer)? == Default::default(), "old signs of life");
        let first = rig.steer(PBX, Some("master"), None)?;
        ensure!(first > epoch && ledger.flip_stamps(vip, first)? == Default::default(), "old stamps");
        ensure!(rig.datapath.steering(TRUNK) == Steering::to(rig.server("one")?), "the other service has changed");
        Ok(())
    })
}
