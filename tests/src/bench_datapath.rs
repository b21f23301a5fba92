//! `cargo xtask bench datapath`: what a packet costs in the XDP program, beside programs that do less,
//! and how many a second go through the lab, beside what people use today.
//!
//! For the cost the program is loaded by the real datapath, in a network namespace that this bench makes, and run by
//! BPF_PROG_TEST_RUN: nothing is sent, and no packet of the machine is touched. For packets per second the lab is flooded.

mod figures;
mod flood;
mod gateway;
mod harness;
mod network;
mod path;
mod picture;
mod rounds;
mod scan;
mod setting;
mod table;

use std::{collections::BTreeMap, ops::Range, path::PathBuf};

use anyhow::{Context as _, Result, ensure};

pub use self::{
    figures::{Cost, Data, DropRate, Growth, Rate, Spread},
    flood::SYSTEMS,
    harness::MOST_FLOWS,
    path::{PATHS, Path},
    scan::{KernelScanner, MESSAGES, Message},
};
use self::{
    gateway::{Gateway, PinRoot},
    harness::{Harness, PASS, REDIRECT},
    path::{Host, named},
    rounds::{Series, Subject},
    setting::Setting,
};
use crate::bench::machine;

/// The path that the targets are about, and that the baselines do the work of.
const RTP_IN: &str = "rtp-in-nat";
const RTP_OUT: &str = "rtp-out-nat";
const BARE_REDIRECT: &str = "bare_redirect";
const FEATURE_FREE: &str = "feature_free";
const FIB_LOOKUP: &str = "fib_lookup";

/// Services and servers of each: the least, some, and as many as there may be. The number of flows is then 1.
const SIZES: [(u8, u8); 3] = [(1, 2), (4, 4), (16, 4)];

/// Then everything is loaded anew: where in memory the kernel puts a program and its maps is chance, and the same code was
/// seen to cost a third more in an unlucky place.
const ROUNDS_OF_A_LOAD: usize = 2;

/// What can be measured apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// What a packet costs in the program
    Cost,
    /// Packets per second through the lab
    Rate,
    /// What a flood from one source is dropped at, and what calls lose beside it
    Drop,
}

/// What to measure.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Parts of the bench.
    pub parts: Vec<Part>,
    /// How often each figure is measured.
    pub rounds: usize,
    /// Numbers of flows.
    pub flows: Vec<u32>,
    /// Names of paths and messages, out of [`path_names`].
    pub paths: Vec<String>,
    /// Whether larger configurations are measured too.
    pub growth: bool,
    /// Names of the systems that packets are sent through, out of [`SYSTEMS`].
    pub systems: Vec<String>,
    /// Where the data goes.
    pub json: Option<PathBuf>,
    /// Where the page with the picture goes.
    pub html: Option<PathBuf>,
}

/// The names of all [`PATHS`], and of the [`MESSAGES`] that are scanned.
pub fn path_names() -> impl Iterator<Item = &'static str> {
    PATHS.iter().map(|path| path.name).chain(MESSAGES.iter().map(|message| message.name))
}

/// Measures, prints a table and writes the files.
pub fn run(settings: &Settings) -> Result<()> {
    let data = measure(settings)?;
    if let Some(path) = &settings.json {
        data.write(path)?;
    }
    if let Some(path) = &settings.html {
        let page = picture::page(&data);
        std::fs::write(path, page).with_context(|| format!("cannot write {}", path.display()))?;
    }
    table::print(&data)
}

