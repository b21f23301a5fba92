//! Which server of a service is active.
//!
//! Pure: the health of the servers, the operator's wish and the time are arguments.
//!
//! Signalling (SIP) and media (RTP) of a service go to the same server, unless an operator parts them.
//!
//! The rules, first match first. *Eligible* is a server that is up and that the packet path has a way to. The first one is
//! the one that drains, because it has calls still, then it goes by priority.
//! 1. An operator holds the service: nothing changes by itself. Only a forced switch is followed.
//! 2. The server of signalling is down: the first eligible one takes over, and media with it if it was there too.
//! 3. It refuses service: the first eligible one takes over signalling and media, and it drains.
//! 4. The server of media is down: media goes where signalling is.
//! 5. Failback is `auto` and no choice is in force: an eligible server before the active one in priority, once it has been
//!    up for the hold-down.
//!
//! Rule 5, and an operator's switch that lets the server before drain, are carried out a moment later: see `planned`.
//!
//! A server whose health is unknown is never left. An operator's choice is in force until rule 2 or 3, another choice, or
//! `auto`. What the server that was left may still do, and for how long, is in `former`.
//!
//! A fault that concerns all servers, such as a dead switch behind the gateway or its own link, is no reason to prefer
//! another one. So rule 2 wants more of a server than to be called up:
//! - if the active server fell silent, the other must have given a sign of life since the first question that stayed
//!   unanswered (it is asked at that moment, too);
//! - if the other came up only after that, the active one first gets the time that it needs itself (`settle`), unless its
//!   fault is proved to be its own.
//!
//! Servers that fall again and again are taken last by rule 2 and not at all by rule 5, until their penalty has decayed. A
//! service whose failovers of the hour are used up keeps its server, even a dead one, until the next is allowed: two
//! servers that take turns in falling do less harm than calls that are thrown to and fro.

mod damping;
mod former;
mod planned;
mod terms;

use std::time::{Duration, Instant};

pub use self::{
    damping::{Budget, Penalty},
    former::{DrainEnd, Former, Parting, Stay},
    planned::{CENSUS, Dropped, Planned},
    terms::{Cause, Choice, Flip, Found, Order, Rank, Refusal, Scope, Standing},
};
use crate::{
    config::{Failback, Policy},
    detector::Health,
    evidence::Fault,
};

/// The decision about one service.
#[derive(Clone, Debug)]
pub struct Decision {
    failback: Failback,
    switch_grace: Duration,
    drain: Duration,
    failback_drains: bool,
    give_back: Option<Duration>,
    half_life: Option<Duration>,
    budget: Option<Budget>,
    settle: Duration,
    signalling: Rank,
    media: Rank,
    choice: Choice,
    /// Whether the server was the operator's choice before the service was held.
    chosen_before_hold: bool,
    penalties: Vec<Penalty>,
    former: Option<Former>,
    planned: Option<Planned>,
}

impl Decision {
    /// Starts with the servers that are found active, of `servers` in all. `settle` is the time that a server needs to be
    /// called up again after a fault that concerned all.
    pub fn new(policy: &Policy, settle: Duration, servers: usize, found: Found, now: Instant) -> Self {
        let signalling = found.signalling.unwrap_or(Rank(0));
        let media = found.media.unwrap_or(signalling);
        // Nobody but an operator parts them.
        let parted = media != signalling && found.choice == Choice::None;
        let mut new = Self {
            failback: policy.failback,
            switch_grace: policy.switch_grace,
            drain: policy.drain,
            failback_drains: policy.failback_drains,
            give_back: policy.give_back,
            half_life: policy.damping_half_life,
            budget: policy.failovers_per_hour.map(Budget::new),
            settle,
            signalling,
            media,
            choice: if parted { Choice::Chosen } else { found.choice },
            // An earlier controller knew. To go on as if it was chosen surprises nobody by a failback.
            chosen_before_hold: found.choice == Choice::Held,
            penalties: vec![Penalty::default(); servers],
            former: None,
            planned: None,
        };
        new.former = new.found(found.draining, found.affinity, now);
        new
    }

    /// The server of signalling, which is called the active one.
    pub fn active(&self) -> Rank {
        self.signalling
    }

    /// The server of media.
    pub fn media(&self) -> Rank {
        self.media
    }

    /// What an operator has chosen.
    pub fn choice(&self) -> Choice {
        self.choice
    }

    /// A server went down.
    pub fn went_down(&mut self, rank: Rank, now: Instant) {
        if let Some(half_life) = self.half_life {
            self.penalties[rank.0].fall(half_life, now);
        }
    }

    /// Whether a server is avoided because it fell too often, and until when.
    pub fn suppressed_until(&self, rank: Rank, now: Instant) -> Option<Instant> {
        self.penalties[rank.0].reused_at(self.half_life?, now)
    }

    /// Whether the service has no server: the active one is down, and none is eligible.
    pub fn is_outage(&self, servers: &[Standing]) -> bool {
        servers[self.signalling.0].health == Health::Down && !servers.iter().any(is_eligible)
    }

