//! The availability report: how long clients were without service, from receipts and outages on the disk.
//!
//! Only time in which a controller watched is counted. What nobody watched is neither up nor down, and the report says how
//! much that is. Downtimes of one service that overlap, such as an outage and the failover that ended it, are one.

mod downtimes;
mod formula;
mod html;
mod plot;
mod spans;
mod text;

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::Serialize;

pub use self::{
    downtimes::Downtime,
    formula::{Assumptions, Comparison, HOURS_PER_YEAR, THESIS, Thesis, nines},
    html::page,
    text::describe,
};
use self::{downtimes::downtimes, spans::Spans};
use crate::{
    receipt::{Receipt, Throughput},
    record::History,
};

/// Less observed time than this is not extrapolated to a year: one event more or less would be everything.
pub const LEAST_OBSERVED_H: f64 = 7.0 * 24.0;

/// Which time a report is about. Without a limit, all that is on the disk.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    /// Its begin.
    pub since: Option<Timestamp>,
    /// Its end.
    pub until: Option<Timestamp>,
}

/// The whole report.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// When it was made.
    pub made: Timestamp,
    /// Begin of the period.
    pub from: Timestamp,
    /// Its end.
    pub to: Timestamp,
    /// Seconds of it in which a controller watched.
    pub observed_s: f64,
    /// The stretches in which a controller watched.
    pub observed: Vec<Stretch>,
    /// What the reader must know about the figures.
    pub remarks: Vec<String>,
    /// What the comparison assumes.
    pub assumptions: Assumptions,
    /// What the thesis measured.
    pub thesis: Thesis,
    /// Services with receipts or outages, by name.
    pub services: Vec<ServiceReport>,
}

/// A stretch of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Stretch {
    /// Its begin.
    pub from: Timestamp,
    /// Its end.
    pub to: Timestamp,
}

/// One service.
#[derive(Clone, Debug, Serialize)]
pub struct ServiceReport {
    /// Its name.
    pub name: String,
    /// Every event that has a downtime, 0 included, in the order of time.
    pub downtimes: Vec<Downtime>,
    /// Planned ones together.
    pub planned: Summary,
    /// Unplanned ones together.
    pub unplanned: Summary,
    /// Share of the observed time with service. `None` if nothing was observed.
    pub availability: Option<f64>,
    /// [`nines`] of it. `None` if no downtime was measured: there is no number of nines in that.
    pub nines: Option<f64>,
    /// Minutes of downtime in a year as observed. `None` if less than [`LEAST_OBSERVED_H`] were observed.
    pub minutes_per_year: Option<f64>,
    /// Beside a service without a backup. `None` if no unplanned downtime was measured.
    pub comparison: Option<Comparison>,
    /// Bytes per second from servers to clients. `None` if no receipt has both figures.
    pub throughput: Option<ThroughputChange>,
    /// The receipts.
    pub receipts: Vec<Receipt>,
}

/// Several downtimes together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Summary {
    /// Events with a measured downtime.
    pub events: usize,
    /// Flips whose downtime was not measured. They are in no other figure.
    pub not_measured: usize,
    /// Seconds in all.
    pub total_s: f64,
    /// Seconds per event. `None` without events.
    pub mean_s: Option<f64>,
    /// Half of the events were not longer; of an even number of events the mean of the two in the middle.
    pub median_s: Option<f64>,
    /// The longest.
    pub max_s: Option<f64>,
}

/// Throughput before and after the flips.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ThroughputChange {
    /// Receipts with both figures, and traffic before.
    pub events: usize,
    /// Mean bytes per second before.
    pub before: f64,
    /// Mean bytes per second after.
    pub after: f64,
    /// By how much it changed, in per cent of the throughput before.
    pub change_percent: f64,
}

impl Report {
    /// The report of what is remembered, as of `now`.
    pub fn new(history: &History, limits: Limits, assumptions: Assumptions, now: Timestamp) -> Self {
        let ever: Spans = history.observed.iter().map(|seen| (seen.from, seen.to)).collect();
        let begin = [history.complete_since, ever.begin()].into_iter().flatten().min();
        let to = limits.until.unwrap_or(now).min(now);
        let from = limits.since.or(begin).unwrap_or(to).min(to);
        let mut observed = ever.clone();
        observed.clip(from, to);
        let names: BTreeSet<_> = history.receipts.iter().map(|receipt| receipt.service.clone()).collect();
        let names = names.into_iter().chain(downtimes::services(history)).collect::<BTreeSet<_>>();
        let services = names.into_iter().map(|name| {
            let downtimes = downtimes(&name, history, &ever, (from, to));
            service(name, history, &observed, (from, to), downtimes, assumptions)
        });
        let services: Vec<_> = services.collect();
        let remarks = remarks(history, &services, &observed, from, to);
        Self {
            made: now,
            from,
            to,
            observed_s: observed.seconds(),
            observed: observed.iter().map(|(from, to)| Stretch { from, to }).collect(),
            remarks,
            assumptions,
            thesis: THESIS,
            services,
        }
    }
}

