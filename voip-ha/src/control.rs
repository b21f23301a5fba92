//! The control socket: how the command line talks to the running controller.
//!
//! A request is one line of JSON, the answer is one line of JSON; `events` with `follow` goes on giving lines. Whoever
//! may open the socket (mode 0660) may switch servers.

mod client;
mod server;

use serde::{Deserialize, Serialize};

pub use self::{
    client::{Client, ClientError},
    server::serve,
};
use crate::{decision::Scope, event::Event, plan::Plan, status::Status};

/// Version of the protocol. A request of another version is refused.
pub const PROTOCOL: u32 = 3;

/// A request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// [`PROTOCOL`] of the sender.
    pub protocol: u32,
    /// What is asked for.
    #[serde(flatten)]
    pub command: Command,
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case")]
pub enum Command {
    /// The state of everything.
    Status,
    /// What the kernel's tables should hold.
    Plan,
    /// Make a server active.
    Switch(SwitchRequest),
    /// Hold services as they are, or let them go.
    Hold(HoldRequest),
    /// Take a server out gracefully, or end that.
    Drain(DrainRequest),
    /// What happened.
    Events {
        /// Go on with what happens next.
        follow: bool,
    },
}

/// Make a server active, or hand the choice back to the policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwitchRequest {
    /// Name of the server, or `auto`.
    pub server: String,
    /// For `auto`: the service meant; without it, all services.
    pub service: Option<String>,
    /// What is to go there.
    pub scope: Scope,
    /// Even if the server is down, and even if the service is held.
    pub force: bool,
    /// The running calls of the server before stay with it.
    pub drain: bool,
    /// For how long, in seconds; without it, for as long as the policy says.
    pub drain_s: Option<u64>,
    /// Only say what would happen.
    pub dry_run: bool,
    /// The operator's words, for the events.
    pub reason: Option<String>,
    /// Who asks. The daemon fills it in: whoever the kernel says is at the other end.
    pub asked_by: Option<String>,
}

/// Hold services as they are, or let them go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldRequest {
    /// Name of the service; without it, all.
    pub service: Option<String>,
    /// Let it go.
    pub release: bool,
    /// The operator's words, for the events.
    pub reason: Option<String>,
    /// As in [`SwitchRequest`].
    pub asked_by: Option<String>,
}

/// Take a server out gracefully, or end that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainRequest {
    /// Name of the server. To end a drain, also of the service; without it, all drains end.
    pub name: Option<String>,
    /// End it now.
    pub end: bool,
    /// For how long running calls may stay, in seconds; without it, for as long as the policy says.
    pub drain_s: Option<u64>,
    /// Only say what would happen.
    pub dry_run: bool,
    /// The operator's words, for the events.
    pub reason: Option<String>,
    /// As in [`SwitchRequest`].
    pub asked_by: Option<String>,
}

/// What an order to drain did, or would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainOutcome {
    /// Name of the service.
    pub service: String,
    /// The server that drains, or did.
    pub server: String,
    /// The active server now.
    pub active: String,
    /// What became of the drain.
    pub step: DrainStep,
    /// For how long it drains now at most, in seconds.
    pub drain_s: Option<u64>,
    /// Whether it was only asked.
    pub dry_run: bool,
}

/// What became of a drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DrainStep {
    /// It began.
    Begun,
    /// It had begun already, and its time was set anew.
    Prolonged,
    /// It ended.
    Ended,
}

/// What a hold did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldOutcome {
    /// Name of the service.
    pub service: String,
    /// The active server.
    pub active: String,
    /// Whether it is held now.
    pub held: bool,
}

/// What a switch did, or would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwitchOutcome {
    /// Name of the service.
    pub service: String,
    /// The active server before.
    pub from: String,
    /// The active server now.
    pub to: String,
    /// The server of media before.
    pub media_from: String,
    /// The server of media now.
    pub media_to: String,
    /// For how long the running calls of the server before stay with it, in seconds; `None` if they do not.
    pub drain_s: Option<u64>,
    /// Whether it was only asked.
    pub dry_run: bool,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// To [`Command::Status`].
    Status(Box<Status>),
    /// To [`Command::Plan`].
    Plan(Plan),
    /// To [`Command::Switch`]: one for each service concerned.
    Switched(Vec<SwitchOutcome>),
    /// To [`Command::Hold`]: one for each service concerned.
    Held(Vec<HoldOutcome>),
    /// To [`Command::Drain`]: one for each service concerned.
    Drained(Vec<DrainOutcome>),
    /// To [`Command::Events`]: one line for each.
    Event(Box<Event>),
    /// The request is understood, and the answer is no.
    Refused(String),
    /// The request is not understood.
    Invalid(String),
}
