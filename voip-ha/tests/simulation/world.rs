//! An engine, its servers and a clock that nobody waits for.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    time::{Duration, Instant},
};

use voip_ha::{
    config::Config,
    datapath::Steering,
    engine::{Engine, Output, Wish},
    event::{FlipRecord, Happening},
    ids::{ServerId, ServiceId},
    monitor::ProbeKind,
};

use super::{
    host::{Came, Host, PACKET, State},
    noise::{Noise, Windows, exponential},
    watch::Watch,
};

pub(crate) const SERVICE: ServiceId = ServiceId(0);
/// The controller forgives when its timer is this late.
const STALL: Duration = Duration::from_millis(8);
/// From the loss of a carrier to the controller.
const CARRIER: Duration = Duration::from_micros(500);
/// Oldest stamp that the controller believes.
const STAMP_CAP: f64 = 10.0;

/// What wakes the controller.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Wake {
    Refused(usize),
    TrafficRefused(usize),
    /// A call ends: the server refuses the last packets for it.
    CallEnds,
    NoCarrier,
    Order(usize),
}

struct Arrived {
    at: Instant,
    server: usize,
    kind: ProbeKind,
    number: u64,
    status: u16,
}

pub(crate) struct World {
    pub(crate) engine: Engine,
    pub(crate) hosts: Vec<Host>,
    pub(crate) start: Instant,
    pub(crate) now: Instant,
    noise: Noise,
    rng: fastrand::Rng,
    stalls: Windows,
    /// When the wall clock steps next, when it did last, and by how many seconds.
    steps: (Instant, Instant, f64),
    inbox: Vec<Arrived>,
    wakes: BinaryHeap<Reverse<(Instant, Wake)>>,
    orders: Vec<Wish>,
    streams: usize,
    pub(crate) flips: Vec<(Instant, FlipRecord)>,
    pub(crate) watch: Watch,
    loud: bool,
}

impl World {
    pub(crate) fn new(config: &Config, noise: Noise, streams: usize, rng: &mut fastrand::Rng, loud: bool) -> Self {
        let start = Instant::now();
        let (engine, _) = Engine::new(config, &[Steering::default()], start, Duration::from_secs(1000));
        let first_step = start + exponential(noise.steps, rng);
        let mut world = Self {
            engine,
            hosts: config.servers().map(|_| Host::new(&noise, streams, start, rng)).collect(),
            start,
            now: start,
            rng: rng.fork(),
            stalls: Windows::new(noise.stalls, start, rng),
            steps: (first_step, start, 0.0),
            inbox: Vec::new(),
            wakes: BinaryHeap::new(),
            orders: Vec::new(),
            streams,
            flips: Vec::new(),
            watch: Watch::new(config, start),
            noise,
            loud,
        };
        world.move_calls();
        world.await_end_of_a_call();
        world
    }

    /// From `after` the start on, a server does this. Calls must be in the order of time.
    pub(crate) fn script(&mut self, server: usize, after: Duration, state: State) {
        let at = self.start + after;
        self.hosts[server].script.push((at, state));
        if state == State::Unplugged {
            self.wakes.push(Reverse((at + CARRIER, Wake::NoCarrier)));
        }
        if state == State::Crashed && self.streams > 0 {
            // The host of the dead server refuses the packets of its calls, a few at once for each client.
            let gap = (PACKET / self.streams as u32).max(Duration::from_millis(1));
            for n in 0..6 {
                let refused = at + gap * n + gap.mul_f64(self.rng.f64()) + self.noise.delay * 2;
                self.wakes.push(Reverse((refused, Wake::TrafficRefused(server))));
            }
        }
    }

    /// An operator asks for this `after` the start.
    pub(crate) fn order(&mut self, after: Duration, wish: Wish) {
        self.wakes.push(Reverse((self.start + after, Wake::Order(self.orders.len()))));
        self.orders.push(wish);
    }

