//! Builds the kernel side and leaves its object file in `OUT_DIR`, where `datapath::object` picks it up.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};
use aya_build::{Package, Toolchain};

/// The rustup name that `cargo xtask setup` gives to a distribution's compiler which brings a core library for BPF.
const LINKED_TOOLCHAIN: &str = "voip-ha-bpf";

fn main() -> Result<()> {
    // Beside the program there are those of `cargo xtask bench datapath`, which only the bench includes.
    println!("cargo::metadata=OBJECTS={}", env::var("OUT_DIR").context("OUT_DIR is not set; cargo runs this script")?);
    // SAFETY: the build script has one thread.
    unsafe { prepare_environment()? };
    // Without rustup, aya-build takes the compiler on PATH and ignores the name.
    let toolchain = if linked_toolchain_works() { Toolchain::Custom(LINKED_TOOLCHAIN) } else { Toolchain::Nightly };
    let package = Package {
        name: "voip-ha-ebpf",
        root_dir: concat!(env!("CARGO_MANIFEST_DIR"), "/../voip-ha-ebpf"),
        no_default_features: false,
        features: &["kernel"],
    };
    aya_build::build_ebpf([package], toolchain).context(
        "cannot build the kernel side (package voip-ha-ebpf); if a compiler, rust-src or bpf-linker is missing, \
         `cargo xtask setup` finds or installs it",
    )
}

/// Makes the environment fit for the cargo that aya-build starts: what the user set for the user side must not reach
/// the kernel side.
///
/// # Safety
///
/// No other thread may exist.
unsafe fn prepare_environment() -> Result<()> {
    let foreign = |name: &str| {
        // aya-build itself removes RUSTC and RUSTC_WORKSPACE_WRAPPER, and sets flags, target and target directory.
        name == "RUSTC_WRAPPER" || name.starts_with("CARGO_BUILD_RUSTC") || name.starts_with("CARGO_PROFILE_")
    };
    let out_dir = env::var_os("OUT_DIR").context("OUT_DIR is not set; cargo runs this script")?;
    let set = [
        // A stable compiler allows the unstable inline assembly of aya_ebpf, and nothing else. On nightly it is void.
        ("RUSTC_BOOTSTRAP", "aya_ebpf".into()),
        // aya-build turns each line that this cargo prints into a warning. Its errors are printed all the same.
        ("CARGO_TERM_QUIET", "true".into()),
        ("CARGO_TERM_VERBOSE", "false".into()),
        // A build directory shared with the outer cargo is locked by it.
        ("CARGO_BUILD_BUILD_DIR", Path::new(&out_dir).join("aya-build").into_os_string()),
    ];
    let names: Vec<_> = env::vars_os().map(|(name, _)| name).collect();
    for name in names.into_iter().filter(|name| name.to_str().is_some_and(foreign)) {
        // SAFETY: no other thread, by this function's contract.
        unsafe { env::remove_var(name) };
    }
    for (name, value) in set.into_iter().chain(linker()) {
        // SAFETY: no other thread, by this function's contract.
        unsafe { env::set_var(name, value) };
    }
    Ok(())
}

/// The setting that names bpf-linker where `cargo install` puts it; that directory is not on `PATH` where cargo did not
/// come from rustup.
fn linker() -> Option<(&'static str, OsString)> {
    let cargo_home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let cargo_home = cargo_home.or_else(|| env::home_dir().map(|home| home.join(".cargo")))?;
    let linker = cargo_home.join("bin/bpf-linker");
    let name = match bpf_target() {
        "bpfeb-unknown-none" => "CARGO_TARGET_BPFEB_UNKNOWN_NONE_LINKER",
        _ => "CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER",
    };
    linker.is_file().then(|| (name, linker.into_os_string()))
}

fn linked_toolchain_works() -> bool {
    let output = Command::new("rustup")
        .args(["run", LINKED_TOOLCHAIN, "rustc", "--print", "target-libdir", "--target", bpf_target()])
        .stderr(Stdio::null())
        .output();
    output.is_ok_and(|output| Path::new(String::from_utf8_lossy(&output.stdout).trim_end()).is_dir())
}

/// BPF has the byte order of the machine that it runs on.
fn bpf_target() -> &'static str {
    let endian = env::var("CARGO_CFG_TARGET_ENDIAN");
    if endian.is_ok_and(|endian| endian == "big") { "bpfeb-unknown-none" } else { "bpfel-unknown-none" }
}
