//! How a receipt looks.

use std::fmt::Write as _;

use super::output::{self, ALARM, GOOD, HEADING, local_time, styled};
use crate::receipt::{Receipt, Throughput};

/// All receipts, a line each.
pub(super) fn table(receipts: &[Receipt]) -> String {
    if receipts.is_empty() {
        return "no flip was recorded\n".to_owned();
    }
    let columns = ["NO>", "TIME", "SERVICE", "FROM", "TO", "WHY", "DOWNTIME>", "RTP FLOWS>", "UNANSWERED>"];
    let rows = receipts.iter().map(|receipt| {
        [
            receipt.number.to_string(),
            local_time(receipt.at),
            receipt.service.clone(),
            receipt.from.clone(),
            receipt.to.clone(),
            receipt.why(),
            receipt.downtime_ms.map_or("not measured".to_owned(), |ms| format!("{ms:.1} ms")),
            receipt.rtp_flows.map_or("not measured".to_owned(), |flows| flows.to_string()),
            receipt.unanswered.map_or("not measured".to_owned(), |sent| sent.packets().to_string()),
        ]
    });
    output::table(columns, rows)
}

/// One receipt as a time line and a list of counts.
pub(super) fn describe(receipt: &Receipt) -> String {
    let Receipt { number, service, from, to, .. } = receipt;
    let mut text = format!("{} {service}: {from} → {to}\n", styled(HEADING, format!("receipt {number}")));
    let style = if receipt.is_planned() { GOOD } else { ALARM };
    let _ = writeln!(text, "  {}, {}", local_time(receipt.at), styled(style, receipt.why()));
    if let Some(seconds) = receipt.drain_s {
        let _ = writeln!(text, "  {from} drained for {} at most: its running calls stayed", output::span(seconds));
    }
    if receipt.interrupted {
        let _ = writeln!(text, "  the controller ended before everything was collected");
    }
    text.push_str("\n  milliseconds relative to the flip\n");
    for moment in receipt.timeline() {
        let _ = writeln!(text, "  {:>+12.3}  {}", moment.ms, moment.text);
    }
    text.push('\n');
    let rows = figures(receipt);
    let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    for (name, value) in rows {
        let _ = writeln!(text, "  {name:width$}  {value}");
    }
    text
}

fn figures(receipt: &Receipt) -> Vec<(String, String)> {
    let Receipt { from, to, .. } = receipt;
    let or_why = |field: &str, value: Option<String>| {
        value.unwrap_or_else(|| format!("not measured: {}", receipt.why_not(field)))
    };
    let ms = |value: Option<f64>| value.map(|ms| format!("{ms:+.3} ms"));
    let mut rows =
        vec![("downtime".to_owned(), or_why("downtime_ms", receipt.downtime_ms.map(|ms| format!("{ms:.3} ms"))))];
    // What was measured is in the time line already.
    for (name, field, value) in [
        (format!("last sign of life of {from}"), "last_sign_ms", receipt.last_sign_ms),
        (format!("first packet to {to}"), "first_to_ms", receipt.first_to_ms),
        (format!("first packet from {to}"), "first_back_ms", receipt.first_back_ms),
    ] {
        if value.is_none() {
            rows.push((name, or_why(field, ms(value))));
        }
    }
    let sent = receipt.unanswered.map(|sent| {
        let read = receipt.read_ms.map_or(String::new(), |ms| format!(" (read {ms:.1} ms after the flip)"));
        format!("{} SIP, {} RTP packets{read}", sent.sip, sent.rtp)
    });
    rows.extend([
        (format!("sent to {from} since it was heard"), or_why("unanswered", sent)),
        ("RTP flows concerned".to_owned(), or_why("rtp_flows", receipt.rtp_flows.map(|flows| flows.to_string()))),
        ("throughput before".to_owned(), or_why("throughput_before", receipt.throughput_before.map(throughput))),
        ("throughput after".to_owned(), or_why("throughput_after", receipt.throughput_after.map(throughput))),
        ("last evidence, or order, to flip".to_owned(), format!("{:.1} µs", receipt.evidence_to_flip_us)),
    ]);
    rows.extend(receipt.detection_ms().map(|ms| ("first evidence to flip".to_owned(), format!("{ms:.3} ms"))));
    rows
}

fn throughput(measured: Throughput) -> String {
    let Throughput { from_ms, to_ms, to_servers, to_clients } = measured;
    format!("{to_servers:.0} B/s to servers, {to_clients:.0} B/s to clients (from {from_ms:+.0} to {to_ms:+.0} ms)")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::receipt::examples::crash;

    #[test]
    fn what_was_not_measured_is_said_with_its_reason() {
        let mut receipt = crash(3);
        receipt.first_back_ms = None;
        receipt.downtime_ms = None;
        receipt.not_measured.insert("downtime_ms".to_owned(), "nothing came back".to_owned());
        let text = anstream::adapter::strip_str(&describe(&receipt)).to_string();
        assert!(text.contains("downtime                           not measured: nothing came back"), "{text}");
        assert!(text.contains("first packet from cloud"), "{text}");
    }

    #[test]
    fn a_receipt_is_a_time_line_with_counts() {
        let text = anstream::adapter::strip_str(&describe(&crash(3))).to_string();
        for line in [
            "receipt 3 pbx: master → cloud",
            "     -12.500  last sign of life of master",
            "      +0.500  first packet from cloud to a client",
            "sent to master since it was heard  2 SIP, 31 RTP packets (read 0.4 ms after the flip)",
            "RTP flows concerned                50",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
