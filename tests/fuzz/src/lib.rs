//! Fuzz targets: what must hold for the pure packet logic, whatever arrives.
//!
//! A target is two functions, and a file of a few lines in `bin` that hands them to libFuzzer: `check` says whether all
//! held for one input, `seeds` gives inputs to begin with. Its binary is named in `Cargo.toml` and in `xtask/src/fuzz.rs`.
//! `cargo xtask fuzz` builds it so that libFuzzer learns which branches an input takes, and runs it.

pub mod packet;
mod room;
pub mod sip;

use std::{env, fs, path::Path};

use anyhow::{Context as _, Result};

/// Environment variable with the directory that [`seed`] writes to.
const SEEDS: &str = "VOIP_HA_FUZZ_SEEDS";

/// Writes a target's seeds to the directory that `VOIP_HA_FUZZ_SEEDS` names, for libFuzzer to read. Does nothing without it,
/// as when an input is replayed.
///
/// # Panics
///
/// If the directory cannot be written to.
pub fn seed(seeds: impl IntoIterator<Item = Vec<u8>>) {
    if let Some(dir) = env::var_os(SEEDS) {
        write(dir.as_ref(), seeds).expect("the directory for the seeds can be written to");
    }
}

/// Makes a fault known to libFuzzer, which takes a panic for one.
///
/// # Panics
///
/// If there is a fault.
pub fn tell(checked: Result<()>) {
    if let Err(fault) = checked {
        panic!("{fault:#}");
    }
}

fn write(dir: &Path, seeds: impl IntoIterator<Item = Vec<u8>>) -> Result<()> {
    for (number, seed) in seeds.into_iter().enumerate() {
        let path = dir.join(format!("seed-{number:03}"));
        fs::write(&path, seed).with_context(|| path.display().to_string())?;
    }
    Ok(())
}
