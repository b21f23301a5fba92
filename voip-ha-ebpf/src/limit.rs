//! How many packets a sender may send: the generic cell rate algorithm (ITU-T I.371), a token bucket that is one number.
//!
//! Of each sender only a time is kept: when the next packet is due if packets come evenly, at the rate. One that comes later
//! starts anew from now, one that comes earlier is admitted as long as it is not too early, and each that is admitted moves the time
//! on by one interval. What is refused costs the sender nothing.
//!
//! ```text
//!                 refused │ admitted: due + interval │ admitted: now + interval
//!   now ──────────────────┼──────────────────────────┼──────────────────────────►
//!                  due − tolerance                  due
//! ```

/// Longest time that the algorithm looks ahead, in nanoseconds: four months, so that no sum overflows.
const MOST_NS: u64 = 10_000_000_000_000_000;

/// A limit: a rate, and how far a sender may run ahead of it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Limit {
    /// Nanoseconds from one packet to the next at the rate.
    pub interval_ns: u64,
    /// Nanoseconds by which a packet may come before it is due.
    pub tolerance_ns: u64,
}

impl Limit {
    /// A limit of so many packets in a second, of which `burst` may come at once. Both count as 1 if they are 0.
    pub const fn new(packets_per_s: u32, burst: u32) -> Self {
        let rate = if packets_per_s == 0 { 1 } else { packets_per_s as u64 };
        let interval_ns = 1_000_000_000u64.div_ceil(rate);
        let tolerance_ns = interval_ns * (burst as u64).saturating_sub(1);
        Self { interval_ns, tolerance_ns: if tolerance_ns > MOST_NS { MOST_NS } else { tolerance_ns } }
    }

    /// Until when a sender whose next packet is due at `due` is refused.
    #[inline(always)]
    pub const fn refused_until(&self, due: u64) -> u64 {
        due.saturating_sub(self.tolerance_ns)
    }

    /// Packets that a sender may send at once when it was silent for long.
    pub fn burst(&self) -> u64 {
        self.tolerance_ns.checked_div(self.interval_ns).map_or(0, |more| more + 1)
    }

    /// Of a packet that comes `now`: when the sender's next one is due, if this one was due at `due`; 0 if it is refused. Times are
    /// nanoseconds of one clock; a sender that is not known was due at 0.
    #[inline(always)]
    pub const fn due_after(&self, due: u64, now: u64) -> u64 {
        if due <= now {
            return now + self.interval_ns;
        }
        if due - now > self.tolerance_ns { 0 } else { due + self.interval_ns }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Which of the packets that come at these times are admitted.
    fn admitted(limit: &Limit, times: impl IntoIterator<Item = u64>) -> Vec<u64> {
        let mut due = 0;
        let mut is_admitted = |now: &u64| {
            let next = limit.due_after(due, *now);
            due = if next == 0 { due } else { next };
            next != 0
        };
        times.into_iter().filter(|now| is_admitted(now)).collect()
    }

    fn times(gaps: &[u64]) -> Vec<u64> {
        let after = |at: &mut u64, gap: &u64| {
            *at += gap;
            Some(*at)
        };
        gaps.iter().scan(5_000_000_000, after).collect()
    }

    #[test]
    fn a_burst_is_admitted_at_once_and_the_rest_at_the_rate() {
        let limit = Limit::new(10, 3);
        let second = 1_000_000_000;
        assert_eq!(admitted(&limit, [second; 8]).len(), 3);
        let flood = (0..2000).map(|ms| second + ms * 1_000_000);
        assert_eq!(admitted(&limit, flood).len(), 3 + 19, "two seconds, the last millisecond short");
        assert_eq!((limit.burst(), Limit::new(1_000_000, 1).burst()), (3, 1));
    }

    #[test]
    fn what_is_refused_costs_nothing() {
        let limit = Limit::new(1, 1);
        let flood = (0..=1000).map(|ms| 1_000_000_000 + ms * 1_000_000);
        assert_eq!(admitted(&limit, flood), [1_000_000_000, 2_000_000_000]);
    }

    proptest! {
        #[test]
        fn no_window_has_more_than_a_burst_and_what_the_rate_gives(
            rate in 1u32..100_000, burst in 1u32..50, gaps in proptest::collection::vec(0u64..50_000_000, 1..200),
        ) {
            let limit = Limit::new(rate, burst);
            let admitted = admitted(&limit, times(&gaps));
            prop_assert!(!admitted.is_empty(), "the first one always is");
            for first in 0..admitted.len() {
                for last in first..admitted.len() {
                    let window = admitted[last] - admitted[first];
                    let most = u64::from(burst) + window / limit.interval_ns;
                    prop_assert!((last - first + 1) as u64 <= most, "{} in {window} ns", last - first + 1);
                }
            }
        }

        #[test]
        fn who_keeps_to_the_rate_is_never_refused(
            rate in 1u32..100_000, burst in 1u32..50, waits in proptest::collection::vec(0u64..50_000_000, 1..200),
        ) {
            let limit = Limit::new(rate, burst);
            let gaps: Vec<_> = waits.iter().map(|wait| limit.interval_ns + wait).collect();
            prop_assert_eq!(admitted(&limit, times(&gaps)).len(), gaps.len());
        }

        #[test]
        fn who_sends_a_burst_and_waits_until_it_is_earned_again_is_never_refused(
            rate in 1u32..100_000, burst in 1u32..50, rounds in 1usize..20,
        ) {
            let limit = Limit::new(rate, burst);
            let mut gaps = vec![0; burst as usize];
            gaps[0] = u64::from(burst) * limit.interval_ns;
            let gaps = gaps.repeat(rounds);
            prop_assert_eq!(admitted(&limit, times(&gaps)).len(), gaps.len());
        }
    }
}
