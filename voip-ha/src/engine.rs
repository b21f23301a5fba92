//! From what comes back to flips: the monitors and detectors of all servers, and the decisions of all services.
//!
//! Pure: everything that comes in is an argument of a call, and everything that must be done is its result. The
//! [`controller`](crate::controller) feeds it and carries out what it says, in order.

mod census;
mod drains;
mod state;
mod wishes;

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use self::census::Before;
pub use self::{
    state::{ServerState, ServiceState},
    wishes::{Wish, Words},
};
use crate::{
    config::{Config, Server, Service},
    datapath::{Memory, Steering},
    decision::{CENSUS, Cause, Choice, Decision, Flip, Found, Rank, Standing, Stay},
    detector::Health,
    event::{FlipRecord, Happening},
    evidence::Evidence,
    ids::{ServerId, ServiceId},
    monitor::{ProbeKind, Role, Step},
};

/// Something that has to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Write this word into the kernel, then tell what happened. The time to flip is still to be filled in.
    Steer(ServiceId, Steering, Happening),
    /// Stop counting flows.
    EndCensus(ServiceId),
    /// Send the probe with this number.
    Ask(ServerId, ProbeKind, u64),
    /// Tell what happened.
    Tell(Happening),
}

/// Monitors, detectors and decisions of the whole gateway.
#[derive(Clone, Debug)]
pub struct Engine {
    services: Vec<ServiceState>,
    servers: Vec<ServerState>,
    start: Instant,
    /// `CLOCK_MONOTONIC` at `start`.
    uptime: Duration,
}

impl Engine {
    /// Starts with the active servers that the kernel's words name (`found`, by [`ServiceId`]), or with the masters. An
    /// operator's choice stays one. `uptime` is `CLOCK_MONOTONIC` at `now`.
    /// Returns the words that have to be written.
    pub fn new(
        config: &Config,
        found: &[Steering],
        now: Instant,
        uptime: Duration,
    ) -> (Self, Vec<(ServiceId, Steering)>) {
        let servers = config.servers().map(|(_, service, server)| ServerState::new(server, service, now)).collect();
        let mut first = 0;
        let services = config.services.iter().zip(found).map(|(service, found)| {
            let rank = |id: ServerId| Rank(id.0 - first);
            let Steering { signalling, media, draining, memory, choice } = *found;
            let [signalling, media, draining] = [signalling, media, draining].map(|server| server.map(rank));
            let start = Found { signalling, media, choice, draining, affinity: memory.is_affine() };
            let decision = Decision::new(&config.policy, settle(service), service.servers.len(), start, now);
            let cause = if found.signalling.is_some() { Cause::Adopted } else { Cause::Start };
            let state = ServiceState::new(service, ServerId(first), decision, cause, now);
            first += service.servers.len();
            state
        });
        let services = services.collect();
        let engine = Self { services, servers, start: now, uptime };
        let words = (0..engine.services.len()).map(ServiceId).map(|service| (service, engine.steering(service)));
        let words = words.collect();
        (engine, words)
    }

    /// Does what is due: probes, verdicts about silence, failbacks after their hold-down, fences after their grace.
    /// `heard` says when a server last sent to a client.
    pub fn tick(&mut self, heard: impl Fn(ServerId) -> Option<Instant>, now: Instant) -> Vec<Output> {
        let (mut asks, mut pieces) = (Vec::new(), Vec::new());
        let mut turns: VecDeque<_> = (0..self.servers.len()).map(ServerId).collect();
        while let Some(id) = turns.pop_front() {
            let role = self.role(id);
            let monitor = &mut self.servers[id.0].monitor;
            let was_confirming = monitor.is_confirming();
            for step in monitor.tick(role, heard(id), now) {
                match step {
                    Step::Ask(kind, number) => asks.push(Output::Ask(id, kind, number)),
                    Step::Observed(evidence) => pieces.push((id, evidence, now)),
                }
            }
            if role.active && !was_confirming && self.servers[id.0].monitor.is_confirming() {
                // Those whose turn is over get another one.
                turns.extend(self.ask_the_others(id, now));
            }
        }
        let mut outputs = self.observe(&pieces, now);
        let told = outputs.iter().position(|output| matches!(output, Output::Tell(_))).unwrap_or(outputs.len());
        outputs.splice(told..told, asks);
        for service in (0..self.services.len()).map(ServiceId) {
            outputs.extend(self.settle_service(service, now));
        }
        outputs
    }

