//! What happened, told to people and machines.

mod text;

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::{
    decision::{Cause, DrainEnd, Dropped, Scope},
    detector::Health,
    evidence::{Evidence, Fault, Witness},
    ids::Family,
};

/// One thing that happened, with its place and time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Counts up from 1 for each start of the controller.
    pub number: u64,
    /// Wall-clock time.
    pub at: jiff::Timestamp,
    /// `CLOCK_MONOTONIC` in microseconds: for differences between processes of one host.
    pub monotonic_us: u64,
    /// What happened.
    #[serde(flatten)]
    pub happening: Happening,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Happening {
    /// The controller serves.
    Started {
        /// Whether the program of an earlier controller was replaced without a gap.
        adopted: bool,
    },
    /// The health of a server changed.
    Health {
        /// Name of the server.
        server: String,
        /// Before.
        from: Health,
        /// Now.
        to: Health,
        /// What tipped the balance.
        evidence: Evidence,
        /// What is wrong with it, if it is not up.
        fault: Option<Fault>,
    },
    /// A service has another active server.
    Flip(FlipRecord),
    /// A flip is decided, and comes in a moment. Until then the running calls of the active server are noted, which will stay with it.
    Census {
        /// Name of the service.
        service: String,
        /// Name of the active server.
        server: String,
        /// Name of the server that takes over.
        to: String,
        /// Why.
        cause: Cause,
        /// For how long the calls stay at most, in seconds.
        seconds: u64,
        /// The operator's words.
        reason: Option<String>,
        /// Who it was.
        asked_by: Option<String>,
    },
    /// A flip that was decided does not come.
    NotSwitched {
        /// Name of the service.
        service: String,
        /// Name of the server that was active.
        server: String,
        /// Name of the server that was to take over.
        to: String,
        /// Why not.
        why: Dropped,
    },
    /// The old server's time to end what it had begun is over; it is fenced.
    Fenced {
        /// Name of the service.
        service: String,
        /// Name of the server.
        server: String,
    },
    /// The running calls of a server stay with it for this long; new ones go to the active one. A drain that begins with a
    /// flip is told by that.
    Draining {
        /// Name of the service.
        service: String,
        /// Name of the server.
        server: String,
        /// For how long at most, in seconds.
        seconds: u64,
        /// Why it is told now.
        why: DrainWhy,
        /// The operator's words.
        reason: Option<String>,
        /// Who it was.
        asked_by: Option<String>,
    },
    /// A server drains no more: it is fenced, and its calls go to the active one.
    DrainEnded {
        /// Name of the service.
        service: String,
        /// Name of the server.
        server: String,
        /// Why.
        end: DrainEnd,
        /// The operator's words.
        reason: Option<String>,
        /// Who it was.
        asked_by: Option<String>,
    },
    /// What a server still had when its drain ended. It is counted right after that.
    DrainLeft {
        /// Name of the service.
        service: String,
        /// Name of the server.
        server: String,
        /// RTP flows from clients in the last seconds.
        rtp_flows: u64,
    },
    /// A server that went down did not prove alive in time: its calls are not remembered any longer.
    NotBack {
        /// Name of the service.
        service: String,
        /// Name of the server.
        server: String,
    },
    /// The active server is down, and no other is up: nothing was changed.
    OutageBegan {
        /// Name of the service.
        service: String,
    },
    /// A server serves again.
    OutageEnded {
        /// Name of the service.
        service: String,
    },
    /// An operator chose a server, or handed the choice back (`None`).
    Choice {
        /// Name of the service.
        service: String,
        /// Name of the server.
        server: Option<String>,
        /// The operator's words.
        reason: Option<String>,
        /// Who it was.
        asked_by: Option<String>,
    },
    /// An operator holds a service as it is, or lets it go.
    Held {
        /// Name of the service.
        service: String,
        /// Whether it is held now.
        held: bool,
        /// The operator's words.
        reason: Option<String>,
        /// Who it was.
        asked_by: Option<String>,
    },
    /// The active server is down and stays active though another one is up.
    Kept {
        /// Name of the service.
        service: String,
        /// Name of the active server.
        server: String,
        /// Whether because an operator holds the service; else because its failovers of the hour are used up.
        held: bool,
    },
    /// That is over: the active server serves again, or another one is active.
    KeptEnded {
        /// Name of the service.
        service: String,
    },
    /// A server fell so often that others are preferred until its penalty has decayed.
    Suppressed {
        /// Name of the server.
        server: String,
        /// For how long, if it does not fall again; in seconds.
        seconds: u64,
    },
    /// The way to a server is known, or changed.
    NextHop {
        /// Name of the server.
        server: String,
        /// Of the address that it leads to; not told by earlier versions, which knew IPv4 only.
        family: Option<Family>,
        /// Name of the interface.
        interface: String,
        /// Ethernet address of the next hop; nothing if only the kernel's stack can send by the interface, which is a tunnel.
        mac: Option<String>,
    },
    /// A server, being up, is no longer served at its second address, or is again.
    SecondAddress {
        /// Name of the server.
        server: String,
        /// The address.
        address: IpAddr,
        /// What is wrong with it; nothing if that is over.
        fault: Option<String>,
    },
    /// The carrier of an interface changed.
    Carrier {
        /// Name of the interface.
        interface: String,
        /// Whether it has one now.
        up: bool,
    },
    /// An interface was removed, and the XDP program with it.
    InterfaceLost {
        /// Name of the interface.
        interface: String,
    },
    /// The kernel's routes, neighbours and carriers are no longer followed, or are again.
    NetworkWatch {
        /// Whether they are followed now.
        up: bool,
        /// Why not.
        why: Option<String>,
    },
    /// The gateway itself came late; what was due meanwhile is not held against the servers.
    GatewayStall {
        /// How late, in milliseconds.
        late_ms: u64,
        /// How often since the controller started; at most one event a second is told of it.
        count: u64,
    },
}

