use std::time::Duration;

use clap::Args;

use super::{Failure, Format, Socket, drain, output};
use crate::{
    control::{Answer, Client, Command, SwitchOutcome, SwitchRequest},
    decision::Scope,
};

/// Make a server active. It stays so until it goes down or another choice is made; `auto` hands the choice back to the
/// policy.
///
/// The server before may go on sending to clients for policy.switch_grace_ms, so that nothing on its way is lost. With
/// --drain, running calls stay with it. A server that is down, or was not heard of yet, is refused.
#[derive(Args)]
pub(super) struct Switch {
    /// Name of the server, or `auto`
    #[arg(value_name = "NAME|auto")]
    server: String,
    /// With `auto`: only this service
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// Move only this; the other stays where it is
    #[arg(long, value_name = "WHAT")]
    only: Option<Only>,
    /// Even if the server is down or the service is held. The service is held then: no failover undoes it
    #[arg(long)]
    force: bool,
    /// Running calls stay with the server before, for this long at most, such as 10m or 90s; policy.drain_s without a time
    #[arg(long, value_name = "TIME", value_parser = drain::duration, num_args = 0..=1, conflicts_with_all = ["only", "force"])]
    drain: Option<Option<Duration>>,
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

/// A part of a service.
#[derive(Clone, Copy, clap::ValueEnum)]
enum Only {
    /// SIP
    Signalling,
    /// RTP
    Media,
}

impl Switch {
    pub(super) fn run(self) -> Result<(), Failure> {
        if self.service.is_some() && self.server != crate::config::RESERVED_SERVER_NAME {
            return Err(Failure::BadInput("--service goes with `auto` only: a server has one service".to_owned()));
        }
        if self.drain.is_some() && self.server == crate::config::RESERVED_SERVER_NAME {
            return Err(Failure::BadInput("--drain goes with the name of a server only".to_owned()));
        }
        let Self { server, service, only, force, drain, dry_run, reason, format, socket } = self;
        let scope = match only {
            None => Scope::Both,
            Some(Only::Signalling) => Scope::Signalling,
            Some(Only::Media) => Scope::Media,
        };
        let drain_s = drain.flatten().map(|time| time.as_secs());
        let drain = drain.is_some();
        let request = SwitchRequest { server, service, scope, force, drain, drain_s, dry_run, reason, asked_by: None };
        let answer = Client::connect(&socket.socket)?.ask(Command::Switch(request))?;
        let Answer::Switched(outcomes) = answer else {
            return Err(Failure::No(anyhow::anyhow!("the daemon answered something else")));
        };
        output::print_all(&outcomes, format.json, line)
    }
}

fn line(outcome: &SwitchOutcome) -> String {
    let SwitchOutcome { service, from, to, media_from, media_to, drain_s, dry_run } = outcome;
    let verb = if *dry_run { "would switch" } else { "switched" };
    if let Some(seconds) = drain_s {
        let time = output::span(*seconds);
        return format!("{service}: {verb} from {from} to {to}; running calls stay with {from} for {time} at most\n");
    }
    match (from != to, media_from != media_to) {
        (false, false) => format!("{service}: {to} is active already, and stays\n"),
        (true, true) if from == media_from => format!("{service}: {verb} from {from} to {to}\n"),
        (true, true) => format!("{service}: {verb} signalling from {from} and media from {media_from} to {to}\n"),
        (true, false) => format!("{service}: {verb} signalling from {from} to {to}; media stays at {media_to}\n"),
        (false, true) => format!("{service}: {verb} media from {media_from} to {media_to}; signalling stays at {to}\n"),
    }
}
