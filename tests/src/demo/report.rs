//! The demo's report: what ran, a table of the events, a time line of each, and what became of the calls.

use std::fmt;

use anstyle::{AnsiColor, Style};
use serde::Serialize;

use super::{callers::Outcome, timeline};
use crate::{
    meter::Tally,
    rtp::{FRAME, INTERVAL_MS},
    trial::{Kind, Measured, THROUGHPUT, WINDOW},
};

/// Everything that was measured, and how.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) setup: Setup,
    pub(super) events: Vec<Measured>,
    pub(super) total: Total,
    pub(super) calls: Vec<Outcome>,
}

/// What ran.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Setup {
    pub(super) real: bool,
    pub(super) streams: usize,
    /// `probe.preset` of the gateway.
    pub(super) preset: &'static str,
}

/// Packets of all streams from start to end.
#[derive(Debug, Serialize)]
pub(super) struct Total {
    sent: u64,
    lost: u64,
    duplicated: u64,
    reordered: u64,
    corrupt: u64,
}

/// The outage that the thesis, which this project starts from, measured with a pair of redundant servers, in ms.
const THESIS_PLANNED_MS: f64 = 853.7;
const THESIS_UNPLANNED_MS: f64 = 1185.8;

pub(super) const HEADING: Style = Style::new().bold();
const ASIDE: Style = Style::new().dimmed();
const GOOD: Style = AnsiColor::Green.on_default();
const CAUTION: Style = AnsiColor::Yellow.on_default();

impl From<Tally> for Total {
    fn from(tally: Tally) -> Self {
        let Tally { sent, lost, duplicated, reordered, corrupt, .. } = tally;
        Self { sent, lost, duplicated, reordered, corrupt }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f)?;
        header(f, &self.setup)?;
        writeln!(f)?;
        table(f, &self.events)?;
        writeln!(f)?;
        notes(f)?;
        writeln!(f)?;
        for (number, event) in self.events.iter().enumerate() {
            timeline::write(f, &name(number, event), event)?;
        }
        writeln!(f)?;
        let Total { sent, lost, duplicated, reordered, corrupt } = self.total;
        writeln!(
            f,
            "all streams from start to end: {sent} packets sent, {lost} lost, {duplicated} duplicated, {reordered} \
             reordered, {corrupt} corrupt"
        )?;
        writeln!(f)?;
        calls(f, &self.calls)
    }
}

fn header(f: &mut fmt::Formatter<'_>, setup: &Setup) -> fmt::Result {
    let Setup { real, streams, preset } = setup;
    let servers = if *real { "Kamailio with sipp behind it" } else { "the built-in server" };
    let rate = 1000 / INTERVAL_MS;
    writeln!(f, "{HEADING}voip-ha demo{HEADING:#}  master and backup run {servers}")?;
    writeln!(f, "  streams     {streams} RTP streams of {rate} packets/s, echoed: {FRAME} bytes per Ethernet frame")?;
    writeln!(f, "  probes      SIP OPTIONS every 20 ms and ICMP echo, preset `{preset}`")
}

/// One line of the table: what it is, its unit, its value for an event.
type Line = (&'static str, &'static str, fn(&Measured) -> String);

const TABLE: [Line; 15] = [
    ("from", "", |event| event.from.clone()),
    ("to", "", |event| event.to.clone()),
    ("evidence", "", |event| event.evidence.clone()),
    ("evidence to flip", "µs", |event| format!("{:.1}", event.evidence_to_flip_us)),
    ("fault to flip", "ms", |event| format!("{:.2}", event.fault_to_flip_ms)),
    ("fault to first packet back", "ms", |event| format!("{:.2}", event.fault_to_first_packet_ms)),
    ("longest gap of a stream", "ms", |event| format!("{:.1}", event.max_gap_ms)),
    (THESIS, "ms", |event| format!("{:.1}", thesis_ms(event.kind))),
    ("packets sent", "", |event| event.sent.to_string()),
    (LOST, "", |event| event.lost.to_string()),
    ("  in a row, at most", "", |event| event.max_lost_in_a_row.to_string()),
    ("packets duplicated", "", |event| event.duplicated.to_string()),
    ("throughput before", "bytes/s", |event| format!("{:.0}", event.bytes_per_s_before)),
    ("throughput after", "bytes/s", |event| format!("{:.0}", event.bytes_per_s_after)),
    ("  change", "%", |event| format!("{:+.3}", change_per_cent(event))),
];

const THESIS: &str = "  thesis: outage";
const LOST: &str = "packets lost";

