//! The report for people, at a terminal.

use std::fmt::Write as _;

use super::{Assumptions, HOURS_PER_YEAR, LEAST_OBSERVED_H, Report, ServiceReport, Summary, Thesis};

/// The lines of a report that are the same as text and as a page: each with a name and a value.
pub(super) type Rows = Vec<(String, String)>;

/// The report as text.
pub fn describe(report: &Report) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "period: {} to {}", second(report.from), second(report.to));
    let _ = writeln!(text, "watched: {}", watched(report));
    for remark in &report.remarks {
        let _ = writeln!(text, "note: {remark}");
    }
    for service in &report.services {
        let _ = writeln!(text, "\nservice {}", service.name);
        let rows = rows(service, report);
        let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        for (name, value) in rows {
            let _ = writeln!(text, "  {name:width$}  {value}");
        }
    }
    let _ = writeln!(text, "\nformulas and assumptions");
    for line in assumptions(report.assumptions) {
        let _ = writeln!(text, "  {line}");
    }
    text
}

/// The time that was watched, in words.
pub(super) fn watched(report: &Report) -> String {
    format!("{} of {}", span(report.observed_s), span(report.to.duration_since(report.from).as_secs_f64()))
}

/// The figures of a service.
pub(super) fn rows(service: &ServiceReport, report: &Report) -> Rows {
    let row = |name: &str, value: String| (name.to_owned(), value);
    let thesis = &report.thesis;
    let mut rows = vec![
        row("availability", availability(service, report)),
        row("downtime, planned", summary(&service.planned, thesis.planned_s)),
        row("downtime, unplanned", summary(&service.unplanned, thesis.unplanned_s)),
    ];
    let per_year = match service.minutes_per_year {
        Some(minutes) => format!("{minutes:.3} min, as watched"),
        None => format!("not extrapolated: less than {:.0} days were watched", LEAST_OBSERVED_H / 24.0),
    };
    rows.push(row("downtime per year", per_year));
    rows.extend(comparison(service, report.assumptions, thesis));
    rows.push(row("throughput to clients", throughput(service)));
    rows
}

fn availability(service: &ServiceReport, report: &Report) -> String {
    match (service.availability, service.nines) {
        (None, _) => "not known: nothing was watched".to_owned(),
        (Some(share), Some(nines)) => format!("{} % ({nines:.1} nines)", percent(share)),
        (Some(_), None) if service.planned.not_measured + service.unplanned.not_measured > 0 => {
            "not known: no flip's downtime was measured".to_owned()
        }
        (Some(_), None) => format!("no downtime in {}: that is no number of nines", span(report.observed_s)),
    }
}

fn summary(summary: &Summary, thesis_s: f64) -> String {
    let mut text = match (summary.mean_s, summary.median_s, summary.max_s) {
        (Some(mean), Some(median), Some(max)) if summary.events > 1 => format!(
            "{} in {} events: mean {}, median {}, max {} (thesis: mean {})",
            length(summary.total_s),
            summary.events,
            length(mean),
            length(median),
            length(max),
            length(thesis_s)
        ),
        (Some(mean), ..) => format!("{} in 1 event (thesis: {})", length(mean), length(thesis_s)),
        _ => "no measured event".to_owned(),
    };
    if summary.not_measured > 0 {
        let _ = write!(text, "; {} more not measured, see their receipts", summary.not_measured);
    }
    text
}

fn comparison(service: &ServiceReport, assumptions: Assumptions, thesis: &Thesis) -> Rows {
    let minutes = assumptions.minutes_per_year(assumptions.mttr_h);
    let share = percent(assumptions.availability(assumptions.mttr_h));
    let theirs = thesis.minutes_per_year_without_backup;
    let without = format!("{minutes:.1} min per year, {share} % (thesis: {theirs} min)");
    let with = match &service.comparison {
        Some(compared) => format!(
            "{} per year of failures, {} %",
            length(compared.minutes_per_year_with_backup * 60.0),
            percent(compared.availability_with_backup)
        ),
        None => "not known: no failover's downtime was measured".to_owned(),
    };
    vec![("without a backup".to_owned(), without), ("with a backup".to_owned(), with)]
}

fn throughput(service: &ServiceReport) -> String {
    match &service.throughput {
        Some(change) => format!(
            "{:.0} B/s before, {:.0} B/s after ({:+.2} %; mean of {} flips)",
            change.before, change.after, change.change_percent, change.events
        ),
        None => "not measured around any flip with traffic".to_owned(),
    }
}

/// The formulas with their values, a line each.
pub(super) fn assumptions(assumptions: Assumptions) -> Vec<String> {
    let Assumptions { mtbf_h, mttr_h } = assumptions;
    vec![
        format!("one server fails every {mtbf_h} h (MTBF) and is repaired in {mttr_h} h (MTTR): assumed, see --mtbf-h, --mttr-h"),
        "without a backup: A = MTBF / (MTBF + MTTR)".to_owned(),
        "with a backup: A = MTBF / (MTBF + D), where D is the measured mean downtime of a failover; the backup is there".to_owned(),
        format!("per year: (1 - A) × {HOURS_PER_YEAR} h; as watched: downtime / watched time × {HOURS_PER_YEAR} h"),
        "downtime of a failover: last sign of life of the old server to the first packet back from the new one; an upper \
         bound, as it contains the silence between two packets"
            .to_owned(),
        "downtime of a planned switch: 0 if clients heard one of the servers at least every 40 ms, or the old one completed what \
         it was sent and the new one answered as fast"
            .to_owned(),
        "the default MTBF and MTTR are chosen to give the thesis's figure without a backup".to_owned(),
    ]
}

/// A share as per cent, with as many digits as tell it from 100.
pub(super) fn percent(share: f64) -> String {
    let missing = (1.0 - share) * 100.0;
    let digits = if missing > 0.0 { (1.0 - missing.log10().floor()).clamp(2.0, 12.0) as usize } else { 2 };
    format!("{:.digits$}", share * 100.0)
}

/// A length of a downtime: in milliseconds if it is short.
pub(super) fn length(seconds: f64) -> String {
    match seconds {
        0.0 => "0 ms".to_owned(),
        ..1.0 => format!("{:.1} ms", seconds * 1e3),
        ..120.0 => format!("{seconds:.3} s"),
        _ => span(seconds),
    }
}

/// A length of time in its largest two units.
pub(super) fn span(seconds: f64) -> String {
    let whole = seconds.max(0.0) as u64;
    match whole {
        0..60 => format!("{seconds:.1} s"),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        3600..86_400 => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
        _ => format!("{} d {:02} h", whole / 86_400, whole % 86_400 / 3600),
    }
}

/// Local time to the second.
pub(super) fn second(at: jiff::Timestamp) -> String {
    at.to_zoned(jiff::tz::TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S %Z").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn per_cent_has_the_digits_that_tell_it_from_a_hundred() {
        assert_eq!(percent(0.999_671_6), "99.967");
        assert_eq!(percent(0.999_999_993_4), "99.99999934");
        assert_eq!(percent(1.0), "100.00");
        assert_eq!(percent(0.5), "50.00");
    }

    #[test]
    fn lengths_have_the_unit_that_people_think_in() {
        let texts = [0.0, 0.0131, 1.1858, 7384.0, 200_000.0].map(length);
        assert_eq!(texts, ["0 ms", "13.1 ms", "1.186 s", "2 h 03 min", "2 d 07 h"]);
    }
}