    /// Whether the active server is down and stays active though another is eligible: held, or the budget is spent.
    pub fn is_kept(&self, servers: &[Standing], now: Instant) -> bool {
        servers[self.signalling.0].health == Health::Down
            && servers.iter().any(is_eligible)
            && (self.choice == Choice::Held || self.budget.as_ref().is_some_and(|budget| budget.next(now) > now))
    }

    /// Whether an operator may have his way.
    ///
    /// # Errors
    ///
    /// Says why not.
    pub fn may(&self, order: &Order, servers: &[Standing]) -> Result<(), Refusal> {
        if order.drain.is_some() && (order.scope != Scope::Both || self.signalling != self.media) {
            return Err(Refusal::Parted);
        }
        if order.force {
            return Ok(());
        }
        if self.choice == Choice::Held {
            return Err(Refusal::Held);
        }
        let Some(rank) = order.to else { return Ok(()) };
        match servers[rank.0].health {
            Health::Up if servers[rank.0].reachable => Ok(()),
            Health::Up => Err(Refusal::NoWay),
            Health::Maintenance => Err(Refusal::Maintenance),
            Health::Down => Err(Refusal::Down),
            Health::Unknown => Err(Refusal::Unknown),
        }
    }

    /// An operator has his way, and what was planned is so no more. Returns the flip that this asks for, if not a census has to come
    /// before it ([`Decision::planned`]).
    ///
    /// # Errors
    ///
    /// As [`Decision::may`]; nothing has changed then.
    pub fn obey(&mut self, order: &Order, servers: &[Standing], now: Instant) -> Result<Option<Flip>, Refusal> {
        self.may(order, servers)?;
        let before = self.planned.take();
        let Some(to) = order.to else {
            self.choice = Choice::None;
            // Parted servers come together again.
            let flip = self.decide(servers, now);
            return Ok(flip.or_else(|| self.join(servers, now)));
        };
        if let Some(drain) = order.drain.filter(|_| !order.force)
            && self.begin_census((to, Cause::Operator, drain), before, servers, now)
        {
            return Ok(None);
        }
        // A forced switch that the policy could undo at once would be none.
        let is_well = is_eligible(&servers[to.0]);
        self.choice = if is_well && self.choice != Choice::Held { Choice::Chosen } else { Choice::Held };
        let (signalling, media) = match order.scope {
            Scope::Both => (to, to),
            Scope::Signalling => (to, self.media),
            Scope::Media => (self.signalling, to),
        };
        Ok(self.flip((signalling, media), Cause::Operator, order.drain, servers, now))
    }

    /// An operator holds the service, or lets it go: then a choice from before is in force again. What is held does not do what was
    /// planned.
    pub fn hold(&mut self, held: bool) {
        self.planned = self.planned.filter(|_| !held);
        self.choice = match (held, self.choice) {
            (true, Choice::Held) | (false, Choice::None | Choice::Chosen) => self.choice,
            (true, before) => {
                self.chosen_before_hold = before == Choice::Chosen;
                Choice::Held
            }
            (false, Choice::Held) if self.chosen_before_hold => Choice::Chosen,
            (false, Choice::Held) => Choice::None,
        };
    }

    /// Applies the rules. The flip that is returned has been noted as made.
    pub fn decide(&mut self, servers: &[Standing], now: Instant) -> Option<Flip> {
        if let Some(planned) = self.planned {
            match planned.hindrance(self.signalling, servers) {
                Some(_) => self.planned = None,
                None if planned.due <= now => return self.flip_as_planned(&planned, servers, now),
                None => return None,
            }
        }
        let plan = self.plan(servers, now);
        let (to, _) = plan.candidates.into_iter().find(|(_, due)| *due <= now)?;
        if plan.cause == Cause::Failover && !self.budget.as_mut().is_none_or(|budget| budget.take(now)) {
            return None;
        }
        let drain = if self.failback_drains { self.drain } else { Duration::ZERO };
        if plan.cause == Cause::Failback && self.begin_census((to, plan.cause, drain), None, servers, now) {
            return None;
        }
        let targets = match plan.scope {
            Scope::Media => (self.signalling, to),
            Scope::Signalling => (to, self.media),
            Scope::Both => (to, to),
        };
        if plan.scope != Scope::Media {
            self.choice = Choice::None;
        }
        self.flip(targets, plan.cause, None, servers, now)
    }

    /// When [`Decision::decide`] and [`Decision::part`] have to be asked again even if nothing happens.
    pub fn next_deadline(&self, servers: &[Standing], now: Instant) -> Option<Instant> {
        let former = self.former.map(|former| former.until);
        if let Some(planned) = self.planned {
            return former.into_iter().chain([planned.due]).min();
        }
        let plan = self.plan(servers, now);
        let next = plan.candidates.into_iter().map(|(_, due)| due).min();
        let allowed = self.budget.as_ref().filter(|_| plan.cause == Cause::Failover).map(|budget| budget.next(now));
        let flip = next.map(|next| allowed.map_or(next, |allowed| next.max(allowed)));
        flip.into_iter().chain(former).min()
    }

