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
//!
//! A server whose traffic to clients goes on while it owes an answer is busy, not dead: that is no failure for as long as
//! `patience` lasts. Then it is one: a SIP process may hang while a media relay beside it works on. If the traffic ends
//! as well, the last excused probe counts after all, so that a death under traffic is seen as soon as any other.

use std::{
    fmt,
    time::{Duration, Instant},
};

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
    /// No answer within the timeout, but traffic to clients since the probe was sent.
    Busy,
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
#[derive(Clone, Copy)]
enum Weight {
    /// Speaks for the server.
    Alive,
    /// Speaks against it, and counts.
    Failure,
    /// Proves that it cannot be reached now.
    Dead,
    /// Speaks for the server as long as one has patience, and against it then.
    Busy,
    /// Is worth showing, and no more.
    Note,
}

impl Evidence {
    fn weight(&self) -> Weight {
        match self {
            Self::Answer { .. } => Weight::Alive,
            Self::NoService { .. } | Self::Missed | Self::Unreachable => Weight::Failure,
            Self::Refused | Self::NoCarrier => Weight::Dead,
            Self::Busy => Weight::Busy,
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
            Self::Busy => write!(f, "no answer to a probe, but traffic to clients"),
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
    /// How long traffic excuses missing answers. Zero: never.
    pub patience: Duration,
}

/// The detector of one server.
#[derive(Clone, Debug)]
pub struct Detector {
    thresholds: Thresholds,
    health: Health,
    answers: u32,
    failures: u32,
    /// Since when traffic excuses missing answers.
    busy_since: Option<Instant>,
    /// Whether the latest probe was excused.
    excused: bool,
    /// When the failures began that it has not recovered from.
    failing_since: Option<Instant>,
    last_answer: Option<Instant>,
    /// Whether the latest failure was proof.
    certain: bool,
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
        Self {
            thresholds,
            health: Health::Unknown,
            answers: 0,
            failures: 0,
            busy_since: None,
            excused: false,
            failing_since: None,
            last_answer: None,
            certain: false,
        }
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

    /// When the failures began that brought it down, or may do so. `None` if there are none.
    pub fn failing_since(&self) -> Option<Instant> {
        self.failing_since
    }

    /// When it last answered.
    pub fn last_answer(&self) -> Option<Instant> {
        self.last_answer
    }

    /// Whether the latest failure was proof of its own fault, or of its own link's, and not mere silence.
    pub fn is_certain(&self) -> bool {
        self.certain
    }

    /// Takes in one observation. Returns the change that it makes.
    pub fn observe(&mut self, evidence: &Evidence, now: Instant) -> Option<Change> {
        let weight = match evidence.weight() {
            Weight::Note => return None,
            Weight::Busy if self.has_patience(now) => {
                self.failures = 0;
                self.failing_since = None;
                self.excused = true;
                return None;
            }
            Weight::Busy => Weight::Failure,
            weight => weight,
        };
        if matches!(weight, Weight::Alive) {
            self.failures = 0;
            self.answers = self.answers.saturating_add(1);
            self.busy_since = None;
            self.last_answer = Some(now);
        } else {
            self.answers = 0;
            self.failing_since.get_or_insert(now);
            self.certain = matches!(weight, Weight::Dead);
            self.failures = self.failures.saturating_add(1 + u32::from(self.excused));
        }
        self.excused = false;
        let to = match (weight, self.health) {
            (Weight::Alive, Health::Unknown) => Health::Up,
            (Weight::Alive, Health::Down) if self.answers >= self.thresholds.rise => Health::Up,
            (Weight::Failure, _) if self.failures >= self.thresholds.fall => Health::Down,
            (Weight::Dead, _) => Health::Down,
            (_, unchanged) => unchanged,
        };
        if matches!(weight, Weight::Alive) && to == Health::Up {
            self.failing_since = None;
        }
        let from = std::mem::replace(&mut self.health, to);
        (from != to).then_some(Change { from, to })
    }

    /// Whether traffic still excuses a missing answer. A server that is not up is not excused: its traffic may be the tail
    /// of what it was told before.
    fn has_patience(&mut self, now: Instant) -> bool {
        let since = *self.busy_since.get_or_insert(now);
        self.health == Health::Up && now.saturating_duration_since(since) < self.thresholds.patience
    }
}

#[cfg(test)]
mod tests;
