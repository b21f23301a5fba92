//! Health of one server, from evidence.
//!
//! Pure: evidence and time are arguments, nothing is read or sent.
//!
//! ```text
//!              an answer                         an answer, `rise` times in a row
//!   unknown ───────────────► up ◄───────────────────────────────────────────────────── down
//!      │                      │                                                          ▲
//!      │                      │  `fall` failures in a row; at once if refused or no link │
//!      └──────────────────────┴──────────────────────────────────────────────────────────┘
//! ```
//!
//! A failure between answers starts the count of answers anew, and the other way round: faults are never added up over
//! hours.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

/// What is believed about a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Health {
    /// Nothing was heard yet.
    Unknown,
    /// It answers.
    Up,
    /// It does not, or says that it does not serve.
    Down,
}

/// One observation about a server.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Evidence {
    /// A final answer to a probe, with a status that means service.
    Answer {
        /// SIP status code.
        status: u16,
        /// From sending to receiving.
        rtt: Duration,
    },
    /// A final answer that means no service: 503 or 408.
    NoService {
        /// SIP status code.
        status: u16,
    },
    /// No answer within the timeout.
    Missed,
    /// An answer to a probe that was counted as missed already.
    Late {
        /// From sending to receiving.
        rtt: Duration,
    },
    /// The server's host said that nobody listens on the port (ICMP port unreachable).
    Refused,
    /// The gateway has no way to send: no route, or the neighbour does not resolve.
    Unreachable,
    /// The gateway's interface towards the server has no carrier.
    NoCarrier,
}

/// What one piece of evidence does to the state.
enum Weight {
    /// Speaks for the server.
    Alive,
    /// Speaks against it, and counts.
    Failure,
    /// Proves that it cannot be reached now.
    Dead,
    /// Is worth showing, and no more.
    Note,
}

impl Evidence {
    fn weight(&self) -> Weight {
        match self {
            Self::Answer { .. } => Weight::Alive,
            Self::NoService { .. } | Self::Missed | Self::Unreachable => Weight::Failure,
            Self::Refused | Self::NoCarrier => Weight::Dead,
            Self::Late { .. } => Weight::Note,
        }
    }
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |rtt: &Duration| rtt.as_secs_f64() * 1e3;
        match self {
            Self::Answer { status, rtt } => write!(f, "answered {status} after {:.2} ms", ms(rtt)),
            Self::NoService { status } => write!(f, "answered {status}"),
            Self::Missed => write!(f, "no answer to a probe"),
            Self::Late { rtt } => write!(f, "answered too late, after {:.2} ms", ms(rtt)),
            Self::Refused => write!(f, "port unreachable"),
            Self::Unreachable => write!(f, "no way to send a probe"),
            Self::NoCarrier => write!(f, "no carrier on the interface towards it"),
        }
    }
}

/// Consecutive observations that it takes to change one's mind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// Failures until a server is down; at least 1.
    pub fall: u32,
    /// Answers until a server that was down is up; at least 1.
    pub rise: u32,
}

/// The detector of one server.
#[derive(Clone, Debug)]
pub struct Detector {
    thresholds: Thresholds,
    health: Health,
    answers: u32,
    failures: u32,
}

/// A change of health.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// What was believed before.
    pub from: Health,
    /// What is believed now.
    pub to: Health,
}

impl Detector {
    /// A detector that has seen nothing.
    pub fn new(thresholds: Thresholds) -> Self {
        Self { thresholds, health: Health::Unknown, answers: 0, failures: 0 }
    }

    /// What is believed.
    pub fn health(&self) -> Health {
        self.health
    }

    /// Answers in a row, up to the last observation.
    pub fn answers(&self) -> u32 {
        self.answers
    }

