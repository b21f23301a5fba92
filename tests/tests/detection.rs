//! What each kind of failure is called, how soon it is believed, and what is no failure.

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use lab::{
    Lab, Options,
    gateway::{Config, Gateway, Probe},
    meter::Meter,
    phone::Phones,
    process::Process,
    server,
    topology::{Layout, SIP},
    wait,
};
use rustix::process::{Pid, Signal, kill_process};

const SECOND: Duration = Duration::from_secs(1);
const CALLS: usize = 10;

fn signal(process: &Process, signal: Signal) -> Result<()> {
    let id = Pid::from_raw(process.id() as i32).context("a process id")?;
    Ok(kill_process(id, signal)?)
}

fn events(gateway: &Gateway<'_>) -> Result<String> {
    Ok(gateway.cli(&["events"])?.stdout)
}

#[test]
fn a_process_that_hangs_is_left_after_hang_ms_and_not_before() -> Result<()> {
    const HANG: Duration = Duration::from_millis(200);
    let lab = Lab::new(Options::default())?;
    let (master, _backup) = (server::start(&lab, "master", &[])?, server::start(&lab, "backup", &[])?);
    let mut gateway = Gateway::start(&lab, Config::of(&lab))?;
    let stopped = Instant::now();
    signal(&master, Signal::STOP)?;
    let status = gateway.wait_until("the backup is active", 10 * SECOND, |status| status.active() == "backup")?;
    let left = stopped.elapsed();
    assert_eq!((status.health("master"), status.fault("master")), ("down", "hung"));
    // The last answer may be one interval old when the process stops.
    assert!(left >= HANG - Duration::from_millis(20), "left after {left:?}");
    signal(&master, Signal::CONT)?;
    gateway.wait_until("the master is up again", 10 * SECOND, |status| status.health("master") == "up")?;
    Ok(())
}

#[test]
fn pauses_of_50_ms_are_no_failure() -> Result<()> {
    const PAUSES: usize = 40;
    let lab = Lab::new(Options::default())?;
    let (master, _backup) = (server::start(&lab, "master", &[])?, server::start(&lab, "backup", &[])?);
    let gateway = Gateway::start(&lab, Config::of(&lab))?;
    let mut phones = Phones::new(&lab, SIP, CALLS)?;
    assert_eq!(phones.call(CALLS)?.succeeded, CALLS);
    let meter = Meter::start(phones.streams()?)?;
    for _ in 0..PAUSES {
        signal(&master, Signal::STOP)?;
        let paused = Instant::now();
        wait::until(SECOND, "the pause to end", || Ok((paused.elapsed() >= Duration::from_millis(50)).then_some(())))?;
        signal(&master, Signal::CONT)?;
        let woke = meter.now();
        wait::until(SECOND, "it to echo again", || Ok(meter.first_echo(woke..meter.now())))?;
    }
    meter.finish()?;
    let events = events(&gateway)?;
    assert!(!events.contains("failover") && !events.contains("is down"), "{events}");
    Ok(())
}

#[test]
fn a_server_that_refuses_service_gets_no_new_calls_and_keeps_its_running_ones() -> Result<()> {
    let lab = Lab::new(Options::default())?;
    let file = lab.dir().join("maintenance");
    let option = file.to_string_lossy().into_owned();
    let _servers = [server::start(&lab, "master", &["--maintenance", &option])?, server::start(&lab, "backup", &[])?];
    let mut gateway = Gateway::start(&lab, Config::of(&lab))?;
    let mut phones = Phones::new(&lab, SIP, CALLS)?;
    assert_eq!(phones.call(CALLS)?.succeeded, CALLS);
    let meter = Meter::start(phones.streams()?)?;
    fs::write(&file, "")?;
    let status = gateway.wait_until("the backup is active", SECOND, |status| status.active() == "backup")?;
    assert_eq!((status.health("master"), status.fault("master")), ("maintenance", "maintenance"));
    let moved = meter.now();
    let after = meter.settled(moved..moved + 2 * SECOND)?.total;
    assert_eq!((after.lost, after.duplicated), (0, 0), "{after:?}");
    assert!(meter.first_echo_by("backup", moved..meter.now()).is_none(), "the backup has none of their media");
    let left = gateway.cli(&["drain"])?.stdout;
    assert!(left.contains(&format!("{CALLS} RTP flows left")), "{left}");
    let total = meter.finish()?.total;
    assert_eq!((total.lost, total.duplicated), (0, 0), "{total:?}");
    assert_eq!(gateway.cli(&["drain", "--end"])?.code, 0);
    assert!(events(&gateway)?.contains("ended the drain of master"));
    Ok(())
}