    /// When [`Engine::tick`] is due.
    pub fn next_deadline(&self, now: Instant) -> Option<Instant> {
        let of_server = |(index, server): (usize, &ServerState)| {
            Some(server.monitor.next_deadline(self.role(ServerId(index)), now))
        };
        let of_service = |(index, state): (usize, &ServiceState)| {
            let decision = state.decision.next_deadline(&self.standings(ServiceId(index)), now);
            decision.into_iter().chain(state.census_until).min()
        };
        let servers = self.servers.iter().enumerate().filter_map(of_server);
        servers.chain(self.services.iter().enumerate().filter_map(of_service)).min()
    }

    /// An answer to a probe, received at `at`. `status` is the SIP status of an answer to OPTIONS.
    pub fn answered(
        &mut self,
        server: ServerId,
        kind: ProbeKind,
        number: u64,
        status: u16,
        at: Instant,
        now: Instant,
    ) -> Vec<Output> {
        match self.servers[server.0].monitor.answered(kind, number, status, at) {
            Some(evidence) => self.observe(&[(server, evidence, at)], now),
            None => Vec::new(),
        }
    }

    /// The server's host refused the port of the probes.
    pub fn refused(&mut self, server: ServerId, now: Instant) -> Vec<Output> {
        let evidence = self.servers[server.0].monitor.refused(now);
        self.observe(&[(server, evidence, now)], now)
    }

    /// Somebody on the way said that the server's host cannot be reached.
    pub fn host_unreachable(&mut self, server: ServerId, now: Instant) -> Vec<Output> {
        let evidence = self.servers[server.0].monitor.host_unreachable(now);
        self.observe(&[(server, evidence, now)], now)
    }

    /// The XDP program saw an ICMP error about a packet to the server. Of one that is down it is no news.
    pub fn traffic_refused(&mut self, server: ServerId, now: Instant) -> Vec<Output> {
        if self.role(server).down {
            return Vec::new();
        }
        match self.servers[server.0].monitor.traffic_refused(now) {
            Some(evidence) => self.observe(&[(server, evidence, now)], now),
            None => Vec::new(),
        }
    }

    /// A probe could not be sent, because there is no way to the server.
    pub fn cannot_send(&mut self, server: ServerId, kind: ProbeKind, number: u64, now: Instant) -> Vec<Output> {
        match self.servers[server.0].monitor.cannot_send(kind, number, now) {
            Some(evidence) => self.observe(&[(server, evidence, now)], now),
            None => Vec::new(),
        }
    }

    /// A probe was not sent, because the gateway is short of something.
    pub fn take_back(&mut self, server: ServerId, kind: ProbeKind, number: u64) {
        self.servers[server.0].monitor.take_back(kind, number);
    }

    /// The link that all of these servers are behind is lost. No service flips to one of them.
    pub fn no_carrier(&mut self, servers: &[ServerId], now: Instant) -> Vec<Output> {
        let pieces: Vec<_> = servers.iter().map(|server| (*server, Evidence::NoCarrier, now)).collect();
        self.observe(&pieces, now)
    }

    /// The packet path has a way to a server, or has none any more.
    pub fn set_reachable(&mut self, server: ServerId, reachable: bool, now: Instant) -> Vec<Output> {
        let state = &mut self.servers[server.0];
        state.reachable = reachable;
        let service = state.service;
        let mut outputs = self.decide(service, now);
        outputs.extend(self.changes(service, now));
        outputs
    }

    /// The gateway itself stood still for `late`: what waits is waited for anew, and the time counts for no silence.
    pub fn forgive(&mut self, late: Duration, now: Instant) {
        for server in &mut self.servers {
            server.monitor.forgive(late, now);
        }
    }

    /// What the gateway had received from a server was lost before it was read.
    pub fn forgive_server(&mut self, server: ServerId, now: Instant) {
        self.servers[server.0].monitor.forgive(Duration::ZERO, now);
    }

