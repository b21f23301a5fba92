mod receipt;

use clap::{Args, Subcommand};

use super::{Failure, Format, Socket, StateDir, output, report::history};
use crate::{
    control::{Answer, Client, ClientError, Command},
    event::Event,
};

/// Show what happened, oldest first: the latest events, those before the daemon started included.
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Events {
    /// Go on with what happens next, until interrupted
    #[arg(long, short)]
    follow: bool,
    /// Show the receipts of all flips that the disk remembers instead; works without the daemon
    #[arg(long, conflicts_with = "follow")]
    receipts: bool,
    #[command(flatten)]
    format: Format,
    #[command(flatten)]
    socket: Socket,
    #[command(flatten)]
    state: StateDir,
    #[command(subcommand)]
    one: Option<One>,
}

#[derive(Subcommand)]
enum One {
    /// Show the receipt of a flip: what led to it, when, and what it cost; works without the daemon
    Show(Show),
}

#[derive(Args)]
struct Show {
    /// The number of the flip, as `events` and `events --receipts` show it
    number: u64,
    #[command(flatten)]
    format: Format,
    #[command(flatten)]
    state: StateDir,
}

impl Events {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self.one {
            Some(One::Show(show)) => show.run(),
            None if self.receipts => self.list_receipts(),
            None => self.list_events(),
        }
    }

    fn list_receipts(self) -> Result<(), Failure> {
        let history = history(&self.state.dir)?;
        if self.format.json {
            return history.receipts.iter().try_for_each(output::print_json);
        }
        output::print(&receipt::table(&history.receipts))?;
        if history.unreadable > 0 {
            anstream::eprintln!("voip-ha: {} lines could not be read: torn, or of another version", history.unreadable);
        }
        Ok(())
    }

    fn list_events(self) -> Result<(), Failure> {
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

impl Show {
    fn run(self) -> Result<(), Failure> {
        let history = history(&self.state.dir)?;
        match history.receipt(self.number) {
            Some(receipt) if self.format.json => output::print_json(receipt),
            Some(receipt) => Ok(output::print(&receipt::describe(receipt))?),
            None => Err(Failure::No(anyhow::anyhow!(
                "{} has no receipt {}: `voip-ha events --receipts` lists them; one is written about 3 s after its flip",
                self.state.dir.display(),
                self.number
            ))),
        }
    }
}

fn line(event: &Event) -> String {
    let text = event.happening.to_string();
    let text = if event.happening.is_alarming() { output::styled(output::ALARM, text) } else { text };
    format!("{}  {:>4}  {text}\n", output::local_time(event.at), event.number)
}
