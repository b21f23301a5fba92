//! What the controller costs while nothing happens.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result};
use lab::{
    Lab, Options,
    gateway::{Config, Gateway},
    server, wait,
};

const MEASURED: Duration = Duration::from_secs(10);
/// `USER_HZ`, in which /proc counts processor time; 100 on every architecture of Linux but alpha and ia64.
const TICKS_PER_S: f64 = 100.0;

#[test]
fn the_controller_uses_under_2_percent_of_a_core_and_under_30_mb() -> Result<()> {
    let lab = Lab::new(Options::default())?;
    let _servers = [server::start(&lab, "master", &[])?, server::start(&lab, "backup", &[])?];
    let mut gateway = Gateway::start(&lab, Config::of(&lab))?;
    let id = gateway.process().id();
    let (start, before) = (std::time::Instant::now(), cpu_ticks(id)?);
    wait::until(2 * MEASURED, "the time to pass", || Ok((start.elapsed() >= MEASURED).then_some(())))?;
    let used = (cpu_ticks(id)? - before) / TICKS_PER_S / start.elapsed().as_secs_f64();
    let resident_kb = resident_kb(id)?;
    println!("{:.2} % of a core, {resident_kb} kB resident, two servers, a probe every 20 ms to each", used * 100.0);
    assert!(used < 0.02, "{:.2} % of a core", used * 100.0);
    assert!(resident_kb < 30_000, "{resident_kb} kB");
    Ok(())
}

/// Processor time of all threads, in ticks (proc_pid_stat(5), fields 14 and 15).
fn cpu_ticks(id: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat"))?;
    let after_name = stat.rsplit_once(')').context("the name ends")?.1;
    let fields: Vec<_> = after_name.split_ascii_whitespace().collect();
    Ok(fields[11].parse::<f64>()? + fields[12].parse::<f64>()?)
}

fn resident_kb(id: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("VmRSS")?;
    Ok(line.split_ascii_whitespace().nth(1).context("a number")?.parse()?)
}
