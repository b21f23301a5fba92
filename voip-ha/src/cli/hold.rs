use clap::Args;

use super::{Failure, Format, Socket, output};
use crate::control::{Answer, Client, Command, HoldOutcome, HoldRequest};

/// Hold a service as it is: no failover and no failback happens until it is let go, not even when the active server is
/// down. Only `voip-ha switch --force` changes it.
#[derive(Args)]
pub(super) struct Hold {
    /// The service; without it, all
    #[arg(value_name = "SERVICE")]
    service: Option<String>,
    /// Let it go
    #[arg(long)]
    release: bool,
    /// Why, for the events
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    format: Format,
    #[command(flatten)]
    socket: Socket,
}

impl Hold {
    pub(super) fn run(self) -> Result<(), Failure> {
        let Self { service, release, reason, format, socket } = self;
        let request = HoldRequest { service, release, reason, asked_by: None };
        let answer = Client::connect(&socket.socket)?.ask(Command::Hold(request))?;
        let Answer::Held(outcomes) = answer else {
            return Err(Failure::No(anyhow::anyhow!("the daemon answered something else")));
        };
        output::print_all(&outcomes, format.json, line)
    }
}

fn line(outcome: &HoldOutcome) -> String {
    let HoldOutcome { service, active, held } = outcome;
    if *held {
        format!("{service}: held, {active} stays active whatever happens\n")
    } else {
        format!("{service}: let go, {active} is active\n")
    }
}
