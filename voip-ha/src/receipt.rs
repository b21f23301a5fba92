//! The receipt of one flip: what led to it, when each thing happened, and what it cost.
//!
//! Everything in a receipt was measured, by the kernel at the packets or by the controller at its sockets. Nothing is
//! computed from settings. What could not be measured is `None`, and [`Receipt::not_measured`] says why.
//!
//! Times are milliseconds relative to the flip, the moment at which the kernel had the new word: what came before it is
//! negative. They are differences of `CLOCK_MONOTONIC`, so a step of the wall clock does not touch them.

mod downtime;
mod timeline;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use self::{
    downtime::{ANSWERED_WITHIN_MS, HEARD_GRAIN_MS, Signs},
    timeline::Moment,
};
use crate::{decision::Cause, decision::Scope, evidence::Evidence, evidence::Fault};

/// Why a figure is missing that another version or an interrupted collection did not give a reason for.
const NO_REASON: &str = "no reason was recorded";

/// The record of one flip.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Receipt {
    /// The number of the flip's event, which is unique as long as the state directory is kept.
    pub number: u64,
    /// Wall-clock time of the flip.
    pub at: jiff::Timestamp,
    /// `CLOCK_MONOTONIC` of the flip in microseconds.
    pub flipped_us: u64,
    /// Name of the service.
    pub service: String,
    /// Name of the server before.
    pub from: String,
    /// Name of the server now.
    pub to: String,
    /// What was flipped.
    pub scope: Scope,
    /// Why.
    pub cause: Cause,
    /// What was wrong with the old server, if it was down or in maintenance; after an operator's switch as well.
    pub fault: Option<Fault>,
    /// The operator's words.
    pub reason: Option<String>,
    /// Who asked for it.
    pub asked_by: Option<String>,
    /// For how long at most the old server drained, in seconds; `None` if it did not.
    #[serde(default)]
    pub drain_s: Option<u64>,
    /// What tipped the balance.
    pub evidence: Option<Evidence>,
    /// Every piece of evidence that led to the flip, oldest first.
    pub trail: Vec<Piece>,
    /// Since when running calls were noted before the flip, so that what shows after it is known to be new; `None` if they were not.
    #[serde(default)]
    pub census_ms: Option<f64>,
    /// The decision; never positive.
    pub decided_ms: f64,
    /// From the moment the controller had the evidence or the order, or from the end of the census, to the flip; in microseconds.
    pub evidence_to_flip_us: f64,
    /// Last sign of life of the old server before the flip: a packet to a client, or the answer to a probe. At most
    /// [`HEARD_GRAIN_MS`] too early.
    pub last_sign_ms: Option<f64>,
    /// First packet from a client to the new server.
    pub first_to_ms: Option<f64>,
    /// First packet from the new server to a client.
    pub first_back_ms: Option<f64>,
    /// When the count of [`Receipt::unanswered`] was read.
    pub read_ms: Option<f64>,
    /// What clients had sent to the old server since it was last heard.
    pub unanswered: Option<Unanswered>,
    /// RTP flows of clients in the first moments after the flip: those that the new server was sent, or, if the old one
    /// drains, those that stay with it.
    pub rtp_flows: Option<u64>,
    /// What went both ways before the fault.
    pub throughput_before: Option<Throughput>,
    /// What went both ways after the flip.
    pub throughput_after: Option<Throughput>,
    /// How long clients were without service: from the last sign of life of the old server to the first packet back
    /// from the new one. The rules are those of [`Signs::downtime_ms`].
    pub downtime_ms: Option<f64>,
    /// The fields above that are `None`, and why.
    pub not_measured: BTreeMap<String, String>,
    /// Whether the controller ended before everything was collected.
    pub interrupted: bool,
}

/// One piece of evidence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Piece {
    /// When the controller had it.
    pub ms: f64,
    /// Name of the server concerned.
    pub server: String,
    /// What was seen.
    pub evidence: Evidence,
}

/// Packets that a server was sent since it was last heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unanswered {
    /// SIP messages: requests, their retransmissions, and answers. The gateway does not read them.
    pub sip: u64,
    /// RTP and RTCP packets.
    pub rtp: u64,
}

/// SIP and RTP of all servers of the service, Ethernet headers included.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Throughput {
    /// Begin of the time it was measured in.
    pub from_ms: f64,
    /// Its end.
    pub to_ms: f64,
    /// Bytes per second from clients to servers.
    pub to_servers: f64,
    /// Bytes per second from servers to clients.
    pub to_clients: f64,
}

impl Receipt {
    /// Whether somebody wanted it: an operator, the policy's failback, or a server that said it is in maintenance. Nobody
    /// wants to leave a server that is down, whoever gives the order.
    pub fn is_planned(&self) -> bool {
        self.fault.map_or(self.cause != Cause::Failover, |fault| fault == Fault::Maintenance)
    }

    /// Why a field has no value.
    pub fn why_not(&self, field: &str) -> &str {
        self.not_measured.get(field).map_or(NO_REASON, String::as_str)
    }

    /// From the first piece of evidence against the old server to the flip, in milliseconds. `None` without evidence, and if
    /// it was not the evidence that led to the flip, but an operator's order or the policy.
    pub fn detection_ms(&self) -> Option<f64> {
        let against = |piece: &&Piece| piece.server == self.from && !speaks_for(&piece.evidence);
        let first = self.trail.iter().find(against).map(|piece| -piece.ms);
        first.filter(|_| matches!(self.cause, Cause::Failover | Cause::Maintenance))
    }
}

/// Whether evidence is a sign of life of the server itself: an answer, in time or late.
pub fn is_answer(evidence: &Evidence) -> bool {
    matches!(evidence, Evidence::Answer { .. } | Evidence::Late { .. })
}

/// Whether evidence speaks for the server. An echo does, but only its host sent it.
fn speaks_for(evidence: &Evidence) -> bool {
    is_answer(evidence) || matches!(evidence, Evidence::Echo { .. })
}

impl Unanswered {
    /// All packets.
    pub fn packets(self) -> u64 {
        self.sip + self.rtp
    }
}

/// Receipts for tests of this module and of those that use it.
#[cfg(test)]
pub(crate) mod examples;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{
        examples::{crash, planned},
        *,
    };

    fn piece(ms: f64, evidence: Evidence) -> Piece {
        Piece { ms, server: "master".to_owned(), evidence }
    }

    #[test]
    fn detection_begins_with_what_speaks_against_the_server() {
        let rtt = Duration::from_millis(1);
        let trail = vec![
            piece(-80.0, Evidence::Answer { status: 200, rtt }),
            piece(-60.0, Evidence::Echo { rtt }),
            piece(-40.0, Evidence::Missed),
            piece(-20.0, Evidence::Echo { rtt }),
            piece(-1.0, Evidence::Hung { silence: rtt, host_answers: true }),
        ];
        assert_eq!(Receipt { trail: trail.clone(), ..crash(1) }.detection_ms(), Some(40.0));
        // Nothing was detected: what was missed meanwhile did not lead to the switch.
        assert_eq!(Receipt { trail, ..planned(2) }.detection_ms(), None);
    }
}
