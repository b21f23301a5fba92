//! Flips that are known beforehand, and leave running calls where they are: a census of those comes first.
//!
//! ```text
//!   order with drain, failback ──► census ──its time is over──► flip
//!                                         ──the active server goes down──► the rules, at once
//!                                         ──the other one cannot take over, another order──► nothing
//! ```
//!
//! What shows after the flip is then known to be new. While the census lasts all goes where it went, and the only rule that is
//! followed is the one about an active server that is down.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{Cause, Choice, Decision, Flip, Former, Rank, Standing, is_eligible};
use crate::detector::Health;

/// How long running calls are noted before such a flip, and flows are counted after any: a stream of packets 20 ms apart shows
/// ten times.
pub const CENSUS: Duration = Duration::from_millis(200);

/// A flip that waits for the end of its census.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Planned {
    /// The server that takes over.
    pub to: Rank,
    /// Why.
    pub cause: Cause,
    /// For how long the active server drains then.
    pub drain: Duration,
    /// When it was decided.
    pub decided: Instant,
    /// Since when running calls are noted.
    pub since: Instant,
    /// When the flip is due.
    pub due: Instant,
}

/// Why a planned flip is not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Dropped {
    /// The server that was to be left went down.
    Down,
    /// The server that was to take over cannot any more.
    NotEligible,
    /// An operator gave another order.
    Overruled,
}

impl Planned {
    /// Why it cannot be made any more, if the server to be left is `active`.
    pub fn hindrance(&self, active: Rank, servers: &[Standing]) -> Option<Dropped> {
        if servers[active.0].health == Health::Down {
            return Some(Dropped::Down);
        }
        (!is_eligible(&servers[self.to.0])).then_some(Dropped::NotEligible)
    }
}

impl Decision {
    /// The flip that waits for the end of its census.
    pub fn planned(&self) -> Option<Planned> {
        self.planned
    }

    /// An operator takes back what is planned. Returns whether there was something.
    pub fn drop_planned(&mut self) -> bool {
        let planned = self.planned.take();
        if planned.is_some_and(|planned| planned.cause == Cause::Failback) {
            // Or it would be planned again at once. The operator has chosen the server that is active.
            self.choice = Choice::Chosen;
        }
        planned.is_some()
    }

    /// Begins a census, unless there are no calls of it to keep. `before` is the one that goes on in this one.
    pub(super) fn begin_census(
        &mut self,
        (to, cause, drain): (Rank, Cause, Duration),
        before: Option<Planned>,
        servers: &[Standing],
        now: Instant,
    ) -> bool {
        let active = self.signalling;
        let keeps = active == self.media && active != to && servers[active.0].health != Health::Down;
        if !keeps || drain.is_zero() {
            return false;
        }
        // To remember calls is to send some to a server that was left, which one in its grace must not get.
        self.former = self.former.filter(Former::is_remembered);
        let since = before.map_or(now, |planned| planned.since);
        self.planned = Some(Planned { to, cause, drain, decided: now, since, due: since + CENSUS });
        true
    }

    /// Makes the flip that was planned.
    pub(super) fn flip_as_planned(&mut self, planned: &Planned, servers: &[Standing], now: Instant) -> Option<Flip> {
        self.planned = None;
        self.choice = if planned.cause == Cause::Operator { Choice::Chosen } else { Choice::None };
        let flip = self.flip((planned.to, planned.to), planned.cause, Some(planned.drain), servers, now);
        if let Some(former) = &mut self.former {
            former.is_noted = true;
        }
        flip
    }
}
