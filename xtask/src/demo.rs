//! `cargo xtask demo`: calls through a gateway, and what each kind of failure costs them.

use std::ffi::OsString;

use anyhow::Result;

use crate::build::{self, Profile};
use crate::command::Invocation;
use crate::setup::{self, Need};

#[derive(Debug, clap::Args)]
#[command(after_help = "`--real` takes Kamailio and sipp in place of the built-in server and phones.\n\
                        `--json FILE` also writes what was measured as data.\n\
                        `cargo xtask demo -- --help` lists all arguments of the demo.")]
pub(crate) struct Args {
    /// Arguments for the demo itself
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
    pub(crate) lab_args: Vec<OsString>,
}

pub(crate) fn run(args: Args) -> Result<()> {
    let real = args.lab_args.iter().any(|arg| arg == "--real");
    setup::ensure(if real { Need::Peers } else { Need::Lab })?;
    build::build(Profile::Release, &["voip-ha", "voip-ha-tests"])?;
    let demo = build::binary(Profile::Release, "lab-demo")?;
    match Invocation::new([demo]).args(args.lab_args).exec()? {}
}
