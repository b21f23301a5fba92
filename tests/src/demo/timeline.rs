//! One event as a strip: the packets that came back around the fault, and the moments that were measured.

use std::fmt;

use super::report::HEADING;
use crate::trial::{CELL, CELLS_BEFORE, Measured};

/// Nothing to as much as usual.
const BLOCKS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Writes the moments, and a block for each [`CELL`]: high as the share of the mean before the fault that came back in it.
pub(super) fn write(f: &mut fmt::Formatter<'_>, name: &str, event: &Measured) -> fmt::Result {
    let before = &event.strip[..CELLS_BEFORE as usize];
    let usual = before.iter().sum::<u64>() as f64 / before.len() as f64;
    let block = |count: &u64| {
        let share = if usual > 0.0 { *count as f64 / usual } else { 0.0 };
        BLOCKS[(share * 8.0).round().clamp(0.0, 8.0) as usize]
    };
    let blocks: String = event.strip.iter().map(block).collect();
    writeln!(f, "{name:<10} {HEADING}{} → {}{HEADING:#}  {}", event.from, event.to, moments(event))?;
    writeln!(f, "{:<10} │{blocks}│ {} ms a block", "", CELL.as_millis())?;
    writeln!(f, "{:<10}  {}", "", marks(event))
}

fn moments(event: &Measured) -> String {
    let (flip, packet) = (event.fault_to_flip_ms, event.fault_to_first_packet_ms);
    let evidence = flip - event.evidence_to_flip_us / 1e3;
    let seen = &event.evidence;
    format!("↯ fault 0 ms · evidence ({seen}) {evidence:.2} · ▲ flip {flip:.2} · first packet {packet:.2}")
}

/// Where on the strip the fault and the flip are; where they share a block the flip is shown.
fn marks(event: &Measured) -> String {
    let cell = |ms: f64| CELLS_BEFORE as usize + (ms / (CELL.as_secs_f64() * 1e3)) as usize;
    let (fault, flip) = (cell(0.0), cell(event.fault_to_flip_ms));
    let mark = |at| {
        if at == flip {
            '▲'
        } else if at == fault {
            '↯'
        } else {
            ' '
        }
    };
    let marks: String = (0..event.strip.len()).map(mark).collect();
    marks.trim_end().to_owned()
}
