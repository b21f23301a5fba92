//! Sets of time.

use jiff::Timestamp;

/// A set of time: stretches that neither overlap nor touch, in the order of time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Spans(Vec<(Timestamp, Timestamp)>);

impl Spans {
    /// Where it begins.
    pub(super) fn begin(&self) -> Option<Timestamp> {
        self.0.first().map(|(from, _)| *from)
    }

    /// Takes away what is outside of a stretch.
    pub(super) fn clip(&mut self, from: Timestamp, to: Timestamp) {
        for span in &mut self.0 {
            *span = (span.0.max(from), span.1.min(to));
        }
        self.0.retain(|(from, to)| from < to);
    }

    /// Its length.
    pub(super) fn seconds(&self) -> f64 {
        self.0.iter().map(|(from, to)| to.duration_since(*from).as_secs_f64()).sum()
    }

    /// The stretch that contains a moment.
    pub(super) fn around(&self, moment: Timestamp) -> Option<(Timestamp, Timestamp)> {
        self.iter().find(|(from, to)| *from <= moment && moment <= *to)
    }

    /// The stretches.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Timestamp, Timestamp)> {
        self.0.iter().copied()
    }
}

impl Extend<(Timestamp, Timestamp)> for Spans {
    fn extend<I: IntoIterator<Item = (Timestamp, Timestamp)>>(&mut self, more: I) {
        self.0.extend(more.into_iter().filter(|(from, to)| from < to));
        self.0.sort_unstable();
        self.0.dedup_by(|next, last| {
            let joined = next.0 <= last.1;
            if joined {
                last.1 = last.1.max(next.1);
            }
            joined
        });
    }
}

impl FromIterator<(Timestamp, Timestamp)> for Spans {
    fn from_iter<I: IntoIterator<Item = (Timestamp, Timestamp)>>(spans: I) -> Self {
        let mut all = Self::default();
        all.extend(spans);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn what_overlaps_or_is_contained_is_counted_once() {
        let pairs = [(40, 50), (0, 10), (5, 20), (6, 8), (20, 25), (60, 60), (70, 65)];
        let mut spans: Spans = pairs.into_iter().map(|(from, to)| (at(from), at(to))).collect();
        assert_eq!(spans.iter().collect::<Vec<_>>(), [(at(0), at(25)), (at(40), at(50))]);
        assert_eq!(spans.seconds(), 35.0);
        spans.clip(at(24), at(41));
        assert_eq!(spans.seconds(), 2.0);
        assert_eq!(spans.around(at(30)), None);
    }
}
