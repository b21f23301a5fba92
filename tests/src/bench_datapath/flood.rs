//! Packets per second: the lab's network flooded, with one system after the other as its gateway.
//!
//! The flood is made in the kernel by an XDP program that BPF_PROG_TEST_RUN lets send ("live frames", Linux 5.18), and ends in
//! one that counts and drops. What comes by a veth is received by the processor that sent it, so the flood is as fast as
//! the whole chain on one processor: no queue fills, and there is nothing to tune. That processor has nothing else to do;
//! programs have the others. Only a system that hands packets to a program of its own is offered more than it takes.

mod calls;
mod dropper;
mod forwarder;
mod network;
mod nginx;
pub(super) mod picture;
mod processor;
mod programs;
pub(super) mod show;

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};

pub use self::forwarder::NAMES as SYSTEMS;
use self::{
    calls::{Beside, Calls},
    network::Network,
    processor::Apart,
    programs::{Arrivals, Flood},
};
use super::figures::{DropRate, Rate, Spread};

/// What others are compared with.
const BARE_REDIRECT: &str = "bare-redirect";
const NFT_DNAT: &str = "nft-dnat";
const BARE_DROP: &str = "bare-drop";

/// What one figure is measured in.
const WINDOW: Duration = Duration::from_millis(300);
/// Frames before each window: sessions and neighbours are made, caches are warm, and it is known how many fill the window.
const WARM_UP: u32 = 1 << 16;
/// Long enough for each call to send some tens of packets.
const WINDOW_BESIDE_CALLS: Duration = Duration::from_secs(1);

/// What became of a flood.
#[derive(Clone, Copy, Debug)]
struct Flooded {
    /// Packets that came to the gateway. The few of calls are among them.
    offered: u64,
    /// Packets that came to the server.
    arrived: u64,
    /// How long the processor of the flood was busy, in s.
    seconds: f64,
}

impl Flooded {
    fn arrived_per_s(&self) -> f64 {
        self.arrived as f64 / self.seconds
    }

    fn dropped_per_s(&self) -> f64 {
        (self.offered - self.arrived) as f64 / self.seconds
    }

    fn arrived_share(&self) -> f64 {
        self.arrived as f64 / self.offered as f64
    }
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
    let apart = Apart::keep()?;
    let networks = Network::build_for_each(&systems, apart.of_flood)?;
    let start = |(network, &system)| Subject::forwarding(network, system);
    let mut subjects: Vec<_> = networks.iter().zip(&systems).map(start).collect::<Result<_>>()?;
    let mut windows: Vec<_> = systems.iter().map(|_| Vec::new()).collect();
    in_rounds("packets/s", rounds, &mut subjects, |number, subject| {
        let flooded = subject.flood(WINDOW).context(subject.name)?;
        ensure!(flooded.arrived > 0, "{}: nothing comes to the server", subject.name);
        windows[number].push(flooded);
        Ok(())
    })?;
    rates(names, &windows)
}

fn rates(names: &[String], windows: &[Vec<Flooded>]) -> Result<Vec<Rate>> {
    let of_each = |value: fn(&Flooded) -> f64| windows.iter().map(|of| of.iter().map(value).collect()).collect();
    let (arrived, shares): (Vec<Vec<_>>, Vec<Vec<_>>) =
        (of_each(Flooded::arrived_per_s), of_each(Flooded::arrived_share));
    let entry = |(number, name): (usize, &String)| {
        let to = |other: &str| {
            let place = names.iter().position(|name| name == other);
            place.map(|place| Spread::of_ratios(&arrived[number], &arrived[place])).transpose()
        };
        let pps_spread = Spread::of(&arrived[number])?;
        Ok(Rate {
            system: name.clone(),
            pps: pps_spread.p50,
            pps_spread,
            arrived_share: Spread::of(&shares[number])?.p50,
            to_bare_redirect: to(BARE_REDIRECT)?,
            to_nft_dnat: to(NFT_DNAT)?,
            rounds: arrived[number].len(),
            flows: programs::FLOWS,
        })
    };
    names.iter().enumerate().map(entry).collect()
}

/// Packets per second of a flood from one source that each of the systems keeps from the server, and what that cost calls.
pub(super) fn dropped(rounds: usize) -> Result<Vec<DropRate>> {
    let systems: Vec<_> = dropper::ALL.iter().collect();
    systems.iter().try_for_each(|system| must_be_installed(system.needs))?;
    let apart = Apart::keep()?;
    let networks = Network::build_for_each(&systems, apart.of_flood)?;
    let start = |(network, &system)| Ok((Subject::dropping(network, system)?, Calls::begin(network)?));
    let mut subjects: Vec<_> = networks.iter().zip(&systems).map(start).collect::<Result<_>>()?;
    let mut measured: Vec<_> = systems.iter().map(|_| (Vec::new(), Beside::default())).collect();
    in_rounds("drops/s", rounds, &mut subjects, |number, (subject, calls)| {
        let (flooded, beside) = calls.beside(|| subject.flood(WINDOW_BESIDE_CALLS)).context(subject.name)?;
        ensure!(flooded.offered > flooded.arrived, "{}: nothing is dropped", subject.name);
        measured[number].0.push(flooded.dropped_per_s());
        measured[number].1 += beside;
        Ok(())
    })?;
    let bare = systems.iter().position(|system| system.name == BARE_DROP).context("no bare program")?;
    let entry = |(system, (dropped, beside)): (&&dropper::Dropper, &(Vec<f64>, Beside))| {
        drop_rate(system.name, dropped, &measured[bare].0, beside)
    };
    systems.iter().zip(&measured).map(entry).collect()
}

fn drop_rate(system: &str, dropped: &[f64], bare: &[f64], beside: &Beside) -> Result<DropRate> {
    let pps_spread = Spread::of(dropped)?;
    let &Beside { rtp_sent, rtp_lost, sip_sent, sip_lost } = beside;
    Ok(DropRate {
        system: system.to_owned(),
        pps: pps_spread.p50,
        pps_spread,
        to_bare_drop: Spread::of_ratios(dropped, bare)?,
        rounds: dropped.len(),
        calls: calls::COUNT,
        rtp_sent,
        rtp_lost,
        sip_sent,
        sip_lost,
    })
}

/// Everything once in each round, the other way around in every second one.
fn in_rounds<S>(
    what: &str,
    rounds: usize,
    subjects: &mut [S],
    mut measure: impl FnMut(usize, &mut S) -> Result<()>,
) -> Result<()> {
    for round in 0..rounds {
        eprintln!("{what}, round {}", round + 1);
        for place in 0..subjects.len() {
            let number = if round % 2 == 0 { place } else { subjects.len() - 1 - place };
            measure(number, &mut subjects[number])?;
        }
    }
    Ok(())
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
        let frames = (time.as_nanos() as f64 / self.flood.send(self.network, WARM_UP)?).floor();
        let (offered, arrived) = self.counts()?;
        let sending_ns = self.flood.send(self.network, frames as u32)?;
        let (offered_then, arrived_then) = self.counts()?;
        self.running.must_run()?;
        Ok(Flooded {
            offered: offered_then - offered,
            arrived: arrived_then - arrived,
            seconds: frames * sending_ns / 1e9,
        })
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
