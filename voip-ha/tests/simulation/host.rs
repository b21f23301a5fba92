//! A server: what it answers, and what it sends to clients.

use std::time::{Duration, Instant};

use voip_ha::monitor::ProbeKind;

use super::noise::{Disturbed, Noise, Path, Windows, exponential};

/// Longest time that a SIP process takes for an answer while it is not paused.
pub(crate) const SLOWEST_ANSWER: Duration = Duration::from_micros(500);
const MEAN_ANSWER: Duration = Duration::from_micros(60);
/// From one packet of a stream to the next.
pub(crate) const PACKET: Duration = Duration::from_millis(20);
/// Grain of the kernel's memory of when a server was heard.
const GRAIN: Duration = Duration::from_micros(500);
/// Refusals that a Linux host sends to one peer at once, and how long it takes for another (`icmp_ratelimit`).
const REFUSALS_AT_ONCE: f64 = 6.0;
const REFUSALS_PER_SECOND: f64 = 1.0;

/// What a server does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Well,
    /// Its host refuses the port.
    Crashed,
    /// Nothing comes from it.
    Silent,
    /// Its host lives.
    Hung,
    /// Its media relay works on.
    HungSip,
    /// It answers 503, and its calls go on.
    Refusing,
    /// As silent; the gateway's interface has lost its carrier.
    Unplugged,
}

impl State {
    fn has_host(self) -> bool {
        !matches!(self, Self::Silent | Self::Unplugged)
    }

    fn sends_media(self) -> bool {
        matches!(self, Self::Well | Self::Refusing | Self::HungSip)
    }

    /// Whether traffic has to leave it.
    pub(crate) fn is_dead(self) -> bool {
        !matches!(self, Self::Well | Self::Refusing)
    }
}

/// What a probe brings, and when it is at the gateway.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Came {
    Answer { at: Instant, status: u16 },
    Refusal { at: Instant },
}

#[derive(Clone, Debug)]
pub(crate) struct Host {
    /// What it does from when on, in order.
    pub(crate) script: Vec<(Instant, State)>,
    start: Instant,
    there: Path,
    back: Path,
    pauses: Windows,
    rng: fastrand::Rng,
    refusals: (f64, Instant),
    /// Where in the 20 ms each stream sends.
    phases: Vec<Duration>,
    media_loss: f64,
    delay: Duration,
    /// Whether the calls are with it.
    has_calls: bool,
    heard: Option<Instant>,
    looked_until: Instant,
}

impl Host {
    pub(crate) fn new(noise: &Noise, streams: usize, start: Instant, rng: &mut fastrand::Rng) -> Self {
        let even = noise.loss == 0.0;
        let slot = |n: usize| PACKET * n as u32 / streams as u32;
        let mut phases: Vec<_> = (0..streams).map(|n| if even { slot(n) } else { PACKET.mul_f64(rng.f64()) }).collect();
        phases.sort();
        let [there, back] = Path::both(*noise, start, rng);
        Self {
            script: vec![(start, State::Well)],
            start,
            there,
            back,
            pauses: Windows::new(noise.pauses, start, rng),
            rng: rng.fork(),
            refusals: (REFUSALS_AT_ONCE, start),
            phases,
            media_loss: noise.loss,
            delay: noise.delay,
            has_calls: false,
            heard: None,
            looked_until: start,
        }
    }

    pub(crate) fn state(&self, at: Instant) -> State {
        let after = self.script.partition_point(|(from, _)| *from <= at);
        self.script[after.saturating_sub(1)].1
    }

    /// What a probe brings that leaves the gateway now.
    pub(crate) fn ask(&mut self, kind: ProbeKind, now: Instant) -> [Option<Came>; 2] {
        let mut came = [None; 2];
        for (copy, arrived) in came.iter_mut().zip(self.there.pass_doubled(now)) {
            *copy = arrived.and_then(|arrived| self.answer(kind, arrived));
        }
        came
    }

    fn answer(&mut self, kind: ProbeKind, arrived: Instant) -> Option<Came> {
        let state = self.state(arrived);
        if !state.has_host() {
            return None;
        }
        let status = if state == State::Refusing { 503 } else { 200 };
        let leaves = match (kind, state) {
            (ProbeKind::Echo, _) => arrived,
            (_, State::Crashed) => {
                let refused = self.may_refuse(arrived).then_some(arrived)?;
                return self.back.pass(refused).map(|at| Came::Refusal { at });
            }
            (_, State::Hung | State::HungSip) => return None,
            _ => {
                let takes = exponential(MEAN_ANSWER, &mut self.rng).min(SLOWEST_ANSWER);
                self.pauses.end(arrived).unwrap_or(arrived) + takes
            }
        };
        // A server that dies with the answer in its queue does not send it.
        let still = self.state(leaves);
        if !still.has_host() || (kind == ProbeKind::Options && still.is_dead()) {
            return None;
        }
        self.back.pass(leaves).map(|at| Came::Answer { at, status })
    }

    fn may_refuse(&mut self, now: Instant) -> bool {
        let (left, as_of) = self.refusals;
        let refilled = now.saturating_duration_since(as_of).as_secs_f64() * REFUSALS_PER_SECOND;
        let left = (left + refilled).min(REFUSALS_AT_ONCE);
        self.refusals = (if left >= 1.0 { left - 1.0 } else { left }, now);
        left >= 1.0
    }

    /// The calls come to it, or leave it.
    pub(crate) fn give_calls(&mut self, has_calls: bool, now: Instant) {
        if self.has_calls != has_calls {
            self.heard(now);
            (self.has_calls, self.looked_until) = (has_calls, now);
        }
    }

    /// When a packet of its calls last came to the gateway, as the kernel remembers it.
    pub(crate) fn heard(&mut self, now: Instant) -> Option<Instant> {
        if !self.has_calls || self.phases.is_empty() {
            return self.heard;
        }
        let until = now - self.delay;
        let mut held = until;
        let mut cycle = (until.saturating_duration_since(self.start).as_nanos() / PACKET.as_nanos()) as u32;
        'search: loop {
            for index in (0..self.phases.len()).rev() {
                let sent = self.start + PACKET * cycle + self.phases[index];
                if sent > until {
                    continue;
                }
                if sent <= self.looked_until {
                    break 'search;
                }
                if self.is_lost(cycle, index) || !self.state(sent).sends_media() || self.pauses.end(sent).is_some() {
                    continue;
                }
                let arrives = match self.back.disturbed(sent) {
                    Some(Disturbed::Lost) => continue,
                    Some(Disturbed::HeldUntil(end)) => end,
                    None => sent,
                };
                if arrives > until {
                    held = sent - Duration::from_nanos(1);
                    continue;
                }
                let grains = (arrives + self.delay).duration_since(self.start).as_nanos() / GRAIN.as_nanos();
                self.heard = self.heard.max(Some(self.start + GRAIN * grains as u32));
                break 'search;
            }
            let Some(before) = cycle.checked_sub(1) else { break };
            cycle = before;
        }
        self.looked_until = self.looked_until.max(held);
        self.heard
    }

    fn is_lost(&self, cycle: u32, stream: usize) -> bool {
        let mut rng = fastrand::Rng::with_seed(u64::from(cycle) << 16 ^ stream as u64);
        self.media_loss > 0.0 && rng.f64() < self.media_loss
    }
}
