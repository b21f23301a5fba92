//! What the controller costs while nothing happens.

use std::{
    fs,
    net::Ipv4Addr,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use lab::{
    Lab, Options,
    gateway::{Config, Gateway, ServerSection},
    process::Process,
    program, server, wait,
};

const WINDOWS: usize = 3;
const WINDOW: Duration = Duration::from_secs(5);
/// How long a server may take to open its sockets.
const START: Duration = Duration::from_secs(10);

#[test]
fn the_controller_uses_under_2_percent_of_a_core_for_two_servers() -> Result<()> {
    let lab = Lab::new(Options::default())?;
    let _servers = [server::start(&lab, "master", &[])?, server::start(&lab, "backup", &[])?];
    let gateway = Gateway::start(&lab, Config::of(&lab))?;
    must_cost_less_than(0.02, gateway)
}

#[test]
fn the_controller_uses_under_3_percent_of_a_core_for_eight_servers() -> Result<()> {
    let lab = Lab::new(Options::default())?;
    let mut servers = vec![server::start(&lab, "master", &[])?, server::start(&lab, "backup", &[])?];
    let mut config = Config::of(&lab);
    let host = &lab.server("master")?.namespace;
    for number in 3..=8_u8 {
        let (name, address) = (format!("server-{number}"), Ipv4Addr::new(10, 66, 1, 10 + number));
        host.ip(&format!("address add {address}/24 dev eth0"))?;
        let mut command = Command::new(program("lab-server")?);
        command.args(["--name", &name, "--address", &address.to_string(), "--rtp-ports", "10000-10009"]);
        let mut process = Process::start(&lab, host, &name, command)?;
        process.wait_for_log("ready", START)?;
        servers.push(process);
        let section = config.service[0].server[0].clone();
        config.service[0].server.push(ServerSection { name, address: vec![address.into()], ..section });
    }
    let gateway = Gateway::start(&lab, config)?;
    must_cost_less_than(0.03, gateway)
}

fn must_cost_less_than(bound: f64, mut gateway: Gateway<'_>) -> Result<()> {
    let id = gateway.process().id();
    let shares = (0..WINDOWS).map(|_| share_of_a_core(id)).collect::<Result<Vec<_>>>()?;
    let resident_kb = resident_kb(id)?;
    println!("{shares:.4?} of a core, {resident_kb} kB resident");
    // The lowest: whatever else runs on the machine makes cold caches and so only adds.
    let share = shares.into_iter().fold(f64::INFINITY, f64::min);
    assert!(share < bound, "{share:.4} of a core");
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
