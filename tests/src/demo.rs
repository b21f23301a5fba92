//! The demo: calls through the gateway, and what each kind of failure costs them.

mod report;

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use self::report::Report;
use crate::{
    Lab, Options,
    gateway::Config,
    phone::{Outcome, Phones},
    server,
    topology::SIP,
    trial::{Kind, Measured, Trial},
};

/// What the demo is asked for.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Calls that run all the time.
    pub calls: usize,
    /// Where to write what was measured, as JSON.
    pub json: Option<PathBuf>,
}

/// Says what happens while it happens.
struct Progress(Instant);

impl Progress {
    fn say(&self, text: &str) {
        eprintln!("{:7.3} s  {text}", self.0.elapsed().as_secs_f64());
    }
}

/// Runs the demo and prints its report.
pub fn run(settings: &Settings) -> Result<()> {
    let progress = Progress(Instant::now());
    progress.say("building the lab: namespaces for phones, gateway, master, router and backup");
    let lab = Lab::new(Options::default())?;
    progress.say("starting both servers and the gateway");
    let start = Box::new(|lab: &'_ Lab, name: &str| server::start(lab, name, &[]));
    let mut trial = Trial::start(&lab, Config::of(&lab), start)?;
    progress.say("the gateway has seen master and backup up; XDP is on front and back");

    let mut phones = Phones::new(&lab, SIP, settings.calls)?;
    let registered = phones.register()?;
    progress.say(&format!("{} phones registered with the VIP", registered.succeeded));
    let called = phones.call(settings.calls)?;
    progress.say(&format!("{} calls answered, the slowest after {}", called.succeeded, ms(called.slowest)));
    ensure!(called.succeeded == settings.calls, "not every call was answered: {called:?}");
    trial.stream(phones.streams()?)?;

    let mut events = Vec::new();
    for kind in [Kind::Planned, Kind::Planned, Kind::Crash, Kind::Planned, Kind::Silent] {
        events.push(one(&mut trial, kind, &progress)?);
    }
    let total = trial.finish_streams()?;
    let calls = Calls {
        before: called,
        ended: phones.hang_up()?,
        registered: phones.register()?,
        after: phones.call(settings.calls)?,
    };
    progress.say(&format!("{} new calls answered by the server that is left", calls.after.succeeded));
    let report = Report { events, total, calls };
    print!("{report}");
    if let Some(path) = &settings.json {
        write_json(path, &report.events)?;
        progress.say(&format!("wrote {}", path.display()));
    }
    Ok(())
}

/// Makes one thing happen, and undoes it.
fn one(trial: &mut Trial<'_>, kind: Kind, progress: &Progress) -> Result<Measured> {
    let active = trial.gateway().status()?.active().to_owned();
    progress.say(&match kind {
        Kind::Planned => format!("planned switch away from {active}"),
        Kind::Crash => format!("kill -9 of {active}"),
        Kind::Silent => format!("pulling the cable of {active}"),
    });
    let measured = trial.make(kind)?;
    progress.say(&format!(
        "  {} is active {:.1} ms later; longest gap {:.0} ms, {} of {} packets lost",
        measured.to, measured.fault_to_flip_ms, measured.max_gap_ms, measured.lost, measured.sent
    ));
    if kind != Kind::Planned {
        trial.bring_back(kind, &active)?;
        progress.say(&format!("  {active} is up again, and on standby"));
    }
    Ok(measured)
}

fn write_json(path: &Path, events: &[Measured]) -> Result<()> {
    let text = serde_json::to_string_pretty(&serde_json::json!({ "events": events }))?;
    std::fs::write(path, text + "\n").with_context(|| format!("cannot write {}", path.display()))
}

fn ms(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1e3)
}

/// What became of the calls.
struct Calls {
    /// Calls before the first event.
    before: Outcome,
    /// BYE to those calls, after the last event.
    ended: Outcome,
    /// Phones that register again after the last event.
    registered: Outcome,
    /// New calls after that.
    after: Outcome,
}
