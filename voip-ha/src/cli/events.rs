use clap::Args;

use super::{Failure, Format, Socket, output};
use crate::{
    control::{Answer, Client, ClientError, Command},
    event::Event,
};

/// Show what happened since the daemon started, oldest first.
#[derive(Args)]
pub(super) struct Events {
    /// Go on with what happens next, until interrupted
    #[arg(long, short)]
    follow: bool,
    #[command(flatten)]
    format: Format,
    #[command(flatten)]
    socket: Socket,
}

impl Events {
    pub(super) fn run(self) -> Result<(), Failure> {
        let mut client = Client::connect(&self.socket.socket)?;
        client.send(Command::Events { follow: self.follow })?;
        loop {
            match client.next_answer() {
                Ok(Some(Answer::Event(event))) if self.format.json => output::print_json(&event)?,
                Ok(Some(Answer::Event(event))) => output::print(&line(&event))?,
                // Events that were missed because this reader was too slow; the rest follows.
                Err(ClientError::Refused(why)) => anstream::eprintln!("voip-ha: {why}"),
                Ok(None) if self.follow => {
                    return Err(Failure::No(anyhow::anyhow!("the daemon has ended")));
                }
                Ok(_) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn line(event: &Event) -> String {
    let text = event.happening.to_string();
    let text = if event.happening.is_alarming() { output::styled(output::ALARM, text) } else { text };
    format!("{}  {:>4}  {text}\n", output::local_time(event.at), event.number)
}
