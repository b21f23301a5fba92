//! The downtimes of one service, from its receipts and outages.

use std::{collections::BTreeSet, time::Duration};

use jiff::Timestamp;
use serde::Serialize;

use super::spans::Spans;
use crate::{event::Happening, receipt::Receipt, record::History};

/// An outage that ends because a server is up again while the dead one is kept is told of in two events, one right after
/// the other. To clients that is one time without service.
const ONE_TURN: Duration = Duration::from_millis(10);

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
    /// Whether it is, or contains, a time when the active server was down and kept: held, or its failovers used up.
    pub kept: bool,
    /// Whether its end was seen. If not, it is counted as far as a controller watched.
    pub ended: bool,
}

/// The names of services that had outages, or kept a dead server.
pub(super) fn services(history: &History) -> BTreeSet<String> {
    history.events.iter().filter_map(|event| Some(turn(&event.happening)?.0.to_owned())).collect()
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
    let mut all: Vec<_> = receipts.filter_map(of_receipt).collect();
    for lack in [Lack::Server, Lack::Failover] {
        all.extend(outages((service, lack), history, observed, to));
    }
    all.retain(|downtime| downtime.from <= to && downtime.to >= from);
    all.sort_by_key(|downtime| (downtime.from, downtime.to));
    let mut merged: Vec<Downtime> = Vec::new();
    for next in all {
        match merged.last_mut() {
            Some(last) if last.reaches(&next) => last.join(next),
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
        kept: false,
        ended: true,
    })
}

/// What a service lacks whose active server is down.
#[derive(Clone, Copy, PartialEq)]
enum Lack {
    /// Another server that is up.
    Server,
    /// A failover to the one that is up.
    Failover,
}

/// The service that begins or ceases to lack something, what that is, and whether it begins.
fn turn(happening: &Happening) -> Option<(&str, Lack, bool)> {
    match happening {
        Happening::OutageBegan { service } => Some((service, Lack::Server, true)),
        Happening::OutageEnded { service } => Some((service, Lack::Server, false)),
        Happening::Kept { service, .. } => Some((service, Lack::Failover, true)),
        Happening::KeptEnded { service } => Some((service, Lack::Failover, false)),
        _ => None,
    }
}

fn outages((service, lack): (&str, Lack), history: &History, observed: &Spans, now: Timestamp) -> Vec<Downtime> {
    let mut all = Vec::new();
    let mut open: Option<Timestamp> = None;
    // A controller that is killed in an outage says nothing of its end, and the next one begins anew.
    let cut =
        |began: Timestamp, until: Timestamp| observed.around(began).map_or(began, |(_, to)| to).min(now).min(until);
    for event in &history.events {
        let (before, ended) = match turn(&event.happening) {
            Some((name, of, true)) if (name, of) == (service, lack) => (open.replace(event.at), false),
            Some((name, of, false)) if (name, of) == (service, lack) => (open.take(), true),
            None if matches!(event.happening, Happening::Started { .. }) => (open.take(), false),
            _ => continue,
        };
        let end = |began| if ended { event.at } else { cut(began, event.at) };
        all.extend(before.map(|began| outage(lack, began, end(began), ended)));
    }
    all.extend(open.map(|began| outage(lack, began, cut(began, now), false)));
    all
}

fn outage(lack: Lack, from: Timestamp, to: Timestamp, ended: bool) -> Downtime {
    let to = to.max(from);
    let seconds = to.duration_since(from).as_secs_f64();
    let (outage, kept) = (lack == Lack::Server, lack == Lack::Failover);
    Downtime { from, to, seconds, planned: false, receipts: Vec::new(), outage, kept, ended }
}

fn shifted(at: Timestamp, seconds: f64) -> Timestamp {
    let by = Duration::try_from_secs_f64(seconds.abs()).unwrap_or(Duration::MAX);
    let moved = if seconds < 0.0 { at.checked_sub(by) } else { at.checked_add(by) };
    moved.unwrap_or(at)
}

impl Downtime {
    /// Whether a later one is a part of this one.
    fn reaches(&self, next: &Self) -> bool {
        let told = |downtime: &Self| downtime.outage || downtime.kept;
        next.from < self.to
            || (told(self) && told(next) && next.from.duration_since(self.to).unsigned_abs() <= ONE_TURN)
    }

    fn join(&mut self, other: Self) {
        let to = self.to.max(other.to);
        self.seconds = if to == self.to { self.seconds } else { to.duration_since(self.from).as_secs_f64() };
        self.ended = if other.to >= self.to { other.ended } else { self.ended };
        self.to = to;
        self.planned &= other.planned;
        self.outage |= other.outage;
        self.kept |= other.kept;
        self.receipts.extend(other.receipts);
    }

    fn clip(&mut self, from: Timestamp, to: Timestamp) {
        if self.from < from || self.to > to {
            (self.from, self.to) = (self.from.max(from), self.to.min(to));
            self.seconds = self.to.duration_since(self.from).as_secs_f64();
        }
    }
}