    /// The probes' sockets of a server were made anew.
    pub fn reopened(&mut self, server: ServerId) {
        self.servers[server.0].monitor.reopened();
    }

    /// What the kernel's word of a service has to say.
    pub fn steering(&self, service: ServiceId) -> Steering {
        let state = &self.services[service.0];
        let former = state.decision.former();
        Steering {
            signalling: Some(state.active()),
            media: Some(state.media()),
            draining: former.filter(|former| former.stay != Stay::Recall).map(|former| state.server(former.server)),
            memory: match former {
                _ if state.decision.planned().is_some() => Memory::Census,
                Some(former) if former.is_noted => Memory::AfterCensus,
                Some(former) if former.is_remembered() => Memory::Calls,
                _ => Memory::Nothing,
            },
            choice: state.choice(),
        }
    }

    /// The services, by [`ServiceId`].
    pub fn services(&self) -> &[ServiceState] {
        &self.services
    }

    /// The servers, by [`ServerId`].
    pub fn servers(&self) -> &[ServerState] {
        &self.servers
    }

    /// Until when a server is avoided because it fell too often.
    pub fn suppressed_until(&self, server: ServerId, now: Instant) -> Option<Instant> {
        self.services[self.servers[server.0].service.0].decision.suppressed_until(self.rank(server), now)
    }

    fn role(&self, id: ServerId) -> Role {
        let server = &self.servers[id.0];
        let service = &self.services[server.service.0];
        let drains = || service.draining().is_some_and(|(server, _)| server == id);
        let active = service.active() == id || service.media() == id || drains();
        Role { active, down: server.detector.health() == Health::Down }
    }

    /// Whoever may have to take over is asked at once whether it is there.
    fn ask_the_others(&mut self, doubted: ServerId, now: Instant) -> Vec<ServerId> {
        let service = self.servers[doubted.0].service;
        let mut asked = Vec::new();
        for (index, server) in self.servers.iter_mut().enumerate() {
            if server.service == service && index != doubted.0 && server.detector.health() == Health::Up {
                server.monitor.ask_now(now);
                asked.push(ServerId(index));
            }
        }
        asked
    }

    /// Takes in what was observed, all of it at once: of several servers that the same moment brings down, none takes
    /// over from another.
    fn observe(&mut self, pieces: &[(ServerId, Evidence, Instant)], now: Instant) -> Vec<Output> {
        let (mut told, mut services) = (Vec::new(), Vec::new());
        for (id, evidence, at) in pieces {
            let server = &mut self.servers[id.0];
            if !services.contains(&server.service) {
                services.push(server.service);
            }
            let Some(change) = server.take(*evidence, *at, now) else { continue };
            let (name, service) = (server.name.clone(), server.service);
            let (from, to, fault) = (change.from, change.to, server.detector.fault());
            told.push(Output::Tell(Happening::Health { server: name, from, to, evidence: *evidence, fault }));
            if from == Health::Up && to == Health::Down {
                told.extend(self.fell(service, *id, now));
            }
        }
        // Flips first: nothing is more urgent.
        let mut outputs: Vec<_> = services.iter().flat_map(|service| self.decide(*service, now)).collect();
        outputs.append(&mut told);
        outputs.extend(services.into_iter().flat_map(|service| self.changes(service, now)));
        outputs
    }

    fn fell(&mut self, service: ServiceId, id: ServerId, now: Instant) -> Option<Output> {
        let rank = self.rank(id);
        let decision = &mut self.services[service.0].decision;
        let before = decision.suppressed_until(rank, now);
        decision.went_down(rank, now);
        let until = decision.suppressed_until(rank, now).filter(|_| before.is_none())?;
        let seconds = until.saturating_duration_since(now).as_secs();
        Some(Output::Tell(Happening::Suppressed { server: self.servers[id.0].name.clone(), seconds }))
    }

    /// What time alone brings for a service.
    fn settle_service(&mut self, service: ServiceId, now: Instant) -> Vec<Output> {
        let mut outputs = self.decide(service, now);
        if self.services[service.0].census_until.take_if(|until| *until <= now).is_some() {
            outputs.push(Output::EndCensus(service));
        }
        outputs.extend(self.changes(service, now));
        outputs
    }