fn table(f: &mut fmt::Formatter<'_>, events: &[Measured]) -> fmt::Result {
    write!(f, "{HEADING}{:<36}", "EVENT")?;
    for (number, event) in events.iter().enumerate() {
        write!(f, "{:>13}", name(number, event))?;
    }
    writeln!(f, "{HEADING:#}")?;
    for (what, unit, value) in TABLE {
        write!(f, "{what:<28}{unit:<8}")?;
        for event in events {
            let style = match what {
                THESIS => ASIDE,
                LOST if event.lost == 0 => GOOD,
                LOST => CAUTION,
                _ => Style::new(),
            };
            write!(f, "{style}{:>13}{style:#}", value(event))?;
        }
        writeln!(f)?;
    }
    Ok(())
}

fn notes(f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let (window, throughput) = (WINDOW.as_secs(), THROUGHPUT.as_secs());
    let later = window + throughput;
    writeln!(
        f,
        "{ASIDE}\
         fault       just before voip-ha switch is called, the processes are killed or the cable is pulled\n\
         flip        as the gateway says; evidence to flip is its own measurement\n\
         packets     sent from {window} s before the fault to {window} s after the flip, and their echoes by the kernel's time of arrival\n\
         gap         of one stream between two packets that arrive; {INTERVAL_MS} ms is no loss\n\
         throughput  what arrived in the {throughput} s before the fault, and from {window} to {later} s after the flip\n\
         clock       CLOCK_MONOTONIC\
         {ASIDE:#}"
    )
}

fn calls(f: &mut fmt::Formatter<'_>, calls: &[Outcome]) -> fmt::Result {
    writeln!(f, "{HEADING}{:<40}{:>8}{:>8}{:>14}{HEADING:#}", "SIP", "DONE", "FAILED", "SENT AGAIN")?;
    for Outcome { what, succeeded, failed, retransmissions, note } in calls {
        let style = if *failed == 0 { GOOD } else { CAUTION };
        write!(f, "{what:<40}{succeeded:>8}{style}{failed:>8}{style:#}{retransmissions:>14}")?;
        writeln!(f, "{}{note}", if note.is_empty() { "" } else { "  " })?;
    }
    Ok(())
}

/// What an event is called where it has no room for more.
fn name(number: usize, event: &Measured) -> String {
    let kind = match event.kind {
        Kind::Planned => "planned",
        Kind::Crash => "crash",
        Kind::Silent => "silent",
    };
    format!("{} {kind}", number + 1)
}

fn change_per_cent(event: &Measured) -> f64 {
    (event.bytes_per_s_after / event.bytes_per_s_before - 1.0) * 100.0
}

fn thesis_ms(kind: Kind) -> f64 {
    if kind == Kind::Planned { THESIS_PLANNED_MS } else { THESIS_UNPLANNED_MS }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trial::{CELLS_AFTER, CELLS_BEFORE};

    fn event(kind: Kind) -> Measured {
        Measured {
            kind,
            from: "master".to_owned(),
            to: "backup".to_owned(),
            streams: 500,
            sent: 123_456,
            lost: 34_567,
            duplicated: 34_567,
            max_lost_in_a_row: 500,
            max_gap_ms: 11_999.9,
            evidence_to_flip_us: 54_321.0,
            fault_to_flip_ms: 9_999.99,
            fault_to_first_packet_ms: 10_999.99,
            bytes_per_s_before: 5_350_000.0,
            bytes_per_s_after: 2_675_000.0,
            evidence: "unreachable".to_owned(),
            strip: vec![50; (CELLS_BEFORE + CELLS_AFTER) as usize],
        }
    }

    #[test]
    fn no_line_is_wider_than_120_columns() {
        let outcome = Outcome {
            what: "BYE of these calls after the events",
            succeeded: 0,
            failed: 500,
            retransmissions: 5000,
            note: "500 × Status(481); servers share no dialogs".to_owned(),
        };
        let report = Report {
            setup: Setup { real: true, streams: 500, preset: "cautious" },
            events: [Kind::Planned, Kind::Planned, Kind::Crash, Kind::Planned, Kind::Silent].map(event).into(),
            total: Total {
                sent: 9_999_999,
                lost: 9_999_999,
                duplicated: 999_999,
                reordered: 999_999,
                corrupt: 999_999,
            },
            calls: vec![outcome],
        };
        let text = report.to_string();
        let text = anstream::adapter::strip_str(&text).to_string();
        for line in text.lines() {
            assert!(line.chars().count() <= 120, "{} columns: {line}", line.chars().count());
        }
        assert!(text.contains("-50.000"), "the change of the throughput is missing:\n{text}");
    }
}
