//! voip-ha itself, with the defaults of its configuration.

use std::{process::Command, time::Duration};

use anyhow::{Context, Result};
use serde::Deserialize;

use super::system::{Running, System};
use crate::{
    Lab,
    gateway::{Config, Gateway, socket},
    process::Process,
    program,
};

const START: Duration = Duration::from_secs(10);

pub(super) struct VoipHa;

impl System for VoipHa {
    fn name(&self) -> &'static str {
        "voip-ha"
    }

    fn period(&self) -> Duration {
        Duration::from_millis(100)
    }

    fn start<'lab>(&self, lab: &'lab Lab) -> Result<Box<dyn Running + 'lab>> {
        let gateway = Gateway::start(lab, config(lab))?;
        let mut command = Command::new(program("voip-ha")?);
        command.args(["events", "--follow", "--json", "--socket"]).arg(socket(lab));
        let mut events = Process::start(lab, lab.gateway(), "events", command)?;
        events.wait_for_log("\"started\"", START)?;
        Ok(Box::new(Runs { gateway, events }))
    }
}

/// The gateway's own defaults, but that one failover after the other is no reason to hold: that is what happens here.
fn config(lab: &Lab) -> Config {
    let mut config = Config::of(lab);
    config.policy.failovers_per_hour = Some(0);
    config.policy.damping_half_life_s = Some(0);
    config
}

struct Runs<'lab> {
    gateway: Gateway<'lab>,
    events: Process,
}

/// A flip, as `voip-ha events --json` tells it.
#[derive(Debug, Deserialize)]
struct Flip {
    monotonic_us: u64,
    /// Nearer to the flip than the event's own time, where it is told.
    flipped_us: Option<u64>,
}

impl Running for Runs<'_> {
    fn settled(&mut self) -> Result<Option<String>> {
        self.gateway.process().must_run()?;
        let status = self.gateway.status()?;
        let both = status.health("master") == "up" && status.health("backup") == "up";
        Ok(both.then(|| status.active().to_owned()))
    }

    fn switch(&mut self, to: &str) -> Result<()> {
        self.gateway.switch(to)
    }

    fn flips(&mut self) -> Result<Option<Vec<u64>>> {
        self.events.must_run()?;
        let log = self.events.log();
        // A last line that is not whole yet is left for later.
        let whole = log.rfind('\n').map_or("", |end| &log[..end]);
        let flips = whole.lines().filter(|line| line.contains("\"kind\":\"flip\"")).map(|line| {
            let flip: Flip = serde_json::from_str(line).with_context(|| format!("event {line}"))?;
            Ok(flip.flipped_us.unwrap_or(flip.monotonic_us))
        });
        flips.collect::<Result<_>>().map(Some)
    }
}
