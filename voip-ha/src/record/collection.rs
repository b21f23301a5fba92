//! The receipt of one flip while it is collected. Pure, as the [`collector`](super::collector) is.

use std::{collections::BTreeMap, time::Duration};

use super::{
    ledger::{Bytes, Ledger},
    looks::{self, Looks, millis},
};
use crate::{
    datapath::{SentSinceHeard, Stamps},
    decision::Scope,
    event::{Event, FlipRecord},
    ids::{ServerId, ServiceId},
    receipt::{HEARD_GRAIN_MS, Piece, Receipt, Signs, Unanswered, is_answer},
};

/// After the flip: the first packets have come, if there are any.
pub(super) const SETTLED: Duration = Duration::from_millis(300);
/// After the flip: the kernel still counts flows, and will for long enough to see each stream again.
const COUNTING: Duration = Duration::from_millis(120);
/// After the flip: the throughput was measured for long enough.
pub(super) const MEASURED: Duration = Duration::from_millis(2500);
/// Until packets from a new server that was sent some are looked for again.
const AGAIN: Duration = Duration::from_millis(500);
/// After the flip: if nothing came back until now, that is what the receipt says.
pub(super) const GIVEN_UP: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Flipped,
    Settled,
    Measured,
    Done,
}

/// One receipt in the making.
pub(super) struct Collection {
    receipt: Receipt,
    service: ServiceId,
    old: ServerId,
    epoch: u16,
    flipped: Duration,
    stage: Stage,
    next: Duration,
    nobody_waited: Option<f64>,
    old_completed: bool,
    shares_flows: bool,
    /// Whether flows of an earlier flip are among those of this one.
    remembered: bool,
    first_bytes: Option<(Duration, Bytes)>,
}

impl Collection {
    /// Reads at once what changes soon.
    pub(super) fn begin(
        event: &Event,
        flip: &FlipRecord,
        (service, old): (ServiceId, ServerId),
        looks: &Looks,
        ledger: &mut dyn Ledger,
        now: Duration,
    ) -> Self {
        let flipped = Duration::from_micros(flip.flipped_us);
        let mut new = Self {
            receipt: bare(event, flip, flipped),
            service,
            old,
            epoch: flip.epoch,
            flipped,
            stage: Stage::Flipped,
            next: flipped + SETTLED,
            nobody_waited: None,
            old_completed: false,
            shares_flows: false,
            remembered: flip.remembered,
            first_bytes: None,
        };
        new.read_old(ledger, now);
        if now < flipped + COUNTING {
            // What an earlier count left, unless calls are remembered. A flow of this flip that goes with it is counted again with its next packet.
            // Later it would not be, and what was left is gone anyway: the start and `settle` leave nothing.
            let _ = ledger.take_flows(service);
        }
        let fault = new.receipt.last_sign_ms.into_iter().chain(new.receipt.trail.first().map(|piece| piece.ms));
        let before = fault.fold(0.0, f64::min);
        let before = flipped.saturating_sub(Duration::from_secs_f64(-before / 1e3));
        new.receipt.throughput_before = looks.throughput(before, flipped);
        if new.receipt.throughput_before.is_none() {
            new.missing("throughput_before", "the flip came within two seconds of the start of the controller");
        }
        new.nobody_waited = looks.nobody_waited(old, flipped).map(|at| millis(at, flipped));
        new
    }

    fn read_old(&mut self, ledger: &dyn Ledger, now: Duration) {
        self.receipt.read_ms = Some(millis(now, self.flipped));
        let from = &self.receipt.from;
        let answers = self.receipt.trail.iter().filter(|piece| piece.server == *from && is_answer(&piece.evidence));
        let answered =
            answers.map(|piece| piece.ms).fold(None, |last: Option<f64>, ms| Some(last.map_or(ms, |l| l.max(ms))));
        let heard = match ledger.sent_since_heard(self.old) {
            Err(error) => {
                self.missing("unanswered", &format!("the kernel's notes cannot be read: {error:#}"));
                None
            }
            Ok(sent) => {
                if sent.heard_at.is_some_and(|at| at > self.flipped) {
                    self.missing("unanswered", "the old server was heard again before the count was read");
                } else {
                    self.receipt.unanswered = Some(Unanswered { sip: sent.sip, rtp: sent.rtp });
                }
                self.note_completion(sent);
                sent.heard_at.filter(|at| *at <= self.flipped).map(|at| millis(at, self.flipped))
            }
        };
        self.receipt.last_sign_ms = heard.into_iter().chain(answered).reduce(f64::max);
        if self.receipt.last_sign_ms.is_none() {
            self.missing("last_sign_ms", "the old server had sent nothing to a client, or did so again after the flip");
        }
    }

