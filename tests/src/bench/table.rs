//! The data as a table in the terminal, with the targets and how far the best peer is behind.

use anstyle::{AnsiColor, Style};
use anyhow::Result;

use super::{
    fault::Fault,
    figures::{Block, Data, Spread},
    system::NAMES,
};
use crate::show;

const HEADING: Style = Style::new().bold();
const ASIDE: Style = Style::new().dimmed();
const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default();

const OURS: &str = "voip-ha";
/// At the median, so many times the time of voip-ha should the best peer take.
const AHEAD: f64 = 3.0;

/// What voip-ha must reach, in ms from fault to flip.
struct Target {
    what: &'static str,
    fault: Fault,
    streams: usize,
    p50: Option<f64>,
    p99: Option<f64>,
}

const TARGETS: [Target; 7] = [
    Target { what: "crash, with traffic", fault: Fault::Crash, streams: 50, p50: Some(2.0), p99: Some(10.0) },
    Target { what: "crash, no traffic", fault: Fault::Crash, streams: 0, p50: Some(15.0), p99: Some(25.0) },
    Target {
        what: "silent death with 50 streams",
        fault: Fault::Silent,
        streams: 50,
        p50: Some(10.0),
        p99: Some(20.0),
    },
    Target { what: "silent death, no traffic", fault: Fault::Silent, streams: 0, p50: None, p99: Some(40.0) },
    Target { what: "back link down, no traffic", fault: Fault::Link, streams: 0, p50: None, p99: Some(2.0) },
    Target { what: "back link down with 50 streams", fault: Fault::Link, streams: 50, p50: None, p99: Some(2.0) },
    Target { what: "hang (SIGSTOP)", fault: Fault::Hang, streams: 50, p50: None, p99: Some(300.0) },
];

/// Prints all of it to standard output.
pub(super) fn print(data: &Data) -> Result<()> {
    show::print(&text(data))
}

fn text(data: &Data) -> String {
    let mut lines = vec![String::new(), heading()];
    for fault in Fault::ALL {
        for block in in_order(data, fault) {
            lines.push(row(block));
            lines.extend(block.reason.iter().map(|reason| format!("{ASIDE}      {reason}{ASIDE:#}")));
        }
    }
    lines.push(String::new());
    lines.push(format!(
        "{ASIDE}fault to flip  from just before the fault to the first answer of the other server at a phone\n\
         own            the same to the flip by the system's own clock\n\
         gap            the longest silence of one RTP stream; 20 ms is no loss\n\
         p50 p99 max    by nearest rank over the runs{ASIDE:#}"
    ));
    lines.extend(targets(data));
    lines.extend(soaks(data));
    lines.join("\n") + "\n"
}

fn heading() -> String {
    format!(
        "{HEADING}{:<8} {:<20} {:>7} {:>4} {:>28} {:>18} {:>28} {:>13}{HEADING:#}\n{:<42} {:>28} {:>18} {:>28} {:>13}",
        "FAULT",
        "SYSTEM",
        "STREAMS",
        "N",
        "FAULT TO FLIP, ms",
        "OWN, ms",
        "GAP, ms",
        "LOST",
        "",
        "p50      p99      max",
        "p50      max",
        "p50      p99      max",
        "p50    max"
    )
}

fn row(block: &Block) -> String {
    let three = |spread: Option<Spread>| {
        spread.map_or("–".to_owned(), |Spread { p50, p99, max }| format!("{p50:>8.2} {p99:>8.2} {max:>8.2}"))
    };
    let own = block.own_flip_ms.map_or("–".to_owned(), |own| format!("{:>8.2} {:>8.2}", own.p50, own.max));
    let lost = block.lost.map_or("–".to_owned(), |lost| format!("{:>5} {:>6}", lost.p50, lost.max));
    let (flip, gap) = (three(block.fault_to_flip_ms), three(block.gap_ms));
    let (fault, system, streams, n) = (block.fault.name(), &block.system, block.streams, block.n);
    format!("{fault:<8} {system:<20} {streams:>7} {n:>4} {flip:>28} {own:>18} {gap:>28} {lost:>13}")
}

/// Blocks of one fault: systems in their order, then numbers of streams.
pub(super) fn in_order(data: &Data, fault: Fault) -> Vec<&Block> {
    let mut blocks: Vec<_> = data.runs.iter().filter(|block| block.fault == fault).collect();
    let place = |block: &Block| NAMES.iter().position(|name| *name == block.system);
    blocks.sort_by_key(|block| (place(block), block.streams));
    blocks
}

