//! What the controller costs while nothing happens.

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use lab::{
    Lab, Options,
    gateway::{Config, Gateway},
    server, wait,
};

const WINDOWS: usize = 3;
const WINDOW: Duration = Duration::from_secs(5);

#[test]
fn the_controller_uses_under_2_percent_of_a_core_and_under_30_mb() -> Result<()> {
    let lab = Lab::new(Options::default())?;
    let _servers = [server::start(&lab, "master", &[])?, server::start(&lab, "backup", &[])?];
    let mut gateway = Gateway::start(&lab, Config::of(&lab))?;
    let id = gateway.process().id();
    let shares = (0..WINDOWS).map(|_| share_of_a_core(id)).collect::<Result<Vec<_>>>()?;
    let resident_kb = resident_kb(id)?;
    println!("{shares:.4?} of a core, {resident_kb} kB resident, two servers, a probe every 20 ms to each");
    // The lowest: whatever else runs on the machine makes cold caches and so only adds.
    let share = shares.into_iter().fold(f64::INFINITY, f64::min);
    assert!(share < 0.02, "{share:.4} of a core");
    assert!(resident_kb < 30_000, "{resident_kb} kB");
    Ok(())
}

/// The part of a window that the program's threads ran.
fn share_of_a_core(id: u32) -> Result<f64> {
    let (start, before) = (Instant::now(), on_cpu(id)?);
    wait::until(2 * WINDOW, "the window to pass", || Ok((start.elapsed() >= WINDOW).then_some(())))?;
    Ok((on_cpu(id)? - before).as_secs_f64() / start.elapsed().as_secs_f64())
}

/// Processor time of all threads: the first field of each thread's schedstat, in ns (Documentation/scheduler/sched-stats.rst).
fn on_cpu(id: u32) -> Result<Duration> {
    let mut nanos = 0;
    for thread in fs::read_dir(format!("/proc/{id}/task"))? {
        let text = fs::read_to_string(thread?.path().join("schedstat"))?;
        nanos += text.split_ascii_whitespace().next().context("a number")?.parse::<u64>()?;
    }
    Ok(Duration::from_nanos(nanos))
}

fn resident_kb(id: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("VmRSS")?;
    Ok(line.split_ascii_whitespace().nth(1).context("a number")?.parse()?)
}
