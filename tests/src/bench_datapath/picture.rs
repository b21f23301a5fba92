//! The data as a page with a picture: for each path and number of flows a bar up to the median, a line over all rounds, and
//! where the two baselines are. Packets per second have a picture of their own kind.
//!
//! The page is one file that loads nothing.

use std::fmt::Write as _;

use super::{
    figures::{Cost, Data},
    flood::picture as flood,
    table::counted,
};
use crate::show::escape;

/// Measures of the picture in px.
pub(super) const WIDTH: f64 = 960.0;
pub(super) const LABEL: f64 = 230.0;
pub(super) const RIGHT: f64 = 140.0;
pub(super) const ROW: f64 = 26.0;
pub(super) const TOP: f64 = 14.0;
pub(super) const BOTTOM: f64 = 40.0;

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:1000px;margin:2em auto;padding:0 1em;color:#1a1a1a;\
                     background:#fff}h1{font-size:1.5em}h2{font-size:1.15em;margin:2em 0 .3em}svg{width:100%;height:auto}\
                     text{font:12px system-ui,sans-serif;fill:#1a1a1a}.aside{fill:#6b6b6b}.grid{stroke:#e2e2e2}\
                     .cost{fill:#0b66c3;fill-opacity:.75}.rounds{stroke:#1a1a1a;stroke-width:1.5}\
                     .bare{stroke:#0e8a4a;stroke-width:3}.free{stroke:#c2410c;stroke-width:3}\
                     table{border-collapse:collapse}td,th{text-align:right;padding:.15em .8em;\
                     border-bottom:1px solid #e2e2e2}td:first-child,th:first-child{text-align:left}\
                     @media(prefers-color-scheme:dark){body{background:#161616;color:#e8e8e8}text{fill:#e8e8e8}\
                     .aside{fill:#9a9a9a}.grid,td,th{stroke:#3a3a3a;border-color:#3a3a3a}.rounds{stroke:#e8e8e8}\
                     .cost{fill:#5aa9f5}.bare{stroke:#34d399}.free{stroke:#fb923c}}";

/// The whole page.
pub(super) fn page(data: &Data) -> String {
    let mut out = String::from("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">");
    let _ = writeln!(out, "<title>voip-ha: datapath bench</title><style>{STYLE}</style></head><body>");
    out += "<h1>The datapath</h1>\n";
    let (kernel, cpus) = (escape(&data.machine.kernel), data.machine.cpus);
    let _ = writeln!(out, "<p>Linux {kernel}, {cpus} processors, {} rounds.</p>", data.rounds);
    out += &costs(data);
    out += &flood::rates(&data.packets_per_s);
    out += &flood::drops(&data.drops_per_s);
    if !data.verified_insns.is_empty() {
        let insns = data.verified_insns.iter().map(|(name, count)| (name, u64::from(*count)));
        out += &counts("Verified instructions", insns);
        out += &counts("Memory of the maps, bytes", data.map_bytes.iter().map(|(name, bytes)| (name, *bytes)));
    }
    out + "</body></html>\n"
}

fn costs(data: &Data) -> String {
    if data.ns_per_packet.is_empty() {
        return String::new();
    }
    let mut out = "<h2>What a packet costs in the XDP program: nanoseconds</h2>\n<p>A bar ends at the median, the thin line goes from the fastest round to the slowest. The orange mark is a program \
            that parses, rewrites, counts and redirects and nothing else; the green one only redirects. All were measured in \
            turn, and what the measuring itself costs is subtracted.</p>\n"
        .to_owned();
    out += &picture(&data.ns_per_packet);
    if !data.growth.is_empty() {
        out += "<h2>With more services and servers</h2>\n<table><tr><th>path</th><th>services</th><th>servers</th>\
                <th>ns per packet</th><th>× smallest</th></tr>\n";
        for row in &data.growth {
            let (path, ratio) = (escape(&row.path), row.to_smallest.p50);
            let _ = writeln!(
                out,
                "<tr><td>{path}</td><td>{}</td><td>{}</td><td>{:.1}</td><td>{ratio:.2}</td></tr>",
                row.services, row.servers, row.ns
            );
        }
        out += "</table>\n";
    }
    out
}

fn picture(costs: &[Cost]) -> String {
    let height = TOP + ROW * costs.len() as f64 + BOTTOM;
    let most = costs.iter().map(|cost| cost.ns_spread.max.max(cost.feature_free_ns)).fold(1.0, f64::max);
    let place = |ns: f64| LABEL + ns.clamp(0.0, most) / most * (WIDTH - LABEL - RIGHT);
    let mut out = format!("<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">\n");
    let step = step(most);
    let marks = (0..).map(|number| f64::from(number) * step).take_while(|ns| *ns <= most);
    for ns in marks {
        let (at, bottom) = (place(ns), height - BOTTOM);
        let _ = writeln!(out, "<line class=\"grid\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{bottom}\"/>");
        let under = bottom + 18.0;
        let _ =
            writeln!(out, "<text class=\"aside\" x=\"{at:.1}\" y=\"{under}\" text-anchor=\"middle\">{ns} ns</text>");
    }
    for (number, cost) in costs.iter().enumerate() {
        out += &row(cost, TOP + ROW * (number as f64 + 0.5), place);
    }
    out + "</svg>\n"
}

fn row(cost: &Cost, middle: f64, place: impl Fn(f64) -> f64) -> String {
    let name = escape(&format!("{} · {}", cost.path, counted(cost.flows)));
    let (baseline, edge, top) = (middle + 4.0, LABEL - 12.0, middle - 8.0);
    let (start, end) = (place(0.0), place(cost.ns));
    let mut out = format!("<g><text x=\"{edge}\" y=\"{baseline}\" text-anchor=\"end\">{name}</text>\n");
    let width = end - start;
    let _ = writeln!(out, "<rect class=\"cost\" x=\"{start:.1}\" y=\"{top}\" width=\"{width:.1}\" height=\"16\"/>");
    let (min, max) = (place(cost.ns_spread.min), place(cost.ns_spread.max));
    let _ = writeln!(out, "<line class=\"rounds\" x1=\"{min:.1}\" x2=\"{max:.1}\" y1=\"{middle}\" y2=\"{middle}\"/>");
    for (class, ns) in [("bare", cost.bare_redirect_ns), ("free", cost.feature_free_ns)] {
        let (at, bottom) = (place(ns), middle + 10.0);
        let above = middle - 10.0;
        let _ = writeln!(
            out,
            "<line class=\"{class}\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{above}\" y2=\"{bottom}\">\
             <title>{ns:.1} ns</title></line>"
        );
    }
    let ratio = cost.to_feature_free.p50;
    let _ = writeln!(
        out,
        "<text class=\"aside\" x=\"{WIDTH}\" y=\"{baseline}\" text-anchor=\"end\">{:.1} ns · {ratio:.2} ×</text></g>",
        cost.ns
    );
    out
}

/// Between two marks of the axis: 1, 2 or 5 times a power of ten, and at most ten of them.
pub(super) fn step(most: f64) -> f64 {
    let power = 10_f64.powf((most / 10.0).log10().floor());
    [1.0, 2.0, 5.0].into_iter().map(|times| times * power).find(|step| most / step <= 10.0).unwrap_or(power * 10.0)
}

fn counts<'a>(heading: &str, rows: impl Iterator<Item = (&'a String, u64)>) -> String {
    let mut out = format!("<h2>{heading}</h2>\n<table>\n");
    for (name, count) in rows {
        let _ = writeln!(out, "<tr><td>{}</td><td>{count}</td></tr>", escape(name));
    }
    out + "</table>\n"
}

#[cfg(test)]
mod tests {
    use super::{super::table::tests, *};

    #[test]
    fn every_path_and_number_of_flows_has_a_bar_and_both_baselines() {
        let costs = vec![tests::cost("a<b", 1, 40.0, 1.0), tests::cost("a<b", 1000, 42.0, 1.0)];
        let page = page(&tests::data(costs));
        for class in ["cost", "rounds", "bare", "free"] {
            assert_eq!(page.matches(&format!("class=\"{class}\"")).count(), 2, "{class}: {page}");
        }
        assert!(page.contains("a&lt;b · 1000 flows") && page.contains("42.0 ns · 2.10 ×"), "{page}");
        assert!(!page.contains("http"), "{page}");
    }

    #[test]
    fn the_axis_has_round_marks_and_at_most_ten() {
        assert_eq!([9.0, 42.0, 100.0, 130.0].map(step), [1.0, 5.0, 10.0, 20.0]);
    }
}