fn targets(data: &Data) -> Vec<String> {
    let mut lines = vec![String::new(), format!("{HEADING}TARGETS{HEADING:#}")];
    for Target { what, fault, streams, p50, p99 } in TARGETS {
        let Some(block) = data.block(OURS, fault, streams) else { continue };
        for (name, limit, of) in [("p50", p50, (|s| s.p50) as fn(Spread) -> f64), ("p99", p99, |s| s.p99)] {
            let Some(limit) = limit else { continue };
            let reached = block.fault_to_flip_ms.map(of);
            let shown = reached.map_or("no flip".to_owned(), |ms| format!("{ms:.2} ms"));
            lines.push(judged(reached.is_some_and(|ms| ms <= limit), &format!("{what}: {name} ≤ {limit} ms"), &shown));
        }
    }
    if let Some(lost) = data.block(OURS, Fault::Planned, 50).and_then(|block| block.lost) {
        lines.push(judged(lost.max == 0, "planned: no packet lost", &format!("{} lost at most", lost.max)));
    }
    lines.extend(Fault::ALL.into_iter().filter_map(|fault| ahead(data, fault)));
    lines
}

/// How far the best peer is behind, with 50 streams.
fn ahead(data: &Data, fault: Fault) -> Option<String> {
    let median = |block: &Block| block.fault_to_flip_ms.map(|spread| spread.p50);
    let ours = median(data.block(OURS, fault, 50)?)?;
    let peers = data.runs.iter().filter(|block| block.system != OURS && block.fault == fault && block.streams == 50);
    let seen = peers.filter_map(|block| Some((median(block)?, &block.system)));
    let Some((best, name)) = seen.min_by(|a, b| a.0.total_cmp(&b.0)) else {
        let any = data.runs.iter().any(|block| block.system != OURS && block.fault == fault);
        return any.then(|| format!("      {}: no peer moves the service", fault.name()));
    };
    let ratio = best / ours;
    if fault == Fault::Planned {
        // No fault that is seen, but an order: most of it is the command itself.
        return Some(format!("      planned: {ratio:.1} × ({name}: {best:.2} ms, {OURS}: {ours:.2} ms)"));
    }
    let what = format!("{}: ≥ {AHEAD} × as fast as the best peer at the median", fault.name());
    Some(judged(ratio >= AHEAD, &what, &format!("{ratio:.1} × ({name}: {best:.2} ms, {OURS}: {ours:.2} ms)")))
}

fn soaks(data: &Data) -> Vec<String> {
    if data.soak.is_empty() {
        return Vec::new();
    }
    let mut lines = vec![String::new()];
    lines.push(format!(
        "{HEADING}{:<20} {:>7} {:>15} {:>8} {:>16} {:>16}{HEADING:#}",
        "SOAK", "MINUTES", "FALSE FAILOVERS", "PAUSES", "PROBES DROPPED", "LOST OF SENT"
    ));
    for soak in &data.soak {
        let lost = format!("{} of {}", soak.lost, soak.sent);
        let style = if soak.false_failovers == 0 { GOOD } else { BAD };
        lines.push(format!(
            "{:<20} {:>7.1} {style}{:>15}{style:#} {:>8} {:>16} {lost:>16}",
            soak.system, soak.minutes, soak.false_failovers, soak.pauses, soak.probes_dropped
        ));
        lines.extend(soak.reason.iter().map(|reason| format!("{ASIDE}      {reason}{ASIDE:#}")));
    }
    lines
}

fn judged(met: bool, what: &str, reached: &str) -> String {
    let (style, word) = if met { (GOOD, "met   ") } else { (BAD, "MISSED") };
    format!("{style}{word}{style:#}  {what}: {reached}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::figures::Sample;

    fn block(system: &str, fault: Fault, streams: usize, flip_ms: Option<f64>) -> Block {
        let sample = Sample { flip_ms, lost: Some(0), ..Sample::default() };
        Block::of(system, fault, streams, vec![sample], None)
    }

    #[test]
    fn a_target_is_met_or_missed_by_its_own_block() {
        let mut data = Data::default();
        data.put(block("voip-ha", Fault::Crash, 50, Some(1.5)));
        data.put(block("voip-ha", Fault::Crash, 0, Some(30.0)));
        data.put(block("voip-ha", Fault::Hang, 50, None));
        data.put(block("bfdd", Fault::Crash, 50, None));
        data.put(block("nginx", Fault::Crash, 50, Some(3.0)));
        let text = anstream::adapter::strip_str(&text(&data)).to_string();
        assert!(text.contains("met     crash, with traffic: p50 ≤ 2 ms: 1.50 ms"), "{text}");
        assert!(text.contains("MISSED  crash, no traffic: p50 ≤ 15 ms: 30.00 ms"), "{text}");
        assert!(text.contains("MISSED  hang (SIGSTOP): p99 ≤ 300 ms: no flip"), "{text}");
        assert!(text.contains("MISSED  crash: ≥ 3 × as fast as the best peer at the median: 2.0 × (nginx"), "{text}");
        assert!(!text.contains("silent death"), "what was not measured is not judged: {text}");
    }
}
