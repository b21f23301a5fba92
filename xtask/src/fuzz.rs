//! `cargo xtask fuzz`: libFuzzer looks for inputs that break what must hold.

mod watch;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{env, fs};

use anyhow::{Context as _, Result, bail};
use clap::builder::PossibleValuesParser;

use crate::build::target_dir;
use crate::command::Invocation;
use crate::setup::{self, Need};
use watch::watch;

/// One of the targets of the package `voip-ha-fuzz`.
struct Target {
    /// That of its binary has `fuzz-` in front.
    name: &'static str,
    /// Bytes of the longest input.
    longest: usize,
    /// Its part of the time for all of them, in quarters.
    quarters: u32,
}

static TARGETS: [Target; 2] = [
    // What a longer frame has more is payload.
    Target { name: "packet", longest: 256, quarters: 3 },
    Target { name: "sip", longest: 600, quarters: 1 },
];

/// Makes the compiler count, in a table that libFuzzer finds, how often each branch is taken, and tell it what is compared. What
/// cargo-fuzz asks for too, but without the address sanitizer, which only a nightly compiler has.
const INSTRUMENTED: [&str; 5] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// For how long each target is searched
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,

    /// Only this target
    #[arg(long, value_parser = PossibleValuesParser::new(TARGETS.each_ref().map(|target| target.name)))]
    target: Option<String>,

    /// Try one input, such as one that was found
    #[arg(long, value_name = "FILE", requires = "target", conflicts_with = "seconds")]
    replay: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let chosen = |target: &&Target| args.target.as_ref().is_none_or(|only| only == target.name);
    let targets: Vec<_> = TARGETS.iter().filter(chosen).collect();
    if let (Some(input), [target]) = (&args.replay, targets.as_slice()) {
        return replay(target, &env::current_dir()?.join(input));
    }
    let time = Duration::from_secs(args.seconds);
    search_all(targets.into_iter().map(|target| (target, time)))
}

/// Searches all targets for this long together. Fails at the first finding.
pub(crate) fn search(time: Duration) -> Result<()> {
    search_all(TARGETS.iter().map(|target| (target, time * target.quarters / 4)))
}

fn search_all(targets: impl Iterator<Item = (&'static Target, Duration)>) -> Result<()> {
    let fuzzers = build()?;
    for (target, time) in targets {
        search_one(&fuzzers, target, time).with_context(|| format!("fuzz target `{}`", target.name))?;
    }
    Ok(())
}

/// Builds the fuzzers and returns the directory that they are in.
fn build() -> Result<PathBuf> {
    setup::ensure(Need::Fuzz)?;
    // With the name of a target, build scripts and macros are left as they are: nothing of libFuzzer is linked to them.
    let host = Invocation::new(["rustc", "--print", "host-tuple"]).output()?;
    let host = host.trim_end();
    Invocation::cargo(["build", "--package", "voip-ha-fuzz", "--features", "libfuzzer", "--bins"])
        .args(["--profile", "fuzz", "--target", host])
        .env("RUSTFLAGS", INSTRUMENTED.join(" "))
        .run()?;
    Ok(target_dir()?.join(host).join("fuzz"))
}

fn search_one(fuzzers: &Path, target: &Target, time: Duration) -> Result<()> {
    // What was learnt in earlier runs stays in the corpus, and is where this one begins.
    let own = target_dir()?.join("fuzz").join(target.name);
    let [corpus, seeds, findings] = ["corpus", "seeds", "findings"].map(|name| own.join(name));
    for dir in [&corpus, &seeds, &findings] {
        fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    }
    let mut prefix = OsString::from("-artifact_prefix=");
    prefix.push(findings.join(""));
    let fuzzer = Invocation::new([binary(fuzzers, target)])
        .args([&corpus, &seeds])
        .args([prefix])
        .args([format!("-max_total_time={}", time.as_secs()), format!("-max_len={}", target.longest)])
        // An input takes microseconds, but a busy machine may stand still for seconds.
        .args(["-timeout=100", "-print_final_stats=1"])
        .env("VOIP_HA_FUZZ_SEEDS", &seeds);
    let Some(found) = watch(&fuzzer)? else { return Ok(()) };
    let input = fs::read(&found).with_context(|| found.display().to_string())?;
    eprintln!("input: {}", hex(&input));
    eprintln!("saved: {}", found.display());
    eprintln!("again: cargo xtask fuzz --target {} --replay {}", target.name, found.display());
    bail!("an input of {} bytes breaks what must hold", input.len())
}

fn replay(target: &Target, input: &Path) -> Result<()> {
    let fuzzers = build()?;
    Invocation::new([binary(&fuzzers, target)]).args([input]).env("RUST_BACKTRACE", "1").run()
}

fn binary(fuzzers: &Path, target: &Target) -> PathBuf {
    fuzzers.join(format!("fuzz-{}", target.name))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
