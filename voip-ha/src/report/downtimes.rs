//! The downtimes of one service, from its receipts and outages.

use std::{collections::BTreeSet, time::Duration};

use jiff::Timestamp;
use serde::Serialize;

use super::spans::Spans;
use crate::{event::Happening, receipt::Receipt, record::History};

/// A time without service, or an event that could have been one.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Downtime {
    /// Its begin.
    pub from: Timestamp,
    /// Its end.
    pub to: Timestamp,
    /// Its length: 0 for a switch that cost nothing.
    pub seconds: f64,
    /// Whether all of it was planned.
    pub planned: bool,
    /// Numbers of the receipts that it is made of.
    pub receipts: Vec<u64>,
    /// Whether it is, or contains, a time when no server was up.
    pub outage: bool,
    /// Whether its end was seen. If not, it is counted as far as a controller watched.
    pub ended: bool,
}

/// The names of services that had outages.
pub(super) fn services(history: &History) -> BTreeSet<String> {
    let names = history.events.iter().filter_map(|event| match &event.happening {
        Happening::OutageBegan { service } | Happening::OutageEnded { service } => Some(service.clone()),
        _ => None,
    });
    names.collect()
}

/// Flips that were recorded, but have no receipt.
pub(super) fn flips_without_receipt(history: &History, from: Timestamp, to: Timestamp) -> usize {
    let receipts: BTreeSet<_> = history.receipts.iter().map(|receipt| receipt.number).collect();
    let within = history.events.iter().filter(|event| from <= event.at && event.at <= to);
    within.filter(|event| matches!(event.happening, Happening::Flip(_)) && !receipts.contains(&event.number)).count()
}

/// All downtimes of a service that reach into the period, clipped to it, in the order of time. `observed` is not clipped:
/// how far an outage reached whose end was not seen depends on the watch at its begin, which may be before the period.
pub(super) fn downtimes(
    service: &str,
    history: &History,
    observed: &Spans,
    (from, to): (Timestamp, Timestamp),
) -> Vec<Downtime> {
    let receipts = history.receipts.iter().filter(|receipt| receipt.service == service);
    let mut all: Vec<_> = receipts.filter_map(of_receipt).chain(outages(service, history, observed, to)).collect();
    all.retain(|downtime| downtime.from <= to && downtime.to >= from);
    all.sort_by_key(|downtime| (downtime.from, downtime.to));
    let mut merged: Vec<Downtime> = Vec::new();
    for next in all {
        match merged.last_mut() {
            Some(last) if next.from < last.to => last.join(next),
            _ => merged.push(next),
        }
    }
    for downtime in &mut merged {
        downtime.clip(from, to);
    }
    merged
}

fn of_receipt(receipt: &Receipt) -> Option<Downtime> {
    let seconds = receipt.downtime_ms? / 1e3;
    let back = receipt.first_back_ms.unwrap_or(0.0);
    let end = shifted(receipt.at, back / 1e3);
    Some(Downtime {
        from: shifted(end, -seconds),
        to: end,
        seconds,
        planned: receipt.is_planned(),
        receipts: vec![receipt.number],
        outage: false,
        ended: true,
    })
}

fn outages(service: &str, history: &History, observed: &Spans, now: Timestamp) -> Vec<Downtime> {
    let mut all = Vec::new();
    let mut open: Option<Timestamp> = None;
    // A controller that is killed in an outage says nothing of its end, and the next one begins anew.
    let cut =
        |began: Timestamp, until: Timestamp| observed.around(began).map_or(began, |(_, to)| to).min(now).min(until);
    for event in &history.events {
        let ended = match &event.happening {
            Happening::OutageBegan { service: name } if name == service => {
                let unseen = open.replace(event.at).map(|began| outage(began, cut(began, event.at), false));
                all.extend(unseen);
                continue;
            }
            Happening::OutageEnded { service: name } if name == service => true,
            Happening::Started { .. } => false,
            _ => continue,
        };
        all.extend(open.take().map(|began| outage(began, if ended { event.at } else { cut(began, event.at) }, ended)));
    }
    all.extend(open.map(|began| outage(began, cut(began, now), false)));
    all
}

fn outage(from: Timestamp, to: Timestamp, ended: bool) -> Downtime {
    let to = to.max(from);
    let seconds = to.duration_since(from).as_secs_f64();
    Downtime { from, to, seconds, planned: false, receipts: Vec::new(), outage: true, ended }
}

fn shifted(at: Timestamp, seconds: f64) -> Timestamp {
    let by = Duration::try_from_secs_f64(seconds.abs()).unwrap_or(Duration::MAX);
    let moved = if seconds < 0.0 { at.checked_sub(by) } else { at.checked_add(by) };
    moved.unwrap_or(at)
}

impl Downtime {
    fn join(&mut self, other: Self) {
        let to = self.to.max(other.to);
        self.seconds = if to == self.to { self.seconds } else { to.duration_since(self.from).as_secs_f64() };
        self.ended = if other.to >= self.to { other.ended } else { self.ended };
        self.to = to;
        self.planned &= other.planned;
        self.outage |= other.outage;
        self.receipts.extend(other.receipts);
    }

    fn clip(&mut self, from: Timestamp, to: Timestamp) {
        if self.from < from || self.to > to {
            (self.from, self.to) = (self.from.max(from), self.to.min(to));
            self.seconds = self.to.duration_since(self.from).as_secs_f64();
        }
    }
}
