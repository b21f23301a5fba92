//! Developer tasks of voip-ha: `cargo xtask setup | build | load | demo | bench | fuzz | test`.
//!
//! This program runs before the tool chain for the kernel side exists, so it depends on no other package of the
//! workspace.

mod bench;
mod build;
mod command;
mod demo;
mod fuzz;
mod load;
mod setup;
mod test;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "Developer tasks of voip-ha")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Find or install what the kernel side and the lab need
    Setup(setup::Args),
    /// Build the kernel side and the user side
    Build(build::Args),
    /// Build, then run the gateway in the foreground
    Load(load::Args),
    /// Build, then run the demo in network namespaces
    Demo(demo::Args),
    /// Build, then measure failovers beside those of other systems, or what a packet costs
    Bench(bench::Args),
    /// Let libFuzzer look for packets that break the packet logic
    Fuzz(fuzz::Args),
    /// Run every check and every test
    Test(test::Args),
}

fn main() -> ExitCode {
    match run(Cli::parse().verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{} {error:#}", command::bold("error:"));
            ExitCode::FAILURE
        }
    }
}

fn run(verb: Verb) -> Result<()> {
    match verb {
        Verb::Setup(args) => setup::run(&args),
        Verb::Build(args) => build::run(&args),
        Verb::Load(args) => load::run(args),
        Verb::Demo(args) => demo::run(args),
        Verb::Bench(args) => bench::run(args),
        Verb::Fuzz(args) => fuzz::run(&args),
        Verb::Test(args) => test::run(&args),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn arguments_after_two_dashes_reach_cargo_test_with_their_own_dashes() {
        let cli = Cli::try_parse_from(["xtask", "test", "--skip-root", "--", "flip", "--", "--nocapture"]).unwrap();
        let Verb::Test(args) = cli.verb else { panic!("{:?}", cli.verb) };
        assert!(args.skip_root);
        assert_eq!(args.cargo_args, ["flip", "--", "--nocapture"]);
    }

    #[test]
    fn every_argument_of_demo_is_handed_over() {
        let cli = Cli::try_parse_from(["xtask", "demo", "--real", "--json", "out.json"]).unwrap();
        let Verb::Demo(args) = cli.verb else { panic!("{:?}", cli.verb) };
        assert_eq!(args.lab_args, ["--real", "--json", "out.json"]);
    }

    #[test]
    fn every_argument_of_a_bench_is_handed_over() {
        let cli = Cli::try_parse_from(["xtask", "bench", "failover", "--quick", "--json", "out.json"]).unwrap();
        let Verb::Bench(args) = cli.verb else { panic!("{:?}", cli.verb) };
        assert_eq!(
            (args.bench, args.lab_args),
            ("failover".into(), ["--quick", "--json", "out.json"].map(Into::into).into())
        );
    }
}
