//! Faults under measured traffic: what the demo shows and the tests judge.
//!
//! One trial is a lab with a gateway, two servers and running RTP streams. Each fault is measured from outside: when it
//! was made, when the gateway says that it flipped (both on `CLOCK_MONOTONIC`), and what the streams lost meanwhile.

use std::{ops::Range, process::Command, time::Duration};

use anyhow::{Context as _, Result, ensure};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::{
    Lab,
    gateway::{Config, Gateway, socket},
    meter::{Meter, Stream, Tally},
    process::Process,
    program,
    real::RealServer,
    wait,
};

/// How long losses and gaps are counted before each fault and after its flip.
pub const WINDOW: Duration = Duration::from_secs(1);
/// How long the throughput is measured before each fault, and again when [`WINDOW`] is over after its flip.
pub const THROUGHPUT: Duration = Duration::from_secs(2);
/// Much longer than any flip may take; a flip that has not come by then does not come.
const FLIP: Duration = Duration::from_secs(10);
/// How long a server that was started again may take until the gateway calls it up.
const COMES_BACK: Duration = Duration::from_secs(20);

/// What happens to the active server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// An operator switches to the other server.
    Planned,
    /// The SIP process is killed with -9; its host lives.
    Crash,
    /// The cable is pulled behind a switch: nobody is told.
    Silent,
}

/// What one fault did.
#[derive(Debug, Clone, Serialize)]
pub struct Measured {
    /// What happened.
    pub kind: Kind,
    /// The server before.
    pub from: String,
    /// The server after.
    pub to: String,
    /// RTP streams that ran.
    pub streams: usize,
    /// RTP packets sent from [`WINDOW`] before the fault to [`WINDOW`] after the flip.
    pub sent: u64,
    /// Of these: no echo came back.
    pub lost: u64,
    /// Of these: more than one echo came back; how many more.
    pub duplicated: u64,
    /// The most packets that one stream lost one after another.
    pub max_lost_in_a_row: u64,
    /// Longest time in which one stream heard nothing. 20 ms is a stream without loss.
    pub max_gap_ms: f64,
    /// From the evidence, or the operator's order, to the new word in the kernel, as the gateway measured it.
    pub evidence_to_flip_us: f64,
    /// From the moment before the fault was made to the flip.
    pub fault_to_flip_ms: f64,
    /// From the same moment to the first echo of a packet that was sent after the flip: the new server serves.
    pub fault_to_first_packet_ms: f64,
    /// Ethernet bytes that came back per second in the time [`THROUGHPUT`] before the fault: see [`Tally::bytes_per_s`].
    pub bytes_per_s_before: f64,
    /// The same in the time [`THROUGHPUT`] that begins one [`WINDOW`] after the flip.
    pub bytes_per_s_after: f64,
    /// What the gateway gave as its evidence.
    pub evidence: String,
    /// Echoes that came back in each [`CELL`] around the fault.
    #[serde(skip)]
    pub strip: Vec<u64>,
}

/// Length of one cell of [`Measured::strip`].
pub const CELL: Duration = Duration::from_millis(5);
/// Cells of the strip before the fault.
pub const CELLS_BEFORE: u32 = 16;
/// Cells of the strip from the fault on.
pub const CELLS_AFTER: u32 = 64;

/// A flip, as `voip-ha events --json` tells it.
#[derive(Debug, Clone, Deserialize)]
struct Flip {
    monotonic_us: u64,
    from: String,
    to: String,
    evidence_to_flip_us: f64,
    evidence: Option<serde_json::Value>,
}

/// What runs on a server of the trial.
pub trait Serving {
    /// Kills all of it at once, as `kill -9` does, and returns when nothing of it is left.
    fn kill9(&mut self) -> Result<()>;
}

impl Serving for Process {
    fn kill9(&mut self) -> Result<()> {
        Self::kill9(self)
    }
}

