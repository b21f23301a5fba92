//! Who registers and calls in the demo: the built-in phones, or sipp.

use std::{
    fmt,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use serde::Serialize;

use super::ms;
use crate::{
    Lab,
    meter::Stream,
    phone::{self, Failure, Phones},
    real::{self, Counts, Run},
    topology::SIP,
    trial::Measured,
};

/// What became of a number of registrations or calls.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Outcome {
    pub(super) what: &'static str,
    pub(super) succeeded: u64,
    pub(super) failed: u64,
    /// Requests sent again because no answer had come in time.
    pub(super) retransmissions: u64,
    /// What else is to be said.
    pub(super) note: String,
}

/// Registers and calls around the events, and holds the streams that the events are measured by.
pub(super) trait Callers {
    /// Registers and calls at the first server.
    fn before(&mut self) -> Result<Vec<Outcome>>;
    /// The streams to measure by.
    fn streams(&mut self) -> Result<Vec<Stream>>;
    /// After each event: what has come to its end with it.
    fn between(&mut self, events: &[Measured]) -> Result<Option<Outcome>>;
    /// Registers and calls again at the last server.
    fn after(&mut self) -> Result<Vec<Outcome>>;
}

/// The lab's own phones. Every stream belongs to a call of one of them.
pub(super) struct BuiltIn {
    phones: Phones,
    count: usize,
}

impl BuiltIn {
    pub(super) fn new(lab: &Lab, count: usize) -> Result<Self> {
        Ok(Self { phones: Phones::new(lab, SIP, count)?, count })
    }
}

impl Callers for BuiltIn {
    fn before(&mut self) -> Result<Vec<Outcome>> {
        let registered = Outcome::of_phones("registrations before the events", &self.phones.register()?);
        let called = self.phones.call(self.count)?;
        ensure!(called.succeeded == self.count, "not every call was answered: {called:?}");
        Ok(vec![registered, Outcome::of_phones("calls before", &called)])
    }

    fn streams(&mut self) -> Result<Vec<Stream>> {
        self.phones.streams()
    }

    fn between(&mut self, _events: &[Measured]) -> Result<Option<Outcome>> {
        Ok(None)
    }

    fn after(&mut self) -> Result<Vec<Outcome>> {
        let answered = self.phones.hang_up()?;
        let mut ended = Outcome::of_phones("BYE of these calls after the events", &answered);
        if answered.failed.contains_key(&Failure::Status(481)) {
            ended.note += "; servers share no dialogs";
        }
        let registered = Outcome::of_phones("registrations after", &self.phones.register()?);
        let called = Outcome::of_phones("new calls after", &self.phones.call(self.count)?);
        Ok(vec![ended, registered, called])
    }
}

/// sipp, which registers and calls. The streams are the meter's own, to the port that sipp's calls use.
pub(super) struct Sipp<'lab> {
    lab: &'lab Lab,
    streams: usize,
    /// Calls that were set up before the first event, and when they were begun.
    held: Option<(Instant, Run)>,
}

const USERS: u32 = 100;
const CALLS: u32 = 20;
/// How long calls last that have no event to outlive.
const SHORT: Duration = Duration::from_secs(2);
/// Longer than it takes to see that all calls have audio, and then to measure two planned switches.
const HELD: Duration = Duration::from_secs(12);

impl<'lab> Sipp<'lab> {
    pub(super) fn new(lab: &'lab Lab, streams: usize) -> Self {
        Self { lab, streams, held: None }
    }

    fn register(&self, what: &'static str) -> Result<Outcome> {
        Ok(Outcome::of_sipp(what, real::register(self.lab, USERS)?.wait()?))
    }

    fn call(&self, what: &'static str) -> Result<Outcome> {
        Ok(Outcome::of_sipp(what, self.begin_calls(SHORT)?.wait()?))
    }

    /// Returns when all calls have audio.
    fn begin_calls(&self, hold: Duration) -> Result<Run> {
        let calls = real::call(self.lab, CALLS, hold.as_millis() as u32)?;
        real::wait_for_rtp(self.lab, CALLS)?;
        Ok(calls)
    }
}

impl Callers for Sipp<'_> {
    fn before(&mut self) -> Result<Vec<Outcome>> {
        let outcomes = vec![self.register("registrations before the events")?, self.call("calls with RTP before")?];
        let start = Instant::now();
        self.held = Some((start, self.begin_calls(HELD)?));
        Ok(outcomes)
    }

    fn streams(&mut self) -> Result<Vec<Stream>> {
        Stream::open_to_one_port(self.lab, real::RTP, self.streams)
    }

    fn between(&mut self, events: &[Measured]) -> Result<Option<Outcome>> {
        // sipp answers a BYE of a call that it does not know by 200, so only the server that set calls up can tell.
        let [first, .., last] = events else { return Ok(None) };
        let back = self.held.take_if(|_| first.from == last.to);
        let Some((start, calls)) = back else { return Ok(None) };
        ensure!(start.elapsed() < HELD, "calls of {HELD:?} have ended before {} events", events.len());
        Ok(Some(Outcome::of_sipp("calls held over the switch and back", calls.wait()?)))
    }

    fn after(&mut self) -> Result<Vec<Outcome>> {
        Ok(vec![self.register("registrations after the events")?, self.call("calls with RTP after")?])
    }
}

impl Outcome {
    fn of_phones(what: &'static str, outcome: &phone::Outcome) -> Self {
        let reasons: Vec<_> = outcome.failed.iter().map(|(reason, count)| format!("{count} × {reason:?}")).collect();
        Self {
            what,
            succeeded: outcome.succeeded as u64,
            failed: outcome.failed.values().sum::<usize>() as u64,
            retransmissions: outcome.retransmissions as u64,
            note: if reasons.is_empty() {
                format!("slowest {:.1} ms", ms(outcome.slowest))
            } else {
                reasons.join(", ")
            },
        }
    }

    fn of_sipp(what: &'static str, counts: Counts) -> Self {
        let Counts { created: _, successful: succeeded, failed, retransmissions } = counts;
        Self { what, succeeded, failed, retransmissions, note: String::new() }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, succeeded, failed, .. } = self;
        write!(f, "{what}: {succeeded} done, {failed} failed")
    }
}
