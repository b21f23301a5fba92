use std::{collections::BTreeMap, time::Duration};

use super::{Piece, Receipt, Throughput, Unanswered};
use crate::{decision::Cause, decision::Scope, evidence::Evidence, evidence::Fault};

/// A crash of the master under 50 streams. Its wall-clock time is that many minutes after the epoch.
pub(crate) fn crash(number: u64) -> Receipt {
    let throughput =
        |from_ms: f64| Throughput { from_ms, to_ms: from_ms + 2000.0, to_servers: 535_000.0, to_clients: 530_000.0 };
    Receipt {
        number,
        at: jiff::Timestamp::UNIX_EPOCH + Duration::from_secs(60 * number),
        flipped_us: 5_000_000,
        service: "pbx".to_owned(),
        from: "master".to_owned(),
        to: "cloud".to_owned(),
        scope: Scope::Both,
        cause: Cause::Failover,
        fault: Some(Fault::Crashed),
        reason: None,
        asked_by: None,
        drain_s: None,
        evidence: Some(Evidence::Refused),
        trail: vec![Piece { ms: -0.3, server: "master".to_owned(), evidence: Evidence::Refused }],
        census_ms: None,
        decided_ms: -0.02,
        evidence_to_flip_us: 31.0,
        last_sign_ms: Some(-12.5),
        first_to_ms: Some(0.2),
        first_back_ms: Some(0.5),
        read_ms: Some(0.4),
        unanswered: Some(Unanswered { sip: 2, rtp: 31 }),
        rtp_flows: Some(50),
        throughput_before: Some(throughput(-2400.0)),
        throughput_after: Some(throughput(300.0)),
        downtime_ms: Some(13.0),
        not_measured: BTreeMap::new(),
        interrupted: false,
    }
}

/// An operator's switch without a gap.
pub(crate) fn planned(number: u64) -> Receipt {
    Receipt {
        cause: Cause::Operator,
        fault: None,
        evidence: None,
        trail: Vec::new(),
        last_sign_ms: Some(-0.4),
        unanswered: Some(Unanswered { sip: 0, rtp: 0 }),
        downtime_ms: Some(0.0),
        ..crash(number)
    }
}