    fn note_completion(&mut self, sent: SentSinceHeard) {
        let grain = Duration::from_secs_f64(HEARD_GRAIN_MS / 1e3);
        let heard_since = sent.heard_at.is_some_and(|at| at + grain >= self.flipped);
        self.old_completed |= heard_since || sent.sip + sent.rtp == 0;
    }

    /// The service that was flipped.
    pub(super) fn service(&self) -> ServiceId {
        self.service
    }

    /// Whether the flows of a later flip of the service, `at` that moment, are among its own, and will not be seen again.
    pub(super) fn is_mixed_with(&self, at: Duration, now: Duration) -> bool {
        self.stage == Stage::Flipped && now >= at + COUNTING
    }

    /// The kernel's count of flows is that of another flip as well.
    pub(super) fn share_flows(&mut self) {
        self.shares_flows = true;
    }

    /// When there is more to do.
    pub(super) fn next(&self) -> Duration {
        self.next
    }

    /// Whether the receipt is done.
    pub(super) fn is_done(&self) -> bool {
        self.stage == Stage::Done
    }

    /// Does what is due.
    pub(super) fn go_on(&mut self, ledger: &mut dyn Ledger, now: Duration) {
        match self.stage {
            Stage::Flipped => {
                self.settle(ledger, now);
                // However late the first reading comes: over the time of one packet there is no throughput.
                (self.stage, self.next) = (Stage::Settled, now + (MEASURED - SETTLED));
            }
            Stage::Settled => {
                self.read_stamps(ledger);
                self.read_throughput(ledger, now);
                self.stage = Stage::Measured;
                self.wait_for_an_answer(now);
            }
            Stage::Measured => {
                self.read_stamps(ledger);
                self.wait_for_an_answer(now);
            }
            Stage::Done => {}
        }
    }

    fn settle(&mut self, ledger: &mut dyn Ledger, now: Duration) {
        self.read_stamps(ledger);
        if let Ok(sent) = ledger.sent_since_heard(self.old) {
            self.note_completion(sent);
        }
        match ledger.take_flows(self.service) {
            Ok(_) if self.receipt.scope == Scope::Signalling => {
                self.missing("rtp_flows", "only signalling was flipped");
            }
            Ok(_) if self.remembered => {
                self.missing("rtp_flows", "those of an earlier flip were still remembered");
            }
            Ok(_) if self.shares_flows => {
                self.missing("rtp_flows", "they were read too late to tell them from those of another flip");
            }
            Ok(flows) => self.receipt.rtp_flows = Some(flows),
            Err(error) => self.missing("rtp_flows", &format!("the kernel's notes cannot be read: {error:#}")),
        }
        self.first_bytes = ledger.bytes(self.service).ok().map(|bytes| (now, bytes));
    }

    fn read_stamps(&mut self, ledger: &dyn Ledger) {
        match ledger.flip_stamps(self.service, self.epoch) {
            Ok(stamps) => {
                let Stamps { first_to, first_back } = match self.receipt.scope {
                    Scope::Both => stamps.either(),
                    Scope::Signalling => stamps.signalling,
                    Scope::Media => stamps.media,
                };
                for field in ["first_to_ms", "first_back_ms"] {
                    self.receipt.not_measured.remove(field);
                }
                let relative = |at: Duration| millis(at, self.flipped);
                self.receipt.first_to_ms = first_to.map(relative).or(self.receipt.first_to_ms);
                self.receipt.first_back_ms = first_back.map(relative).or(self.receipt.first_back_ms);
            }
            Err(error) => {
                let why = format!("the kernel's notes cannot be read: {error:#}");
                self.missing("first_to_ms", &why);
                self.missing("first_back_ms", &why);
            }
        }
    }

    fn read_throughput(&mut self, ledger: &dyn Ledger, now: Duration) {
        let last = ledger.bytes(self.service).map(|bytes| (now, bytes));
        self.receipt.throughput_after = match (self.first_bytes, last) {
            (Some(first), Ok(last)) => looks::throughput(first, last, self.flipped),
            _ => None,
        };
        if self.receipt.throughput_after.is_none() {
            self.missing("throughput_after", "the kernel's counters cannot be read");
        }
    }

