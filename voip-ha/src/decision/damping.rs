//! Servers that flap, and services that do.
//!
//! Damping is as in BGP (RFC 2439): each fall costs a penalty that decays with a half-life. Above a limit the server is
//! suppressed until the penalty has decayed to a lower one. The budget bounds what damping cannot: two servers that take
//! turns in falling.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// What one fall costs.
const FALL: f64 = 1000.0;
/// Above this a server is suppressed: with the third fall within a half-life.
const SUPPRESS: f64 = 2000.0;
/// Below this it is not any more.
const REUSE: f64 = 750.0;
/// Most that a server can owe: four half-lives, until it is taken again.
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

/// The failovers of the last hour, and how many there may be.
#[derive(Clone, Debug)]
pub struct Budget {
    per_hour: usize,
    made: VecDeque<Instant>,
}

impl Budget {
    const HOUR: Duration = Duration::from_secs(3600);

    /// None was made yet. `per_hour` is at least 1.
    pub fn new(per_hour: u32) -> Self {
        Self { per_hour: per_hour as usize, made: VecDeque::new() }
    }

    /// Notes one, if it may be made.
    pub fn take(&mut self, now: Instant) -> bool {
        if self.next(now) > now {
            return false;
        }
        if self.made.len() == self.per_hour {
            self.made.pop_front();
        }
        self.made.push_back(now);
        true
    }

    /// When the next may be made.
    pub fn next(&self, now: Instant) -> Instant {
        let oldest = self.made.front().filter(|_| self.made.len() == self.per_hour);
        oldest.map_or(now, |oldest| now.max(*oldest + Self::HOUR))
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
    fn no_hour_sees_more_failovers_than_the_budget_allows() {
        let start = Instant::now();
        let minute = |n: u64| start + Duration::from_secs(60 * n);
        let mut budget = Budget::new(3);
        for n in [0, 10, 20] {
            assert_eq!(budget.next(minute(n)), minute(n));
            assert!(budget.take(minute(n)));
        }
        assert!(!budget.take(minute(21)));
        assert_eq!(budget.next(minute(21)), minute(60));
        assert!(!budget.take(minute(59)));
        assert!(budget.take(minute(60)));
        assert_eq!(budget.next(minute(60)), minute(70), "the one of minute 10 still counts");
    }
}
