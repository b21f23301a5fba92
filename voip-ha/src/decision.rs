//! Which server of a service is active.
//!
//! Pure: the health of the servers, the operator's wish and the time are arguments.
//!
//! The rules, first match first:
//! 1. The active server is down: the first server by priority that is up. If none is up, nothing changes and the service
//!    has an outage.
//! 2. The operator chooses a server that is up: it becomes active and is held until rule 1, another choice, or `auto`.
//! 3. Failback is `auto` and no choice is held: a server before the active one in priority, once it has been up for the
//!    hold-down.
//!
//! A server whose health is unknown is never left by rule 1. A server whose health is unknown, or to which the packet path
//! has no way, is never taken by any.
//!
//! A fault that concerns all servers, such as a dead switch behind the gateway or its own link, is no reason to prefer
//! another one. So rule 1 wants more of a server than to be called up:
//! - if the active server fell silent, the other must have answered since that began;
//! - if the other came up only after that began, the active one first gets the time that it needs itself (`settle`).

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::{config::Failback, detector::Health};

/// A server of this service: its place in the order of priority, 0 for the master.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Rank(pub usize);

/// What is known about a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Its health.
    pub health: Health,
    /// Since when.
    pub since: Instant,
    /// Whether the packet path has a way to it.
    pub reachable: bool,
    /// When the failures began that it has not recovered from.
    pub failing_since: Option<Instant>,
    /// When it last answered.
    pub last_answer: Option<Instant>,
    /// Whether its latest failure was proof, and not mere silence.
    pub certain: bool,
}

/// Why a server is or becomes active.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// The gateway started with it: the first by priority.
    Start,
    /// An earlier controller had made it active, and this one took over.
    Adopted,
    /// The server before it went down.
    Failover,
    /// It came back, and the policy prefers it.
    Failback,
    /// An operator chose it.
    Operator,
}

impl Cause {
    /// Whether the server before it still serves, so that it may end what it has begun.
    pub fn is_planned(self) -> bool {
        matches!(self, Self::Failback | Self::Operator)
    }
}

/// A change that has to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flip {
    /// The server that was active.
    pub from: Rank,
    /// The server that is to become active.
    pub to: Rank,
    /// Why.
    pub cause: Cause,
}

/// Why an operator's choice is not followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It would end the service.
    #[error("it is down")]
    Down,
    /// Nobody knows whether it would serve.
    #[error("nothing was heard from it yet")]
    Unknown,
    /// It would serve, but packets do not get there.
    #[error("there is no way to it; `voip-ha status` says why")]
    NoWay,
}

/// The decision about one service.
#[derive(Clone, Debug)]
pub struct Decision {
    failback: Failback,
    settle: Duration,
    active: Rank,
    /// Whether the active server is the operator's choice.
    held: bool,
}

impl Decision {
    /// Starts with an active server: the master, or the one that is found active, which may be an operator's choice
    /// (`held`). `settle` is the time that a server needs to be called up again after a fault that concerned all.
    pub fn new(failback: Failback, settle: Duration, active: Rank, held: bool) -> Self {
        Self { failback, settle, active, held }
    }

    /// The active server.
    pub fn active(&self) -> Rank {
        self.active
    }

    /// Whether the active server is the operator's choice.
    pub fn is_held(&self) -> bool {
        self.held
    }

    /// Whether the service has no server: the active one is down, and none is up.
    pub fn is_outage(&self, servers: &[Standing]) -> bool {
        servers[self.active.0].health == Health::Down && !servers.iter().any(is_up)
    }

    /// Whether an operator may choose this server.
    ///
    /// # Errors
    ///
    /// Says why not.
    pub fn may_choose(&self, rank: Rank, servers: &[Standing]) -> Result<(), Refusal> {
        match servers[rank.0].health {
            Health::Up if servers[rank.0].reachable => Ok(()),
            Health::Up => Err(Refusal::NoWay),
            Health::Down => Err(Refusal::Down),
            Health::Unknown => Err(Refusal::Unknown),
        }
    }

    /// An operator chooses a server, or hands the choice back to the policy. Returns the flip that this asks for.
    ///
    /// # Errors
    ///
    /// As [`Decision::may_choose`]; nothing has changed then.
    pub fn choose(
        &mut self,
        choice: Option<Rank>,
        servers: &[Standing],
        now: Instant,
    ) -> Result<Option<Flip>, Refusal> {
        let Some(rank) = choice else {
            self.held = false;
            return Ok(self.decide(servers, now));
        };
        self.may_choose(rank, servers)?;
        self.held = true;
        Ok((rank != self.active).then(|| self.flip(rank, Cause::Operator)))
    }

    /// Applies the rules. The flip that is returned has been noted as made.
    pub fn decide(&mut self, servers: &[Standing], now: Instant) -> Option<Flip> {
        let (candidates, cause) = self.candidates(servers);
        let due = candidates.into_iter().find(|(_, due)| *due <= now);
        due.map(|(to, _)| self.flip(to, cause))
    }

    /// When [`Decision::decide`] has to be asked again even if nothing happens.
    pub fn next_deadline(&self, servers: &[Standing]) -> Option<Instant> {
        self.candidates(servers).0.into_iter().map(|(_, due)| due).min()
    }

    /// The servers that rule 1 or 3 would make active, by priority, and when each may be.
    fn candidates(&self, servers: &[Standing]) -> (Vec<(Rank, Instant)>, Cause) {
        let active = &servers[self.active.0];
        let ranked = servers.iter().enumerate().filter(|(_, server)| is_up(server));
        if active.health == Health::Down {
            let began = active.failing_since.unwrap_or(active.since);
            let confirmed = ranked.filter(|(_, server)| active.certain || server.last_answer >= Some(began));
            let due =
                |server: &Standing| server.since + if server.since > began { self.settle } else { Duration::ZERO };
            return (confirmed.map(|(rank, server)| (Rank(rank), due(server))).collect(), Cause::Failover);
        }
        let preferred = match self.failback {
            Failback::Auto { hold_down } if !self.held => ranked
                .take_while(|(rank, _)| *rank < self.active.0)
                .map(|(rank, server)| (Rank(rank), server.since + hold_down))
                .collect(),
            _ => Vec::new(),
        };
        (preferred, Cause::Failback)
    }

    fn flip(&mut self, to: Rank, cause: Cause) -> Flip {
        let from = std::mem::replace(&mut self.active, to);
        self.held = cause == Cause::Operator;
        Flip { from, to, cause }
    }
}

fn is_up(server: &Standing) -> bool {
    server.health == Health::Up && server.reachable
}

/// How long the server before may go on sending after a flip of this cause; `None` fences it at once.
pub fn grace(cause: Cause, switch_grace: Duration) -> Option<Duration> {
    cause.is_planned().then_some(switch_grace).filter(|grace| !grace.is_zero())
}

#[cfg(test)]
mod tests;
