//! The health of one server, from the evidence about it.
//!
//! Pure: nothing is read and nothing is sent. What is asked when, and when silence becomes
//! evidence, is the [`monitor`](crate::monitor)'s part.
//!
//! ```text
//!                            Answer                      a fault is proved
//!   Unknown ───────────────────────────────▶ Up ───────────────────────────▶ Down ◀── Unknown as well
//!      │                                    ▲  │ 3 × NoService                │ ▲
//!      │ 3 × NoService                      │  ▼                              │ │ a fault is proved
//!      └──────────────────────────▶ Maintenance ◀──────── 3 × NoService ───────┘ │
//!                                     │  │  └────────────────────────────────────┘
//!                rise × Answer ───────┘  (from Down as well)
//! ```

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::evidence::{Evidence, Fault};

/// Refusals of service in a row until a server counts as refusing. One may be an accident of its load.
pub const REFUSALS: u32 = 3;

/// What is believed about a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Health {
    /// Nothing was observed yet.
    Unknown,
    /// It serves.
    Up,
    /// It lives, and says that it takes no new work.
    Maintenance,
    /// It does not serve.
    Down,
}

/// The detector of one server.
#[derive(Clone, Debug)]
pub struct Detector {
    /// Answers in a row that bring a server up which was not; at least 1.
    rise: u32,
    health: Health,
    fault: Option<Fault>,
    certain: bool,
    answers: u32,
    refusals: u32,
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
    pub fn new(rise: u32) -> Self {
        Self { rise, health: Health::Unknown, fault: None, certain: false, answers: 0, refusals: 0, failures: 0 }
    }

    /// What is believed.
    pub fn health(&self) -> Health {
        self.health
    }

    /// What is wrong with it; `None` while it is up or unknown.
    pub fn fault(&self) -> Option<Fault> {
        self.fault
    }

    /// Whether the fault is proved to be its own: see [`Evidence::is_certain`].
    pub fn is_certain(&self) -> bool {
        self.certain
    }

    /// Answers in a row, up to the last observation.
    pub fn answers(&self) -> u32 {
        self.answers
    }

    /// OPTIONS in a row that were not answered, or not by service.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Takes in one observation. Returns the change that it makes.
    pub fn observe(&mut self, evidence: &Evidence) -> Option<Change> {
        match evidence {
            Evidence::Answer { .. } => {
                self.answers = self.answers.saturating_add(1);
                (self.refusals, self.failures) = (0, 0);
            }
            Evidence::NoService { .. } => {
                self.refusals = self.refusals.saturating_add(1);
                self.answers = 0;
                self.failures = self.failures.saturating_add(1);
            }
            // A server that is short of everything answers some by 503 and others not at all: that is no new count.
            Evidence::Missed | Evidence::NoWay | Evidence::RefusedOnce => {
                self.answers = 0;
                self.failures = self.failures.saturating_add(1);
            }
            _ => {}
        }
        let from = self.health;
        self.health = self.judge(evidence);
        if let Some(fault) = evidence.fault() {
            (self.fault, self.certain) = (Some(fault), evidence.is_certain());
            (self.answers, self.refusals) = (0, 0);
            self.failures = self.failures.saturating_add(1);
        } else if self.health != from {
            self.fault = (self.health == Health::Maintenance).then_some(Fault::Maintenance);
            self.certain = self.fault.is_some();
        }
        (from != self.health).then_some(Change { from, to: self.health })
    }

    fn judge(&self, evidence: &Evidence) -> Health {
        match (evidence, self.health) {
            (Evidence::Answer { .. }, Health::Unknown) => Health::Up,
            (Evidence::Answer { .. }, _) if self.answers >= self.rise => Health::Up,
            (Evidence::NoService { .. }, _) if self.refusals >= REFUSALS => Health::Maintenance,
            (_, _) if evidence.fault().is_some() => Health::Down,
            (_, unchanged) => unchanged,
        }
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Maintenance => "maintenance",
            Self::Down => "down",
        })
    }
}

#[cfg(test)]
mod tests;
