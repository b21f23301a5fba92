//! The pictures of the report, as SVG inside the page.

use jiff::Timestamp;
use maud::{Markup, html};

use super::{
    Downtime, Report, ServiceReport,
    text::{length, second},
};

const WIDTH: f64 = 900.0;
const LEFT: f64 = 60.0;
const RIGHT: f64 = 20.0;
/// Narrower than this a mark cannot be seen; downtimes of milliseconds in a period of months are marks.
const LEAST_MARK: f64 = 3.0;
const COSTS_HEIGHT: f64 = 220.0;
/// Bottom of the logarithmic axis of downtimes, in seconds; what cost nothing stands below it.
const BOTTOM_S: f64 = 1e-3;

/// When the service was watched, and when it was down.
pub(super) fn timeline(service: &ServiceReport, report: &Report) -> Markup {
    let x = |at: Timestamp| place(at, report);
    let watched = report.observed.iter().map(|stretch| (x(stretch.from), x(stretch.to)));
    let watched: Vec<_> = watched.map(|(from, to)| (from, (to - from).max(1.0))).collect();
    html! {
        svg xmlns="http://www.w3.org/2000/svg" viewBox=(format!("0 0 {WIDTH} 96")) role="img" aria-label="time line" {
            text x="0" y="30" { "down" }
            text x="0" y="61" { "watched" }
            @for (at, width) in watched {
                rect class="watched" x=(number(at)) y="52" width=(number(width)) height="10" {}
            }
            @for downtime in &service.downtimes { (mark(downtime, x(downtime.from), x(downtime.to))) }
            line class="axis" x1=(number(LEFT)) x2=(number(WIDTH - RIGHT)) y1="70" y2="70" {}
            text x=(number(LEFT)) y="88" { (second(report.from)) }
            text x=(number(WIDTH - RIGHT)) y="88" text-anchor="end" { (second(report.to)) }
        }
    }
}

fn mark(downtime: &Downtime, from: f64, to: f64) -> Markup {
    html! {
        rect class=(class(downtime)) x=(number(from)) y="14" width=(number((to - from).max(LEAST_MARK))) height="24" {
            title { (words(downtime)) }
        }
    }
}

/// What each event cost, on a logarithmic axis, beside what the thesis measured.
pub(super) fn costs(service: &ServiceReport, report: &Report) -> Markup {
    let longest = service.downtimes.iter().map(|downtime| downtime.seconds).fold(report.thesis.unplanned_s, f64::max);
    let decades = (longest / BOTTOM_S).log10().ceil().max(1.0);
    let height = |seconds: f64| {
        let share = (seconds / BOTTOM_S).log10() / decades;
        if seconds > 0.0 { share.clamp(0.01, 1.0) * (COSTS_HEIGHT - 40.0) } else { 0.0 }
    };
    let y = |seconds: f64| COSTS_HEIGHT - 20.0 - height(seconds);
    let step = (WIDTH - LEFT - RIGHT) / service.downtimes.len() as f64;
    let ticks = (0..=decades as i32).map(|decade| BOTTOM_S * 10f64.powi(decade));
    let theirs = [("thesis, planned", report.thesis.planned_s), ("thesis, unplanned", report.thesis.unplanned_s)];
    html! {
        svg xmlns="http://www.w3.org/2000/svg" viewBox=(format!("0 0 {WIDTH} {COSTS_HEIGHT}")) role="img"
            aria-label="downtime of each event" {
            @for tick in ticks {
                line class="axis" x1=(number(LEFT)) x2=(number(WIDTH - RIGHT)) y1=(number(y(tick))) y2=(number(y(tick))) {}
                text x=(number(LEFT - 6.0)) y=(number(y(tick) + 4.0)) text-anchor="end" { (tick_text(tick)) }
            }
            @for (place, downtime) in service.downtimes.iter().enumerate() {
                rect class=(class(downtime)) x=(number(LEFT + step * (place as f64 + 0.2)))
                    y=(number(y(downtime.seconds).min(COSTS_HEIGHT - 22.0))) width=(number((step * 0.6).clamp(1.0, 40.0)))
                    height=(number(height(downtime.seconds).max(2.0))) { title { (words(downtime)) } }
            }
            @for (place, (name, seconds)) in theirs.into_iter().enumerate() {
                line class="thesis" x1=(number(LEFT)) x2=(number(WIDTH - RIGHT)) y1=(number(y(seconds)))
                    y2=(number(y(seconds))) {}
                text x=(number(LEFT + 4.0 + 150.0 * place as f64)) y="12" { (name) ": " (length(seconds)) }
            }
        }
    }
}

fn class(downtime: &Downtime) -> &'static str {
    if downtime.planned { "planned" } else { "unplanned" }
}

fn words(downtime: &Downtime) -> String {
    let kind = match downtime {
        Downtime { planned: true, .. } => "planned",
        Downtime { outage: true, .. } => "outage, no server was up",
        Downtime { kept: true, .. } => "the server was down and stayed active: held, or no failover was left",
        _ => "failover",
    };
    let numbers: Vec<_> = downtime.receipts.iter().map(u64::to_string).collect();
    let receipts = if numbers.is_empty() { String::new() } else { format!(", receipt {}", numbers.join(", ")) };
    format!("{}: {kind}, {}{receipts}", second(downtime.from), length(downtime.seconds))
}

/// Where a moment is on the time line.
fn place(at: Timestamp, report: &Report) -> f64 {
    let whole = report.to.duration_since(report.from).as_secs_f64();
    let share = if whole > 0.0 { at.duration_since(report.from).as_secs_f64() / whole } else { 0.0 };
    LEFT + share.clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT)
}

fn tick_text(seconds: f64) -> String {
    if seconds < 0.9999 { format!("{:.0} ms", seconds * 1e3) } else { format!("{seconds:.0} s") }
}

/// A coordinate with the digits that can be seen.
fn number(value: f64) -> String {
    format!("{value:.1}")
}
