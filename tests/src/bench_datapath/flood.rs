//! Packets per second: the lab's network flooded, with one system after the other as its gateway.
//!
//! The flood is made in the kernel by an XDP program that BPF_PROG_TEST_RUN lets send ("live frames", Linux 5.18), and ends in
//! one that counts and drops. Between two veths everything is done by the processor that sends, so the flood is as fast as
//! the whole chain on one processor: no queue fills, and there is nothing to tune. Only a system that hands packets to a
//! program of its own is offered more than it takes.

mod calls;
mod dropper;
mod forwarder;
mod network;
mod nginx;
pub(super) mod picture;
mod programs;
pub(super) mod show;

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};

pub use self::forwarder::NAMES as SYSTEMS;
use self::{
    calls::{Beside, Calls},
    network::Network,
    programs::{Arrivals, Flood},
};
use super::figures::{DropRate, Rate, Spread};

/// What others are compared with.
const BARE_REDIRECT: &str = "bare-redirect";
const NFT_DNAT: &str = "nft-dnat";
const BARE_DROP: &str = "bare-drop";

/// What one figure is measured in.
const WINDOW: Duration = Duration::from_millis(300);
/// Before each window: sessions and neighbours are made, caches are warm.
const WARM_UP: Duration = Duration::from_millis(50);
/// Long enough for each call to send some tens of packets.
const WINDOW_BESIDE_CALLS: Duration = Duration::from_secs(1);

/// What became of a flood.
struct Flooded {
    /// Packets per second that came to the gateway.
    offered: f64,
    /// Packets per second that came to the server.
    arrived: f64,
}

/// What stands as the gateway of a network for as long as this lives.
trait Running: Send {
    /// Fails if it has ended.
    fn must_run(&mut self) -> Result<()> {
        Ok(())
    }
}

/// One flooded network.
struct Subject<'network> {
    name: &'static str,
    network: &'network Network,
    running: Box<dyn Running + 'network>,
    flood: Flood,
    arrivals: Arrivals,
}

/// Packets per second through each of these systems.
pub(super) fn forwarded(names: &[String], rounds: usize) -> Result<Vec<Rate>> {
    let systems: Vec<_> = names.iter().map(|name| forwarder::by_name(name)).collect::<Result<_>>()?;
    systems.iter().try_for_each(|system| must_be_installed(system.needs))?;
    let networks: Vec<_> = (0..systems.len()).map(|number| Network::build(number == 0)).collect::<Result<_>>()?;
    let start = |(network, &system)| Subject::forwarding(network, system);
    let mut subjects: Vec<_> = networks.iter().zip(&systems).map(start).collect::<Result<_>>()?;
    let mut flooded: Vec<_> = systems.iter().map(|_| Vec::new()).collect();
    in_rounds("packets/s", rounds, &mut subjects, |number, subject| {
        subject.flood(WARM_UP)?;
        let window = subject.flood(WINDOW)?;
        ensure!(window.arrived > 0.0, "nothing comes to the server");
        flooded[number].push(window);
        Ok(())
    })?;
    let arrived: Vec<Vec<_>> = flooded.iter().map(|of| of.iter().map(|window| window.arrived).collect()).collect();
    let entry = |(number, name): (usize, &String)| {
        let to = |other: &str| {
            let place = names.iter().position(|name| name == other);
            place.map(|place| Spread::of_ratios(&arrived[number], &arrived[place])).transpose()
        };
        let pps_spread = Spread::of(&arrived[number])?;
        let offered = Spread::of(&flooded[number].iter().map(|window| window.offered).collect::<Vec<_>>())?;
        Ok(Rate {
            system: name.clone(),
            pps: pps_spread.p50,
            pps_spread,
            offered_pps: offered.p50,
            to_bare_redirect: to(BARE_REDIRECT)?,
            to_nft_dnat: to(NFT_DNAT)?,
            rounds,
            flows: programs::FLOWS,
        })
    };
    names.iter().enumerate().map(entry).collect()
}

