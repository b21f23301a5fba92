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
use crate::{event::Event, plan::Plan, status::Status};

/// Version of the protocol. A request of another version is refused.
pub const PROTOCOL: u32 = 1;

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
    /// Only say what would happen.
    pub dry_run: bool,
    /// The operator's words, for the events.
    pub reason: Option<String>,
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
    /// To [`Command::Events`]: one line for each.
    Event(Box<Event>),
    /// The request is understood, and the answer is no.
    Refused(String),
    /// The request is not understood.
    Invalid(String),
}
