//! What becomes of a server after another one has taken its place.
//!
//! ```text
//!   flip ──planned──────────────► Grace ──deadline──► fenced
//!        ──planned, with drain──► Drain ──deadline, it goes down, an operator's word──► fenced
//!        ──it went down─────────► Recall ──it proves alive──► Drain
//!                                        ──deadline, it has crashed──► forgotten
//! ```
//!
//! The next flip ends each of them, and its census a grace.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{Cause, Choice, Decision, Rank, Standing};
use crate::{detector::Health, evidence::Fault};

/// A server whose place another one has taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Former {
    /// Which one.
    pub server: Rank,
    /// What it may still do.
    pub stay: Stay,
    /// Since when.
    pub since: Instant,
    /// Until when.
    pub until: Instant,
    /// Whether its running calls were noted before it was left: then nothing that shows later is one of them.
    pub is_noted: bool,
}

/// What a server whose place another one has taken may still do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stay {
    /// Send to clients what is on its way. It gets nothing.
    Grace,
    /// Serve its running calls, which stay with it.
    Drain,
    /// Nothing: it is down. But calls are remembered, so that it can be given its own back.
    Recall,
}

/// What became of such a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parting {
    /// The time to end what was on its way is over.
    Fenced,
    /// It drains no more.
    Drained(DrainEnd),
    /// It proved alive, and serves its running calls again.
    GivenBack,
    /// It did not prove alive in time.
    NotBack,
}

/// Why a server drains no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DrainEnd {
    /// Its time is over.
    Deadline,
    /// It went down.
    Down,
    /// An operator said so.
    Operator,
}

impl Former {
    /// Whether calls are remembered for it.
    pub fn is_remembered(&self) -> bool {
        self.stay != Stay::Grace
    }
}

impl Decision {
    /// The server whose place the active one has taken, as long as it may still do something.
    pub fn former(&self) -> Option<Former> {
        self.former
    }

    /// The server that drains.
    pub fn draining(&self) -> Option<Former> {
        self.former.filter(|former| former.stay == Stay::Drain)
    }

    /// What has become of the former server, if something has. It has been noted.
    pub fn part(&mut self, servers: &[Standing], now: Instant) -> Option<(Rank, Parting)> {
        let former = self.former?;
        let parting = self.parting(&former, &servers[former.server.0], now)?;
        self.former = (parting == Parting::GivenBack).then(|| self.drain_from(former.server, self.drain, now));
        Some((former.server, parting))
    }

    fn parting(&self, former: &Former, server: &Standing, now: Instant) -> Option<Parting> {
        let is_over = former.until <= now;
        match former.stay {
            Stay::Grace => is_over.then_some(Parting::Fenced),
            Stay::Drain if server.health == Health::Down => Some(Parting::Drained(DrainEnd::Down)),
            Stay::Drain => is_over.then_some(Parting::Drained(DrainEnd::Deadline)),
            // Whatever comes back after a crash has no calls any more.
            Stay::Recall if is_over || server.fault == Some(Fault::Crashed) => Some(Parting::NotBack),
            Stay::Recall if self.choice == Choice::Held => None,
            Stay::Recall => (server.health == Health::Up && server.reachable).then_some(Parting::GivenBack),
        }
    }

    /// An operator ends a drain. Returns the server that drained.
    pub fn end_drain(&mut self) -> Option<Rank> {
        let former = self.draining()?;
        self.former = None;
        Some(former.server)
    }

    /// A server that drains does so for this long from now on.
    pub fn prolong(&mut self, time: Duration, now: Instant) {
        if let Some(former) = self.former.as_mut().filter(|former| former.stay == Stay::Drain) {
            former.until = now + time;
        }
    }

    /// The server that would take over from the active one if that was taken out of service.
    pub fn successor(&self, servers: &[Standing], now: Instant) -> Option<Rank> {
        self.by_preference(servers, now).next()
    }

    /// What an earlier controller left. For how long it has been so is not known.
    pub(super) fn found(&self, draining: Option<Rank>, affinity: bool, now: Instant) -> Option<Former> {
        let server = draining?;
        let grace = Former { server, stay: Stay::Grace, since: now, until: now + self.switch_grace, is_noted: false };
        Some(if affinity { self.drain_from(server, self.drain, now) } else { grace })
    }

    /// What becomes of the server that is left. Only where all of a service moves is it known whose a call is.
    pub(super) fn left(
        &self,
        (from, old): (Rank, &Standing),
        cause: Cause,
        drain: Option<Duration>,
        whole: bool,
        now: Instant,
    ) -> Option<Former> {
        let (stay, time) = match cause {
            Cause::Failover => (Stay::Recall, self.give_back.filter(|_| old.fault != Some(Fault::Crashed))),
            Cause::Operator => (Stay::Drain, drain),
            Cause::Maintenance => (Stay::Drain, Some(self.drain)),
            Cause::Failback => (Stay::Drain, drain),
            Cause::Start | Cause::Adopted => return None,
        };
        let remembered = time.filter(|time| whole && !time.is_zero()).map(|time| (stay, time));
        let grace = || cause.is_planned().then_some((Stay::Grace, self.switch_grace));
        let (stay, time) = remembered.or_else(grace).filter(|(_, time)| !time.is_zero())?;
        Some(Former { server: from, stay, since: now, until: now + time, is_noted: false })
    }

    fn drain_from(&self, server: Rank, time: Duration, now: Instant) -> Former {
        Former { server, stay: Stay::Drain, since: now, until: now + time, is_noted: false }
    }
}
