//! From evidence to flips: the detectors of all servers and the decisions of all services.
//!
//! Pure: everything that comes in is an argument of a call, and everything that must be done is its result. The
//! [`controller`](crate::controller) feeds it and carries out what it says, in order.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use crate::{
    config::{Config, Server, Service},
    datapath::Steering,
    decision::{Cause, Decision, Flip, Rank, Refusal, Standing, grace},
    detector::{Detector, Evidence, Health, Thresholds},
    event::{FlipRecord, Happening, Scope},
    ids::{ServerId, ServiceId},
};

/// Something that has to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Write this word into the kernel, then tell what happened. The time to flip is still to be filled in.
    Steer(ServiceId, Steering, Happening),
    /// Tell what happened.
    Tell(Happening),
}

/// A service, as the engine sees it.
#[derive(Clone, Debug)]
pub struct ServiceState {
    /// Name.
    pub name: String,
    /// The service's first server; the others follow.
    first: ServerId,
    decision: Decision,
    /// Since when the active server is active, or when this controller found it so.
    pub since: Instant,
    /// Why it is active.
    pub cause: Cause,
    /// Whether the active server is down and no other is up.
    pub outage: bool,
    /// A server that may still send to clients, and until when.
    pub draining: Option<(ServerId, Instant)>,
}

/// A server, as the engine sees it.
#[derive(Clone, Debug)]
pub struct ServerState {
    /// Name.
    pub name: String,
    /// The service it belongs to.
    pub service: ServiceId,
    /// Its health.
    pub detector: Detector,
    /// Since when it has this health.
    pub since: Instant,
    /// The latest observation.
    pub last: Option<Evidence>,
    /// What brought it down the last time.
    down_by: Option<Evidence>,
    /// Whether the packet path has a way to it. Taken for granted until the network says otherwise.
    reachable: bool,
}

impl ServiceState {
    /// The active server.
    pub fn active(&self) -> ServerId {
        self.server(self.decision.active())
    }

    /// Whether the active server is an operator's choice.
    pub fn is_held(&self) -> bool {
        self.decision.is_held()
    }

    fn server(&self, Rank(rank): Rank) -> ServerId {
        ServerId(self.first.0 + rank)
    }
}

/// Detectors and decisions of the whole gateway.
#[derive(Clone, Debug)]
pub struct Engine {
    services: Vec<ServiceState>,
    servers: Vec<ServerState>,
    switch_grace: Duration,
}

/// What an operator asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// The service.
    pub service: ServiceId,
    /// The server that is to be active; `None` hands the choice back to the policy.
    pub server: Option<ServerId>,
    /// The operator's words.
    pub reason: Option<String>,
}

impl Engine {
    /// Starts with the active servers that the kernel's words name (`found`, by [`ServiceId`]), or with the masters. An
    /// operator's choice stays one.
    /// Returns the words that have to be written.
    pub fn new(config: &Config, found: &[Steering], now: Instant) -> (Self, Vec<(ServiceId, Steering)>) {
        let servers = config
            .servers()
            .map(|(_, service, server)| ServerState {
                name: server.name.clone(),
                service,
                detector: Detector::new(Thresholds {
                    fall: server.probe.fall,
                    rise: server.probe.rise,
                    patience: server.probe.patience,
                }),
                since: now,
                last: None,
                down_by: None,
                reachable: true,
            })
            .collect();
        let mut first = 0;
        let services = config.services.iter().zip(found).map(|(service, found)| {
            let state = ServiceState {
                name: service.name.clone(),
                first: ServerId(first),
                decision: Decision::new(
                    config.policy.failback,
                    settle(service),
                    found.signalling.map_or(Rank(0), |id| Rank(id.0 - first)),
                    found.held,
                ),
                since: now,
                cause: if found.signalling.is_some() { Cause::Adopted } else { Cause::Start },
                outage: false,
                draining: None,
            };
            first += service.servers.len();
            state
        });
        let engine = Self { services: services.collect(), servers, switch_grace: config.policy.switch_grace };
        let words = (0..engine.services.len()).map(ServiceId).map(|service| (service, engine.steering(service)));
        let words = words.collect();
        (engine, words)
    }

