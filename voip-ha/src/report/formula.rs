//! The formulas of the report, and what they assume.

use serde::Serialize;

/// Hours of a year of 365 days.
pub const HOURS_PER_YEAR: f64 = 8760.0;

/// What the thesis that this project starts from measured.
pub const THESIS: Thesis = Thesis { planned_s: 0.8537, unplanned_s: 1.1858, minutes_per_year_without_backup: 172.6 };

/// Figures of the thesis.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Thesis {
    /// Seconds without service at a planned switch.
    pub planned_s: f64,
    /// Seconds without service at a failover.
    pub unplanned_s: f64,
    /// Minutes of downtime in a year of a server without a backup.
    pub minutes_per_year_without_backup: f64,
}

/// What no gateway can measure.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Assumptions {
    /// Mean time between failures of one server, in hours.
    pub mtbf_h: f64,
    /// Mean time to repair it, in hours.
    pub mttr_h: f64,
}

impl Default for Assumptions {
    /// A repair of one hour, and the time between failures that makes 172.6 minutes a year of it, as in the thesis.
    fn default() -> Self {
        Self { mtbf_h: 3044.0, mttr_h: 1.0 }
    }
}

/// A service with and without a backup, under the same assumptions.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// MTBF / (MTBF + MTTR).
    pub availability_without_backup: f64,
    /// Minutes in a year.
    pub minutes_per_year_without_backup: f64,
    /// MTBF / (MTBF + D), where D is the measured mean downtime of a failure.
    pub availability_with_backup: f64,
    /// Minutes in a year.
    pub minutes_per_year_with_backup: f64,
}

impl Assumptions {
    /// The comparison for a measured mean downtime of a failure, in seconds.
    pub fn compare(self, mean_s: f64) -> Comparison {
        let (without, with) = (self.availability(self.mttr_h), self.availability(mean_s / 3600.0));
        Comparison {
            availability_without_backup: without,
            minutes_per_year_without_backup: self.minutes_per_year(self.mttr_h),
            availability_with_backup: with,
            minutes_per_year_with_backup: self.minutes_per_year(mean_s / 3600.0),
        }
    }

    /// Minutes of downtime in a year if each failure takes that many hours.
    pub fn minutes_per_year(self, down_h: f64) -> f64 {
        // Not by way of the availability, which has no digits left when the downtime is milliseconds.
        down_h / (self.mtbf_h + down_h) * HOURS_PER_YEAR * 60.0
    }

    /// The availability if each failure takes that many hours.
    pub fn availability(self, down_h: f64) -> f64 {
        self.mtbf_h / (self.mtbf_h + down_h)
    }
}

/// How many nines an availability has: 0.999 has 3, 0.9995 has 3.3. `None` for 1, which is no finite number of nines.
pub fn nines(availability: f64) -> Option<f64> {
    (availability < 1.0).then(|| (0.0 - (1.0 - availability).log10()).max(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_assumptions_give_the_thesis_figure_without_a_backup() {
        let minutes = Assumptions::default().minutes_per_year(1.0);
        // 8760 h × 60 × 1 / 3045 = 172.6108…
        assert!((minutes - 172.610_837).abs() < 1e-6, "{minutes}");
        assert!((minutes - THESIS.minutes_per_year_without_backup).abs() < 0.05);
    }

    #[test]
    fn nines_are_counted_as_people_do() {
        let near = |availability: f64, expected: f64| (nines(availability).unwrap() - expected).abs() < 1e-9;
        assert!(near(0.999, 3.0) && near(0.99999, 5.0) && near(0.0, 0.0) && near(0.9, 1.0));
        assert_eq!(nines(1.0), None);
    }

    #[test]
    fn a_failure_of_1_1858_s_every_1000_h_is_checked_by_hand() {
        let compared = Assumptions { mtbf_h: 1000.0, mttr_h: 2.0 }.compare(1.1858);
        // 2 / 1002 × 525600 min = 1049.1018 min
        assert!((compared.minutes_per_year_without_backup - 1_049.101_796).abs() < 1e-5);
        // 1.1858 s = 0.000329389 h; / 1000.000329389 × 525600 min = 0.173127 min
        assert!((compared.minutes_per_year_with_backup - 0.173_126_7).abs() < 1e-6);
        assert!((compared.availability_without_backup - 0.998_003_992).abs() < 1e-9);
    }
}
