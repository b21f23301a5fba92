//! Probes of one kind that wait for an answer.
//!
//! Every probe that was sent ends once: answered in time, or missed. An answer may still come after that.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::rtt::Rtt;

/// Most probes that are remembered, missed ones included.
pub(super) const MAX_OUTSTANDING: usize = 64;

/// The probes of one kind.
#[derive(Clone, Debug)]
pub(super) struct Track {
    timeout_min: Duration,
    timeout_max: Duration,
    rtt: Rtt,
    /// In the order of sending.
    probes: VecDeque<Sent>,
    /// When those were sent that were forgotten before they were missed, because there were too many.
    displaced: Vec<Instant>,
    next_sequence: u64,
}

#[derive(Clone, Debug)]
struct Sent {
    sequence: u64,
    at: Instant,
    deadline: Instant,
    missed: bool,
}

/// An answer that belongs to a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) rtt: Duration,
    /// Whether the probe had been counted as missed.
    pub(super) missed: bool,
}

impl Track {
    pub(super) fn new(timeout_min: Duration, timeout_max: Duration) -> Self {
        let (rtt, probes) = (Rtt::default(), VecDeque::new());
        Self { timeout_min, timeout_max, rtt, probes, displaced: Vec::new(), next_sequence: 0 }
    }

    pub(super) fn rtt(&self) -> Rtt {
        self.rtt
    }

    pub(super) fn timeout(&self) -> Duration {
        self.rtt.timeout(self.timeout_min, self.timeout_max)
    }

    /// Notes a probe that is sent now, and gives its number. If there are too many the oldest is waited for no longer.
    pub(super) fn send(&mut self, now: Instant) -> u64 {
        if self.probes.len() == MAX_OUTSTANDING {
            let oldest = self.probes.pop_front().filter(|oldest| !oldest.missed);
            self.displaced.extend(oldest.map(|oldest| oldest.at));
        }
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        self.probes.push_back(Sent { sequence, at: now, deadline: now + self.timeout(), missed: false });
        sequence
    }

    /// A probe could not be sent: it never was.
    pub(super) fn take_back(&mut self, sequence: u64) {
        self.probes.retain(|probe| probe.sequence != sequence);
    }

    /// Finds the probe that an answer received at `at` belongs to, and forgets it. `None`: it belongs to none, or came
    /// before.
    ///
    /// Where `late_teaches`, a late answer teaches how long the way is as well, but no more than twice what was waited for: a
    /// way that has become longer is learnt within a few answers, and one that a pause held back is forgotten within a few.
    /// A first answer that is late teaches nothing: it waited for a neighbour to be resolved.
    pub(super) fn answered(&mut self, sequence: u64, at: Instant, late_teaches: bool) -> Option<Reply> {
        let index = self.probes.iter().position(|probe| probe.sequence == sequence)?;
        let probe = self.probes.remove(index)?;
        let rtt = at.saturating_duration_since(probe.at);
        if !probe.missed || (late_teaches && self.rtt.smoothed().is_some()) {
            self.rtt.sample(rtt.min(self.timeout() * 2));
        }
        Some(Reply { rtt, missed: probe.missed })
    }

    /// When the probes were sent whose deadline has passed, oldest first; each is given once.
    pub(super) fn expired(&mut self, now: Instant) -> Vec<Instant> {
        let mut expired = std::mem::take(&mut self.displaced);
        for probe in self.probes.iter_mut().filter(|probe| !probe.missed && probe.deadline <= now) {
            probe.missed = true;
            expired.push(probe.at);
        }
        expired
    }

    /// The gateway itself stood still: what waits is waited for anew.
    pub(super) fn postpone(&mut self, now: Instant) {
        let deadline = now + self.timeout();
        for probe in self.probes.iter_mut().filter(|probe| !probe.missed) {
            probe.deadline = probe.deadline.max(deadline);
        }
    }

    /// Nothing that was asked before is waited for any more.
    pub(super) fn forget(&mut self) {
        self.probes.clear();
        self.displaced.clear();
    }

    /// When the newest probe was sent that still waits.
    pub(super) fn newest_waiting(&self) -> Option<Instant> {
        self.waiting().map(|probe| probe.at).max()
    }

    /// When [`Track::expired`] next has something to give.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.waiting().map(|probe| probe.deadline).min()
    }

    fn waiting(&self) -> impl Iterator<Item = &Sent> {
        self.probes.iter().filter(|probe| !probe.missed)
    }
}
