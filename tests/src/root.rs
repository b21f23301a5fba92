//! What the lab needs of the machine, and where its programs are.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use rustix::thread::{CapabilitySet, capabilities};

/// Fails with one line if this process may not build namespaces or load BPF programs.
pub fn require_root() -> Result<()> {
    const HINT: &str = "run it as root, or leave it out with VOIP_HA_SKIP_ROOT=1";
    let needed = CapabilitySet::SYS_ADMIN | CapabilitySet::NET_ADMIN;
    let have = capabilities(None)?.effective;
    ensure!(have.contains(needed), "the lab needs CAP_SYS_ADMIN and CAP_NET_ADMIN: {HINT}");
    ensure!(Path::new("/sys/fs/bpf").is_dir(), "the lab needs a kernel with BPF (no /sys/fs/bpf): {HINT}");
    Ok(())
}

/// The path of a program of this workspace, built in the same target directory and profile as the running one.
pub fn program(name: &str) -> Result<PathBuf> {
    let here = std::env::current_exe()?;
    let directory = here.parent().context("the running program has no directory")?;
    // Test programs are in target/<profile>/deps, everything else one level above.
    let profile = if directory.ends_with("deps") { directory.parent().unwrap_or(directory) } else { directory };
    let path = profile.join(name);
    ensure!(path.is_file(), "{} is missing: run cargo xtask build", path.display());
    Ok(path)
}