impl Serving for RealServer {
    fn kill9(&mut self) -> Result<()> {
        Self::kill9(self)
    }
}

/// Starts a server of the trial by its name, `master` or `backup`.
type StartServer<'lab> = Box<dyn Fn(&'lab Lab, &str) -> Result<Box<dyn Serving>> + 'lab>;

/// A running trial.
pub struct Trial<'lab> {
    lab: &'lab Lab,
    start_server: StartServer<'lab>,
    servers: [(&'static str, Box<dyn Serving>); 2],
    gateway: Gateway<'lab>,
    events: Process,
    flips_seen: usize,
    meter: Option<Meter>,
    streams: usize,
}

impl<'lab> Trial<'lab> {
    /// Starts both servers and the gateway, and returns when the gateway has seen both up. `start_server` is given
    /// `master` or `backup`, and is called again for a server that comes back after a crash.
    pub fn start<S: Serving + 'static>(
        lab: &'lab Lab,
        config: Config,
        start_server: impl Fn(&'lab Lab, &str) -> Result<S> + 'lab,
    ) -> Result<Self> {
        let start_server: StartServer<'lab> = Box::new(move |lab, name| Ok(Box::new(start_server(lab, name)?)));
        let (master, backup) = (start_server(lab, "master")?, start_server(lab, "backup")?);
        let gateway = Gateway::start(lab, config)?;
        let events = follow_events(lab)?;
        let servers = [("master", master), ("backup", backup)];
        Ok(Self { lab, start_server, servers, gateway, events, flips_seen: 0, meter: None, streams: 0 })
    }

    /// The gateway.
    pub fn gateway(&mut self) -> &mut Gateway<'lab> {
        &mut self.gateway
    }

    /// Starts the RTP streams that every fault is measured by.
    pub fn stream(&mut self, streams: Vec<Stream>) -> Result<()> {
        self.streams = streams.len();
        self.meter = Some(Meter::start(streams)?);
        Ok(())
    }

    /// The account of the streams so far.
    pub fn meter(&self) -> Result<&Meter> {
        self.meter.as_ref().context("no streams run")
    }

    /// Ends the streams and accounts for all of them.
    pub fn finish_streams(&mut self) -> Result<Tally> {
        Ok(self.meter.take().context("no streams run")?.finish()?.total)
    }

    /// Makes something happen to the active server, and measures it.
    pub fn make(&mut self, kind: Kind) -> Result<Measured> {
        let active = self.gateway.status()?.active().to_owned();
        let (made_at, made_us) = self.moment()?;
        self.inflict(kind, &active)?;
        let flip = self.next_flip()?;
        ensure!(flip.from == active, "the flip is from {}, not from {active}", flip.from);
        let flipped_us = flip.monotonic_us.checked_sub(made_us).context("the flip came before the fault")?;
        let flipped_at = made_at + Duration::from_micros(flipped_us);
        // What is lost is lost for a while: the throughput is that of streams that have had time to be whole again.
        let again = flipped_at + WINDOW;
        let (before, whole) = (self.settled(made_at - THROUGHPUT..made_at)?, self.settled(made_at - WINDOW..again)?);
        let after = self.settled(again..again + THROUGHPUT)?;
        let first_packet = self.meter()?.first_echo(flipped_at..again).context("nothing came back after the flip")?;
        Ok(Measured {
            kind,
            from: flip.from,
            to: flip.to,
            streams: self.streams,
            sent: whole.sent,
            lost: whole.lost,
            duplicated: whole.duplicated,
            max_lost_in_a_row: whole.max_lost_in_a_row,
            max_gap_ms: ms(whole.max_gap),
            evidence_to_flip_us: flip.evidence_to_flip_us,
            fault_to_flip_ms: flipped_us as f64 / 1e3,
            fault_to_first_packet_ms: ms(first_packet.saturating_sub(made_at)),
            bytes_per_s_before: before.bytes_per_s(),
            bytes_per_s_after: after.bytes_per_s(),
            evidence: evidence_text(flip.evidence.as_ref()),
            strip: self.strip(made_at)?,
        })
    }

    /// Undoes a crash or a silent death: starts the server again or plugs its cable in, and returns when the gateway
    /// calls it up. The other server stays active.
    pub fn bring_back(&mut self, kind: Kind, server: &str) -> Result<()> {
        match kind {
            Kind::Planned => {}
            Kind::Crash => {
                *self.running(server)? = (self.start_server)(self.lab, server)?;
            }
            Kind::Silent => self.lab.mend(server)?,
        }
        let what = format!("{server} is up again");
        self.gateway.wait_until(&what, COMES_BACK, |status| status.health(server) == "up")?;
        Ok(())
    }

    fn inflict(&mut self, kind: Kind, active: &str) -> Result<()> {
        match kind {
            Kind::Planned => {
                let other = if active == "master" { "backup" } else { "master" };
                self.gateway.switch(other)
            }
            Kind::Crash => self.running(active)?.kill9(),
            Kind::Silent => self.lab.cut(active),
        }
    }

    fn running(&mut self, server: &str) -> Result<&mut Box<dyn Serving>> {
        let (_, running) = self.servers.iter_mut().find(|(name, _)| *name == server).context("no such server")?;
        Ok(running)
    }

    /// Now, by the meter's clock and by the gateway's in µs, once there are streams to compare with. An event ends long
    /// after its flip, so what was measured before the next one is whole.
    fn moment(&self) -> Result<(Duration, u64)> {
        let meter = self.meter()?;
        let long_enough = || Ok((meter.now() >= THROUGHPUT).then_some(()));
        wait::until(2 * THROUGHPUT, "streams that have run long enough", long_enough)?;
        Ok((meter.now(), monotonic_us()))
    }

    fn settled(&self, window: Range<Duration>) -> Result<Tally> {
        Ok(self.meter()?.settled(window)?.total)
    }

    fn strip(&self, made_at: Duration) -> Result<Vec<u64>> {
        let meter = self.meter()?;
        let first = made_at.saturating_sub(CELLS_BEFORE * CELL);
        let cells = (0..CELLS_BEFORE + CELLS_AFTER).map(|cell| first + cell * CELL);
        Ok(cells.map(|start| meter.snapshot(start..start + CELL).received).collect())
    }

    fn next_flip(&mut self) -> Result<Flip> {
        let flips = wait::until(FLIP, "the gateway to flip", || {
            self.events.must_run()?;
            let flips = flips_in(&self.events.log())?;
            Ok((flips.len() > self.flips_seen).then_some(flips))
        })?;
        self.flips_seen += 1;
        Ok(flips[self.flips_seen - 1].clone())
    }
}

fn follow_events(lab: &Lab) -> Result<Process> {
    let mut command = Command::new(program("voip-ha")?);
    command.args(["events", "--follow", "--json", "--socket"]).arg(socket(lab));
    let mut events = Process::start(lab, lab.gateway(), "events", command)?;
    events.wait_for_log("\"started\"", FLIP)?;
    Ok(events)
}

/// The flips in a log of events. A last line that is not whole yet is left for later.
fn flips_in(log: &str) -> Result<Vec<Flip>> {
    let whole = log.rfind('\n').map_or("", |end| &log[..end]);
    let flips = whole.lines().filter(|line| line.contains("\"kind\":\"flip\""));
    flips.map(|line| serde_json::from_str(line).with_context(|| format!("event {line}"))).collect()
}

fn evidence_text(evidence: Option<&serde_json::Value>) -> String {
    let kind = evidence.and_then(|evidence| evidence.get("kind")).and_then(serde_json::Value::as_str);
    kind.unwrap_or("operator").to_owned()
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// `CLOCK_MONOTONIC` in microseconds.
fn monotonic_us() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec.unsigned_abs() * 1_000_000 + now.tv_nsec.unsigned_abs() / 1000
}