/// Measures in network namespaces that are gone afterwards. Progress goes to standard error.
pub fn measure(settings: &Settings) -> Result<Data> {
    crate::require_root()?;
    ensure!(settings.rounds > 0, "nothing is to be measured");
    let jit = std::fs::read_to_string("/proc/sys/net/core/bpf_jit_enable").unwrap_or_default();
    ensure!(jit.trim() != "0", "the kernel interprets BPF: `sysctl -w net.core.bpf_jit_enable=1`");
    let mut data = Data::of(machine()?, settings.rounds);
    for part in &settings.parts {
        match part {
            Part::Cost => measure_costs(settings, &mut data)?,
            Part::Rate => data.packets_per_s = flood::forwarded(&settings.systems, settings.rounds)?,
            Part::Drop => data.drops_per_s = flood::dropped(settings.rounds)?,
        }
    }
    Ok(data)
}

fn measure_costs(settings: &Settings, data: &mut Data) -> Result<()> {
    ensure!(!settings.flows.is_empty(), "nothing is to be measured");
    let mut series = Series::new();
    let mut facts = Facts::default();
    for first in (0..settings.rounds).step_by(ROUNDS_OF_A_LOAD) {
        let rounds = first..settings.rounds.min(first + ROUNDS_OF_A_LOAD);
        facts = network::apart(|| in_namespace(settings, rounds, &mut series))?;
    }
    data.ns_per_packet = costs(settings, &series)?;
    data.growth = if settings.growth { growth(&series)? } else { Vec::new() };
    data.verified_insns = facts.verified_insns;
    data.map_bytes = facts.map_bytes;
    Ok(())
}

/// What is the same each time that the programs are loaded.
#[derive(Default)]
struct Facts {
    verified_insns: BTreeMap<String, u32>,
    map_bytes: BTreeMap<String, u64>,
}

/// Some of the rounds, with programs and maps that are loaded for them.
fn in_namespace(settings: &Settings, rounds: Range<usize>, series: &mut Series) -> Result<Facts> {
    let root = PinRoot::new()?;
    let sizes = if settings.growth { &SIZES[..] } else { &SIZES[..1] };
    let plain = sizes.iter().map(|size| (*size, Setting::Plain));
    let other = settings_of(settings)?.into_iter().map(|setting| (SIZES[0], setting));
    let load = |(number, (size, setting))| Gateway::load(&root, number, size, setting);
    let mut gateways: Vec<_> = (1..).zip(plain.chain(other)).map(load).collect::<Result<_>>()?;
    let first = &gateways[0];
    let (vip, master) = (first.address(Host::Vip, 0), first.address(Host::Master, 0));
    let mut harness = Harness::load(vip, master, &first.next_hop())?;
    does_the_same_work(&mut harness, &mut gateways[0])?;
    let work = work(settings, &harness, &mut gateways)?;
    rounds::measure(&mut harness, &gateways, &work, rounds, series)?;
    let mut verified_insns = gateways[0].verified_insns()?;
    for name in [BARE_REDIRECT, FEATURE_FREE, FIB_LOOKUP, scan::NAME] {
        verified_insns.insert(name.to_owned(), harness.verified_insns(name)?);
    }
    Ok(Facts { verified_insns, map_bytes: gateways[0].map_bytes()? })
}

/// What gateways have to be set to for the paths that are measured, but for the plain one.
fn settings_of(settings: &Settings) -> Result<Vec<Setting>> {
    let mut found = Vec::new();
    for path in settings.paths.iter().filter(|name| !is_message(name)) {
        let setting = named(path)?.setting;
        if setting != Setting::Plain && !found.contains(&setting) {
            found.push(setting);
        }
    }
    Ok(found)
}

fn is_message(name: &str) -> bool {
    MESSAGES.iter().any(|message| message.name == name)
}

/// The numbers of flows that a path or message is measured with.
fn flows_of(settings: &Settings, name: &str) -> Vec<u32> {
    let most = PATHS.iter().find(|path| path.name == name).map_or(MOST_FLOWS, |path| path.most_flows);
    settings.flows.iter().copied().filter(|flows| *flows <= most).collect()
}

