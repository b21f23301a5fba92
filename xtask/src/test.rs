//! `cargo xtask test`: every check, in the order in which a mistake is cheapest to find.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::command::{Invocation, bold};
use crate::fuzz;
use crate::setup::{self, BPF_TARGET, Compiler, Core, Name, Need};

/// The package whose integration tests need root.
const LAB: &str = "voip-ha-tests";

/// For how long the fuzz targets are searched for faults, all together.
const FUZZING: Duration = Duration::from_secs(60);

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Leave out the tests that need root and BPF, and say how many they are
    #[arg(long)]
    pub(crate) skip_root: bool,

    /// Arguments for cargo test, for example a part of the name of the tests to run
    #[arg(last = true)]
    pub(crate) cargo_args: Vec<OsString>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let mut report = Report::default();
    let result = all(args, &mut report);
    report.print();
    result
}

fn all(args: &Args, report: &mut Report) -> Result<()> {
    let compiler = report.step("setup", || setup::ensure(Need::Checks))?;
    report.step("format", || Invocation::cargo(["fmt", "--all", "--check"]).run())?;
    report.step("clippy, user side", || user_clippy().run())?;
    if compiler.clippy {
        report.step("clippy, kernel side", || kernel_clippy(compiler).run())?;
    } else {
        report.note(format!("clippy of the kernel side is left out: {compiler} has no clippy"));
    }
    report.step("documentation", || {
        Invocation::cargo(["doc", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings").run()
    })?;
    // The lab starts the gateway's binary, which cargo test alone does not build.
    report.step("build", || Invocation::cargo(["build", "--workspace", "--bins"]).run())?;
    if args.skip_root {
        without_root(args, report)?;
    } else {
        if !is_root() {
            eprintln!("{} this is not root: tests of {LAB} will fail; --skip-root leaves them out", bold("note:"));
        }
        report.step("test", || cargo_test(&["--workspace"], args).run())?;
    }
    if args.cargo_args.is_empty() {
        report.step("fuzz", || fuzz::search(FUZZING))?;
    } else {
        report.note("fuzzing is left out where arguments choose tests".to_owned());
    }
    Ok(())
}

fn without_root(args: &Args, report: &mut Report) -> Result<()> {
    let listed = Invocation::cargo(["test", "--package", LAB, "--test", "*", "--", "--list"]).output()?;
    let left_out = listed.lines().filter(|line| line.ends_with(": test")).count();
    report.note(format!("{left_out} tests that need root are left out (--skip-root)"));
    report.step("test, the lab's own", || skipping(&["--package", LAB, "--lib", "--bins"], args).run())?;
    report.step("test", || skipping(&["--workspace", "--exclude", LAB], args).run())
}

fn user_clippy() -> Invocation {
    Invocation::cargo(["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"])
}

fn kernel_clippy(compiler: Compiler) -> Invocation {
    let clippy = match compiler.name {
        Name::Rustup(toolchain) => Invocation::cargo(["clippy"]).through(["rustup", "run", toolchain]),
        Name::OnPath | Name::Debian => Invocation::cargo(["clippy"]),
    };
    let build_std = (compiler.core == Core::Source).then_some("-Zbuild-std=core");
    clippy
        .args(["--package", "voip-ha-ebpf", "--bins", "--features", "kernel", "--release", "--target", BPF_TARGET])
        .args(build_std)
        .args(["--", "--deny", "warnings"])
        // Inline assembly for BPF is unstable, and aya_ebpf uses it.
        .env("RUSTC_BOOTSTRAP", "aya_ebpf")
}

fn cargo_test(selection: &[&str], args: &Args) -> Invocation {
    Invocation::cargo(["test", "--no-fail-fast"]).args(selection).args(&args.cargo_args)
}

fn skipping(selection: &[&str], args: &Args) -> Invocation {
    cargo_test(selection, args).env("VOIP_HA_SKIP_ROOT", "1")
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

/// What was done, and how long it took.
#[derive(Default)]
struct Report {
    steps: Vec<(&'static str, Duration, bool)>,
    notes: Vec<String>,
}

impl Report {
    fn step<T>(&mut self, name: &'static str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        eprintln!("{}", bold(&format!("== {name}")));
        let start = Instant::now();
        let result = work();
        self.steps.push((name, start.elapsed(), result.is_ok()));
        result.with_context(|| format!("step `{name}`"))
    }

    fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    fn print(&self) {
        eprintln!("{}", bold("== summary"));
        for (name, took, ok) in &self.steps {
            eprintln!("{name:20} {:7.1} s  {}", took.as_secs_f64(), if *ok { "ok" } else { "FAILED" });
        }
        for note in &self.notes {
            eprintln!("{note}");
        }
    }
}
