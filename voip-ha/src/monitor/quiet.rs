//! When a pause in a server's traffic is long enough to ask what is wrong.
//!
//! A question costs a few probes and nothing else, so the rule is a simple one that finds its own level: a question
//! that was needless makes the pause that the next one takes longer by a quarter, and of what it is longer than the shortest
//! a quarter is left each second: two seconds after the last of them it is nearly the shortest again. Fifty calls leave pauses of a fraction of a millisecond, and their end is noticed within about the
//! shortest pause. One call leaves pauses of 20 ms: it is given them after ten needless questions, and asked about six
//! times a second from then on.

use std::time::{Duration, Instant};

/// How many times the shortest pause may become; after that traffic is not worth watching.
const CEILING: u32 = 16;
/// What is left of the surplus after each second without a needless question.
const DECAY_PER_SECOND: f64 = 0.25;
/// For how long traffic must have gone on without a needless question before it counts as dense.
const SETTLED: Duration = Duration::from_millis(500);
/// A server that has not been heard for this long is not one whose traffic has just stopped.
const STALE: Duration = Duration::from_secs(1);

/// The pause that is thought unusual now.
#[derive(Clone, Debug)]
pub(super) struct Quiet {
    shortest: Duration,
    surplus: Duration,
    /// When the surplus was what it says.
    as_of: Option<Instant>,
    heard: Option<Instant>,
    /// Since when it has been heard again and again.
    heard_since: Option<Instant>,
    /// The sign of life after which the last question was asked.
    asked_after: Option<Instant>,
    /// Whether it is open what the last question was good for.
    asking: bool,
}

impl Quiet {
    /// `shortest` zero: never asks.
    pub(super) fn new(shortest: Duration) -> Self {
        Self {
            shortest,
            surplus: Duration::ZERO,
            as_of: None,
            heard: None,
            heard_since: None,
            asked_after: None,
            asking: false,
        }
    }

    /// When the server was last heard, as the kernel says.
    pub(super) fn heard(&mut self, at: Instant) {
        if self.heard.is_none_or(|before| at.saturating_duration_since(before) >= STALE) {
            self.heard_since = Some(at);
        }
        self.heard = self.heard.max(Some(at));
    }

    /// When the next question is due; `None`: nothing was heard since the last one.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        let heard = self.heard.filter(|heard| Some(*heard) > self.asked_after)?;
        let is_fresh = !self.shortest.is_zero() && now.saturating_duration_since(heard) < STALE;
        is_fresh.then(|| heard + self.shortest + self.surplus(now))
    }

    /// Whether packets have come so close together for a while that the shortest pause says something.
    pub(super) fn is_dense(&self, now: Instant) -> bool {
        let is_settled = |since: Instant| now.saturating_duration_since(since) >= SETTLED;
        self.surplus(now) < self.shortest
            && self.heard_since.is_some_and(is_settled)
            && self.as_of.is_none_or(is_settled)
    }

    /// The question is asked. Returns how long the pause has been.
    pub(super) fn asked(&mut self, now: Instant) -> Duration {
        (self.asked_after, self.asking) = (self.heard, true);
        self.heard.map_or(Duration::ZERO, |heard| now.saturating_duration_since(heard))
    }

    /// What was heard until now is not waited for: there are no calls any more, or not yet.
    pub(super) fn ignore(&mut self) {
        self.asked_after = self.heard;
    }

    /// The server was well. If it was asked for its silence, that was needless.
    pub(super) fn was_well(&mut self, now: Instant) {
        if std::mem::take(&mut self.asking) {
            let pause = self.shortest + self.surplus(now);
            self.surplus = (pause * 5 / 4).min(self.shortest * CEILING) - self.shortest;
            self.as_of = Some(now);
        }
    }

    fn surplus(&self, now: Instant) -> Duration {
        let Some(as_of) = self.as_of else { return self.surplus };
        let seconds = now.saturating_duration_since(as_of).as_secs_f64();
        self.surplus.mul_f64(DECAY_PER_SECOND.powf(seconds))
    }
}
