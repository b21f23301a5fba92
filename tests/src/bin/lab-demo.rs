//! `cargo xtask demo`: calls through a gateway, and what each kind of failure costs them.

use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;
use lab::demo::{Settings, run};

/// Makes calls with RTP through the gateway, switches, kills and cuts off servers under them, and shows what it cost.
#[derive(Debug, Parser)]
struct Arguments {
    /// RTP streams of 50 packets/s that the events are measured by; the built-in phones make a call for each
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=500))]
    streams: u16,
    /// Take Kamailio and sipp in place of the built-in server and phones
    #[arg(long)]
    real: bool,
    /// Also write what was measured to this file, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn main() -> Result<()> {
    let Arguments { streams, real, json } = Arguments::parse();
    run(&Settings { streams: streams.into(), real, json })
}
