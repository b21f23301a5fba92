//! What goes wrong on the way and in hosts that are well.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use voip_ha::config::Probe;

/// How much goes wrong. The root of this test states what each kind is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Noise {
    /// One way, without what varies.
    pub(crate) delay: Duration,
    /// Mean of what varies; ten times this is the most.
    pub(crate) jitter: Duration,
    /// Share of packets lost, each way.
    pub(crate) loss: f64,
    /// Share of packets that are delivered twice.
    pub(crate) duplicates: f64,
    /// Share of packets that are overtaken by others, and by how much at the most.
    pub(crate) spikes: (f64, Duration),
    /// Mean time from one disturbance of a way to the next, and the longest: all is lost in it, or all is held back.
    pub(crate) disturbances: (Duration, Duration),
    /// The same of pauses of a server's processes.
    pub(crate) pauses: (Duration, Duration),
    /// The same of times in which the gateway does not run.
    pub(crate) stalls: (Duration, Duration),
    /// Mean time from one step of the gateway's wall clock to the next.
    pub(crate) steps: Duration,
    /// Mean time from one end of a call to the next, at which packets of it are refused.
    pub(crate) calls: Duration,
    /// Mean lateness of the gateway's timers.
    pub(crate) lateness: Duration,
}

const APART: Duration = Duration::from_secs(1);
const NEVER: (Duration, Duration) = (Duration::ZERO, Duration::ZERO);

impl Noise {
    /// A way and hosts as they are when all is well.
    pub(crate) fn none(delay: Duration) -> Self {
        Self {
            delay,
            jitter: delay / 20,
            loss: 0.0,
            duplicates: 0.0,
            spikes: (0.0, Duration::ZERO),
            disturbances: NEVER,
            pauses: NEVER,
            stalls: NEVER,
            steps: Duration::ZERO,
            calls: Duration::ZERO,
            lateness: Duration::from_micros(30),
        }
    }

    /// The stated noise: what the settings are made for.
    pub(crate) fn stated(settings: &Probe, delay: Duration, rng: &mut fastrand::Rng) -> Self {
        let seconds = |rng: &mut fastrand::Rng, range: std::ops::Range<u64>| Duration::from_secs(rng.u64(range));
        let longest = endured(settings, delay);
        Self {
            jitter: delay.mul_f64(0.05 + 0.3 * rng.f64()),
            loss: 0.02 * rng.f64(),
            duplicates: 0.005 * rng.f64(),
            spikes: (0.002 * rng.f64(), settings.timeout_min * 15),
            disturbances: (seconds(rng, 5..60), longest),
            pauses: (seconds(rng, 20..120), Duration::from_millis(50)),
            stalls: (seconds(rng, 10..120), Duration::from_millis(300)),
            steps: seconds(rng, 10..600),
            calls: seconds(rng, 2..60),
            lateness: Duration::from_micros(rng.u64(20..300)),
            ..Self::none(delay)
        }
    }

    /// The longest round trip of a packet that is not held back or overtaken.
    pub(crate) fn round_trip(&self) -> Duration {
        (self.delay + self.jitter * 10) * 2 + super::host::SLOWEST_ANSWER
    }
}

/// How long a way may lose or hold back everything so that a confirmation still has two pairs of its own: from the first
/// packet that misses to the last pair but one, less the time that these are under way.
fn endured(settings: &Probe, delay: Duration) -> Duration {
    let first = if settings.quiet.is_zero() { settings.timeout_min } else { settings.timeout_min.min(settings.quiet) };
    (first + settings.confirm_gap * settings.confirm.saturating_sub(2)).saturating_sub(delay * 2)
}

/// Stretches of time that come at random, at least a second apart.
#[derive(Clone, Debug)]
pub(crate) struct Windows {
    mean: Duration,
    longest: Duration,
    rng: fastrand::Rng,
    /// Start, end, and a coin.
    made: VecDeque<(Instant, Instant, bool)>,
    /// Up to when they are made.
    horizon: Instant,
}

impl Windows {
    pub(crate) fn new((mean, longest): (Duration, Duration), start: Instant, rng: &mut fastrand::Rng) -> Self {
        Self { mean, longest, rng: rng.fork(), made: VecDeque::new(), horizon: start }
    }

    /// When the stretch ends that this moment is in.
    pub(crate) fn end(&mut self, at: Instant) -> Option<Instant> {
        self.current(at).map(|(end, _)| end)
    }

    fn current(&mut self, at: Instant) -> Option<(Instant, bool)> {
        if self.mean.is_zero() {
            return None;
        }
        while self.horizon <= at {
            let start = self.horizon + APART + exponential(self.mean, &mut self.rng);
            self.horizon = start + self.longest.mul_f64(self.rng.f64());
            self.made.push_back((start, self.horizon, self.rng.bool()));
        }
        while self.made.front().is_some_and(|(_, end, _)| *end + Duration::from_secs(2) < at) {
            self.made.pop_front();
        }
        self.made.iter().find(|(start, end, _)| *start <= at && at < *end).map(|(_, end, coin)| (*end, *coin))
    }
}

/// One direction of the way to a server.
#[derive(Clone, Debug)]
pub(crate) struct Path {
    noise: Noise,
    rng: fastrand::Rng,
    disturbances: Windows,
}

/// What a disturbed way does to a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disturbed {
    Lost,
    HeldUntil(Instant),
}

impl Path {
    /// Both directions are disturbed at the same time.
    pub(crate) fn both(noise: Noise, start: Instant, rng: &mut fastrand::Rng) -> [Self; 2] {
        let disturbances = Windows::new(noise.disturbances, start, rng);
        [(); 2].map(|()| Self { noise, rng: rng.fork(), disturbances: disturbances.clone() })
    }

    /// What happens to a packet that is sent now.
    pub(crate) fn disturbed(&mut self, at: Instant) -> Option<Disturbed> {
        let (end, loses) = self.disturbances.current(at)?;
        Some(if loses { Disturbed::Lost } else { Disturbed::HeldUntil(end) })
    }

    /// When a packet that is sent now arrives, if it does.
    pub(crate) fn pass(&mut self, at: Instant) -> Option<Instant> {
        if self.rng.f64() < self.noise.loss {
            return None;
        }
        let at = match self.disturbed(at) {
            Some(Disturbed::Lost) => return None,
            Some(Disturbed::HeldUntil(end)) => end,
            None => at,
        };
        let varies = exponential(self.noise.jitter, &mut self.rng).min(self.noise.jitter * 10);
        let (share, most) = self.noise.spikes;
        let spike = if self.rng.f64() < share { most.mul_f64(self.rng.f64()) } else { Duration::ZERO };
        Some(at + self.noise.delay + varies + spike)
    }

    /// The same for a packet that may be doubled.
    pub(crate) fn pass_doubled(&mut self, at: Instant) -> [Option<Instant>; 2] {
        let again = self.rng.f64() < self.noise.duplicates;
        [self.pass(at), if again { self.pass(at) } else { None }]
    }
}

pub(crate) fn exponential(mean: Duration, rng: &mut fastrand::Rng) -> Duration {
    mean.mul_f64(-(1.0 - rng.f64()).ln())
}
