//! The demo as `cargo xtask demo` runs it, and the data that `--json` writes.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use lab::demo::{Settings, run};
use serde_json::Value;

const KINDS: [&str; 5] = ["planned", "planned", "crash", "planned", "silent"];
const FIGURES: [&str; 9] = [
    "streams",
    "sent",
    "lost",
    "max_gap_ms",
    "evidence_to_flip_us",
    "fault_to_flip_ms",
    "fault_to_first_packet_ms",
    "bytes_per_s_before",
    "bytes_per_s_after",
];

fn demo(streams: usize, real: bool) -> Result<Value> {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("demo-{}-{real}.json", std::process::id()));
    run(&Settings { streams, real, json: Some(file.clone()) })?;
    let text = fs::read_to_string(&file)?;
    fs::remove_file(&file)?;
    Ok(serde_json::from_str(&text)?)
}

fn number(of: &Value, name: &str) -> Result<f64> {
    of[name].as_f64().with_context(|| format!("{name} of {of}"))
}

/// Every event has its figures, they fit together, and what must not be lost is not.
fn judge_events(data: &Value, streams: f64) -> Result<()> {
    let events = data["events"].as_array().context("events")?;
    let kinds: Vec<_> = events.iter().map(|event| event["kind"].as_str()).collect();
    assert_eq!(kinds, KINDS.map(Some));
    let (mut sent, mut lost) = (0.0, 0.0);
    for event in events {
        for name in FIGURES {
            number(event, name)?;
        }
        let value = |name| number(event, name);
        assert_eq!(value("streams")?, streams);
        // 50 packets/s for 2 s, and for as long as the flip took.
        assert!(value("sent")? >= 0.99 * 100.0 * streams, "{event}");
        assert!(value("lost")? < value("sent")?, "{event}");
        assert!(value("max_gap_ms")? >= 20.0, "{event}");
        assert!(value("evidence_to_flip_us")? / 1e3 <= value("fault_to_flip_ms")?, "{event}");
        assert!(value("fault_to_flip_ms")? <= value("fault_to_first_packet_ms")?, "{event}");
        let per_stream = value("bytes_per_s_before")? / streams;
        assert!((per_stream / 10_700.0 - 1.0).abs() < 0.01, "{per_stream} bytes/s: {event}");
        if event["kind"] == "planned" {
            assert_eq!((value("lost")?, value("duplicated")?, value("max_lost_in_a_row")?), (0.0, 0.0, 0.0), "{event}");
            let ratio = value("bytes_per_s_after")? / value("bytes_per_s_before")?;
            assert!((ratio - 1.0).abs() <= 0.001, "throughput changed by the factor {ratio}: {event}");
        }
        sent += value("sent")?;
        lost += value("lost")?;
    }
    // Nothing was lost but around the events.
    assert!(number(&data["total"], "sent")? > sent);
    assert_eq!(number(&data["total"], "lost")?, lost);
    Ok(())
}

fn outcomes(data: &Value) -> Result<Vec<(&str, u64, u64)>> {
    let outcome = |of: &'_ Value| Some((of["succeeded"].as_u64()?, of["failed"].as_u64()?));
    let all = data["calls"].as_array().context("calls")?;
    let named = all.iter().map(|of| {
        let (succeeded, failed) = outcome(of)?;
        Some((of["what"].as_str()?, succeeded, failed))
    });
    named.collect::<Option<_>>().with_context(|| format!("{all:?}"))
}

#[test]
fn the_demo_writes_what_it_measured_and_its_planned_switches_lose_nothing() -> Result<()> {
    let data = demo(5, false)?;
    judge_events(&data, 5.0)?;
    let expected = [
        ("registrations before the events", 5, 0),
        ("calls before", 5, 0),
        ("BYE of these calls after the events", 0, 5),
        ("registrations after", 5, 0),
        ("new calls after", 5, 0),
    ];
    assert_eq!(outcomes(&data)?, expected);
    Ok(())
}

#[test]
fn the_demo_with_kamailio_and_sipp_fails_no_registration_and_no_call() -> Result<()> {
    let data = demo(10, true)?;
    judge_events(&data, 10.0)?;
    let expected = [
        ("registrations before the events", 100, 0),
        ("calls with RTP before", 20, 0),
        ("calls held over the switch and back", 20, 0),
        ("registrations after the events", 100, 0),
        ("calls with RTP after", 20, 0),
    ];
    assert_eq!(outcomes(&data)?, expected);
    Ok(())
}
