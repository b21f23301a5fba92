//! The bench as `cargo xtask bench failover` runs it, small, and the data that it writes.

use std::{fs, path::Path, time::Instant};

use anyhow::{Context, Result, ensure};
use lab::bench::{Data, Fault, Settings, run, show};
use serde_json::Value;

const FAULTS: [Fault; 3] = [Fault::Crash, Fault::Link, Fault::Planned];

fn keys<'value>(of: &'value Value, name: &str) -> Result<Vec<&'value str>> {
    let object = of[name].as_object().with_context(|| format!("{name} of {of}"))?;
    let mut keys: Vec<_> = object.keys().map(String::as_str).collect();
    keys.sort_unstable();
    Ok(keys)
}

#[test]
fn a_small_bench_writes_what_the_issue_asks_for_and_measures_nothing_twice() -> Result<()> {
    let file =
        |ending: &str| Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("bench-{}.{ending}", std::process::id()));
    let (json, html) = (file("json"), file("html"));
    let settings = Settings {
        systems: vec!["voip-ha".to_owned()],
        faults: FAULTS.into(),
        streams: Some(vec![0, 50]),
        runs: 1,
        minutes: 0.05,
        merge: None,
        json: Some(json.clone()),
        html: Some(html.clone()),
    };
    run(&settings)?;
    let written = fs::read_to_string(&json)?;
    judge(&serde_json::from_str(&written)?)?;
    let page = fs::read_to_string(&html)?;
    ensure!(page.contains("<svg") && page.contains("<circle"), "a page without a picture: {page}");

    let begun = Instant::now();
    run(&Settings { merge: Some(json.clone()), ..settings })?;
    let (again, took) = (fs::read_to_string(&json)?, begun.elapsed());
    assert_eq!(again, written, "what was measured is measured again, which took {took:?}");
    show(&json, None)?;
    fs::remove_file(&json)?;
    Ok(fs::remove_file(&html)?)
}

/// The shape of the data, and that its figures fit together.
fn judge(data: &Value) -> Result<()> {
    let runs = data["runs"].as_array().context("runs")?;
    assert_eq!(runs.len(), FAULTS.len() * 2);
    for block in runs {
        assert_eq!((block["system"].as_str(), block["n"].as_u64()), (Some("voip-ha"), Some(1)), "{block}");
        assert_eq!(keys(block, "fault_to_flip_ms")?, ["max", "p50", "p99"], "{block}");
        let figure = |name: &str, of: &str| block[name][of].as_f64().with_context(|| format!("{name} {of}: {block}"));
        let flip = figure("fault_to_flip_ms", "p50")?;
        assert!(flip > 0.0, "{block}");
        if block["streams"] == 0 {
            assert!(block["gap_ms"].is_null() && block["lost"].is_null() && block["reason"].is_string(), "{block}");
            continue;
        }
        assert_eq!(keys(block, "gap_ms")?, ["max", "p50", "p99"], "{block}");
        assert_eq!(keys(block, "lost")?, ["max", "p50"], "{block}");
        assert!(figure("gap_ms", "p50")? >= 20.0, "{block}");
        // The other server answers only after the gateway has flipped.
        assert!(figure("own_flip_ms", "p50")? <= flip, "{block}");
        if block["fault"] == "planned" {
            assert_eq!(block["lost"]["max"], 0, "{block}");
        }
    }
    let soak = &data["soak"][0];
    assert_eq!((soak["system"].as_str(), soak["minutes"].as_f64()), (Some("voip-ha"), Some(0.05)));
    assert!(soak["false_failovers"].is_u64() && soak["sent"].as_u64() > Some(0), "{soak}");
    Ok(())
}

#[test]
fn data_of_something_else_is_refused_and_a_missing_file_is_empty() -> Result<()> {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("bench-other-{}.json", std::process::id()));
    assert_eq!(Data::read(&file)?.runs.len(), 0);
    fs::write(&file, "{\"events\":[]}")?;
    let refused = Data::read(&file).map(|_| ()).expect_err("it is not of the bench").to_string();
    assert!(refused.contains("is not of this bench"), "{refused}");
    Ok(fs::remove_file(&file)?)
}