    /// Failures in a row, up to the last observation.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Takes in one observation. Returns the change that it makes.
    pub fn observe(&mut self, evidence: &Evidence) -> Option<Change> {
        match evidence.weight() {
            Weight::Note => return None,
            Weight::Alive => {
                self.failures = 0;
                self.answers = self.answers.saturating_add(1);
            }
            Weight::Failure | Weight::Dead => {
                self.answers = 0;
                self.failures = self.failures.saturating_add(1);
            }
        }
        let to = match (evidence.weight(), self.health) {
            (Weight::Alive, Health::Unknown) => Health::Up,
            (Weight::Alive, Health::Down) if self.answers >= self.thresholds.rise => Health::Up,
            (Weight::Failure, _) if self.failures >= self.thresholds.fall => Health::Down,
            (Weight::Dead, _) => Health::Down,
            (_, unchanged) => unchanged,
        };
        let from = std::mem::replace(&mut self.health, to);
        (from != to).then_some(Change { from, to })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ANSWER: Evidence = Evidence::Answer { status: 200, rtt: Duration::from_micros(150) };
    const LATE: Evidence = Evidence::Late { rtt: Duration::from_millis(40) };

    fn detector(evidence: &[Evidence]) -> Detector {
        let mut detector = Detector::new(Thresholds { fall: 3, rise: 2 });
        for piece in evidence {
            detector.observe(piece);
        }
        detector
    }

    /// Every pair of state and evidence, with the state that follows at once.
    #[test]
    fn the_transition_table_is_what_the_drawing_says() {
        use Evidence::{Missed, NoCarrier, NoService, Refused, Unreachable};
        use Health::{Down, Unknown, Up};
        let unknown: &[Evidence] = &[];
        let up: &[Evidence] = &[ANSWER];
        let down: &[Evidence] = &[Refused];
        let busy = NoService { status: 503 };
        let table = [
            (unknown, ANSWER, Up),
            (unknown, Missed, Unknown),
            (unknown, busy, Unknown),
            (unknown, Unreachable, Unknown),
            (unknown, LATE, Unknown),
            (unknown, Refused, Down),
            (unknown, NoCarrier, Down),
            (up, ANSWER, Up),
            (up, Missed, Up),
            (up, busy, Up),
            (up, Unreachable, Up),
            (up, LATE, Up),
            (up, Refused, Down),
            (up, NoCarrier, Down),
            (down, ANSWER, Down),
            (down, Missed, Down),
            (down, busy, Down),
            (down, Unreachable, Down),
            (down, LATE, Down),
            (down, Refused, Down),
            (down, NoCarrier, Down),
        ];
        for (before, evidence, after) in table {
            let mut detector = detector(before);
            let from = detector.health();
            let change = detector.observe(&evidence);
            assert_eq!(detector.health(), after, "{from:?} + {evidence}");
            assert_eq!(change, (from != after).then_some(Change { from, to: after }), "{from:?} + {evidence}");
        }
    }

    #[test]
    fn a_server_falls_at_the_last_of_fall_failures_in_a_row_and_not_before() {
        use Evidence::{Missed, NoService};
        assert_eq!(detector(&[ANSWER, Missed, Missed]).health(), Health::Up);
        assert_eq!(detector(&[ANSWER, Missed, Missed, ANSWER, Missed, Missed]).health(), Health::Up);
        assert_eq!(detector(&[ANSWER, Missed, NoService { status: 503 }, Missed]).health(), Health::Down);
    }

    #[test]
    fn a_server_rises_at_the_last_of_rise_answers_in_a_row_and_not_before() {
        use Evidence::{Missed, Refused};
        assert_eq!(detector(&[Refused, ANSWER]).health(), Health::Down);
        assert_eq!(detector(&[Refused, ANSWER, Missed, ANSWER]).health(), Health::Down);
        assert_eq!(detector(&[Refused, ANSWER, Missed, ANSWER, ANSWER]).health(), Health::Up);
    }

    #[test]
    fn a_late_answer_neither_helps_nor_harms() {
        use Evidence::{Missed, Refused};
        assert_eq!(detector(&[ANSWER, Missed, LATE, Missed, LATE, Missed]).health(), Health::Down);
        assert_eq!(detector(&[Refused, ANSWER, LATE, ANSWER]).health(), Health::Up);
    }

    proptest! {
        #[test]
        fn fewer_than_fall_failures_in_a_row_never_bring_a_server_down(
            fall in 1..6u32, runs in proptest::collection::vec(0..6u32, 1..50),
        ) {
            let mut detector = Detector::new(Thresholds { fall, rise: 1 });
            for run in runs {
                detector.observe(&ANSWER);
                for _ in 0..run.min(fall - 1) {
                    detector.observe(&Evidence::Missed);
                }
                prop_assert_eq!(detector.health(), Health::Up);
            }
        }
    }
}
