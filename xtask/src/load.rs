//! `cargo xtask load`: the gateway in the foreground, built from this checkout.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::Result;

use crate::build::{self, Profile};
use crate::command::Invocation;
use crate::setup::{self, Need};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The configuration file of the gateway
    #[arg(long, value_name = "FILE")]
    config: PathBuf,

    /// Further arguments for `voip-ha run`
    #[arg(last = true)]
    run_args: Vec<OsString>,
}

pub(crate) fn run(args: Args) -> Result<()> {
    setup::ensure(Need::Build)?;
    build::build(Profile::Release, &["voip-ha"])?;
    let gateway = build::binary(Profile::Release, "voip-ha")?;
    let command = Invocation::new([gateway]).args(["run", "--config"]).args([args.config]).args(args.run_args);
    match command.exec()? {}
}
