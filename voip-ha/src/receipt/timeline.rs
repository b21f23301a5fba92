//! The time line of a receipt, for people.

use super::Receipt;
use crate::decision::Scope;

/// One line of the time line.
#[derive(Clone, Debug, PartialEq)]
pub struct Moment {
    /// When, in milliseconds relative to the flip.
    pub ms: f64,
    /// What happened.
    pub text: String,
}

impl Receipt {
    /// What happened in the order of time. The flip itself is at 0.
    pub fn timeline(&self) -> Vec<Moment> {
        let Self { from, to, .. } = self;
        let moment = |ms, text| Moment { ms, text };
        let mut moments: Vec<_> = self
            .trail
            .iter()
            .map(|piece| moment(piece.ms, format!("evidence: {}: {}", piece.server, piece.evidence)))
            .collect();
        moments.extend(self.last_sign_ms.map(|ms| moment(ms, format!("last sign of life of {from}"))));
        moments.push(moment(self.decided_ms, format!("decision: {}", self.why())));
        moments.extend(self.census_ms.map(|ms| moment(ms, format!("census: running calls of {from} are noted"))));
        let what = match self.scope {
            Scope::Both => "SIP and RTP go",
            Scope::Signalling => "SIP goes",
            Scope::Media => "RTP goes",
        };
        moments.push(moment(0.0, format!("flip: {what} to {to}")));
        moments.extend(self.first_to_ms.map(|ms| moment(ms, format!("first packet to {to}"))));
        moments.extend(self.first_back_ms.map(|ms| moment(ms, format!("first packet from {to} to a client"))));
        // Stable: what has the same time stays in the order of cause and effect.
        moments.sort_by(|a, b| a.ms.total_cmp(&b.ms));
        moments
    }

    /// The cause in words: `failover, crashed`, `operator ("new release", asked by root)`.
    pub fn why(&self) -> String {
        let mut text = self.cause.to_string();
        if let Some(fault) = self.fault {
            text = format!("{text}, {fault}");
        }
        let words = self.reason.as_ref().map(|reason| format!("\"{reason}\""));
        let asked = self.asked_by.as_ref().map(|who| format!("asked by {who}"));
        match words.into_iter().chain(asked).collect::<Vec<_>>() {
            notes if notes.is_empty() => text,
            notes => format!("{text} ({})", notes.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::examples, *};

    #[test]
    fn the_timeline_is_in_the_order_of_time_with_the_flip_after_its_decision() {
        let moments = examples::crash(7).timeline();
        let texts: Vec<_> = moments.iter().map(|moment| moment.text.split(':').next().unwrap()).collect();
        assert_eq!(
            texts,
            [
                "last sign of life of master",
                "evidence",
                "decision",
                "flip",
                "first packet to cloud",
                "first packet from cloud to a client"
            ]
        );
        assert!(moments.is_sorted_by(|a, b| a.ms <= b.ms));
    }

    #[test]
    fn the_census_of_a_planned_flip_is_between_its_decision_and_the_flip() {
        let receipt = Receipt { census_ms: Some(-200.1), decided_ms: -200.1, ..examples::planned(8) };
        let moments = receipt.timeline();
        let texts: Vec<_> = moments.iter().map(|moment| moment.text.split(':').next().unwrap()).collect();
        assert_eq!(texts[..2], ["decision", "census"], "{texts:?}");
        assert_eq!(moments[1].text, "census: running calls of master are noted");
        assert!(moments.is_sorted_by(|a, b| a.ms <= b.ms));
    }

    #[test]
    fn who_asked_and_why_is_told() {
        let mut receipt = examples::planned(8);
        receipt.asked_by = Some("root".to_owned());
        receipt.reason = Some("new release".to_owned());
        assert_eq!(receipt.why(), "operator (\"new release\", asked by root)");
    }
}