    fn wait_for_an_answer(&mut self, now: Duration) {
        let waits = self.receipt.first_to_ms.is_some() && self.receipt.first_back_ms.is_none();
        if waits && now < self.flipped + GIVEN_UP {
            self.next = now + AGAIN;
        } else {
            self.stage = Stage::Done;
        }
    }

    /// Another flip of the service came, `at` that moment.
    pub(super) fn superseded(self, ledger: &mut dyn Ledger, at: Duration) -> Receipt {
        let why = format!("another flip followed after {:.1} ms", millis(at, self.flipped));
        self.cut_short(ledger, &why)
    }

    /// The controller ends.
    pub(super) fn interrupted(mut self, ledger: &mut dyn Ledger, now: Duration) -> Receipt {
        self.receipt.interrupted = true;
        let why = format!("the controller ended {:.1} ms after the flip", millis(now, self.flipped));
        self.cut_short(ledger, &why)
    }

    fn cut_short(mut self, ledger: &mut dyn Ledger, why: &str) -> Receipt {
        if self.stage == Stage::Flipped {
            self.settle(ledger, self.flipped);
        } else {
            self.read_stamps(ledger);
        }
        if self.receipt.throughput_after.is_none() {
            self.missing("throughput_after", why);
        }
        self.finish()
    }

    /// The receipt, with the downtime that follows from what was read.
    pub(super) fn finish(mut self) -> Receipt {
        match self.downtime() {
            Ok(downtime) => self.receipt.downtime_ms = Some(downtime),
            Err(why) => self.missing("downtime_ms", &why),
        }
        for (field, value, why) in [
            ("first_to_ms", self.receipt.first_to_ms, "no client sent anything while the flip was watched"),
            (
                "first_back_ms",
                self.receipt.first_back_ms,
                "the new server sent nothing to a client while it was watched",
            ),
        ] {
            if value.is_none() && !self.receipt.not_measured.contains_key(field) {
                self.missing(field, why);
            }
        }
        self.receipt
    }

    fn downtime(&self) -> Result<f64, String> {
        let receipt = &self.receipt;
        if receipt.scope != Scope::Both && !receipt.is_planned() {
            return Err(
                "only one of signalling and media was flipped, and the kernel does not tell apart which of them \
                        the old server was last heard with"
                    .to_owned(),
            );
        }
        let signs = Signs {
            planned: receipt.is_planned(),
            last_sign: receipt.last_sign_ms,
            nobody_waited: self.nobody_waited,
            drains: receipt.drain_s.is_some(),
            old_completed: self.old_completed,
            unanswered: receipt.unanswered.map(Unanswered::packets),
            first_to: receipt.first_to_ms,
            first_back: receipt.first_back_ms,
        };
        signs.downtime_ms()
    }

    fn missing(&mut self, field: &str, why: &str) {
        self.receipt.not_measured.insert(field.to_owned(), why.to_owned());
    }
}

/// The receipt with what the event tells.
fn bare(event: &Event, flip: &FlipRecord, flipped: Duration) -> Receipt {
    let piece = |witness: &crate::evidence::Witness| Piece {
        ms: millis(Duration::from_micros(witness.monotonic_us), flipped),
        server: witness.server.clone(),
        evidence: witness.evidence,
    };
    Receipt {
        number: event.number,
        at: event.at,
        flipped_us: flip.flipped_us,
        service: flip.service.clone(),
        from: flip.from.clone(),
        to: flip.to.clone(),
        scope: flip.scope,
        cause: flip.cause,
        fault: flip.fault,
        reason: flip.reason.clone(),
        asked_by: flip.asked_by.clone(),
        drain_s: flip.drain_s,
        evidence: flip.evidence,
        trail: flip.trail.iter().map(piece).collect(),
        census_ms: flip.census_us.map(|at| millis(Duration::from_micros(at), flipped)),
        decided_ms: millis(Duration::from_micros(flip.decided_us), flipped),
        evidence_to_flip_us: flip.evidence_to_flip_us,
        last_sign_ms: None,
        first_to_ms: None,
        first_back_ms: None,
        read_ms: None,
        unanswered: None,
        rtp_flows: None,
        throughput_before: None,
        throughput_after: None,
        downtime_ms: None,
        not_measured: BTreeMap::new(),
        interrupted: false,
    }
}
