//! What is being measured, and how long the rest will take.

use std::time::Instant;

use super::figures::Sample;

pub(super) struct Progress {
    start: Instant,
    runs_left: usize,
    runs_done: usize,
    /// Of the soak, which is last.
    minutes_left: f64,
}

impl Progress {
    /// So many runs and minutes of soak are to be done.
    pub(super) fn new((runs, minutes): (usize, f64)) -> Self {
        Self { start: Instant::now(), runs_left: runs, runs_done: 0, minutes_left: minutes }
    }

    /// A line on standard error, after the time since the start.
    pub(super) fn say(&self, line: &str) {
        let seconds = self.start.elapsed().as_secs();
        eprintln!("{:3}:{:02}  {line}", seconds / 60, seconds % 60);
    }

    /// One run is over.
    pub(super) fn ran(&mut self, what: &str, sample: &Sample) {
        self.runs_done += 1;
        self.runs_left = self.runs_left.saturating_sub(1);
        let flip = sample.flip_ms.map_or("no flip".to_owned(), |ms| format!("{ms:.2} ms"));
        let rtp = sample.gap_ms.zip(sample.lost).map(|(gap, lost)| format!(", gap {gap:.0} ms, {lost} lost"));
        self.say(&format!("{what}: {flip}{}  ({} left)", rtp.unwrap_or_default(), self.left()));
    }

    /// Runs that need not be done.
    pub(super) fn skipped(&mut self, runs: usize) {
        self.runs_left = self.runs_left.saturating_sub(runs);
    }

    /// At the pace so far.
    fn left(&self) -> String {
        let run = self.start.elapsed().as_secs_f64() / 60.0 / self.runs_done.max(1) as f64;
        format!("{:.0} min", (run * self.runs_left as f64 + self.minutes_left).ceil())
    }
}
