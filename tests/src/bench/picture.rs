//! The data as a page with pictures: for each fault every single run of every system on a logarithmic axis.
//!
//! The page is one file that loads nothing.

use std::fmt::Write as _;

use super::{
    fault::Fault,
    figures::{Block, Data, Sample},
    table::in_order,
};
use crate::show::escape;

/// Measures of a picture in px.
const WIDTH: f64 = 960.0;
const LABEL: f64 = 250.0;
const ROW: f64 = 26.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 40.0;
/// The axis in ms: powers of ten from 0.1 ms to 100 s.
const FIRST: i32 = -1;
const LAST: i32 = 5;

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:1000px;margin:2em auto;padding:0 1em;color:#1a1a1a;\
                     background:#fff}h1{font-size:1.5em}h2{font-size:1.15em;margin:2em 0 .3em}svg{width:100%;height:auto}\
                     text{font:12px system-ui,sans-serif;fill:#1a1a1a}.aside{fill:#6b6b6b}.grid{stroke:#e2e2e2}\
                     .run{fill:#7a7a7a;fill-opacity:.45}.median{stroke:#1a1a1a;stroke-width:2}.ours .run{fill:#0b66c3}\
                     .ours text{font-weight:600}table{border-collapse:collapse}td,th{text-align:right;padding:.15em .8em;\
                     border-bottom:1px solid #e2e2e2}td:first-child,th:first-child{text-align:left}\
                     @media(prefers-color-scheme:dark){body{background:#161616;color:#e8e8e8}text{fill:#e8e8e8}\
                     .aside{fill:#9a9a9a}.grid,td,th{stroke:#3a3a3a;border-color:#3a3a3a}.median{stroke:#e8e8e8}\
                     .run{fill:#a8a8a8}.ours .run{fill:#5aa9f5}}";

/// The whole page.
pub(super) fn page(data: &Data) -> String {
    let mut out = String::from("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">");
    let _ = writeln!(out, "<title>voip-ha: failover bench</title><style>{STYLE}</style></head><body>");
    out += "<h1>Failover, measured beside the field</h1>\n";
    if let Some(machine) = &data.machine {
        let _ = writeln!(out, "<p>Linux {}, {} processors.</p>", escape(&machine.kernel), machine.cpus);
    }
    out += "<p>Each dot is one run, the bar is the median; the axis is logarithmic. The number after a system is that of \
            the RTP streams.</p>\n";
    for fault in Fault::ALL {
        let blocks = in_order(data, fault);
        if blocks.is_empty() {
            continue;
        }
        let _ = writeln!(out, "<h2>{}: from the fault to the first answer of the other server</h2>", fault.name());
        out += &strip(&blocks, |sample| sample.flip_ms);
        if blocks.iter().any(|block| block.gap_ms.is_some()) {
            let _ = writeln!(out, "<h2>{}: longest silence of one RTP stream</h2>", fault.name());
            out += &strip(&blocks, |sample| sample.gap_ms);
        }
    }
    out += &soaks(data);
    out + "</body></html>\n"
}

/// One picture: a row for each block.
fn strip(blocks: &[&Block], of: fn(&Sample) -> Option<f64>) -> String {
    let height = TOP + ROW * blocks.len() as f64 + BOTTOM;
    let mut out = format!("<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">\n");
    out += &axis(height - BOTTOM);
    for (number, block) in blocks.iter().enumerate() {
        out += &row(block, TOP + ROW * (number as f64 + 0.5), of);
    }
    out + "</svg>\n"
}

fn axis(bottom: f64) -> String {
    let mut out = String::new();
    for power in FIRST..=LAST {
        let at = place(10_f64.powi(power));
        let name = match power {
            -1 => "0.1 ms",
            0 => "1 ms",
            1 => "10 ms",
            2 => "100 ms",
            3 => "1 s",
            4 => "10 s",
            _ => "100 s",
        };
        let _ = writeln!(out, "<line class=\"grid\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{bottom}\"/>");
        let under = bottom + 18.0;
        let _ = writeln!(out, "<text class=\"aside\" x=\"{at:.1}\" y=\"{under}\" text-anchor=\"middle\">{name}</text>");
    }
    out
}

fn row(block: &Block, middle: f64, of: fn(&Sample) -> Option<f64>) -> String {
    let class = if block.system == "voip-ha" { " class=\"ours\"" } else { "" };
    let name = escape(&format!("{} · {}", block.system, block.streams));
    let (baseline, edge) = (middle + 4.0, LABEL - 12.0);
    let mut out = format!("<g{class}><text x=\"{edge}\" y=\"{baseline}\" text-anchor=\"end\">{name}</text>\n");
    let mut values: Vec<_> = block.samples.iter().filter_map(of).collect();
    values.sort_by(f64::total_cmp);
    for (number, value) in values.iter().enumerate() {
        // Runs of the same time lie beside each other.
        let (at, off) = (place(*value), middle + (number % 5) as f64 * 3.0 - 6.0);
        let _ = writeln!(
            out,
            "<circle class=\"run\" cx=\"{at:.1}\" cy=\"{off:.1}\" r=\"3\"><title>{value} ms</title></circle>"
        );
    }
    // Without an answer in one run there is no median.
    if !values.is_empty() && values.len() == block.n {
        let at = place(values[(values.len() - 1) / 2]);
        let (top, bottom) = (middle - 10.0, middle + 10.0);
        let _ = writeln!(out, "<line class=\"median\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{top}\" y2=\"{bottom}\"/>");
    }
    if values.len() < block.n || block.n == 0 {
        let missing = if block.n == 0 {
            "not possible".to_owned()
        } else {
            format!("none in {} of {}", block.n - values.len(), block.n)
        };
        let reason = escape(block.reason.as_deref().unwrap_or_default());
        let _ = writeln!(
            out,
            "<text class=\"aside\" x=\"{WIDTH}\" y=\"{baseline}\" text-anchor=\"end\">{missing}<title>{reason}</title></text>"
        );
    }
    out + "</g>\n"
}

fn place(ms: f64) -> f64 {
    let share = (ms.log10() - f64::from(FIRST)) / f64::from(LAST - FIRST);
    LABEL + share.clamp(0.0, 1.0) * (WIDTH - LABEL - 30.0)
}

fn soaks(data: &Data) -> String {
    if data.soak.is_empty() {
        return String::new();
    }
    let mut out =
        "<h2>Soak: every processor busy, 1 % of probes lost, server processes paused</h2>\n<table><tr><th>system\
                   </th><th>minutes</th><th>false failovers</th><th>pauses</th><th>RTP lost</th></tr>\n"
            .to_owned();
    for soak in &data.soak {
        let (name, lost) = (escape(&soak.system), format!("{} of {}", soak.lost, soak.sent));
        let _ = writeln!(
            out,
            "<tr><td>{name}</td><td>{}</td><td>{}</td><td>{}</td><td>{lost}</td></tr>",
            soak.minutes, soak.false_failovers, soak.pauses
        );
    }
    out + "</table>\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_run_is_a_dot_and_a_missing_one_is_told() {
        let sample = |flip_ms| Sample { flip_ms, ..Sample::default() };
        let runs = [Some(1.0), Some(10.0), None].map(sample);
        let mut data = Data::default();
        data.put(Block::of("a<b", Fault::Crash, 50, runs.into(), Some("\"why\"".to_owned())));
        let page = page(&data);
        assert_eq!(page.matches("<circle").count(), 2);
        assert!(page.contains("none in 1 of 3<title>&quot;why&quot;") && page.contains("a&lt;b · 50"), "{page}");
        assert_eq!(page.matches("class=\"median\"").count(), 0, "what never came has no median");
        assert!(!page.contains("http") && !page.contains("longest silence"), "{page}");
    }

    #[test]
    fn ten_times_the_time_is_always_as_far_to_the_right() {
        let step = place(10.0) - place(1.0);
        assert!((place(1000.0) - place(100.0) - step).abs() < 1e-9 && step > 50.0);
        assert!((place(0.0) - place(0.1)).abs() < 1e-9, "nothing is left of the axis");
    }
}