/// The feature-free program is a measure only if it makes the same frame out of the same frame.
fn does_the_same_work(harness: &mut Harness, gateway: &mut Gateway) -> Result<()> {
    let stream = named(RTP_IN)?.stream(gateway, 0);
    let ours = harness.rehearse(&gateway.program()?, &stream)?;
    let theirs = harness.rehearse(&harness.program(FEATURE_FREE)?, &stream)?;
    ensure!(ours == theirs, "the feature-free program makes {theirs:x?}, the gateway {ours:x?}");
    ensure!(ours.frame != stream.frame, "the frame is as it was");
    Ok(())
}

/// Baselines with each number of flows, paths with each number of flows, and larger configurations with one flow.
fn work(settings: &Settings, harness: &Harness, gateways: &mut [Gateway]) -> Result<Vec<(Subject, Vec<u32>)>> {
    let inwards = named(RTP_IN)?.stream(&gateways[0], 0);
    let outwards = named(RTP_OUT)?.stream(&gateways[0], 0);
    let mut subjects = vec![
        Subject::baseline(harness, BARE_REDIRECT, REDIRECT, inwards.clone())?,
        Subject::baseline(harness, FEATURE_FREE, REDIRECT, inwards)?,
        Subject::baseline(harness, FIB_LOOKUP, PASS, outwards)?,
    ];
    for name in &settings.paths {
        subjects.push(match MESSAGES.iter().find(|message| message.name == name) {
            Some(message) => Subject::message(harness, message, &gateways[0])?,
            None => {
                let path = named(name)?;
                let is_set = |gateway: &Gateway| gateway.setting == path.setting;
                let number = gateways.iter().position(is_set).context("a gateway is missing")?;
                Subject::path(path, name.clone(), gateways, number)?
            }
        });
    }
    let with_flows = |subject: Subject| {
        let flows = flows_of(settings, &subject.name);
        (subject, flows)
    };
    let mut work: Vec<_> = subjects.into_iter().map(with_flows).collect();
    if settings.growth {
        for number in 0..SIZES.len() {
            let subject = Subject::path(named(RTP_IN)?, grown(number), gateways, number)?;
            work.push((subject, vec![1]));
        }
    }
    Ok(work)
}

/// The name of the configuration of this number among the subjects.
fn grown(number: usize) -> String {
    format!("{RTP_IN}, configuration {number}")
}

fn costs(settings: &Settings, series: &Series) -> Result<Vec<Cost>> {
    let of = |name: &str, flows| series.get(&(name.to_owned(), flows)).context("a figure is missing");
    let fewest = settings.flows.iter().copied().min().unwrap_or(1);
    let mut costs = Vec::new();
    for path in &settings.paths {
        for flows in flows_of(settings, path) {
            let values = of(path, flows)?;
            let median = |name| anyhow::Ok(Spread::of(of(name, flows)?)?.p50);
            let ns_spread = Spread::of(values)?;
            costs.push(Cost {
                path: path.clone(),
                flows,
                ns: ns_spread.p50,
                bare_redirect_ns: median(BARE_REDIRECT)?,
                feature_free_ns: median(FEATURE_FREE)?,
                fib_lookup_ns: median(FIB_LOOKUP)?,
                ns_spread,
                to_feature_free: Spread::of_ratios(values, of(FEATURE_FREE, flows)?)?,
                to_fewest_flows: Spread::of_ratios(values, of(path, fewest)?)?,
            });
        }
    }
    Ok(costs)
}

fn growth(series: &Series) -> Result<Vec<Growth>> {
    let of = |number| series.get(&(grown(number), 1)).context("a figure is missing");
    let entry = |(number, &(services, servers)): (usize, &(u8, u8))| {
        let ns_spread = Spread::of(of(number)?)?;
        Ok(Growth {
            path: RTP_IN.to_owned(),
            services: services.into(),
            servers: u32::from(services) * u32::from(servers),
            ns: ns_spread.p50,
            ns_spread,
            to_smallest: Spread::of_ratios(of(number)?, of(0)?)?,
        })
    };
    SIZES.iter().enumerate().map(entry).collect()
}
