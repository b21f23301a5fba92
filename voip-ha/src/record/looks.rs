//! What the recorder saw of a service in the last seconds, to know how it was before a flip that nobody foresaw. Pure.

use std::{collections::VecDeque, time::Duration};

use super::ledger::{Bytes, Ledger};
use crate::{
    ids::{ServerId, ServiceId},
    receipt::Throughput,
};

/// Time from one look to the next.
pub(super) const INTERVAL: Duration = Duration::from_secs(1);
/// Looks that are kept.
const KEPT: usize = 6;
/// A throughput is measured over this many looks, so that the size of one packet matters little.
const SPAN: usize = 2;

/// The latest looks at one service.
#[derive(Default)]
pub(super) struct Looks(VecDeque<Look>);

struct Look {
    at: Duration,
    bytes: Option<Bytes>,
    /// The servers for which no packet waited.
    unwaited: Vec<ServerId>,
}

impl Looks {
    /// Looks at the service once more.
    pub(super) fn look(
        &mut self,
        service: ServiceId,
        servers: impl Iterator<Item = ServerId>,
        ledger: &dyn Ledger,
        now: Duration,
    ) {
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        let nobody_waits =
            |server: &ServerId| ledger.sent_since_heard(*server).is_ok_and(|sent| sent.sip + sent.rtp == 0);
        let unwaited = servers.filter(nobody_waits).collect();
        self.0.push_back(Look { at: now, bytes: ledger.bytes(service).ok(), unwaited });
    }

    /// The throughput over the last looks before a moment, in milliseconds relative to `flipped`.
    pub(super) fn throughput(&self, before: Duration, flipped: Duration) -> Option<Throughput> {
        let known: Vec<_> =
            self.0.iter().filter(|look| look.at <= before).filter_map(|look| Some((look.at, look.bytes?))).collect();
        let last = known.last()?;
        let first = known.iter().rev().nth(SPAN).or(known.first())?;
        throughput(*first, *last, flipped)
    }

    /// When, before a moment, it was last seen that nobody waited for a server.
    pub(super) fn nobody_waited(&self, server: ServerId, before: Duration) -> Option<Duration> {
        let mut looks = self.0.iter().rev().filter(|look| look.at <= before);
        looks.find(|look| look.unwaited.contains(&server)).map(|look| look.at)
    }
}

/// The throughput between two readings; `None` if no time passed between them.
pub(super) fn throughput(first: (Duration, Bytes), last: (Duration, Bytes), flipped: Duration) -> Option<Throughput> {
    let seconds = last.0.checked_sub(first.0)?.as_secs_f64();
    let rate = |first: u64, last: u64| last.saturating_sub(first) as f64 / seconds;
    (seconds > 0.0).then(|| Throughput {
        from_ms: millis(first.0, flipped),
        to_ms: millis(last.0, flipped),
        to_servers: rate(first.1.to_servers, last.1.to_servers),
        to_clients: rate(first.1.to_clients, last.1.to_clients),
    })
}

/// A moment in milliseconds relative to a flip.
pub(super) fn millis(at: Duration, flipped: Duration) -> f64 {
    (at.as_nanos() as f64 - flipped.as_nanos() as f64) / 1e6
}
