//! `cargo xtask bench`: the same faults handled by voip-ha and by its peers, and what a packet costs.

use std::ffi::OsString;

use anyhow::Result;

use crate::build::{self, Profile};
use crate::command::Invocation;
use crate::setup::{self, Need};

#[derive(Debug, clap::Args)]
#[command(after_help = "`failover --quick` measures 5 runs of each fault, without the soak.\n\
                        `failover --json FILE --html FILE` also writes the figures as data and as pictures.\n\
                        `failover --systems voip-ha` needs no peer to be installed.\n\
                        `datapath --json FILE --html FILE` measures the XDP program, and packets per second.\n\
                        `datapath --parts cost` needs no peer either.\n\
                        `cargo xtask bench failover -- --help` lists all arguments of the bench.")]
pub(crate) struct Args {
    /// What to measure: `failover` or `datapath`, or `show FILE` for failovers that were measured before
    #[arg(value_name = "BENCH")]
    pub(crate) bench: OsString,

    /// Arguments for the bench itself
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
    pub(crate) lab_args: Vec<OsString>,
}

pub(crate) fn run(args: Args) -> Result<()> {
    setup::ensure(if needs_peers(&args) { Need::Bench } else { Need::Lab })?;
    build::build(Profile::Release, &["voip-ha", "voip-ha-tests"])?;
    let bench = build::binary(Profile::Release, "lab-bench")?;
    match Invocation::new([bench]).args([args.bench]).args(args.lab_args).exec()? {}
}

/// Whether more than voip-ha itself is measured.
fn needs_peers(args: &Args) -> bool {
    let words: Vec<_> = args.lab_args.iter().filter_map(|arg| arg.to_str()).collect();
    let told = |name: &str, value: &str| {
        words.windows(2).any(|pair| pair == [name, value]) || words.contains(&&*format!("{name}={value}"))
    };
    let own = match args.bench.to_str() {
        Some("failover") => told("--systems", "voip-ha"),
        Some("datapath") => told("--parts", "cost"),
        _ => true,
    };
    !own && !words.contains(&"--help")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_are_installed_only_where_they_are_measured() {
        let args =
            |bench: &str, lab: &[&str]| Args { bench: bench.into(), lab_args: lab.iter().map(Into::into).collect() };
        assert!(needs_peers(&args("failover", &["--quick"])));
        assert!(needs_peers(&args("failover", &["--systems", "voip-ha,bfdd"])));
        assert!(!needs_peers(&args("failover", &["--quick", "--systems", "voip-ha"])));
        assert!(!needs_peers(&args("show", &["data.json"])));
        assert!(needs_peers(&args("datapath", &["--json", "data.json"])));
        assert!(!needs_peers(&args("datapath", &["--parts", "cost"])) && !needs_peers(&args("datapath", &["--help"])));
        assert!(
            needs_peers(&args("datapath", &["--parts=cost,rate"]))
                && !needs_peers(&args("datapath", &["--parts=cost"]))
        );
    }
}
