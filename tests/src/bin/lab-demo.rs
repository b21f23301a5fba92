//! `cargo xtask demo`: calls through a gateway, and what each kind of failure costs them.

use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;
use lab::demo::{Settings, run};

/// Makes calls with RTP through the gateway, switches, kills and cuts off servers under them, and shows what it cost.
#[derive(Debug, Parser)]
struct Arguments {
    /// Calls, each with one RTP stream of 50 packets/s.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=500))]
    calls: u16,
    /// Also write what was measured to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn main() -> Result<()> {
    let Arguments { calls, json } = Arguments::parse();
    run(&Settings { calls: calls.into(), json })
}