    /// Takes in an observation about a server.
    pub fn observe(&mut self, server: ServerId, evidence: Evidence, now: Instant) -> Vec<Output> {
        self.observe_all(&[server], evidence, now)
    }

    /// Takes in an observation about several servers at once, such as the loss of the link that all of them are behind:
    /// no service flips to a server that the same observation is about.
    pub fn observe_all(&mut self, servers: &[ServerId], evidence: Evidence, now: Instant) -> Vec<Output> {
        let mut told = Vec::new();
        let mut services = BTreeSet::new();
        for server in servers {
            let state = &mut self.servers[server.0];
            state.last = Some(evidence);
            services.insert(state.service);
            let Some(change) = state.detector.observe(&evidence, now) else { continue };
            state.since = now;
            if change.to == Health::Down {
                state.down_by = Some(evidence);
            }
            let (from, to) = (change.from, change.to);
            told.push(Output::Tell(Happening::Health { server: state.name.clone(), from, to, evidence }));
        }
        // Flips first: nothing is more urgent.
        let mut outputs: Vec<_> = services.iter().filter_map(|service| self.decide(*service, now)).collect();
        outputs.append(&mut told);
        outputs.extend(services.into_iter().filter_map(|service| self.outage_change(service)));
        outputs
    }

    /// The packet path has a way to a server, or has none any more.
    pub fn set_reachable(&mut self, server: ServerId, reachable: bool, now: Instant) -> Vec<Output> {
        let state = &mut self.servers[server.0];
        state.reachable = reachable;
        let service = state.service;
        self.decide(service, now).into_iter().chain(self.outage_change(service)).collect()
    }

    /// Does what is due: failbacks after their hold-down, fences after their grace.
    pub fn tick(&mut self, now: Instant) -> Vec<Output> {
        let mut outputs = Vec::new();
        for service in (0..self.services.len()).map(ServiceId) {
            outputs.extend(self.decide(service, now));
            let state = &mut self.services[service.0];
            if let Some((server, _)) = state.draining.take_if(|(_, until)| *until <= now) {
                let told =
                    Happening::Fenced { service: state.name.clone(), server: self.servers[server.0].name.clone() };
                outputs.push(Output::Steer(service, self.steering(service), told));
            }
        }
        outputs
    }

    /// When [`Engine::tick`] is due.
    pub fn next_deadline(&self) -> Option<Instant> {
        let of_service = |(index, state): (usize, &ServiceState)| {
            let failback = state.decision.next_deadline(&self.standings(ServiceId(index)));
            [failback, state.draining.map(|(_, until)| until)].into_iter().flatten().min()
        };
        self.services.iter().enumerate().filter_map(of_service).min()
    }

    /// Whether a wish would be granted.
    ///
    /// # Errors
    ///
    /// Says why not.
    pub fn may(&self, wish: &Wish) -> Result<(), Refusal> {
        let Some(server) = wish.server else { return Ok(()) };
        self.services[wish.service.0].decision.may_choose(self.rank(server), &self.standings(wish.service))
    }

