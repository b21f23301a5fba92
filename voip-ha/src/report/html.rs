//! The report as one page that needs nothing else: no script, no picture, no address elsewhere.
//!
//! It is XML as well, so that a test can read it strictly. maud escapes every text.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{
    Report, ServiceReport,
    plot::{costs, timeline},
    text::{assumptions, length, rows, second, watched},
};
use crate::receipt::Receipt;

const STYLE: &str = "
:root { color-scheme: light dark; --ink: #1a1a1a; --paper: #fff; --faint: #8888; --planned: #2a6fb0; --unplanned: #c0392b;
  --watched: #3a9d5d; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e6e6; --paper: #161616; --planned: #6fb1f0; --unplanned: #ff7a6b; } }
body { font: 16px/1.45 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 62rem; margin: 2rem auto;
  padding: 0 1rem; }
table { border-collapse: collapse; margin: 0.8rem 0; }
th, td { text-align: left; padding: 0.15rem 0.9rem 0.15rem 0; vertical-align: top; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
tr + tr td { border-top: 1px solid var(--faint); }
svg { width: 100%; height: auto; } svg text { fill: var(--ink); font-size: 12px; }
.axis { stroke: var(--faint); } .watched { fill: var(--watched); } .planned { fill: var(--planned); }
.unplanned { fill: var(--unplanned); } .thesis { stroke: var(--faint); stroke-dasharray: 4 3; }
.note { border-left: 3px solid var(--unplanned); padding-left: 0.6rem; } .scroll { overflow-x: auto; }
summary { cursor: pointer; }";

/// The page.
pub fn page(report: &Report) -> String {
    let body = html! {
        h1 { "Availability" }
        p { "From " b { (second(report.from)) } " to " b { (second(report.to)) } ", watched for " (watched(report)) ". Made "
            (second(report.made)) " by voip-ha " (env!("CARGO_PKG_VERSION")) "." }
        @for remark in &report.remarks { p class="note" { (remark) } }
        @for part in &report.services { (service(part, report)) }
        h2 { "Formulas and assumptions" }
        ul { @for line in assumptions(report.assumptions) { li { (line) } } }
    };
    let whole = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                (PreEscaped("<meta charset=\"utf-8\"/><meta name=\"viewport\" content=\"width=device-width\"/>"))
                title { "voip-ha: availability" }
                style { (PreEscaped(STYLE)) }
            }
            body { (body) }
        }
    };
    whole.into_string()
}

fn service(service: &ServiceReport, report: &Report) -> Markup {
    html! {
        h2 { "Service " (service.name) }
        table { @for (name, value) in rows(service, report) { tr { th { (name) } td { (value) } } } }
        h3 { "Time line" }
        (timeline(service, report))
        @if !service.downtimes.is_empty() {
            h3 { "Downtime of each event" }
            (costs(service, report))
        }
        @if !service.receipts.is_empty() {
            h3 { "Receipts" }
            div class="scroll" { (receipts(&service.receipts)) }
        }
    }
}

fn receipts(receipts: &[Receipt]) -> Markup {
    html! {
        table {
            tr { th class="n" { "No." } th { "Time" } th { "From" } th { "To" } th { "Why" } th class="n" { "Downtime" }
                th class="n" { "RTP flows" } th class="n" { "Unanswered" } th { "Time line" } }
            @for receipt in receipts {
                tr {
                    td class="n" { (receipt.number) }
                    td { (second(receipt.at)) }
                    td { (receipt.from) }
                    td { (receipt.to) }
                    td { (receipt.why()) }
                    td class="n" { (or_why(receipt, "downtime_ms", receipt.downtime_ms.map(|ms| length(ms / 1e3)))) }
                    td class="n" { (or_why(receipt, "rtp_flows", receipt.rtp_flows.map(|flows| flows.to_string()))) }
                    td class="n" { (or_why(receipt, "unanswered", receipt.unanswered.map(|sent| {
                        format!("{} SIP, {} RTP", sent.sip, sent.rtp)
                    }))) }
                    td { (moments(receipt)) }
                }
            }
        }
    }
}

fn moments(receipt: &Receipt) -> Markup {
    html! {
        details {
            summary { (receipt.timeline().len()) " moments" }
            table { @for moment in receipt.timeline() {
                tr { td class="n" { (format!("{:+.3} ms", moment.ms)) } td { (moment.text) } }
            } }
        }
    }
}

/// A value, or that it was not measured, with the reason for those who point at it.
fn or_why(receipt: &Receipt, field: &str, value: Option<String>) -> Markup {
    html! {
        @match value {
            Some(value) => { (value) }
            None => { span title=(receipt.why_not(field)) { "not measured" } }
        }
    }
}