#[test]
fn the_loss_of_the_link_to_one_server_moves_the_service_to_one_behind_another() -> Result<()> {
    let lab = Lab::new(Options { layout: Layout::CloudByFront, ..Options::default() })?;
    let _servers = [server::start(&lab, "master", &[])?, server::start(&lab, "backup", &[])?];
    let mut gateway = Gateway::start(&lab, Config::of(&lab))?;
    lab.router().ip("link set dev gateway down")?;
    // A backup that came up later than the master's last answer, so shortly after the start, lets that come back for 1.7 s.
    let status = gateway.wait_until("the backup is active", 5 * SECOND, |status| status.active() == "backup")?;
    assert_eq!((status.health("master"), status.fault("master")), ("down", "gateway-side"));
    Ok(())
}

#[test]
fn a_held_service_does_not_fail_over_until_it_is_let_go() -> Result<()> {
    let lab = Lab::new(Options::default())?;
    let (mut master, _backup) = (server::start(&lab, "master", &[])?, server::start(&lab, "backup", &[])?);
    let mut gateway = Gateway::start(&lab, Config::of(&lab))?;
    let answer = gateway.cli(&["hold", "pbx", "--reason", "work on the backup"])?;
    assert_eq!(answer.code, 0, "{answer:?}");
    master.kill9()?;
    gateway.wait_until("the master is down", SECOND, |status| status.health("master") == "down")?;
    let status = gateway.cli(&["status"])?.stdout;
    assert!(status.contains("HELD by an operator") && status.contains("active: master"), "{status}");
    let refused = gateway.cli(&["switch", "backup"])?;
    assert!(refused.code == 1 && refused.stderr.contains("hold --release"), "{refused:?}");
    // Neither does the next controller.
    gateway.restart()?;
    gateway.wait_until("it is found down again", 5 * SECOND, |status| status.health("master") == "down")?;
    assert_eq!(gateway.status()?.active(), "master");
    assert_eq!(gateway.cli(&["hold", "--release"])?.code, 0);
    gateway.wait_until("the backup is active", SECOND, |status| status.active() == "backup")?;
    Ok(())
}

#[test]
fn signalling_and_media_can_be_parted_and_joined_by_an_operator() -> Result<()> {
    let lab = Lab::new(Options::default())?;
    let _servers = [server::start(&lab, "master", &[])?, server::start(&lab, "backup", &[])?];
    let mut gateway = Gateway::start(&lab, Config::of(&lab))?;
    let mut phones = Phones::new(&lab, SIP, CALLS)?;
    assert_eq!(phones.call(CALLS)?.succeeded, CALLS);
    let meter = Meter::start(phones.streams()?)?;
    let answer = gateway.cli(&["switch", "backup", "--only", "media"])?;
    assert!(answer.code == 0 && answer.stdout.contains("signalling stays at master"), "{answer:?}");
    let moved = meter.now();
    wait::until(SECOND, "media from the backup", || Ok(meter.first_echo_by("backup", moved..meter.now())))?;
    let status = gateway.status()?;
    assert_eq!((status.active(), status.services[0].media.as_str()), ("master", "backup"));
    assert_eq!(phones.hang_up()?.succeeded, CALLS, "the dialogs are the master's");
    assert_eq!(meter.finish()?.total.lost, 0);
    assert_eq!(gateway.cli(&["switch", "auto"])?.code, 0);
    gateway.wait_until("both at the master", SECOND, |status| status.services[0].media == "master")?;
    Ok(())
}

#[test]
fn a_dead_host_that_answered_no_echo_is_left_as_late_as_a_hung_process_and_the_status_warns_of_it() -> Result<()> {
    let lab = Lab::new(Options::default())?;
    let _servers = [server::start(&lab, "master", &[])?, server::start(&lab, "backup", &[])?];
    let mut config = Config::of(&lab);
    config.probe = Probe { echo: Some(false), ..Probe::default() };
    let mut gateway = Gateway::start(&lab, config)?;
    let status = gateway.cli(&["status"])?.stdout;
    assert!(status.contains("the host of master answers no ICMP echo"), "{status}");
    let cut = Instant::now();
    lab.cut("master")?;
    gateway.wait_until("the backup is active", 10 * SECOND, |status| status.active() == "backup")?;
    assert!(cut.elapsed() >= Duration::from_millis(180), "left after {:?}", cut.elapsed());
    Ok(())
}
