//! `cargo xtask setup`: finds or installs what the other tasks need.
//!
//! Two tool chains build the kernel side: rustup's nightly with rust-src, and Debian's own compiler, which has a core
//! library for BPF. What is there is used. Where neither is, setup installs the second one on Debian as root, and
//! elsewhere prints what to type.

mod facts;
mod plan;

use anyhow::{Error, Result, anyhow, bail};

use crate::command::{Invocation, bold};
use facts::Facts;
pub(crate) use facts::{BPF_TARGET, Compiler, Core, Name};
pub(crate) use plan::Need;
use plan::{Step, plan};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Also install what `demo --real` and `test` need: Kamailio, sipp, formatter and linter
    #[arg(long)]
    with_peers: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let compiler = ensure(if args.with_peers { Need::Checks } else { Need::Lab })?;
    println!("ready: the kernel side is built by {compiler}");
    Ok(())
}

/// Makes sure that everything for this need is there, and returns the compiler of the kernel side. Says nothing where
/// nothing is missing.
pub(crate) fn ensure(need: Need) -> Result<Compiler> {
    let mut done: Option<Step> = None;
    loop {
        let facts = Facts::gather();
        let steps = plan(&facts, need);
        let Some(step) = steps.first() else {
            let Some(compiler) = facts.kernel else { bail!("no compiler for the kernel side, and nothing to do") };
            return Ok(compiler);
        };
        if !(facts.debian && facts.root) {
            return Err(tell(&facts, &steps));
        }
        if done.as_ref() == Some(step) {
            bail!(
                "{}, though the commands above succeeded; what they installed is hidden: put /usr/bin and cargo's bin \
                 directory first on PATH",
                step.reason()
            );
        }
        carry_out(step, &facts)?;
        done = Some(step.clone());
    }
}

fn carry_out(step: &Step, facts: &Facts) -> Result<()> {
    eprintln!("{} {}", bold("setup:"), step.reason());
    for command in step.commands(facts) {
        match command.run() {
            Err(_) if command.program() == "apt-get" => {
                eprintln!("{} the package lists may be missing or old", bold("setup:"));
                Invocation::new(["apt-get", "update"]).run()?;
                command.run()?;
            }
            result => result?,
        }
    }
    Ok(())
}

/// Prints the commands of all steps, to be typed by a person.
fn tell(facts: &Facts, steps: &[Step]) -> Error {
    for step in steps {
        eprintln!("{} {}", bold("setup:"), step.reason());
    }
    println!("{}", script(facts, steps));
    let why = if facts.debian { "root's rights are needed" } else { "this system is not Debian" };
    anyhow!("not ready, and {why} to go on from here: type the commands above, then try again")
}

fn script(facts: &Facts, steps: &[Step]) -> String {
    let mut lines = Vec::new();
    for step in steps {
        if let Step::Unknown(packages) = step {
            lines.push(format!("# with this system's package manager: {}", packages.join(" ")));
        }
        if *step == Step::DebianLinker(None) {
            lines.push(r"llvm=$(/usr/bin/rustc -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')".to_owned());
        }
        for command in step.commands(facts) {
            let as_root = ["apt-get", "systemctl"].iter().any(|program| command.program() == *program);
            lines.push(if as_root { command.sudo() } else { command }.to_string());
        }
    }
    if let Some(first) = lines.iter().position(|line| line.contains("apt-get install")) {
        lines.insert(first, "sudo apt-get update".to_owned());
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_not_install_gets_commands_in_the_order_in_which_they_work() {
        let facts = Facts { debian: true, rustup: true, ..Facts::default() };
        let script = script(&facts, &plan(&facts, Need::Build));
        let words =
            ["apt-get update", "rustc-web", "llvm=$(", "llvm-$llvm-dev", "cargo install", "rustup toolchain link"];
        let places: Vec<_> = words.iter().map(|word| script.find(word).expect(word)).collect();
        assert!(places.is_sorted(), "{script}");
        assert_eq!(script.matches("apt-get update").count(), 1);
    }
}
