//! The time in which a controller was there, kept true when the wall clock steps or the controller is killed. Pure.

use std::time::Duration;

use jiff::Timestamp;

use super::history::Observed;

/// A wall clock that goes this much apart from the monotonic one between two looks was set, or the host slept.
const STEP: Duration = Duration::from_secs(1);

/// The present stretch of observed time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Watch {
    observed: Observed,
    monotonic: Duration,
}

impl Watch {
    /// The watch begins now.
    pub(super) fn new(wall: Timestamp, monotonic: Duration) -> Self {
        Self { observed: Observed { from: wall, to: wall }, monotonic }
    }

    /// The watch goes on. Returns the stretch before if the wall clock stepped: what lies between was not observed.
    pub(super) fn beat(&mut self, wall: Timestamp, monotonic: Duration) -> Option<Observed> {
        let passed = monotonic.saturating_sub(self.monotonic);
        let expected = self.observed.to.checked_add(passed).unwrap_or(self.observed.to);
        if wall.duration_since(expected).unsigned_abs() <= STEP {
            // Never backwards by the fraction that the clocks may differ.
            self.observed.to = self.observed.to.max(wall);
            self.monotonic = monotonic;
            return None;
        }
        Some(std::mem::replace(self, Self::new(wall, monotonic)).observed)
    }

    /// The present stretch.
    pub(super) fn observed(&self) -> Observed {
        self.observed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[test]
    fn a_clock_that_is_set_after_boot_does_not_make_years_of_observed_time() {
        let mut watch = Watch::new(at(0), Duration::from_secs(100));
        assert_eq!(watch.beat(at(10), Duration::from_secs(110)), None);
        let before = watch.beat(at(1_700_000_000), Duration::from_secs(120));
        assert_eq!(before, Some(Observed { from: at(0), to: at(10) }));
        assert_eq!(watch.beat(at(1_700_000_010), Duration::from_secs(130)), None);
        assert_eq!(watch.observed(), Observed { from: at(1_700_000_000), to: at(1_700_000_010) });
    }

    #[test]
    fn a_host_that_slept_has_not_watched_meanwhile() {
        let mut watch = Watch::new(at(0), Duration::ZERO);
        assert_eq!(watch.beat(at(3600), Duration::from_secs(10)), Some(Observed { from: at(0), to: at(0) }));
    }
}
