use clap::Args;

use super::{Failure, Format, Socket, output};
use crate::control::{Answer, Client, Command, SwitchOutcome, SwitchRequest};

/// Make a server active. It stays so until it goes down or another choice is made; `auto` hands the choice back to the
/// policy.
///
/// The server before may go on sending to clients for policy.switch_grace_ms, so that nothing on its way is lost. A
/// server that is down, or was not heard of yet, is refused.
#[derive(Args)]
pub(super) struct Switch {
    /// Name of the server, or `auto`
    #[arg(value_name = "NAME|auto")]
    server: String,
    /// With `auto`: only this service
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// Only say what would happen
    #[arg(long)]
    dry_run: bool,
    /// Why, for the events
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    format: Format,
    #[command(flatten)]
    socket: Socket,
}

impl Switch {
    pub(super) fn run(self) -> Result<(), Failure> {
        if self.service.is_some() && self.server != crate::config::RESERVED_SERVER_NAME {
            return Err(Failure::BadInput("--service goes with `auto` only: a server has one service".to_owned()));
        }
        let Self { server, service, dry_run, reason, format, socket } = self;
        let request = SwitchRequest { server, service, dry_run, reason };
        let answer = Client::connect(&socket.socket)?.ask(Command::Switch(request))?;
        let Answer::Switched(outcomes) = answer else {
            return Err(Failure::No(anyhow::anyhow!("the daemon answered something else")));
        };
        if format.json {
            return output::print_json(&outcomes);
        }
        Ok(output::print(&outcomes.iter().map(line).collect::<String>())?)
    }
}

fn line(outcome: &SwitchOutcome) -> String {
    let SwitchOutcome { service, from, to, dry_run } = outcome;
    match (from == to, dry_run) {
        (true, _) => format!("{service}: {to} is active already, and stays\n"),
        (false, true) => format!("{service}: would switch from {from} to {to}\n"),
        (false, false) => format!("{service}: switched from {from} to {to}\n"),
    }
}
