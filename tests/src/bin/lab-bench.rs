//! `cargo xtask bench`: the same faults handled by voip-ha and by its peers, what a packet costs, and how many
//! a second go through.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, Subcommand, builder::PossibleValuesParser};
use lab::{
    bench::{self, Fault, NAMES, Settings},
    bench_datapath::{self, MOST_FLOWS, Part, SYSTEMS, path_names},
};

/// Measures voip-ha beside what people use today, in the lab's network.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Faults of servers and cables, and a soak without any
    Failover(Failover),
    /// What a packet costs in the XDP program, and how many a second go through the lab, beside others
    Datapath(Datapath),
    /// Print the table of data that `failover` measured before, and draw its pictures
    Show(Show),
    /// Send one OPTIONS request, and exit with 0 if a final answer but 408 and 503 comes in time
    Options {
        /// Address that it is sent to
        address: std::net::SocketAddr,
    },
}

#[derive(Debug, clap::Args)]
struct Failover {
    /// 5 runs of each fault and no soak
    #[arg(long)]
    quick: bool,
    /// Systems to measure
    #[arg(long, value_name = "NAME,…", value_delimiter = ',', value_parser = NAMES, default_values = NAMES)]
    systems: Vec<String>,
    /// Faults to make [default: all]
    #[arg(long, value_name = "NAME,…", value_delimiter = ',', value_enum)]
    faults: Vec<Fault>,
    /// Numbers of RTP streams [default: 0,1,50,500 for voip-ha, 50 for its peers]
    #[arg(long, value_name = "N,…", value_delimiter = ',', value_parser = clap::value_parser!(u16).range(0..=500))]
    streams: Option<Vec<u16>>,
    /// Runs of each fault, 0 for the soak alone [default: 30, quick: 5]
    #[arg(long, value_name = "N")]
    runs: Option<usize>,
    /// Minutes of the soak, of all systems at the same time, 0 for none [default: 10, quick: 0]
    #[arg(long, value_name = "N")]
    minutes: Option<f64>,
    /// Add to the data in this file; what is in it from as many runs is not measured again
    #[arg(long, value_name = "FILE")]
    merge: Option<PathBuf>,
    /// Write the figures to this file as JSON, again after each block; what was merged is written too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write a page with pictures of the distributions to this file
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct Datapath {
    /// Parts to measure
    #[arg(long, value_name = "NAME,…", value_delimiter = ',', value_enum, default_values = ["cost", "rate", "drop"])]
    parts: Vec<Part>,
    /// How often each figure is measured
    #[arg(long, value_name = "N", default_value_t = 15, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Numbers of flows
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_values = ["1", "1000", "100000", "1000000"],
          value_parser = clap::value_parser!(u32).range(1..=i64::from(MOST_FLOWS)))]
    flows: Vec<u32>,
    /// Paths to measure [default: all]
    #[arg(long, value_name = "NAME,…", value_delimiter = ',', value_parser = PossibleValuesParser::new(path_names()))]
    paths: Vec<String>,
    /// Systems to send packets through
    #[arg(long, value_name = "NAME,…", value_delimiter = ',', value_parser = SYSTEMS, default_values = SYSTEMS)]
    systems: Vec<String>,
    /// Write the figures to this file as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write a page with a picture to this file
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct Show {
    /// What `failover --json` wrote
    data: PathBuf,
    /// Write a page with pictures of the distributions to this file
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

fn main() -> Result<()> {
    match Arguments::parse().verb {
        Verb::Failover(failover) => bench::run(&settings(failover)),
        Verb::Datapath(datapath) => bench_datapath::run(&datapath.settings()),
        Verb::Show(Show { data, html }) => bench::show(&data, html.as_deref()),
        Verb::Options { address } => bench::ask(address),
    }
}

fn settings(arguments: Failover) -> Settings {
    let Failover { quick, systems, faults, streams, runs, minutes, merge, json, html } = arguments;
    let (default_runs, default_minutes) = if quick { (5, 0.0) } else { (30, 10.0) };
    Settings {
        systems,
        faults: if faults.is_empty() { Fault::ALL.into() } else { faults },
        streams,
        runs: runs.unwrap_or(default_runs),
        minutes: minutes.unwrap_or(default_minutes),
        merge,
        json,
        html,
    }
}

impl Datapath {
    fn settings(self) -> bench_datapath::Settings {
        let Self { parts, rounds, flows, paths, systems, json, html } = self;
        let all = || path_names().map(str::to_owned).collect();
        let paths = if paths.is_empty() { all() } else { paths };
        bench_datapath::Settings { parts, rounds: rounds.into(), flows, paths, growth: true, systems, json, html }
    }
}