    /// Grants an operator's wish.
    ///
    /// # Errors
    ///
    /// As [`Engine::may`]; nothing has changed then.
    pub fn wish(&mut self, wish: &Wish, now: Instant) -> Result<Vec<Output>, Refusal> {
        let standings = self.standings(wish.service);
        let rank = wish.server.map(|server| self.rank(server));
        let before = self.steering(wish.service);
        let flip = self.services[wish.service.0].decision.choose(rank, &standings, now)?;
        let told = Happening::Choice {
            service: self.services[wish.service.0].name.clone(),
            server: wish.server.map(|server| self.servers[server.0].name.clone()),
            reason: wish.reason.clone(),
        };
        let mut outputs = Vec::new();
        if let Some(flip) = flip {
            outputs.push(self.flipped(wish.service, flip, wish.reason.clone(), now));
        }
        let after = self.steering(wish.service);
        // Without a flip the word may still have to remember, or forget, that the server was chosen.
        let only_the_hold = flip.is_none() && after != before;
        outputs.push(if only_the_hold { Output::Steer(wish.service, after, told) } else { Output::Tell(told) });
        outputs.extend(self.outage_change(wish.service));
        Ok(outputs)
    }

    /// What the kernel's word of a service has to say.
    pub fn steering(&self, service: ServiceId) -> Steering {
        let state = &self.services[service.0];
        let draining = state.draining.map(|(server, _)| server);
        Steering { draining, held: state.is_held(), ..Steering::to(state.active()) }
    }

    /// The services, by [`ServiceId`].
    pub fn services(&self) -> &[ServiceState] {
        &self.services
    }

    /// The servers, by [`ServerId`].
    pub fn servers(&self) -> &[ServerState] {
        &self.servers
    }

    fn rank(&self, server: ServerId) -> Rank {
        Rank(server.0 - self.services[self.servers[server.0].service.0].first.0)
    }

    fn standings(&self, service: ServiceId) -> Vec<Standing> {
        let of_service = self.servers.iter().filter(|server| server.service == service);
        of_service
            .map(|server| Standing {
                health: server.detector.health(),
                since: server.since,
                reachable: server.reachable,
                failing_since: server.detector.failing_since(),
                last_answer: server.detector.last_answer(),
                certain: server.detector.is_certain(),
            })
            .collect()
    }

    fn decide(&mut self, service: ServiceId, now: Instant) -> Option<Output> {
        let standings = self.standings(service);
        let flip = self.services[service.0].decision.decide(&standings, now)?;
        Some(self.flipped(service, flip, None, now))
    }

    /// Notes a flip, and says what has to be done for it.
    fn flipped(&mut self, service: ServiceId, flip: Flip, reason: Option<String>, now: Instant) -> Output {
        let grace = grace(flip.cause, self.switch_grace);
        let state = &mut self.services[service.0];
        let (old, new) = (state.server(flip.from), state.server(flip.to));
        state.since = now;
        state.cause = flip.cause;
        state.draining = grace.map(|grace| (old, now + grace));
        let record = FlipRecord {
            service: state.name.clone(),
            from: self.servers[old.0].name.clone(),
            to: self.servers[new.0].name.clone(),
            scope: Scope::Both,
            cause: flip.cause,
            fault: None,
            asked_by: None,
            trail: Vec::new(),
            decided_us: 0,
            flipped_us: 0,
            epoch: 0,
            evidence: self.servers[old.0].down_by.filter(|_| flip.cause == Cause::Failover),
            reason,
            evidence_to_flip_us: 0.0,
        };
        Output::Steer(service, self.steering(service), Happening::Flip(record))
    }

    fn outage_change(&mut self, service: ServiceId) -> Option<Output> {
        let outage = self.services[service.0].decision.is_outage(&self.standings(service));
        let state = &mut self.services[service.0];
        if std::mem::replace(&mut state.outage, outage) == outage {
            return None;
        }
        let service = state.name.clone();
        Some(Output::Tell(if outage { Happening::OutageBegan { service } } else { Happening::OutageEnded { service } }))
    }
}

/// The time that any server of a service needs to be called up, once it can be reached: its answers in a row, and as much
/// again for its neighbour entry and for probes that are lost.
fn settle(service: &Service) -> Duration {
    let needed = |server: &Server| server.probe.interval * server.probe.rise * 2 + server.probe.timeout;
    service.servers.iter().map(needed).max().unwrap_or_default()
}

#[cfg(test)]
mod tests;
