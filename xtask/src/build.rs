//! `cargo xtask build`, and where things are.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::command::Invocation;
use crate::setup::{self, Need};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Build what `load` and `demo` run; the default is the profile of the tests
    #[arg(long)]
    release: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    setup::ensure(Need::Build)?;
    let profile = if args.release { Profile::Release } else { Profile::Dev };
    build(profile, &["voip-ha", "voip-ha-tests"])?;
    println!("{}", binary(profile, "voip-ha")?.display());
    Ok(())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    Dev,
    Release,
}

/// Builds these packages. The build script of `voip-ha` builds the kernel side.
pub(crate) fn build(profile: Profile, packages: &[&str]) -> Result<()> {
    let release = (profile == Profile::Release).then_some("--release");
    let packages = packages.iter().flat_map(|name| ["--package", name]);
    Invocation::cargo(["build"]).args(release).args(packages).run()
}

/// The path of a binary that has been built.
pub(crate) fn binary(profile: Profile, name: &str) -> Result<PathBuf> {
    let path = target_dir()?.join(if profile == Profile::Release { "release" } else { "debug" }).join(name);
    if !path.is_file() {
        bail!("{} is not there after the build; start xtask as `cargo xtask`", path.display());
    }
    Ok(path)
}

/// The target directory. It depends on environment and configuration, and xtask is in it.
pub(crate) fn target_dir() -> Result<PathBuf> {
    let own = std::env::current_exe().context("cannot find the path of xtask itself")?;
    let target = own.ancestors().nth(2).with_context(|| format!("{} is in no target directory", own.display()))?;
    Ok(target.to_path_buf())
}

/// The top of the workspace.
pub(crate) fn workspace() -> PathBuf {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask).to_path_buf()
}
