//! The command line. A file for each verb.
//!
//! Exit codes: 0 done or yes, 1 failed or no, 2 wrong usage or bad input, 3 the daemon is not running.

mod check;
mod drain;
mod events;
mod hold;
mod maps;
mod output;
mod report;
mod run;
mod status;
mod switch;
mod trace;
mod unload;

use std::{io, path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};

use crate::control::ClientError;

/// Keeps calls going when a VoIP server goes down: an XDP gateway in front of a master and its backups.
#[derive(Parser)]
#[command(
    version,
    after_help = "Exit codes: 0 done or yes, 1 failed or no, 2 wrong usage or bad input, \
                                 3 the daemon is not running."
)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Run the gateway in the foreground
    Run(run::Run),
    /// Check a configuration file
    Check(check::Check),
    /// Show who is active, since when and why, and how every server is
    Status(status::Show),
    /// Make a server active, or hand the choice back to the policy
    Switch(switch::Switch),
    /// Hold a service as it is, or let it go
    Hold(hold::Hold),
    Drain(drain::Drain),
    /// Show what the kernel holds; works without the daemon
    Maps(maps::Maps),
    /// Say what would happen to a packet, and why; sends nothing, works without the daemon
    Trace(trace::TraceVerb),
    /// Show what happened, and the receipt of each failover
    Events(events::Events),
    /// Show how available the services were; works without the daemon
    Report(report::Report),
    /// Take the XDP program off its interfaces and remove its maps
    Unload(unload::Unload),
}

/// How a command answers.
#[derive(Args)]
struct Format {
    /// Answer as JSON, for machines
    #[arg(long)]
    json: bool,
}

/// Where the daemon is.
#[derive(Args)]
struct Socket {
    /// The daemon's control socket (gateway.control_socket)
    #[arg(long, value_name = "PATH", default_value = crate::config::DEFAULT_CONTROL_SOCKET)]
    socket: PathBuf,
}

/// Where receipts and events are.
#[derive(Args)]
struct StateDir {
    /// The state directory (gateway.state_dir)
    #[arg(long, value_name = "DIRECTORY", default_value = crate::config::DEFAULT_STATE_DIR)]
    dir: PathBuf,
}

/// Where the kernel's maps are.
#[derive(Args)]
struct PinDir {
    /// The pin directory (gateway.pin_dir)
    #[arg(long, value_name = "DIRECTORY", default_value = crate::config::DEFAULT_PIN_DIR)]
    pin_dir: PathBuf,
}

/// Why a command did not do what it was asked.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// It failed, or the answer is no.
    #[error("{0:#}")]
    No(#[from] anyhow::Error),
    /// The answer is no, and was printed already.
    #[error("")]
    Told,
    /// The input cannot be used.
    #[error("{0}")]
    BadInput(String),
    /// From the daemon, or for want of it.
    #[error("{0}")]
    Daemon(#[from] ClientError),
    /// Standard output is closed: whoever read it has seen enough.
    #[error("standard output: {0}")]
    Output(#[from] io::Error),
}

impl Failure {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => 0,
            Self::BadInput(_) => 2,
            Self::Daemon(ClientError::NotRunning { .. } | ClientError::Ended) => 3,
            _ => 1,
        }
    }
}

/// Runs the command that the arguments name.
pub fn main() -> ExitCode {
    let result = match Cli::parse().verb {
        Verb::Run(verb) => verb.run(),
        Verb::Check(verb) => verb.run(),
        Verb::Status(verb) => verb.run(),
        Verb::Switch(verb) => verb.run(),
        Verb::Hold(verb) => verb.run(),
        Verb::Drain(verb) => verb.run(),
        Verb::Maps(verb) => verb.run(),
        Verb::Trace(verb) => verb.run(),
        Verb::Events(verb) => verb.run(),
        Verb::Report(verb) => verb.run(),
        Verb::Unload(verb) => verb.run(),
    };
    let Err(failure) = result else { return ExitCode::SUCCESS };
    let code = failure.exit_code();
    if code != 0 && !matches!(failure, Failure::Told) {
        anstream::eprintln!("{}voip-ha:{} {failure}", output::ALARM.render(), output::ALARM.render_reset());
    }
    ExitCode::from(code)
}
