//! What must hold at every moment, whatever the servers do.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use voip_ha::{
    config::{Config, Policy},
    decision::{Cause, Stay},
    detector::Health,
    engine::Engine,
    event::{FlipRecord, Happening},
};

const HOUR: Duration = Duration::from_secs(3600);
/// Failbacks to one server in an hour with the default half-life of 900 s: damping lets three falls pass, and then two
/// in the 28 minutes that a penalty of 2750 takes to decay to 750.
const FAILBACKS_PER_HOUR: usize = 9;

pub(crate) struct Watch {
    /// Longest time that a dead server may stay active beside one that is up: what the decision gives the active one to
    /// come back after a fault of all, and one more question to the standby.
    allowed: Duration,
    policy: Policy,
    most_ticks: u32,
    dead_since: Option<Instant>,
    told_kept: bool,
    told_outage: bool,
    failovers: VecDeque<Instant>,
    failbacks: VecDeque<Instant>,
    second: Instant,
    ticks_in_second: u32,
    pub(crate) ticks: u64,
    pub(crate) most_failovers: usize,
    pub(crate) broken: Vec<String>,
}

impl Watch {
    pub(crate) fn new(config: &Config, start: Instant) -> Self {
        let probe = config.services[0].servers[0].probe;
        // With the second question for its Ethernet address.
        let settle = probe.standby_interval * probe.rise * 2 + probe.timeout_max + Duration::from_secs(1);
        // Each wake is for a question, for the end of its time, or for a pause in traffic.
        let grain = probe.interval.min(probe.quiet.max(Duration::from_millis(1)));
        Self {
            allowed: settle + probe.standby_interval * 3 + probe.timeout_max,
            policy: config.policy.clone(),
            most_ticks: (4.0 / grain.as_secs_f64()) as u32 + 200,
            dead_since: None,
            told_kept: false,
            told_outage: false,
            failovers: VecDeque::new(),
            failbacks: VecDeque::new(),
            second: start,
            ticks_in_second: 0,
            ticks: 0,
            most_failovers: 0,
            broken: Vec::new(),
        }
    }

    /// The engine has done what was due.
    pub(crate) fn ticked(&mut self, next: Option<Instant>, start: Instant, now: Instant) {
        if next.is_none_or(|next| next <= now) {
            self.broken.push(format!("(e) after {:?} what is due next is due already", now - start));
        }
        self.ticks += 1;
        self.ticks_in_second += 1;
        if now - self.second >= Duration::from_secs(1) {
            (self.second, self.ticks_in_second) = (now, 0);
        }
        if self.ticks_in_second > self.most_ticks {
            self.broken.push(format!("(e) {} ticks in a second", self.ticks_in_second));
        }
    }

    pub(crate) fn look(&mut self, engine: &Engine, now: Instant) {
        let service = &engine.services()[0];
        let health = |server: usize| engine.servers()[server].detector.health();
        let active = service.active().0;
        if let Some((server, former)) = service.former() {
            if [service.active(), service.media()].contains(&server) || former.until <= now {
                self.broken.push(format!("(f) {server:?} is not to do what it did: {former:?}"));
            }
            if former.stay == Stay::Drain && health(server.0) == Health::Down {
                self.broken.push("(f) a dead server drains".to_owned());
            }
        }
        self.told_kept &= service.kept;
        let another = (0..engine.servers().len()).any(|server| server != active && health(server) == Health::Up);
        if health(active) != Health::Down {
            self.dead_since = None;
            return;
        }
        if !another {
            self.dead_since = None;
            if service.outage != self.told_outage {
                self.broken.push("(c) an outage is not told".to_owned());
            }
            return;
        }
        if service.kept {
            self.dead_since = None;
            if !self.told_kept {
                self.broken.push("(c) a dead server is kept, and nobody is told".to_owned());
            }
            return;
        }
        let since = *self.dead_since.get_or_insert(now);
        if now - since > self.allowed {
            self.broken.push(format!("(c) dead, and active for {:?} beside one that is up", now - since));
            self.dead_since = None;
        }
    }

    pub(crate) fn told(&mut self, happening: &Happening) {
        match happening {
            Happening::Kept { .. } => self.told_kept = true,
            Happening::OutageBegan { .. } => self.told_outage = true,
            Happening::OutageEnded { .. } => self.told_outage = false,
            _ => {}
        }
    }

    pub(crate) fn flipped(&mut self, flip: &FlipRecord, now: Instant) {
        let times = match flip.cause {
            Cause::Failover => &mut self.failovers,
            Cause::Failback => &mut self.failbacks,
            _ => return,
        };
        times.push_back(now);
        while times.front().is_some_and(|at| now - *at > HOUR) {
            times.pop_front();
        }
        self.most_failovers = self.most_failovers.max(self.failovers.len());
        // A full supply at the beginning of the hour, and what is filled up in it.
        let budget = self.policy.failovers_per_hour.unwrap_or(12) as usize * 2;
        if self.failovers.len() > budget {
            self.broken.push(format!("(d) {} failovers in an hour", self.failovers.len()));
        }
        if self.failbacks.len() > FAILBACKS_PER_HOUR {
            self.broken.push(format!("(d) {} failbacks in an hour", self.failbacks.len()));
        }
    }
}