    pub(crate) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let due = self.engine.next_deadline(self.now).expect("there are servers");
            let late = exponential(self.noise.lateness, &mut self.rng).min(STALL / 2);
            let timer = due.max(self.now) + late;
            let first = self.wakes.peek().map_or(timer, |Reverse((at, _))| timer.min(*at).max(self.now));
            let wake = self.stalls.end(first).unwrap_or(first);
            if wake > end {
                break;
            }
            self.now = wake;
            self.step_clock();
            self.take_wakes();
            if due <= self.now {
                self.tick(due);
            }
            self.watch.look(&self.engine, self.now);
        }
        self.now = end;
    }

    fn tick(&mut self, due: Instant) {
        if self.now - due >= STALL {
            self.engine.forgive(self.now - due, self.now);
            self.say(|| "the gateway stood still".to_owned());
        }
        for server in 0..self.hosts.len() {
            self.read(server);
        }
        let now = self.now;
        let heard: Vec<_> = self.hosts.iter_mut().map(|host| host.heard(now)).collect();
        let outputs = self.engine.tick(|server| heard[server.0], now);
        self.carry_out(outputs);
        self.watch.ticked(self.engine.next_deadline(now), self.start, now);
    }

    fn take_wakes(&mut self) {
        while self.wakes.peek().is_some_and(|Reverse((at, _))| *at <= self.now) {
            let Some(Reverse((at, wake))) = self.wakes.pop() else { return };
            let now = self.now;
            let outputs = match wake {
                Wake::Refused(server) => {
                    let outputs = self.engine.refused(ServerId(server), now);
                    self.carry_out(outputs);
                    self.read(server);
                    continue;
                }
                Wake::TrafficRefused(server) if self.serves(server) => {
                    self.engine.traffic_refused(ServerId(server), now)
                }
                Wake::TrafficRefused(_) => continue,
                Wake::CallEnds => {
                    self.await_end_of_a_call();
                    self.engine.traffic_refused(self.engine.services()[0].media(), now)
                }
                Wake::NoCarrier => {
                    let is_cut = |server: &ServerId| self.hosts[server.0].state(at - CARRIER) == State::Unplugged;
                    let cut: Vec<_> = (0..self.hosts.len()).map(ServerId).filter(is_cut).collect();
                    self.engine.no_carrier(&cut, now)
                }
                Wake::Order(order) => self.engine.wish(&self.orders[order], now).unwrap_or_default(),
            };
            self.carry_out(outputs);
        }
    }

    fn await_end_of_a_call(&mut self) {
        if self.streams > 0 && !self.noise.calls.is_zero() {
            let at = self.now + exponential(self.noise.calls, &mut self.rng);
            self.wakes.push(Reverse((at, Wake::CallEnds)));
        }
    }

    fn serves(&self, server: usize) -> bool {
        let service = &self.engine.services()[0];
        service.active().0 == server || service.media().0 == server || self.drains(server)
    }

    /// Takes in the answers of one server.
    fn read(&mut self, server: usize) {
        let now = self.now;
        let mut come: Vec<_> = self.inbox.extract_if(.., |came| came.server == server && came.at <= now).collect();
        come.sort_by_key(|came| came.at);
        for Arrived { at, server, kind, number, status } in come {
            let stamp = self.stamp(at);
            let outputs = self.engine.answered(ServerId(server), kind, number, status, stamp, now);
            self.carry_out(outputs);
        }
    }

    /// When an answer seems to have arrived. Its stamp is of the wall clock.
    fn stamp(&self, at: Instant) -> Instant {
        let (_, stepped, by) = self.steps;
        if at >= stepped {
            return at;
        }
        let age = (self.now - at).as_secs_f64() + by;
        if (0.0..STAMP_CAP).contains(&age) { self.now - Duration::from_secs_f64(age) } else { self.now }
    }

    fn step_clock(&mut self) {
        if !self.noise.steps.is_zero() && self.now >= self.steps.0 {
            let by = self.rng.f64() * 24.0 - 12.0;
            self.steps = (self.now + exponential(self.noise.steps, &mut self.rng), self.now, by);
            self.say(|| format!("the wall clock steps by {by:.3} s"));
        }
    }

    fn carry_out(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Ask(server, kind, number) => self.ask(server.0, kind, number),
                Output::Steer(_, _, happening) => {
                    self.move_calls();
                    self.say(|| format!("FLIP or fence: {happening}"));
                    if let Happening::Flip(flip) = happening {
                        self.watch.flipped(&flip, self.now);
                        if self.loud {
                            flip.trail.iter().for_each(|witness| println!("      {:?}", witness));
                        }
                        self.flips.push((self.now, flip));
                    }
                }
                Output::Tell(happening) => {
                    self.say(|| happening.to_string());
                    self.watch.told(&happening);
                }
                Output::EndCensus(_) => {}
            }
        }
    }

    fn ask(&mut self, server: usize, kind: ProbeKind, number: u64) {
        for came in self.hosts[server].ask(kind, self.now).into_iter().flatten() {
            match came {
                Came::Answer { at, status } => self.inbox.push(Arrived { at, server, kind, number, status }),
                Came::Refusal { at } => self.wakes.push(Reverse((at, Wake::Refused(server)))),
            }
        }
    }

    fn drains(&self, server: usize) -> bool {
        self.engine.services()[0].draining().is_some_and(|(draining, _)| draining.0 == server)
    }

    /// Calls are where media goes, and where they are left for a while.
    fn move_calls(&mut self) {
        let media = self.engine.services()[0].media().0;
        for server in 0..self.hosts.len() {
            let has_calls = server == media || self.drains(server);
            self.hosts[server].give_calls(has_calls, self.now);
        }
    }

    pub(crate) fn say(&self, what: impl FnOnce() -> String) {
        if self.loud {
            println!("{:>14.6} s  {}", (self.now - self.start).as_secs_f64(), what());
        }
    }
}
