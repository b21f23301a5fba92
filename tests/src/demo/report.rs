//! The demo's report: a table, and a time line of every event.

use std::fmt;

use super::Calls;
use crate::{
    meter::Tally,
    phone::Outcome,
    trial::{CELL, CELLS_BEFORE, Kind, Measured},
};

/// Everything that was measured.
pub(super) struct Report {
    pub(super) events: Vec<Measured>,
    pub(super) total: Tally,
    pub(super) calls: Calls,
}

/// What the thesis that this project starts from measured with a pair of redundant servers, in ms.
const THESIS_PLANNED_MS: f64 = 853.7;
const THESIS_UNPLANNED_MS: f64 = 1185.8;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f)?;
        table(f, &self.events)?;
        writeln!(f)?;
        for event in &self.events {
            strip(f, event)?;
        }
        let total = &self.total;
        writeln!(
            f,
            "all streams, from start to end: {} sent, {} lost, {} duplicated, {} reordered, {} corrupt",
            total.sent, total.lost, total.duplicated, total.reordered, total.corrupt
        )?;
        outcome(f, "calls before the events", &self.calls.before)?;
        outcome(f, "BYE to them afterwards", &self.calls.ended)?;
        outcome(f, "registrations afterwards", &self.calls.registered)?;
        outcome(f, "new calls afterwards", &self.calls.after)?;
        writeln!(
            f,
            "(the built-in servers share no dialogs, so a call that outlived its server has its BYE refused with 481)"
        )
    }
}

fn outcome(f: &mut fmt::Formatter<'_>, what: &str, outcome: &Outcome) -> fmt::Result {
    let Outcome { succeeded, failed, retransmissions, slowest } = outcome;
    let refused: usize = failed.values().sum();
    let slowest = slowest.as_secs_f64() * 1e3;
    write!(
        f,
        "{what:<25} {succeeded:>4} done, {refused:>3} not, {retransmissions} sent again, slowest {slowest:.1} ms"
    )?;
    for (failure, count) in failed {
        write!(f, "; {count} × {failure:?}")?;
    }
    writeln!(f)
}

fn table(f: &mut fmt::Formatter<'_>, events: &[Measured]) -> fmt::Result {
    writeln!(
        f,
        "{:<8}  {:<16}  {:<11}  {:>10}  {:>9}  {:>8}  {:>5}  {:>9}  {:>11}  {:>11}  {:>9}",
        "EVENT",
        "FROM → TO",
        "EVIDENCE",
        "FAULT→FLIP",
        "EV.→FLIP",
        "SENT",
        "LOST",
        "LONGEST",
        "BYTES/S",
        "BYTES/S",
        "THESIS"
    )?;
    writeln!(
        f,
        "{:<8}  {:<16}  {:<11}  {:>10}  {:>9}  {:>8}  {:>5}  {:>9}  {:>11}  {:>11}  {:>9}",
        "", "", "", "ms", "µs", "packets", "", "GAP ms", "BEFORE", "AFTER", "OUTAGE ms"
    )?;
    for event in events {
        let thesis = if event.kind == Kind::Planned { THESIS_PLANNED_MS } else { THESIS_UNPLANNED_MS };
        writeln!(
            f,
            "{:<8}  {:<16}  {:<11}  {:>10.2}  {:>9.0}  {:>8}  {:>5}  {:>9.1}  {:>11.0}  {:>11.0}  {:>9.1}",
            kind_name(event.kind),
            format!("{} → {}", event.from, event.to),
            event.evidence,
            event.fault_to_flip_ms,
            event.evidence_to_flip_us,
            event.sent,
            event.lost,
            event.max_gap_ms,
            event.bytes_per_s_before,
            event.bytes_per_s_after,
            thesis
        )?;
    }
    Ok(())
}

/// One line of blocks: how many packets came back in every 10 ms, against the mean before the fault.
fn strip(f: &mut fmt::Formatter<'_>, event: &Measured) -> fmt::Result {
    const BLOCKS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let before = &event.strip[..CELLS_BEFORE as usize];
    let usual = before.iter().sum::<u64>() as f64 / before.len() as f64;
    let cell = |count: &u64| {
        let share = if usual > 0.0 { *count as f64 / usual } else { 0.0 };
        BLOCKS[(share * 8.0).round().clamp(0.0, 8.0) as usize]
    };
    let bar: String = event.strip.iter().map(cell).collect();
    writeln!(f, "{:<8} |{bar}| packets that came back in every {} ms", kind_name(event.kind), CELL.as_millis())?;
    let flip_cell = CELLS_BEFORE as usize + (event.fault_to_flip_ms / (CELL.as_secs_f64() * 1e3)) as usize;
    let mut marks = vec![' '; event.strip.len()];
    if let Some(mark) = marks.get_mut(flip_cell) {
        *mark = '▲';
    }
    marks[CELLS_BEFORE as usize] = if flip_cell == CELLS_BEFORE as usize { '▲' } else { '↯' };
    let marks: String = marks.into_iter().collect();
    let legend = if flip_cell == CELLS_BEFORE as usize { "▲ fault and flip" } else { "↯ fault  ▲ flip" };
    writeln!(f, "         |{marks}| {legend}")
}

fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Planned => "planned",
        Kind::Crash => "crash",
        Kind::Silent => "silent",
    }
}
