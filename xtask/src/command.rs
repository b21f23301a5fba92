//! A command that is printed before it runs, and that says what failed.

use std::convert::Infallible;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::IsTerminal as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, bail};

/// One command line: what is printed is what runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Invocation {
    env: Vec<(&'static str, OsString)>,
    argv: Vec<OsString>,
    dir: Option<PathBuf>,
}

impl Invocation {
    /// A program and its arguments, run in the current directory.
    pub(crate) fn new(argv: impl IntoIterator<Item: Into<OsString>>) -> Self {
        Self { env: Vec::new(), argv: argv.into_iter().map(Into::into).collect(), dir: None }
    }

    /// `cargo` with these arguments, run at the top of the workspace.
    pub(crate) fn cargo(args: impl IntoIterator<Item: Into<OsString>>) -> Self {
        let mut cargo = Self::new(["cargo"]).args(args);
        cargo.dir = Some(crate::build::workspace());
        cargo
    }

    /// Adds arguments.
    pub(crate) fn args(mut self, args: impl IntoIterator<Item: Into<OsString>>) -> Self {
        self.argv.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets an environment variable.
    pub(crate) fn env(mut self, name: &'static str, value: impl Into<OsString>) -> Self {
        self.env.push((name, value.into()));
        self
    }

    /// Puts another program in front, which runs this one.
    pub(crate) fn through(mut self, front: impl IntoIterator<Item: Into<OsString>>) -> Self {
        self.argv.splice(0..0, front.into_iter().map(Into::into));
        self
    }

    /// Puts `sudo` in front.
    pub(crate) fn sudo(mut self) -> Self {
        // sudo clears the environment; settings in front of the program are its way to pass some on.
        let settings: Vec<_> = std::mem::take(&mut self.env)
            .into_iter()
            .map(|(name, value)| {
                let mut setting = OsString::from(name);
                setting.push("=");
                setting.push(value);
                setting
            })
            .collect();
        self.through(settings).through(["sudo"])
    }

    /// The name of the program.
    pub(crate) fn program(&self) -> &OsStr {
        &self.argv[0]
    }

    /// Prints the command, runs it, and fails unless it succeeds.
    pub(crate) fn run(&self) -> Result<()> {
        self.announce();
        let status = self.command().status().with_context(|| format!("cannot run `{self}`"))?;
        if !status.success() {
            bail!("`{self}` failed: {status}");
        }
        Ok(())
    }

    /// Prints the command, runs it and returns its standard output; fails unless it succeeds.
    pub(crate) fn output(&self) -> Result<String> {
        self.announce();
        let output = self.command().output().with_context(|| format!("cannot run `{self}`"))?;
        if !output.status.success() {
            bail!("`{self}` failed: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr).trim_end());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Prints the command and starts it, its standard error being a pipe.
    pub(crate) fn start(&self) -> Result<Child> {
        self.announce();
        self.command().stderr(Stdio::piped()).spawn().with_context(|| format!("cannot run `{self}`"))
    }

    /// Prints the command and becomes it: signals and the exit code are then the command's own.
    pub(crate) fn exec(&self) -> Result<Infallible> {
        self.announce();
        Err(self.command().exec()).with_context(|| format!("cannot run `{self}`"))
    }

    fn announce(&self) {
        eprintln!("{}", bold(&format!("$ {self}")));
    }

    fn command(&self) -> Command {
        let mut command = Command::new(self.program());
        command.args(&self.argv[1..]).envs(self.env.iter().cloned());
        if let Some(dir) = &self.dir {
            command.current_dir(dir);
        }
        command
    }
}

impl fmt::Display for Invocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in &self.env {
            write!(f, "{name}={} ", quoted(&value.to_string_lossy()))?;
        }
        for (i, word) in self.argv.iter().enumerate() {
            let space = if i == 0 { "" } else { " " };
            write!(f, "{space}{}", quoted(&word.to_string_lossy()))?;
        }
        Ok(())
    }
}

/// The text in bold where standard error is a terminal and the user has not asked for plain text.
pub(crate) fn bold(text: &str) -> String {
    if std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) {
        format!("\x1b[1m{text}\x1b[0m")
    } else {
        text.to_owned()
    }
}

/// The word as a POSIX shell wants it. A `$` stays alive: setup's commands use a variable.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%$".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_can_be_pasted_into_a_shell() {
        let command = Invocation::new(["cargo", "test", "it's one"]).env("RUSTDOCFLAGS", "-D warnings");
        assert_eq!(command.to_string(), r"RUSTDOCFLAGS='-D warnings' cargo test 'it'\''s one'");
    }

    #[test]
    fn sudo_carries_the_environment() {
        let command = Invocation::new(["apt-get", "update"]).env("DEBIAN_FRONTEND", "noninteractive").sudo();
        assert_eq!(command.to_string(), "sudo DEBIAN_FRONTEND=noninteractive apt-get update");
    }

    #[test]
    fn a_failure_names_the_command() {
        let failed = Invocation::new(["false"]).run().unwrap_err();
        assert_eq!(failed.to_string(), "`false` failed: exit status: 1");
        let absent = Invocation::new(["voip-ha-no-such-program"]).run().unwrap_err();
        assert_eq!(absent.to_string(), "cannot run `voip-ha-no-such-program`");
    }
}