/// Packets per second of a flood from one source that each of the systems keeps from the server, and what that cost calls.
pub(super) fn dropped(rounds: usize) -> Result<Vec<DropRate>> {
    let systems = &dropper::ALL;
    systems.iter().try_for_each(|system| must_be_installed(system.needs))?;
    let networks: Vec<_> = systems.iter().enumerate().map(|(number, _)| Network::build(number == 0)).collect::<Result<_>>()?;
    let start = |(network, system)| Ok((Subject::dropping(network, system)?, Calls::begin(network)?));
    let mut subjects: Vec<_> = networks.iter().zip(systems).map(start).collect::<Result<_>>()?;
    let mut measured: Vec<_> = systems.iter().map(|_| (Vec::new(), Beside::default())).collect();
    in_rounds("drops/s", rounds, &mut subjects, |number, (subject, calls)| {
        subject.flood(WARM_UP)?;
        let (flooded, beside) = calls.beside(|| subject.flood(WINDOW_BESIDE_CALLS))?;
        measured[number].0.push(flooded.offered - flooded.arrived);
        measured[number].1 += beside;
        Ok(())
    })?;
    let bare = systems.iter().position(|system| system.name == BARE_DROP).context("no bare program")?;
    let entry = |(system, (dropped, beside)): (&dropper::Dropper, &(Vec<f64>, Beside))| {
        let pps_spread = Spread::of(dropped)?;
        Ok(DropRate {
            system: system.name.to_owned(),
            pps: pps_spread.p50,
            pps_spread,
            to_bare_drop: Spread::of_ratios(dropped, &measured[bare].0)?,
            rounds,
            calls: calls::COUNT,
            rtp_sent: beside.rtp_sent,
            rtp_lost: beside.rtp_lost,
            sip_sent: beside.sip_sent,
            sip_lost: beside.sip_lost,
        })
    };
    systems.iter().zip(&measured).map(entry).collect()
}

/// Everything once in each round, the other way around in every second one.
fn in_rounds<S: Named>(
    what: &str,
    rounds: usize,
    subjects: &mut [S],
    mut measure: impl FnMut(usize, &mut S) -> Result<()>,
) -> Result<()> {
    for round in 0..rounds {
        eprintln!("{what}, round {}", round + 1);
        for place in 0..subjects.len() {
            let number = if round % 2 == 0 { place } else { subjects.len() - 1 - place };
            let subject = &mut subjects[number];
            measure(number, subject).with_context(|| subject.name())?;
        }
    }
    Ok(())
}

trait Named {
    fn name(&self) -> &'static str;
}

impl Named for Subject<'_> {
    fn name(&self) -> &'static str {
        self.name
    }
}

impl Named for (Subject<'_>, Calls) {
    fn name(&self) -> &'static str {
        self.0.name
    }
}

impl<'network> Subject<'network> {
    fn forwarding(network: &'network Network, system: &'static forwarder::Forwarder) -> Result<Self> {
        let running = (system.start)(network).with_context(|| system.name)?;
        let flood = Flood::of_rtp(network, system.receiver)?;
        Ok(Self { name: system.name, network, running, flood, arrivals: Arrivals::count(network)? })
    }

    fn dropping(network: &'network Network, system: &'static dropper::Dropper) -> Result<Self> {
        let running = (system.start)(network).with_context(|| system.name)?;
        let flood = Flood::of_sip_from_one(network)?;
        Ok(Self { name: system.name, network, running, flood, arrivals: Arrivals::count(network)? })
    }

    fn flood(&mut self, time: Duration) -> Result<Flooded> {
        let (offered, arrived) = self.counts()?;
        let took = self.flood.run(self.network, time)?.as_secs_f64();
        let (offered_then, arrived_then) = self.counts()?;
        self.running.must_run()?;
        let per_s = |before, then| (then - before) as f64 / took;
        Ok(Flooded { offered: per_s(offered, offered_then), arrived: per_s(arrived, arrived_then) })
    }

    fn counts(&self) -> Result<(u64, u64)> {
        // The server's end last after a flood: what comes there was offered before.
        Ok((self.network.offered()?, self.arrivals.packets()?))
    }
}

fn must_be_installed(needs: &[(&str, &str)]) -> Result<()> {
    for (program, package) in needs {
        let found = Path::new(program).is_file();
        ensure!(found, "{program} is missing (package {package}): `cargo xtask bench datapath` installs it");
    }
    Ok(())
}
