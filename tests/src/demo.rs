//! The demo: calls through the gateway, and what each kind of failure costs them.

mod callers;
mod report;
mod timeline;

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use self::{
    callers::{BuiltIn, Callers, Outcome, Sipp},
    report::{Report, Setup},
};
use crate::{
    Lab, Options,
    gateway::{Config, Probe},
    real::RealServer,
    server,
    trial::{Kind, Measured, Trial},
};

/// What the demo is asked for.
#[derive(Debug, Clone)]
pub struct Settings {
    /// RTP streams that run all the time.
    pub streams: usize,
    /// Kamailio and sipp in place of the built-in server and phones.
    pub real: bool,
    /// Where to write what was measured, as JSON.
    pub json: Option<PathBuf>,
}

/// A pair of planned switches, a crash, the way back, and a silent death.
const EVENTS: [Kind; 5] = [Kind::Planned, Kind::Planned, Kind::Crash, Kind::Planned, Kind::Silent];

/// Says what happens while it happens.
struct Progress(Instant);

impl Progress {
    fn say(&self, text: &str) {
        anstream::eprintln!("{:7.3} s  {text}", self.0.elapsed().as_secs_f64());
    }

    fn tell(&self, outcomes: impl IntoIterator<Item = Outcome>) -> impl Iterator<Item = Outcome> {
        outcomes.into_iter().inspect(|outcome| self.say(&outcome.to_string()))
    }
}

/// Runs the demo and prints its report.
pub fn run(settings: &Settings) -> Result<()> {
    let progress = Progress(Instant::now());
    // The gateway's default, told to it because the report names it.
    let setup = Setup { real: settings.real, streams: settings.streams, preset: "lan" };
    progress.say("building the lab: namespaces for phones, gateway, master, router and backup");
    let lab = Lab::new(Options::default())?;
    let (mut trial, mut callers) = start(&lab, &setup, &progress)?;
    progress.say("the gateway has seen master and backup up; XDP is on front and back");

    let mut calls = Vec::new();
    calls.extend(progress.tell(callers.before()?));
    trial.stream(callers.streams()?)?;
    let mut events = Vec::new();
    for kind in EVENTS {
        events.push(one(&mut trial, kind, &progress)?);
        calls.extend(progress.tell(callers.between(&events)?));
    }
    let total = trial.finish_streams()?.into();
    calls.extend(progress.tell(callers.after()?));
    let report = Report { setup, events, total, calls };
    let mut out = anstream::stdout().lock();
    write!(out, "{report}")?;
    out.flush()?;
    if let Some(path) = &settings.json {
        write_json(path, &report)?;
        progress.say(&format!("wrote {}", path.display()));
    }
    Ok(())
}

fn start<'lab>(lab: &'lab Lab, setup: &Setup, progress: &Progress) -> Result<(Trial<'lab>, Box<dyn Callers + 'lab>)> {
    let Setup { real, streams, preset } = *setup;
    let probe = Probe { preset: Some(preset.to_owned()), ..Probe::default() };
    let config = Config { probe, ..Config::of(lab) };
    if real {
        progress.say("starting Kamailio and the application behind it on both servers, and the gateway");
        let trial = Trial::start(lab, config, RealServer::start)?;
        return Ok((trial, Box::new(Sipp::new(lab, streams))));
    }
    progress.say("starting both servers and the gateway");
    let trial = Trial::start(lab, config, |lab, name| server::start(lab, name, &[]))?;
    Ok((trial, Box::new(BuiltIn::new(lab, streams)?)))
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

fn write_json(path: &Path, report: &Report) -> Result<()> {
    let text = serde_json::to_string_pretty(report)?;
    std::fs::write(path, text + "\n").with_context(|| format!("cannot write {}", path.display()))
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