    fn rank(&self, server: ServerId) -> Rank {
        Rank(server.0 - self.services[self.servers[server.0].service.0].first.0)
    }

    fn standings(&self, service: ServiceId) -> Vec<Standing> {
        self.servers.iter().filter(|server| server.service == service).map(ServerState::standing).collect()
    }

    fn decide(&mut self, service: ServiceId, now: Instant) -> Vec<Output> {
        let (standings, before) = (self.standings(service), self.before(service));
        let flip = self.services[service.0].decision.decide(&standings, now);
        let mut outputs = self.moved(service, flip, &before, &Words::default(), now);
        outputs.extend(self.part(service, now));
        outputs
    }

    /// Notes a flip, and says what has to be done for it.
    fn flipped(&mut self, service: ServiceId, flip: Flip, before: &Before, words: &Words, now: Instant) -> Output {
        let Flip { scope, from, to, cause } = flip;
        let state = &mut self.services[service.0];
        let (old, new) = (state.server(from), state.server(to));
        (state.since, state.cause) = (now, cause);
        let census = before.planned.filter(|_| state.decision.former().is_some_and(|former| former.is_noted));
        // After a census there is nothing left to count.
        state.census_until = census.is_none().then_some(now + CENSUS);
        let failed = &self.servers[old.0];
        let (start, uptime) = (self.start, self.uptime);
        let monotonic = |at: Instant| (uptime + at.saturating_duration_since(start)).as_micros() as u64;
        let is_failover = cause == Cause::Failover;
        let record = FlipRecord {
            service: state.name.clone(),
            from: failed.name.clone(),
            to: self.servers[new.0].name.clone(),
            scope,
            cause,
            fault: failed.detector.fault().filter(|_| is_failover || cause == Cause::Maintenance),
            evidence: failed.down_by.filter(|_| is_failover),
            trail: failed.trail(monotonic),
            reason: words.reason.clone(),
            asked_by: words.asked_by.clone(),
            drain_s: state.decision.draining().map(|former| (former.until - now).as_secs()),
            remembered: before.remembered,
            census_us: census.map(|planned| monotonic(planned.since)),
            decided_us: monotonic(census.map_or(now, |planned| planned.decided)),
            flipped_us: 0,
            evidence_to_flip_us: 0.0,
            epoch: 0,
        };
        Output::Steer(service, self.steering(service), Happening::Flip(record))
    }

    /// What a service suffers or does not suffer any more.
    fn changes(&mut self, service: ServiceId, now: Instant) -> Vec<Output> {
        let standings = self.standings(service);
        let state = &mut self.services[service.0];
        let (outage, kept) = (state.decision.is_outage(&standings), state.decision.is_kept(&standings, now));
        let mut outputs = Vec::new();
        if std::mem::replace(&mut state.outage, outage) != outage {
            let service = state.name.clone();
            outputs.push(if outage { Happening::OutageBegan { service } } else { Happening::OutageEnded { service } });
        }
        match (std::mem::replace(&mut state.kept, kept), kept) {
            (false, true) => {
                let server = self.servers[state.active().0].name.clone();
                let held = state.choice() == Choice::Held;
                outputs.push(Happening::Kept { service: state.name.clone(), server, held });
            }
            (true, false) => outputs.push(Happening::KeptEnded { service: state.name.clone() }),
            _ => {}
        }
        outputs.into_iter().map(Output::Tell).collect()
    }
}

/// What the kernel waits before it asks for a neighbour again (`net.ipv4.neigh.*.retrans_time_ms` as it comes): the first question
/// after a link came back is easily lost, because a switch takes a moment to forward.
const NEIGHBOUR_RETRY: Duration = Duration::from_secs(1);

/// The time that any server of a service needs to be called up, once it can be reached: its answers in a row, and as much again
/// for probes that are lost, and a second question for its Ethernet address.
fn settle(service: &Service) -> Duration {
    let needed = |server: &Server| server.probe.standby_interval * server.probe.rise * 2 + server.probe.timeout_max;
    service.servers.iter().map(needed).max().unwrap_or_default() + NEIGHBOUR_RETRY
}

#[cfg(test)]
mod tests;
