//! The command line against a running gateway: what it answers, and that it disturbs nothing.

use std::{fs, process::Command, time::Duration};

use anyhow::Result;
use lab::{
    Lab, Options,
    gateway::{Config, Gateway},
    meter::Meter,
    phone::Phones,
    process::Process,
    program, server,
    topology::SIP,
};

const SECOND: Duration = Duration::from_secs(1);

fn servers(lab: &Lab) -> Result<[Process; 2]> {
    Ok([server::start(lab, "master", &[])?, server::start(lab, "backup", &[])?])
}

/// Four calls through the gateway, and their streams under the meter.
fn measured_calls(lab: &Lab) -> Result<(Phones, Meter)> {
    let mut phones = Phones::new(lab, SIP, 4)?;
    assert_eq!(phones.call(4)?.succeeded, 4);
    let meter = Meter::start(phones.streams()?)?;
    Ok((phones, meter))
}

#[test]
fn every_command_answers_people_and_machines_and_says_by_its_exit_code_how_it_went() -> Result<()> {
    let lab = Lab::new(Options::default())?;
    let _servers = servers(&lab)?;
    let gateway = Gateway::start(&lab, Config::of(&lab))?;
    for (arguments, expected) in [
        (&["status"][..], "active: master"),
        (&["maps"], "10.66.1.2"),
        (&["maps", "services"], "10000-19999"),
        (&["maps", "servers"], "active"),
        (&["maps", "counters"], "not-forwarded"),
        (&["maps", "devices"], "front"),
        (&["maps", "layout"], "STEERING"),
        (&["maps", "verify"], "the kernel holds what the daemon wants"),
        (&["events"], "backup is up"),
        (&["switch", "backup", "--dry-run"], "would switch from master to backup"),
    ] {
        let answer = gateway.cli(arguments)?;
        assert_eq!(answer.code, 0, "{arguments:?}: {answer:?}");
        assert!(answer.stdout.contains(expected), "{arguments:?}: {answer:?}");
        let json = gateway.cli(&[arguments, &["--json"]].concat())?;
        assert_eq!(json.code, 0, "{arguments:?} --json: {json:?}");
        for line in json.stdout.lines() {
            serde_json::from_str::<serde_json::Value>(line)?;
        }
        assert!(!answer.stdout.contains('\x1b') && !json.stdout.contains('\x1b'), "colour off a terminal: {answer:?}");
    }
    assert_eq!(gateway.status()?.active(), "master", "a dry run switches nothing");
    assert_eq!(gateway.cli(&["switch", "nobody"])?.code, 1);
    assert_eq!(gateway.cli(&["switch"])?.code, 2);
    Ok(())
}

#[test]
fn a_switch_to_a_dead_server_is_refused_and_a_choice_holds_until_it_is_handed_back() -> Result<()> {
    let lab = Lab::new(Options::default())?;
    let [_master, mut backup] = servers(&lab)?;
    let mut gateway = Gateway::start(&lab, Config::of(&lab))?;
    gateway.switch("backup")?;
    assert_eq!(gateway.status()?.active(), "backup");
    assert_eq!(gateway.cli(&["switch", "auto", "--reason", "maintenance is over"])?.code, 0);
    gateway.switch("master")?;
    backup.kill9()?;
    gateway.wait_until("the backup is down", SECOND, |status| status.health("backup") == "down")?;
    let refused = gateway.cli(&["switch", "backup"])?;
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.contains("it is down"), "{refused:?}");
    assert_eq!(gateway.status()?.active(), "master");
    let events = gateway.cli(&["events"])?.stdout;
    assert!(events.contains("maintenance is over"), "{events}");
    Ok(())
}

#[test]
fn when_no_server_is_up_nothing_changes_and_the_status_says_outage() -> Result<()> {
    let lab = Lab::new(Options::default())?;
    let [mut master, mut backup] = servers(&lab)?;
    let mut gateway = Gateway::start(&lab, Config::of(&lab))?;
    backup.kill9()?;
    gateway.wait_until("the backup is down", SECOND, |status| status.health("backup") == "down")?;
    master.kill9()?;
    let outage = gateway.wait_until("an outage is told", SECOND, |status| status.services[0].outage)?;
    assert_eq!(outage.active(), "master");
    assert!(gateway.cli(&["status"])?.stdout.contains("OUTAGE"));
    let _backup = server::start(&lab, "backup", &[])?;
    gateway.wait_until("the backup serves", 5 * SECOND, |status| {
        status.active() == "backup" && !status.services[0].outage
    })?;
    Ok(())
}

