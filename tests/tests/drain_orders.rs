//! What operators order of drains and are told of them. Where packets go meanwhile is tested elsewhere.

use std::time::Duration;

use anyhow::{Context as _, Result};
use lab::{
    Lab, Options,
    gateway::{Config, Gateway},
    meter::Meter,
    phone::Phones,
    process::Process,
    server,
    topology::SIP,
    wait,
};
use rustix::process::{Pid, Signal, kill_process};

const SECOND: Duration = Duration::from_secs(1);
const CALLS: usize = 10;

fn servers(lab: &Lab) -> Result<[Process; 2]> {
    Ok([server::start(lab, "master", &[])?, server::start(lab, "backup", &[])?])
}

fn wait_for(gateway: &Gateway<'_>, arguments: &[&str], text: &str) -> Result<()> {
    let said = || Ok(gateway.says(arguments)?.contains(text).then_some(()));
    wait::until(5 * SECOND, text, said).with_context(|| format!("{arguments:?}: {:?}", gateway.says(arguments)))
}

#[test]
fn what_is_left_of_a_drain_is_shown_survives_the_controller_and_is_told_at_the_end() -> Result<()> {
    let lab = Lab::new(Options::default())?;
    let _servers = servers(&lab)?;
    let mut gateway = Gateway::start(&lab, Config::of(&lab))?;
    assert_eq!(gateway.says(&["drain"])?, "no server drains\n");
    let mut phones = Phones::new(&lab, SIP, CALLS)?;
    assert_eq!(phones.call(CALLS)?.succeeded, CALLS);
    let meter = Meter::start(phones.streams()?)?;

    let dry = gateway.says(&["drain", "master", "--for", "10m", "--dry-run"])?;
    assert!(dry.contains("master would drain for 10m00s at most, backup would be active"), "{dry}");
    assert_eq!(gateway.status()?.active(), "master", "a dry run does nothing");
    let begun = gateway.says(&["drain", "master", "--for", "10m", "--reason", "new disk"])?;
    assert!(begun.contains("master drains for 10m00s at most, backup is active"), "{begun}");
    let left = format!("{CALLS} RTP flows left");
    for command in ["drain", "status"] {
        wait_for(&gateway, &[command], &left)?;
    }
    let shown: serde_json::Value = serde_json::from_str(&gateway.says(&["drain", "--json"])?)?;
    assert_eq!((&shown[0]["drain"]["server"], &shown[0]["drain"]["rtp_flows"]), (&"master".into(), &CALLS.into()));
    assert!(gateway.says(&["maps", "verify"])?.contains("the kernel holds what the daemon wants"));

    gateway.restart()?;
    wait_for(&gateway, &["events"], "master was draining when the controller started; it drains for 600 s at most")?;
    wait_for(&gateway, &["drain"], &left)?;
    let ended = gateway.says(&["drain", "--end", "pbx"])?;
    assert!(ended.contains("master drains no more; backup has all calls"), "{ended}");
    wait_for(&gateway, &["events"], &format!("master had {CALLS} RTP flows when its drain ended"))?;
    meter.finish()?;
    let events = gateway.says(&["events"])?;
    assert!(events.contains("new disk, master drains for 600 s at most"), "{events}");

    gateway.says(&["drain", "backup"])?;
    let receipt = wait::until(10 * SECOND, "the receipt of the second drain", || {
        let receipts = gateway.says(&["events", "--receipts", "--json"])?;
        let receipts = receipts.lines().map(serde_json::from_str).collect::<Result<Vec<serde_json::Value>, _>>()?;
        Ok(receipts.into_iter().find(|receipt| receipt["from"] == "backup"))
    })?;
    assert_eq!((&receipt["rtp_flows"], &receipt["drain_s"]), (&0.into(), &600.into()), "the first was forgotten");
    Ok(())
}

#[test]
fn a_drain_ends_by_itself_and_what_makes_no_sense_is_refused() -> Result<()> {
    let lab = Lab::new(Options::default())?;
    let [_master, mut backup] = servers(&lab)?;
    let mut gateway = Gateway::start(&lab, Config::of(&lab))?;
    for (arguments, code) in [
        (&["drain", "backup"][..], 1),
        (&["drain", "nobody"], 1),
        (&["drain", "--end"], 1),
        (&["drain", "master", "--for", "soon"], 2),
        (&["drain", "--for", "10m"], 2),
        (&["drain", "master", "--end", "--for", "10m"], 2),
        (&["switch", "auto", "--drain"], 2),
        (&["switch", "backup", "--drain", "--only", "media"], 2),
    ] {
        let answer = gateway.cli(arguments)?;
        assert_eq!(answer.code, code, "{arguments:?}: {answer:?}");
    }
    let switched = gateway.says(&["switch", "backup", "--drain"])?;
    assert!(switched.contains("running calls stay with master for 10m00s at most"), "{switched}");
    let again = gateway.says(&["drain", "master", "--for", "1s"])?;
    assert!(again.contains("master drains for 1s more at most"), "{again}");
    wait_for(&gateway, &["events"], "the time of master to drain is over; it is fenced")?;
    assert_eq!(gateway.says(&["drain"])?, "no server drains\n");
    gateway.says(&["switch", "master"])?;
    backup.kill9()?;
    gateway.wait_until("the backup is down", SECOND, |status| status.health("backup") == "down")?;
    let alone = gateway.cli(&["drain", "master"])?;
    assert!(alone.code == 1 && alone.stderr.contains("no other server is up"), "{alone:?}");
    Ok(())
}

#[test]
fn a_server_that_was_only_paused_gets_its_running_calls_back_and_new_ones_stay() -> Result<()> {
    let lab = Lab::new(Options::default())?;
    let [master, _backup] = servers(&lab)?;
    let mut gateway = Gateway::start(&lab, Config::of(&lab))?;
    let id = Pid::from_raw(master.id() as i32).context("a process id")?;
    kill_process(id, Signal::STOP)?;
    gateway.wait_until("the backup is active", 10 * SECOND, |status| status.active() == "backup")?;
    kill_process(id, Signal::CONT)?;
    wait_for(&gateway, &["events"], "master is back, and its running calls are its own again; it drains for 600 s")?;
    assert_eq!(gateway.status()?.active(), "backup");
    assert!(gateway.says(&["drain"])?.contains("pbx: master since"));
    Ok(())
}
