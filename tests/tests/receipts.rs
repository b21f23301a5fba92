//! Receipts against what the meter saw from outside, and what of them survives the controller.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, ensure};
use lab::{
    Lab, Options,
    gateway::{Config, Gateway, state_dir},
    phone::Phones,
    server,
    topology::SIP,
    trial::{Kind, Measured, Trial},
    wait,
};
use serde_json::Value;

const CALLS: usize = 50;
/// A receipt is complete 2.5 s after its flip.
const WRITTEN: Duration = Duration::from_secs(10);

fn trial(lab: &Lab) -> Result<Trial<'_>> {
    let mut trial = Trial::start(lab, Config::of(lab), |lab, name| server::start(lab, name, &[]))?;
    let mut phones = Phones::new(lab, SIP, CALLS)?;
    assert_eq!(phones.call(CALLS)?.succeeded, CALLS);
    trial.stream(phones.streams()?)?;
    // The calls' SIP is no part of the throughput before the first flip, which is taken of two whole seconds.
    let over = || Ok((trial.meter()?.now() >= Duration::from_secs(4)).then_some(()));
    wait::until(WRITTEN, "streams without signalling", over)?;
    Ok(trial)
}

fn receipts(gateway: &Gateway<'_>) -> Result<Vec<Value>> {
    let answer = gateway.cli(&["events", "--receipts", "--json"])?;
    // Before the first one is written there may be no directory.
    ensure!(matches!(answer.code, 0 | 2), "{answer:?}");
    answer.stdout.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

fn nth_receipt(gateway: &Gateway<'_>, count: usize) -> Result<Value> {
    wait::until(WRITTEN, "the receipt", || {
        let receipts = receipts(gateway)?;
        Ok((receipts.len() == count).then(|| receipts[count - 1].clone()))
    })
}

fn number(value: &Value, path: &str) -> Result<f64> {
    value.pointer(path).and_then(Value::as_f64).with_context(|| format!("no {path} in {value}"))
}

fn ratio(receipt: &Value, path: &str, measured: f64) -> Result<f64> {
    Ok((number(receipt, path)? / measured - 1.0).abs())
}

/// What must be so for any flip under streams.
fn agrees(receipt: &Value, measured: &Measured) -> Result<()> {
    println!("{receipt}\n{measured:?}");
    assert_eq!(number(receipt, "/rtp_flows")? as usize, measured.streams);
    assert!(ratio(receipt, "/throughput_before/to_clients", measured.bytes_per_s_before)? < 0.01);
    assert!(ratio(receipt, "/throughput_after/to_clients", measured.bytes_per_s_after)? < 0.01);
    let (first_to, first_back) = (number(receipt, "/first_to_ms")?, number(receipt, "/first_back_ms")?);
    assert!(-0.1 <= first_to && first_to <= first_back, "{first_to} {first_back}");
    Ok(())
}

#[test]
fn a_receipt_says_what_the_meter_saw() -> Result<()> {
    let lab = Lab::new(Options::default())?;
    let mut trial = trial(&lab)?;

    let measured = trial.make(Kind::Planned)?;
    let receipt = nth_receipt(trial.gateway(), 1)?;
    agrees(&receipt, &measured)?;
    assert_eq!((number(&receipt, "/downtime_ms")?, measured.lost), (0.0, 0), "{receipt}");

    for count in 2..=4 {
        let measured = trial.make(Kind::Crash)?;
        let receipt = nth_receipt(trial.gateway(), count)?;
        agrees(&receipt, &measured)?;
        let unanswered = number(&receipt, "/unanswered/rtp")?;
        let off = (unanswered - measured.lost as f64).abs();
        // What arrives within the grain of the note of the last packet may be answered and counted, or neither.
        assert!(off <= 6.0, "{unanswered} unanswered, {} lost", measured.lost);
        let downtime = number(&receipt, "/downtime_ms")?;
        // From outside the time begins when the kill is ordered, and a packet of grace may come before it.
        let outside = measured.fault_to_first_packet_ms;
        assert!(0.0 < downtime && downtime <= outside + 5.0, "{downtime} ms, from outside {outside} ms");
        trial.bring_back(Kind::Crash, &measured.from)?;
    }
    report(trial.gateway(), &lab)
}

/// What is on the disk is one period with one planned and three unplanned events, daemon or no daemon.
fn report(gateway: &mut Gateway<'_>, lab: &Lab) -> Result<()> {
    gateway.kill9()?;
    let page: PathBuf = lab.dir().join("report.html");
    let answer = gateway.cli(&["report", "--json", "--html", page.to_str().context("a path in UTF-8")?])?;
    ensure!(answer.code == 0, "{answer:?}");
    let report: Value = serde_json::from_str(&answer.stdout)?;
    assert_eq!(number(&report, "/services/0/planned/events")?, 1.0, "{report}");
    assert_eq!(number(&report, "/services/0/unplanned/events")?, 3.0, "{report}");
    assert!(std::fs::read_to_string(page)?.ends_with("</html>"));
    let text = gateway.cli(&["report"])?;
    println!("{}", text.stdout);
    let first = number(&report, "/services/0/receipts/0/number")?.to_string();
    let shown = gateway.cli(&["events", "show", &first])?;
    println!("{}", shown.stdout);
    assert!(shown.code == 0 && shown.stdout.contains("operator"), "{shown:?}");
    assert_eq!(gateway.cli(&["events", "show", "999999"])?.code, 1);
    Ok(())
}

#[test]
fn events_and_their_numbers_survive_the_controller() -> Result<()> {
    let lab = Lab::new(Options::default())?;
    let _servers = [server::start(&lab, "master", &[])?, server::start(&lab, "backup", &[])?];
    let mut gateway = Gateway::start(&lab, Config::of(&lab))?;
    gateway.switch("backup")?;
    nth_receipt(&gateway, 1)?;
    gateway.kill9()?;
    gateway.restart()?;
    let events = gateway.cli(&["events", "--json"])?.stdout;
    let events: Vec<Value> = events.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let numbers: Vec<_> = events.iter().filter_map(|event| event["number"].as_u64()).collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
    let kinds = |kind: &str| events.iter().filter(|event| event["kind"] == kind).count();
    assert_eq!((kinds("started"), kinds("flip")), (2, 1), "{events:?}");
    Ok(())
}

#[test]
fn a_receipt_that_the_controllers_end_interrupts_is_written_with_what_is_known() -> Result<()> {
    let lab = Lab::new(Options::default())?;
    let _servers = [server::start(&lab, "master", &[])?, server::start(&lab, "backup", &[])?];
    let mut gateway = Gateway::start(&lab, Config::of(&lab))?;
    gateway.switch("backup")?;
    let ended = gateway.process().terminate(WRITTEN)?;
    assert!(ended.success(), "{ended}");
    let receipt = nth_receipt(&gateway, 1)?;
    assert_eq!(receipt["interrupted"], true, "{receipt}");
    assert!(receipt["not_measured"]["throughput_after"].as_str().is_some_and(|why| why.contains("ended")), "{receipt}");
    Ok(())
}

#[test]
fn a_gateway_that_cannot_record_warns_once_and_serves() -> Result<()> {
    let lab = Lab::new(Options::default())?;
    let _servers = [server::start(&lab, "master", &[])?, server::start(&lab, "backup", &[])?];
    std::fs::write(state_dir(&lab), "a file in the place of the directory")?;
    let mut gateway = Gateway::start(&lab, Config::of(&lab))?;
    for server in ["backup", "master", "backup"] {
        gateway.switch(server)?;
    }
    assert_eq!(gateway.status()?.active(), "backup");
    let log = gateway.process().log();
    assert_eq!(log.matches("cannot record receipts and events").count(), 1, "{log}");
    Ok(())
}
