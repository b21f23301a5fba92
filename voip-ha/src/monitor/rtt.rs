//! How long an answer is waited for.

use std::time::Duration;

/// Smoothed round-trip time and its variation, as TCP estimates them (RFC 6298, section 2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Rtt {
    smoothed: Option<Duration>,
    variation: Duration,
}

impl Rtt {
    /// Takes in one round trip.
    pub(super) fn sample(&mut self, rtt: Duration) {
        let Some(smoothed) = self.smoothed else {
            *self = Self { smoothed: Some(rtt), variation: rtt / 2 };
            return;
        };
        self.variation = self.variation * 3 / 4 + smoothed.abs_diff(rtt) / 4;
        self.smoothed = Some(smoothed * 7 / 8 + rtt / 8);
    }

    /// The smoothed round-trip time; `None` before the first answer.
    pub(super) fn smoothed(&self) -> Option<Duration> {
        self.smoothed
    }

    /// How long the next answer is waited for: four variations above the smoothed time, between `min` and `max`. A
    /// server that was never heard of may be far away, so it gets the longest time.
    pub(super) fn timeout(&self, min: Duration, max: Duration) -> Duration {
        self.smoothed.map_or(max, |smoothed| (smoothed + self.variation * 4).clamp(min, max))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIN: Duration = Duration::from_millis(2);
    const MAX: Duration = Duration::from_millis(100);

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn an_unknown_way_gets_the_longest_time_and_a_short_steady_one_the_shortest() {
        let mut rtt = Rtt::default();
        assert_eq!(rtt.timeout(MIN, MAX), MAX);
        rtt.sample(ms(1));
        assert_eq!(rtt.timeout(MIN, MAX), ms(3), "RFC 6298, 2.2: R + 4 × R/2");
        for _ in 0..50 {
            rtt.sample(ms(1));
        }
        assert_eq!(rtt.timeout(MIN, MAX), MIN);
    }

    #[test]
    fn a_way_that_becomes_longer_is_given_more_time_within_a_few_answers() {
        let mut rtt = Rtt::default();
        for _ in 0..50 {
            rtt.sample(ms(1));
        }
        rtt.sample(ms(30));
        assert!(rtt.timeout(MIN, MAX) > ms(30), "{rtt:?}");
        for _ in 0..50 {
            rtt.sample(ms(30));
        }
        let timeout = rtt.timeout(MIN, MAX);
        assert!(timeout >= ms(30) && timeout < ms(32), "{timeout:?}");
    }

    #[test]
    fn jitter_widens_the_time_up_to_the_ceiling() {
        let mut rtt = Rtt::default();
        for n in 0..100 {
            rtt.sample(ms(if n % 2 == 0 { 10 } else { 40 }));
        }
        assert!(rtt.timeout(MIN, MAX) > ms(60), "{rtt:?}");
        assert_eq!(rtt.timeout(MIN, ms(50)), ms(50));
    }
}
