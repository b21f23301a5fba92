//! Hands on where the build script of `voip-ha` left the compiled kernel side, for the programs of the bench.

use std::env;

use anyhow::{Context as _, Result};

fn main() -> Result<()> {
    let objects =
        env::var("DEP_VOIP_HA_KERNEL_SIDE_OBJECTS").context("the build script of voip-ha names no objects")?;
    println!("cargo::rustc-env=KERNEL_OBJECTS={objects}");
    println!("cargo::rerun-if-changed=build.rs");
    Ok(())
}
