//! An ICMP destination unreachable about a server wakes the controller at once, and not more often than it is good for.

use std::{os::fd::AsFd as _, thread, time::Duration};

use anyhow::{Context as _, Result, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use voip_ha::datapath::{Datapath as _, Signal};
use voip_ha_ebpf::abi::{Outcome, REFUSED_GRAIN_NS};

use super::{
    frame::{datagram, patched, unreachable},
    net::{BACK, GATEWAY, Ipv4},
    rig::{Act, Rig, SERVICES, apart, with_rig},
};

const MASTER: Ipv4 = [10, 0, 0, 2];
const CLOUD: Ipv4 = [10, 8, 0, 2];
const GRAIN: Duration = Duration::from_nanos(REFUSED_GRAIN_NS);

fn refusal(server: Ipv4) -> Vec<u8> {
    unreachable(server, GATEWAY, 3, &datagram((GATEWAY, 4000), (server, 5060)))
}

/// Whether epoll would wake for the signals now.
fn is_readable(rig: &Rig) -> Result<bool> {
    let fd = rig.datapath.signal_fd().context("no file descriptor for signals")?;
    Ok(poll(&mut [PollFd::new(&fd.as_fd(), PollFlags::IN)], Some(&Timespec::default()))? == 1)
}

fn refuse(rig: &mut Rig, frame: &[u8]) -> Result<()> {
    let (ran, (_, _, outcome)) = rig.observe(BACK, frame)?;
    ensure!(ran.act == Act::Pass && ran.frame == frame, "an ICMP message is not ours to touch");
    ensure!(outcome == Outcome::ServerUnreachable.name(), "{outcome}");
    Ok(())
}

#[test]
fn a_refusal_is_signalled_with_its_time_server_and_code_and_wakes_who_waits() -> Result<()> {
    with_rig(|rig| {
        ensure!(!is_readable(rig)? && rig.datapath.signals().is_empty(), "a signal out of nothing");
        let from_host = unreachable(GATEWAY, GATEWAY, 1, &datagram((GATEWAY, 33_000), (CLOUD, 5060)));
        for (name, frame, code) in [("master", refusal(MASTER), 3), ("cloud", from_host, 1)] {
            let server = rig.server(name)?;
            ensure!(rig.datapath.traffic(server).refused.is_none(), "{name} was never refused");
            refuse(rig, &frame)?;
            ensure!(is_readable(rig)?, "nobody is woken for {name}");
            let signals = rig.datapath.signals();
            let at = rig.datapath.traffic(server).refused.context("no time")?;
            ensure!(signals == [Signal { at, server, code }], "{signals:?}");
            ensure!(!is_readable(rig)? && rig.datapath.signals().is_empty(), "it is taken");
        }
        Ok(())
    })
}

#[test]
fn a_storm_of_refusals_is_one_signal_for_each_server_in_five_milliseconds() -> Result<()> {
    with_rig(|rig| {
        let storm = [refusal(MASTER), refusal(CLOUD)];
        let begin = voip_ha::journal::monotonic();
        for _ in 0..2_000 {
            for frame in &storm {
                rig.run(BACK, frame)?;
            }
        }
        let grains = ((voip_ha::journal::monotonic() - begin).as_nanos() / GRAIN.as_nanos()) as usize;
        let signals = rig.datapath.signals();
        for name in ["master", "cloud"] {
            let server = rig.server(name)?;
            let times: Vec<_> =
                signals.iter().filter(|signal| signal.server == server).map(|signal| signal.at).collect();
            ensure!((1..=grains + 1).contains(&times.len()), "{} in {grains} × {GRAIN:?}", times.len());
            ensure!(times.windows(2).all(|pair| pair[1] - pair[0] >= GRAIN), "{name}: {times:?}");
            ensure!(
                rig.datapath.traffic(server).refused == times.last().copied(),
                "{name}: not the time of the last one"
            );
        }
        // The storm does not silence what comes after it.
        thread::sleep(GRAIN);
        refuse(rig, &refusal(MASTER))?;
        ensure!(rig.datapath.signals().len() == 1, "the next one is not signalled");
        Ok(())
    })
}

#[test]
fn a_message_about_nobody_or_of_another_kind_is_no_signal() -> Result<()> {
    with_rig(|rig| {
        refuse(rig, &refusal(MASTER))?;
        for (frame, outcome) in
            [(refusal([10, 9, 9, 9]), Outcome::NotService), (patched(refusal(MASTER), 14 + 20, &[8]), Outcome::NotUdp)]
        {
            let (ran, (_, _, found)) = rig.observe(BACK, &frame)?;
            ensure!(ran.act == Act::Pass && found == outcome.name(), "{found}");
        }
        ensure!(rig.datapath.signals().len() == 1, "only the master is a server");
        Ok(())
    })
}

#[test]
fn a_restarted_controller_hears_what_comes_and_not_what_was() -> Result<()> {
    apart(|| {
        let mut rig = Rig::ready()?;
        refuse(&mut rig, &refusal(MASTER))?;
        let mut rig = rig.restarted(SERVICES)?;
        let master = rig.server("master")?;
        ensure!(rig.datapath.traffic(master).refused.is_some(), "when the master was refused is forgotten");
        ensure!(!is_readable(&rig)? && rig.datapath.signals().is_empty(), "an old signal");
        refuse(&mut rig, &refusal(CLOUD))?;
        ensure!(is_readable(&rig)?, "nobody is woken");
        let signals = rig.datapath.signals();
        ensure!(signals.len() == 1 && signals[0].server == rig.server("cloud")?, "{signals:?}");
        Ok(())
    })
}
