//! What a decision is made of and about.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::{detector::Health, evidence::Fault};

/// A server of this service: its place in the order of priority, 0 for the master.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Rank(pub usize);

/// What is known about a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Its health.
    pub health: Health,
    /// Since when.
    pub since: Instant,
    /// Whether the packet path has a way to it.
    pub reachable: bool,
    /// When it last gave a sign of life.
    pub last_sign: Option<Instant>,
    /// From when on it was asked in vain, if its silence brought it down.
    pub silent_since: Option<Instant>,
    /// What is wrong with it.
    pub fault: Option<Fault>,
    /// Whether its fault is proved to be its own, or its own link's, and not mere silence.
    pub certain: bool,
}

/// Why a server is or becomes active.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// The gateway started with it: the first by priority.
    Start,
    /// An earlier controller had made it active, and this one took over.
    Adopted,
    /// The server before it went down.
    Failover,
    /// The server before it refuses service.
    // Where media once followed later, that was the second half of it.
    #[serde(alias = "drained")]
    Maintenance,
    /// It came back, and the policy prefers it.
    Failback,
    /// An operator chose it.
    Operator,
}

impl Cause {
    /// Whether the server before it still serves, so that it may end what it has begun.
    pub fn is_planned(self) -> bool {
        matches!(self, Self::Failback | Self::Operator | Self::Maintenance)
    }
}

/// What of a service is moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// Signalling and media.
    Both,
    /// SIP alone.
    Signalling,
    /// RTP alone.
    Media,
}

/// A change that has to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flip {
    /// What is moved.
    pub scope: Scope,
    /// The server that it was at.
    pub from: Rank,
    /// The server that it is to be at.
    pub to: Rank,
    /// Why.
    pub cause: Cause,
}

/// How far an operator has taken the decision out of the policy's hands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Choice {
    /// Not at all.
    #[default]
    None,
    /// The active server is the operator's choice: no failback.
    Chosen,
    /// Nothing changes by itself, not even when the active server is down.
    Held,
}

/// What an operator wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// The server; `None` hands the choice back to the policy.
    pub to: Option<Rank>,
    /// What is to go there.
    pub scope: Scope,
    /// Even if the server is down, and even if the service is held.
    pub force: bool,
    /// For how long the running calls of the server before stay with it.
    pub drain: Option<Duration>,
}

/// Why an operator's choice is not followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It would end the service.
    #[error("it is down; --force switches all the same")]
    Down,
    /// It says that it takes no calls.
    #[error("it refuses service; --force switches all the same")]
    Maintenance,
    /// Nobody knows whether it would serve.
    #[error("nothing was heard from it yet; --force switches all the same")]
    Unknown,
    /// It would serve, but packets do not get there.
    #[error("there is no way to it; `voip-ha status` says why")]
    NoWay,
    /// An operator said that nothing is to change.
    #[error("the service is held; `voip-ha hold --release` ends that, --force switches all the same")]
    Held,
    /// Nobody knows whose a call is then.
    #[error(
        "signalling and media are not at one server, which a drain needs; `voip-ha switch auto` brings them together"
    )]
    Parted,
    /// It would end the service.
    #[error("no other server is up")]
    Nobody,
}

/// What a decision starts with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Found {
    /// The server of signalling; the master if none is known.
    pub signalling: Option<Rank>,
    /// The server of media.
    pub media: Option<Rank>,
    /// What the operator had chosen.
    pub choice: Choice,
    /// A server that is neither, and may still send to clients.
    pub draining: Option<Rank>,
    /// Whether its running calls stay with it.
    pub affinity: bool,
}