    /// The servers that the first rule that fits would take, by preference, and when each may be.
    fn plan(&self, servers: &[Standing], now: Instant) -> Plan {
        let (active, media) = (&servers[self.signalling.0], &servers[self.media.0]);
        let together = self.signalling == self.media;
        if self.choice == Choice::Held {
            return Plan::nothing();
        }
        match active.health {
            Health::Down => {
                let scope = if together { Scope::Both } else { Scope::Signalling };
                return Plan { scope, cause: Cause::Failover, candidates: self.successors(servers, active, now) };
            }
            Health::Maintenance => {
                let candidates = self.by_preference(servers, now).map(|rank| (rank, servers[rank.0].since)).collect();
                let plan = Plan { scope: Scope::Both, cause: Cause::Maintenance, candidates };
                if !plan.candidates.is_empty() {
                    return plan;
                }
            }
            Health::Up | Health::Unknown => {}
        }
        if !together && is_eligible(active) && media.health == Health::Down {
            return Plan { scope: Scope::Media, cause: Cause::Failover, candidates: vec![(self.signalling, now)] };
        }
        self.failback(servers, now)
    }

    /// Who may take over from a server that is down.
    fn successors(&self, servers: &[Standing], active: &Standing, now: Instant) -> Vec<(Rank, Instant)> {
        // Not since its last sign alone: of two servers that fall silent together, one gave its last sign later.
        // Nor a sign that it gives when it comes back: that is no reason to leave it sooner.
        let last_sign = active.last_sign.map(|sign| sign.min(active.since));
        let began = last_sign.max(active.silent_since).unwrap_or(active.since);
        let confirmed = |rank: &Rank| active.certain || servers[rank.0].last_sign > Some(began);
        // A fault that is the server's own concerns no other.
        let own = active.certain && active.fault != Some(Fault::GatewaySide);
        let settles = |server: &Standing| !own && server.since > began;
        let due = |server: &Standing| server.since + if settles(server) { self.settle } else { Duration::ZERO };
        let ranks = self.by_preference(servers, now).filter(confirmed);
        ranks.map(|rank| (rank, due(&servers[rank.0]))).collect()
    }

    fn failback(&self, servers: &[Standing], now: Instant) -> Plan {
        let Failback::Auto { hold_down } = self.failback else { return Plan::nothing() };
        if self.choice != Choice::None || self.signalling != self.media {
            return Plan::nothing();
        }
        let before = (0..self.signalling.0).map(Rank).filter(|rank| is_eligible(&servers[rank.0]));
        let due = |rank: Rank| {
            let settled = servers[rank.0].since + hold_down;
            (rank, self.suppressed_until(rank, now).map_or(settled, |until| until.max(settled)))
        };
        Plan { scope: Scope::Both, cause: Cause::Failback, candidates: before.map(due).collect() }
    }

    /// The eligible servers but for the active one: the one that drains, then by priority, those that are suppressed last.
    fn by_preference(&self, servers: &[Standing], now: Instant) -> impl Iterator<Item = Rank> {
        let mut ranks: Vec<_> = (0..servers.len()).map(Rank).collect();
        ranks.retain(|rank| *rank != self.signalling && is_eligible(&servers[rank.0]));
        let has_calls = |rank: Rank| self.draining().is_some_and(|former| former.server == rank);
        ranks.sort_by_key(|rank| (self.suppressed_until(*rank, now).is_some(), !has_calls(*rank), *rank));
        ranks.into_iter()
    }

    fn join(&mut self, servers: &[Standing], now: Instant) -> Option<Flip> {
        let to = self.signalling;
        is_eligible(&servers[to.0]).then(|| self.flip((to, to), Cause::Operator, None, servers, now))?
    }

    /// `drain`: for how long an operator lets the server that is left drain.
    fn flip(
        &mut self,
        (signalling, media): (Rank, Rank),
        cause: Cause,
        drain: Option<Duration>,
        servers: &[Standing],
        now: Instant,
    ) -> Option<Flip> {
        let before = (self.signalling, self.media);
        (self.signalling, self.media) = (signalling, media);
        let (scope, from, to) = match (before.0 != signalling, before.1 != media) {
            (true, true) => (Scope::Both, before.0, signalling),
            (true, false) => (Scope::Signalling, before.0, signalling),
            (false, true) => (Scope::Media, before.1, media),
            (false, false) => return None,
        };
        let whole = before.0 == before.1 && signalling == media;
        let former = self.left((from, &servers[from.0]), cause, drain, whole, now);
        self.former = former.filter(|_| from != signalling && from != media);
        Some(Flip { scope, from, to, cause })
    }
}

struct Plan {
    scope: Scope,
    cause: Cause,
    candidates: Vec<(Rank, Instant)>,
}

impl Plan {
    fn nothing() -> Self {
        Self { scope: Scope::Both, cause: Cause::Failback, candidates: Vec::new() }
    }
}

fn is_eligible(server: &Standing) -> bool {
    server.health == Health::Up && server.reachable
}

#[cfg(test)]
mod tests;
