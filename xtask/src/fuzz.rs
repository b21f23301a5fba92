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

/// The targets of the package `voip-ha-fuzz`. The binary of each has `fuzz-` in front.
const TARGETS: [&str; 1] = ["packet"];

/// Makes the compiler count, in a table that libFuzzer finds, how often each branch is taken, and tell it what is compared. What
/// cargo-fuzz asks for too, but without the address sanitizer, which only a nightly compiler has.
const INSTRUMENTED: [&str; 5] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];

/// Bytes of the longest input. What a longer frame has more is payload.
const LONGEST: usize = 256;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// For how long each target is searched
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,

    /// Only this target
    #[arg(long, value_parser = PossibleValuesParser::new(TARGETS))]
    target: Option<String>,

    /// Try one input, such as one that was found
    #[arg(long, value_name = "FILE", requires = "target", conflicts_with = "seconds")]
    replay: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let targets: Vec<_> =
        TARGETS.into_iter().filter(|name| args.target.as_ref().is_none_or(|only| only == name)).collect();
    if let (Some(input), [target]) = (&args.replay, targets.as_slice()) {
        return replay(target, &env::current_dir()?.join(input));
    }
    search_all(&targets, Duration::from_secs(args.seconds))
}

/// Searches each target for this long. Fails at the first finding.
pub(crate) fn search(time: Duration) -> Result<()> {
    search_all(&TARGETS, time)
}

fn search_all(targets: &[&str], time: Duration) -> Result<()> {
    let fuzzers = build()?;
    for target in targets {
        search_one(&fuzzers, target, time).with_context(|| format!("fuzz target `{target}`"))?;
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

fn search_one(fuzzers: &Path, target: &str, time: Duration) -> Result<()> {
    // What was learnt in earlier runs stays in the corpus, and is where this one begins.
    let own = target_dir()?.join("fuzz").join(target);
    let [corpus, seeds, findings] = ["corpus", "seeds", "findings"].map(|name| own.join(name));
    for dir in [&corpus, &seeds, &findings] {
        fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    }
    let mut prefix = OsString::from("-artifact_prefix=");
    prefix.push(findings.join(""));
    let fuzzer = Invocation::new([binary(fuzzers, target)])
        .args([&corpus, &seeds])
        .args([prefix])
        .args([format!("-max_total_time={}", time.as_secs()), format!("-max_len={LONGEST}")])
        // An input takes microseconds, but a busy machine may stand still for seconds.
        .args(["-timeout=100", "-print_final_stats=1"])
        .env("VOIP_HA_FUZZ_SEEDS", &seeds);
    let Some(found) = watch(&fuzzer)? else { return Ok(()) };
    let input = fs::read(&found).with_context(|| found.display().to_string())?;
    eprintln!("input: {}", hex(&input));
    eprintln!("saved: {}", found.display());
    eprintln!("again: cargo xtask fuzz --target {target} --replay {}", found.display());
    bail!("an input of {} bytes breaks what must hold", input.len())
}

fn replay(target: &str, input: &Path) -> Result<()> {
    let fuzzers = build()?;
    Invocation::new([binary(&fuzzers, target)]).args([input]).env("RUST_BACKTRACE", "1").run()
}

fn binary(fuzzers: &Path, target: &str) -> PathBuf {
    fuzzers.join(format!("fuzz-{target}"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