#[test]
fn a_server_that_is_not_active_cannot_send_to_phones_but_is_still_probed() -> Result<()> {
    let lab = Lab::new(Options::default())?;
    let _servers = servers(&lab)?;
    let mut gateway = Gateway::start(&lab, Config::of(&lab))?;
    let phone = lab.phone_addresses().next().expect("a phone");
    let heard = lab.phones().run(move || std::net::UdpSocket::bind((phone, 40_000)))?;
    heard.set_read_timeout(Some(SECOND))?;
    let speak = |server: &str| -> Result<()> {
        let host = lab.server(server)?;
        let (name, from) = (host.name, host.address);
        // A port of the RTP range that the built-in server leaves free.
        let socket = host.namespace.run(move || std::net::UdpSocket::bind((from, 19_999)))?;
        socket.send_to(name.as_bytes(), (phone, 40_000))?;
        Ok(())
    };
    speak("backup")?;
    speak("master")?;
    let mut buffer = [0; 100];
    let (length, from) = heard.recv_from(&mut buffer)?;
    assert_eq!((&buffer[..length], from.to_string().as_str()), (&b"master"[..], "192.0.2.10:19999"));
    let counters = gateway.cli(&["maps", "counters"])?.stdout;
    assert!(counters.lines().any(|line| line.starts_with("10.66.2.2") && line.contains("fenced")), "{counters}");
    gateway.wait_until("the backup is up", SECOND, |status| status.health("backup") == "up")?;
    Ok(())
}

#[test]
fn the_first_reply_to_a_phone_that_is_not_in_the_neighbour_table_arrives() -> Result<()> {
    let lab = Lab::new(Options::default())?;
    let _servers = servers(&lab)?;
    let gateway = Gateway::start(&lab, Config::of(&lab))?;
    let (_phones, meter) = measured_calls(&lab)?;
    for _ in 0..5 {
        lab.gateway().ip("neighbour flush dev front")?;
        let now = meter.now();
        assert_eq!(meter.settled(now..now + Duration::from_millis(200))?.total.lost, 0);
    }
    let counters = gateway.cli(&["maps", "counters"])?.stdout;
    assert!(counters.contains("to-client-by-stack"), "no packet took the way that is tested: {counters}");
    assert_eq!(meter.finish()?.total.lost, 0);
    Ok(())
}

#[test]
fn a_second_gateway_and_a_mistaken_configuration_are_refused_and_disturb_nothing() -> Result<()> {
    let lab = Lab::new(Options::default())?;
    let _servers = servers(&lab)?;
    let gateway = Gateway::start(&lab, Config::of(&lab))?;
    let (_phones, meter) = measured_calls(&lab)?;
    let file = lab.dir().join("gateway.toml");
    let again = run_to_its_end(&lab, &file, "again")?;
    assert_eq!(again.0, Some(1), "{}", again.1);
    assert!(again.1.contains("another"), "{}", again.1);

    let mistaken = lab.dir().join("mistaken.toml");
    fs::write(&mistaken, fs::read_to_string(&file)?.replace("192.0.2.10", "192.0.2.999"))?;
    let refused = run_to_its_end(&lab, &mistaken, "mistaken")?;
    assert_eq!(refused.0, Some(2), "{}", refused.1);
    assert!(refused.1.contains("mistaken.toml:") && refused.1.contains("service[0].vip"), "{}", refused.1);
    assert_eq!(gateway.cli(&["maps", "verify"])?.code, 0);
    assert_eq!(meter.finish()?.total.lost, 0);
    Ok(())
}

/// Runs `voip-ha run` with a file until it ends; its exit code and what it printed.
fn run_to_its_end(lab: &Lab, file: &std::path::Path, name: &str) -> Result<(Option<i32>, String)> {
    let mut command = Command::new(program("voip-ha")?);
    command.arg("run").arg("--config").arg(file);
    let mut process = Process::start(lab, lab.gateway(), name, command)?;
    let status = process.wait(5 * SECOND)?;
    Ok((status.code(), process.log()))
}
