//! Builds the kernel side and leaves its object file in `OUT_DIR`, where `datapath::object` picks it up.

use std::process::{Command, Stdio};

use anyhow::Result;
use aya_build::{Package, Toolchain};

/// The rustup name that `cargo xtask setup` gives to a distribution's compiler which brings a core library for BPF.
const LINKED_TOOLCHAIN: &str = "voip-ha-bpf";

fn main() -> Result<()> {
    let linked = Command::new("rustup")
        .args(["run", LINKED_TOOLCHAIN, "rustc", "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    let toolchain = if linked {
        // That compiler is a stable one. The only unstable feature needed is inline assembly in aya_ebpf.
        // SAFETY: the build script has one thread.
        unsafe { std::env::set_var("RUSTC_BOOTSTRAP", "aya_ebpf") };
        Toolchain::Custom(LINKED_TOOLCHAIN)
    } else {
        Toolchain::Nightly
    };
    let package = Package {
        name: "voip-ha-ebpf",
        root_dir: concat!(env!("CARGO_MANIFEST_DIR"), "/../voip-ha-ebpf"),
        no_default_features: false,
        features: &["kernel"],
    };
    aya_build::build_ebpf([package], toolchain)
}