/// Why it is told that a server drains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DrainWhy {
    /// It was down, and proved alive: its running calls are given back to it.
    GivenBack,
    /// It drained when the controller started. Since when is not known, so it gets the whole time again.
    Adopted,
    /// An operator set another time.
    Prolonged,
}

/// The record of one flip.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FlipRecord {
    /// Name of the service.
    pub service: String,
    /// Name of the server before.
    pub from: String,
    /// Name of the server now.
    pub to: String,
    /// What was moved.
    pub scope: Scope,
    /// Why.
    pub cause: Cause,
    /// What was wrong with the server before, for a failover.
    pub fault: Option<Fault>,
    /// What tipped the balance, for a failover.
    pub evidence: Option<Evidence>,
    /// All that was observed about the server before since it was last well, oldest first.
    pub trail: Vec<Witness>,
    /// The operator's words.
    pub reason: Option<String>,
    /// Who the operator is.
    pub asked_by: Option<String>,
    /// For how long the running calls of the server before stay with it, in seconds; `None` if they do not.
    #[serde(default)]
    pub drain_s: Option<u64>,
    /// Whether calls were remembered already, for a server that was left by an earlier flip.
    #[serde(default)]
    pub remembered: bool,
    /// Since when running calls were noted before the flip, if they were: `CLOCK_MONOTONIC` in microseconds.
    #[serde(default)]
    pub census_us: Option<u64>,
    /// When the controller had the evidence, or the operator's order: `CLOCK_MONOTONIC` in microseconds.
    pub decided_us: u64,
    /// When the kernel had the new word.
    pub flipped_us: u64,
    /// From the one to the other, or from the end of the census if there was one; in microseconds.
    pub evidence_to_flip_us: f64,
    /// Epoch of the new word: what the kernel notes its stamps under.
    pub epoch: u16,
}

impl Happening {
    /// Whether somebody should wake up for it.
    pub fn is_alarming(&self) -> bool {
        match self {
            Self::OutageBegan { .. } | Self::InterfaceLost { .. } | Self::GatewayStall { .. } | Self::Kept { .. } => {
                true
            }
            Self::Suppressed { .. } => true,
            Self::Flip(flip) => flip.cause == Cause::Failover,
            Self::DrainEnded { end, .. } => *end == DrainEnd::Down,
            Self::Health { to, .. } => matches!(to, Health::Down | Health::Maintenance),
            Self::SecondAddress { fault, .. } => fault.is_some(),
            Self::Carrier { up, .. } | Self::NetworkWatch { up, .. } => !up,
            _ => false,
        }
    }
}
