//! Servers that flap, and services that do.
//!
//! Damping is as in BGP (RFC 2439): each fall costs a penalty that decays with a half-life. Above a limit the server is
//! suppressed until the penalty has decayed to a lower one. The budget bounds what damping cannot: two servers that take
//! turns in falling.

use std::time::{Duration, Instant};

/// What one fall costs.
const FALL: f64 = 1000.0;
/// Above this a server is suppressed: with the third fall within a half-life.
const SUPPRESS: f64 = 2000.0;
/// Below this it is not any more.
const REUSE: f64 = 750.0;
/// Most that a server can owe: two hours' worth of the default half-life.
const CEILING: f64 = 12_000.0;

/// The falls of one server.
#[derive(Clone, Copy, Debug, Default)]
pub struct Penalty {
    points: f64,
    as_of: Option<Instant>,
    suppressed: bool,
}

impl Penalty {
    /// It went down.
    pub fn fall(&mut self, half_life: Duration, now: Instant) {
        let suppressed = self.is_suppressed(half_life, now);
        self.points = (self.points(half_life, now) + FALL).min(CEILING);
        self.as_of = Some(now);
        self.suppressed = suppressed || self.points > SUPPRESS;
    }

    /// What it owes now.
    pub fn points(&self, half_life: Duration, now: Instant) -> f64 {
        let Some(as_of) = self.as_of else { return 0.0 };
        let half_lives = now.saturating_duration_since(as_of).as_secs_f64() / half_life.as_secs_f64();
        self.points * (-half_lives).exp2()
    }

    /// Whether another server is to be preferred.
    pub fn is_suppressed(&self, half_life: Duration, now: Instant) -> bool {
        self.suppressed && self.points(half_life, now) >= REUSE
    }

    /// When it is not suppressed any more; `None` if it is not.
    pub fn reused_at(&self, half_life: Duration, now: Instant) -> Option<Instant> {
        let until = half_life.mul_f64((self.points(half_life, now) / REUSE).log2().max(0.0));
        self.is_suppressed(half_life, now).then(|| now + until)
    }
}

/// A supply of failovers that fills up again at a steady rate.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    per_hour: u32,
    left: f64,
    as_of: Instant,
}

impl Budget {
    /// A full one.
    pub fn new(per_hour: u32, now: Instant) -> Self {
        Self { per_hour, left: per_hour.into(), as_of: now }
    }

    /// Takes one failover out. `false`: there is none.
    pub fn take(&mut self, now: Instant) -> bool {
        let left = self.left(now);
        if left < 1.0 {
            return false;
        }
        (self.left, self.as_of) = (left - 1.0, now);
        true
    }

    /// When there is one again; now, if there is one.
    pub fn next(&self, now: Instant) -> Instant {
        let missing = (1.0 - self.left(now)).max(0.0);
        // A microsecond more than the arithmetic says, so that it cannot come out a hair too early again and again.
        let wait = Duration::from_secs_f64(missing * 3600.0 / f64::from(self.per_hour));
        if missing == 0.0 { now } else { now + wait + Duration::from_micros(1) }
    }

    fn left(&self, now: Instant) -> f64 {
        let refilled = now.saturating_duration_since(self.as_of).as_secs_f64() * f64::from(self.per_hour) / 3600.0;
        (self.left + refilled).min(self.per_hour.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HALF_LIFE: Duration = Duration::from_secs(900);

    #[test]
    fn the_third_fall_in_a_row_suppresses_until_the_penalty_has_decayed() {
        let (mut penalty, start) = (Penalty::default(), Instant::now());
        let minute = |n: u64| start + Duration::from_secs(60 * n);
        penalty.fall(HALF_LIFE, minute(0));
        penalty.fall(HALF_LIFE, minute(1));
        assert!(!penalty.is_suppressed(HALF_LIFE, minute(1)));
        penalty.fall(HALF_LIFE, minute(2));
        assert!(penalty.is_suppressed(HALF_LIFE, minute(2)));
        let reused = penalty.reused_at(HALF_LIFE, minute(2)).expect("it is suppressed");
        assert!((minute(28)..minute(32)).contains(&reused), "{:?}", reused - start);
        assert!(penalty.is_suppressed(HALF_LIFE, reused - Duration::from_millis(10)));
        assert!(!penalty.is_suppressed(HALF_LIFE, reused + Duration::from_millis(10)));
        assert_eq!(penalty.reused_at(HALF_LIFE, reused + Duration::from_millis(10)), None);
    }

    #[test]
    fn falls_that_are_hours_apart_are_not_added_up() {
        let (mut penalty, start) = (Penalty::default(), Instant::now());
        for hour in 0..24 {
            penalty.fall(HALF_LIFE, start + Duration::from_secs(3600 * hour));
            assert!(!penalty.is_suppressed(HALF_LIFE, start + Duration::from_secs(3600 * hour)), "hour {hour}");
        }
    }

    #[test]
    fn a_budget_gives_what_it_has_and_then_one_at_a_time() {
        let start = Instant::now();
        let mut budget = Budget::new(4, start);
        for _ in 0..4 {
            assert_eq!(budget.next(start), start);
            assert!(budget.take(start));
        }
        assert!(!budget.take(start));
        let next = budget.next(start);
        assert!((899..=901).contains(&(next - start).as_secs()), "{:?}", next - start);
        assert!(!budget.take(next - Duration::from_secs(1)));
        assert!(budget.take(next));
        assert!(!budget.take(next));
    }
}
