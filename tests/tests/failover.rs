//! What a failover costs the calls that run: the promises of the README, measured in the lab.

use std::time::Duration;

use anyhow::Result;
use lab::{
    Lab, Options,
    gateway::{Config, Probe},
    phone::Phones,
    server,
    topology::SIP,
    trial::{Kind, Measured, Trial},
};

const CALLS: usize = 50;
/// From one packet of a stream to the next.
const INTERVAL_MS: f64 = 20.0;

fn trial(lab: &Lab) -> Result<Trial<'_>> {
    let mut config = Config::of(lab);
    // The default, written out because the bounds below are made of it.
    config.probe = Probe { preset: Some("lan".to_owned()), ..Probe::default() };
    let mut trial = Trial::start(lab, config, |lab, name| server::start(lab, name, &[]))?;
    let mut phones = Phones::new(lab, SIP, CALLS)?;
    assert_eq!(phones.call(CALLS)?.succeeded, CALLS);
    trial.stream(phones.streams()?)?;
    Ok(trial)
}

/// The same fault again and again, alternating between the servers.
fn repeat(trial: &mut Trial<'_>, kind: Kind, runs: usize) -> Result<Vec<Measured>> {
    let mut all = Vec::new();
    for run in 0..runs {
        let measured = trial.make(kind)?;
        println!("{kind:?} {run}: {measured:?}");
        trial.bring_back(kind, &measured.from)?;
        all.push(measured);
    }
    Ok(all)
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[test]
fn a_planned_switch_loses_and_doubles_nothing_and_leaves_the_throughput_as_it_was() -> Result<()> {
    let lab = Lab::new(Options::default())?;
    let mut trial = trial(&lab)?;
    for measured in repeat(&mut trial, Kind::Planned, 4)? {
        assert_eq!((measured.lost, measured.duplicated), (0, 0), "{measured:?}");
        let ratio = measured.bytes_per_s_after / measured.bytes_per_s_before;
        assert!((ratio - 1.0).abs() <= 0.001, "throughput changed by the factor {ratio}: {measured:?}");
    }
    let total = trial.finish_streams()?;
    assert_eq!((total.lost, total.duplicated, total.corrupt, total.strays), (0, 0, 0, 0), "{total:?}");
    let ways = total.split.expect("the built-in server stamps its echoes");
    assert_eq!((ways.up.lost, ways.down.lost, ways.up.duplicated, ways.down.duplicated), (0, 0, 0, 0), "{ways:?}");
    Ok(())
}

#[test]
fn a_crash_costs_each_stream_two_packets_at_the_median() -> Result<()> {
    let lab = Lab::new(Options::default())?;
    let mut trial = trial(&lab)?;
    let runs = repeat(&mut trial, Kind::Crash, 20)?;
    let gap = median(runs.iter().map(|run| run.max_gap_ms));
    let in_a_row = median(runs.iter().map(|run| run.max_lost_in_a_row as f64));
    let flip = median(runs.iter().map(|run| run.evidence_to_flip_us));
    println!("median of {} crashes: gap {gap:.1} ms, {in_a_row} lost in a row, flip {flip:.1} µs", runs.len());
    assert!(runs.iter().all(|run| run.evidence == "refused"), "a crash is seen by the refusal of the next probe");
    // The gap between two packets around one that is lost.
    assert!(in_a_row <= 1.0 && gap <= 2.0 * INTERVAL_MS + SCHEDULING_MS, "{in_a_row} in a row, {gap} ms");
    assert!(flip <= 200.0, "{flip} µs");
    Ok(())
}

/// What the arrival of a packet may be off its 20 ms by, on a machine that runs phones, servers and gateway at once.
const SCHEDULING_MS: f64 = 2.0;

#[test]
fn a_silent_death_under_traffic_ends_within_20_ms() -> Result<()> {
    const BOUND_MS: f64 = 20.0;
    let lab = Lab::new(Options::default())?;
    let mut trial = trial(&lab)?;
    let runs = repeat(&mut trial, Kind::Silent, 8)?;
    let flipped: Vec<_> = runs.iter().map(|run| run.fault_to_flip_ms).collect();
    println!("fault to flip: {flipped:?} ms, bound {BOUND_MS} ms");
    assert!(runs.iter().all(|run| run.evidence == "unreachable"), "{runs:?}");
    // One run of eight may have met a machine that was busy with something else.
    assert!(flipped.iter().filter(|time| **time <= BOUND_MS).count() >= runs.len() - 1, "{flipped:?}");
    Ok(())
}

#[test]
fn the_controllers_death_and_return_lose_no_packet_and_keep_the_link() -> Result<()> {
    let lab = Lab::new(Options::default())?;
    let mut trial = trial(&lab)?;
    let before = links(&mut trial)?;
    let meter_start = trial.meter()?.now();
    trial.gateway().kill9()?;
    let dead = trial.meter()?.now();
    let while_dead = trial.meter()?.settled(dead..dead + Duration::from_secs(1))?.total;
    assert_eq!(while_dead.lost, 0, "packets go on without a controller: {while_dead:?}");
    trial.gateway().restart()?;
    let after = links(&mut trial)?;
    let end = trial.meter()?.now() + Duration::from_secs(1);
    let all = trial.meter()?.settled(meter_start..end)?.total;
    assert_eq!((all.lost, all.duplicated), (0, 0), "{all:?}");
    let ids = |links: &[(u32, u32)]| links.iter().map(|(link, _)| *link).collect::<Vec<_>>();
    assert_eq!(ids(&before), ids(&after), "the links stay");
    assert!(
        before.iter().zip(&after).all(|((_, old), (_, new))| old != new),
        "the program is a new one: {before:?}, {after:?}"
    );
    Ok(())
}

/// Links and programs on the gateway's interfaces, as the kernel counts them.
fn links(trial: &mut Trial<'_>) -> Result<Vec<(u32, u32)>> {
    let programs = trial.gateway().status()?.program_ids();
    assert_eq!(programs.len(), 2, "front and back have a program");
    let mut links = Vec::new();
    for link in aya::programs::loaded_links() {
        let link = link?;
        if programs.contains(&link.program_id()) {
            links.push((link.id(), link.program_id()));
        }
    }
    links.sort_unstable();
    assert_eq!(links.len(), 2, "front and back have a link");
    Ok(links)
}