fn service(
    name: String,
    history: &History,
    observed: &Spans,
    (from, to): (Timestamp, Timestamp),
    downtimes: Vec<Downtime>,
    assumptions: Assumptions,
) -> ServiceReport {
    let receipts = history.receipts.iter().filter(|receipt| receipt.service == name);
    let receipts: Vec<_> = receipts.filter(|receipt| from <= receipt.at && receipt.at <= to).cloned().collect();
    let without = |planned| receipts.iter().filter(|r| r.is_planned() == planned && r.downtime_ms.is_none()).count();
    let planned = summary(&downtimes, true, without(true));
    let unplanned = summary(&downtimes, false, without(false));
    // What was down was watched, even where the controller died meanwhile and its successor measured it.
    let mut watched = observed.clone();
    watched.extend(downtimes.iter().map(|downtime| (downtime.from, downtime.to)));
    let (down_s, watched_s) = (planned.total_s + unplanned.total_s, watched.seconds());
    let availability = (watched_s > 0.0).then(|| (1.0 - down_s / watched_s).max(0.0));
    let per_year = down_s / 60.0 * HOURS_PER_YEAR * 3600.0 / watched_s;
    ServiceReport {
        availability,
        nines: availability.and_then(nines),
        minutes_per_year: (watched_s >= LEAST_OBSERVED_H * 3600.0).then_some(per_year),
        comparison: unplanned.mean_s.map(|mean| assumptions.compare(mean)),
        throughput: throughput_change(&receipts),
        name,
        downtimes,
        planned,
        unplanned,
        receipts,
    }
}

fn summary(downtimes: &[Downtime], planned: bool, not_measured: usize) -> Summary {
    let mut seconds: Vec<_> =
        downtimes.iter().filter(|downtime| downtime.planned == planned).map(|downtime| downtime.seconds).collect();
    seconds.sort_by(f64::total_cmp);
    let (events, total_s) = (seconds.len(), seconds.iter().sum());
    let middle = |half: usize| f64::midpoint(seconds[half], seconds[(events - 1) / 2]);
    Summary {
        events,
        not_measured,
        total_s,
        mean_s: (events > 0).then(|| total_s / events as f64),
        median_s: (events > 0).then(|| middle(events / 2)),
        max_s: seconds.last().copied(),
    }
}

fn throughput_change(receipts: &[Receipt]) -> Option<ThroughputChange> {
    let both = |receipt: &Receipt| -> Option<(Throughput, Throughput)> {
        receipt.throughput_before.zip(receipt.throughput_after)
    };
    let pairs: Vec<_> = receipts.iter().filter_map(both).filter(|(before, _)| before.to_clients > 0.0).collect();
    let events = pairs.len();
    let mean = |sum: f64| sum / events as f64;
    let before = mean(pairs.iter().map(|(before, _)| before.to_clients).sum());
    let after = mean(pairs.iter().map(|(_, after)| after.to_clients).sum());
    let change_percent = (after / before - 1.0) * 100.0;
    (events > 0).then_some(ThroughputChange { events, before, after, change_percent })
}

/// What the figures do not say by themselves.
fn remarks(
    history: &History,
    services: &[ServiceReport],
    observed: &Spans,
    from: Timestamp,
    to: Timestamp,
) -> Vec<String> {
    let mut remarks = Vec::new();
    remarks.extend(unobserved(observed, to.duration_since(from).as_secs_f64()));
    remarks.extend(missing(history, from, to));
    for service in services {
        let open = service.downtimes.iter().filter(|downtime| !downtime.ended).count();
        if open > 0 {
            remarks.push(format!(
                "{}: the end of {open} outages was not seen; they count as far as watched.",
                service.name
            ));
        }
    }
    if services.iter().all(|service| service.downtimes.is_empty() && service.receipts.is_empty()) {
        remarks.push("Nothing was flipped and no outage was seen.".to_owned());
    }
    remarks
}

fn unobserved(observed: &Spans, period_s: f64) -> Option<String> {
    let unobserved = period_s - observed.seconds();
    if observed.seconds() <= 0.0 {
        return Some("No controller watched in this period: there is nothing to compute availability from.".to_owned());
    }
    let share = unobserved / period_s * 100.0;
    (unobserved >= 1.0).then(|| {
        format!(
            "No controller watched for {} ({share:.2} % of the period). Packets go on without one; nothing is claimed \
             about that time.",
            text::span(unobserved)
        )
    })
}

/// What the disk does not remember.
fn missing(history: &History, from: Timestamp, to: Timestamp) -> Vec<String> {
    let mut remarks = Vec::new();
    if let Some(since) = history.complete_since.filter(|since| *since > from) {
        remarks.push(format!("What happened before {since} was dropped, because the state directory is bounded."));
    }
    if history.unreadable > 0 {
        remarks.push(format!("{} lines could not be read: torn, or of another version.", history.unreadable));
    }
    if history.lost > 0 {
        remarks.push(format!(
            "{} records of receipts or outages, of this period or another, were dropped, because the disk failed for too \
             long.",
            history.lost
        ));
    }
    let flips = downtimes::flips_without_receipt(history, from, to);
    if flips > 0 {
        remarks.push(format!(
            "{flips} flips have no receipt, because the controller was killed, or the disk failed, before it was \
             written. They are in no figure."
        ));
    }
    remarks
}

#[cfg(test)]
mod tests;
