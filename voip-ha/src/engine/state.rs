//! What the engine remembers of services and servers.

use std::{collections::VecDeque, time::Instant};

use super::Words;
use crate::{
    config::{Server, Service},
    decision::{Cause, Choice, Decision, Former, Planned, Rank, Standing},
    detector::{Change, Detector, Health},
    evidence::{Evidence, Witness},
    ids::{ServerId, ServiceId},
    monitor::Monitor,
};

/// Most pieces of evidence that are kept for a receipt.
const TRAIL: usize = 64;

/// A service, as the engine sees it.
#[derive(Clone, Debug)]
pub struct ServiceState {
    /// Name.
    pub name: String,
    /// The service's first server; the others follow.
    pub(super) first: ServerId,
    pub(super) decision: Decision,
    /// Since when the active server is active, or when this controller found it so.
    pub since: Instant,
    /// Why it is active.
    pub cause: Cause,
    /// Whether the active server is down and no other is up.
    pub outage: bool,
    /// Whether the active server is down and stays active though another is up.
    pub kept: bool,
    /// Until when the flows of the last flip are counted.
    pub(super) census_until: Option<Instant>,
    /// What was said of the flip that is planned.
    pub(super) plan_words: Words,
}

/// A server, as the engine sees it.
#[derive(Clone, Debug)]
pub struct ServerState {
    /// Name.
    pub name: String,
    /// The service it belongs to.
    pub service: ServiceId,
    /// What it is asked.
    pub monitor: Monitor,
    /// Its health.
    pub detector: Detector,
    /// Since when it has this health.
    pub since: Instant,
    /// The latest observation.
    pub last: Option<Evidence>,
    /// What brought it down the last time.
    pub(super) down_by: Option<Evidence>,
    /// Whether the packet path has a way to it. Taken for granted until the network says otherwise.
    pub(super) reachable: bool,
    trail: VecDeque<(Instant, Evidence)>,
}

impl ServiceState {
    pub(super) fn new(service: &Service, first: ServerId, decision: Decision, cause: Cause, now: Instant) -> Self {
        Self {
            name: service.name.clone(),
            first,
            decision,
            since: now,
            cause,
            outage: false,
            kept: false,
            census_until: None,
            plan_words: Words::default(),
        }
    }

    /// The active server: the one of signalling.
    pub fn active(&self) -> ServerId {
        self.server(self.decision.active())
    }

    /// The server of media.
    pub fn media(&self) -> ServerId {
        self.server(self.decision.media())
    }

    /// What an operator has chosen.
    pub fn choice(&self) -> Choice {
        self.decision.choice()
    }

    /// The server whose place the active one has taken, as long as it may still do something.
    pub fn former(&self) -> Option<(ServerId, Former)> {
        self.decision.former().map(|former| (self.server(former.server), former))
    }

    /// The server that running calls stay with.
    pub fn draining(&self) -> Option<(ServerId, Former)> {
        self.decision.draining().map(|former| (self.server(former.server), former))
    }

    /// The server that takes over as soon as the running calls of the active one are noted, and for how long that drains then.
    pub fn planned(&self) -> Option<(ServerId, Planned)> {
        self.decision.planned().map(|planned| (self.server(planned.to), planned))
    }

    pub(super) fn server(&self, Rank(rank): Rank) -> ServerId {
        ServerId(self.first.0 + rank)
    }
}

impl ServerState {
    pub(super) fn new(server: &Server, service: ServiceId, now: Instant) -> Self {
        Self {
            name: server.name.clone(),
            service,
            monitor: Monitor::new(server.probe, now),
            detector: Detector::new(server.probe.rise),
            since: now,
            last: None,
            down_by: None,
            reachable: true,
            trail: VecDeque::with_capacity(TRAIL),
        }
    }

    pub(super) fn standing(&self) -> Standing {
        Standing {
            health: self.detector.health(),
            since: self.since,
            reachable: self.reachable,
            last_sign: self.monitor.last_sign(),
            silent_since: self.monitor.silent_since(),
            fault: self.detector.fault(),
            certain: self.detector.is_certain(),
        }
    }

    /// Takes in one observation. Returns the change that it makes.
    pub(super) fn take(&mut self, evidence: Evidence, at: Instant, now: Instant) -> Option<Change> {
        self.last = Some(evidence);
        self.note(evidence, at);
        let change = self.detector.observe(&evidence)?;
        self.since = now;
        if change.to == Health::Down {
            self.down_by = Some(evidence);
        }
        Some(change)
    }

    /// What was observed since it was last well, oldest first.
    pub(super) fn trail(&self, monotonic_us: impl Fn(Instant) -> u64) -> Vec<Witness> {
        let witness = |(at, evidence): &(Instant, Evidence)| Witness {
            monotonic_us: monotonic_us(*at),
            server: self.name.clone(),
            evidence: *evidence,
        };
        self.trail.iter().map(witness).collect()
    }

    fn note(&mut self, evidence: Evidence, at: Instant) {
        if matches!(evidence, Evidence::Answer { .. }) {
            self.trail.clear();
        }
        if self.trail.len() == TRAIL {
            // The first piece says how it began, the latest ones how it ended.
            self.trail.remove(1);
        }
        self.trail.push_back((at, evidence));
    }
}
