//! The gateway program in the lab: configured by its file, driven by its command line, killed by its id.

mod config;
mod status;

use std::{
    fs,
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};

pub use config::{Config, GatewaySection, Policy, Probe, Protection, ServerSection, Service, socket, state_dir};
pub use status::{ServerStatus, ServiceStatus, Status};

use crate::{process::Process, program, topology::Lab, wait};

/// How long the gateway may take to attach and to answer.
const START: Duration = Duration::from_secs(20);
/// How long it may take until it has seen every server up.
const ALL_UP: Duration = Duration::from_secs(20);

/// A gateway that runs. Dropping it kills the program and leaves what is pinned; dropping the lab removes that.
#[derive(Debug)]
pub struct Gateway<'lab> {
    lab: &'lab Lab,
    config: Config,
    process: Process,
    starts: usize,
}

/// What a command of the gateway answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Exit code: 0 ok, 1 no or failed, 2 bad input, 3 the daemon is not running; -1 if a signal ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl<'lab> Gateway<'lab> {
    /// Starts the gateway and returns when it has seen every server up.
    pub fn start(lab: &'lab Lab, config: Config) -> Result<Self> {
        let mut gateway = Self::launch(lab, config)?;
        gateway.wait_until("every server is up", ALL_UP, |status| {
            status.services.iter().flat_map(|service| &service.servers).all(|server| server.health == "up")
        })?;
        Ok(gateway)
    }

    /// Starts the gateway and returns when it answers, whatever the servers do.
    pub fn launch(lab: &'lab Lab, config: Config) -> Result<Self> {
        let process = run(lab, &config, 1)?;
        let mut gateway = Self { lab, config, process, starts: 1 };
        gateway.wait_until_it_answers()?;
        Ok(gateway)
    }

    /// Kills the program as `kill -9` does. What it pinned stays, so packets go on.
    pub fn kill9(&mut self) -> Result<()> {
        self.process.kill9()
    }

    /// Starts the program again, after [`Gateway::kill9`] or in place of the running one, and waits until it answers.
    pub fn restart(&mut self) -> Result<()> {
        self.process.kill9()?;
        self.starts += 1;
        self.process = run(self.lab, &self.config, self.starts)?;
        self.wait_until_it_answers()
    }

    /// The running program.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// The configuration it runs with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Runs `voip-ha` with these arguments and with this gateway's socket, state directory or pin directory. The verb comes first.
    pub fn cli(&self, arguments: &[&str]) -> Result<Answer> {
        cli(self.lab, arguments)
    }

    /// What `voip-ha status --json` says. Fails if it does not exit with 0.
    pub fn status(&self) -> Result<Status> {
        let answer = self.cli(&["status", "--json"])?;
        ensure!(answer.code == 0, "voip-ha status: {answer:?}");
        serde_json::from_str(&answer.stdout).with_context(|| format!("status {}", answer.stdout))
    }

    /// Makes a server active, as an operator does. Fails if the gateway refuses.
    pub fn switch(&self, server: &str) -> Result<()> {
        self.says(&["switch", server]).map(drop)
    }

    /// What a command prints that has to succeed.
    pub fn says(&self, arguments: &[&str]) -> Result<String> {
        let answer = self.cli(arguments)?;
        ensure!(answer.code == 0, "voip-ha {arguments:?}: {answer:?}");
        Ok(answer.stdout)
    }

    /// Waits until the status is as told. An error says what it was at last.
    pub fn wait_until(&mut self, what: &str, limit: Duration, is_so: impl Fn(&Status) -> bool) -> Result<Status> {
        let mut last = None;
        let found = wait::until(limit, what, || {
            self.process.must_run()?;
            last = Some(self.status()?);
            Ok(last.clone().filter(&is_so))
        });
        found.with_context(|| format!("last status: {last:?}; {}", self.process.log_tail()))
    }

    fn wait_until_it_answers(&mut self) -> Result<()> {
        let found = wait::until(START, "the gateway to answer", || {
            self.process.must_run()?;
            let answer = cli(self.lab, &["status", "--json"])?;
            match answer.code {
                0 => Ok(Some(())),
                3 => Ok(None),
                _ => bail!("voip-ha status: {answer:?}"),
            }
        });
        found.with_context(|| self.process.log_tail())
    }
}

/// Runs `voip-ha` with these arguments in the gateway's namespace, whether the gateway runs or not.
pub fn cli(lab: &Lab, arguments: &[&str]) -> Result<Answer> {
    let mut command = Command::new(program("voip-ha")?);
    command.args(arguments);
    let reads_disk = arguments.iter().any(|argument| matches!(*argument, "report" | "show" | "--receipts"));
    if reads_disk {
        command.arg("--dir").arg(state_dir(lab));
    } else if matches!(arguments.first(), Some(&("status" | "switch" | "hold" | "drain" | "events")))
        || arguments.contains(&"verify")
    {
        command.arg("--socket").arg(socket(lab));
    }
    if matches!(arguments.first(), Some(&("maps" | "unload"))) {
        command.arg("--pin-dir").arg(lab.pin_dir());
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = lab.gateway().spawn(command)?.wait_with_output()?;
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let code = output.status.code().unwrap_or(-1);
    Ok(Answer { code, stdout: text(&output.stdout), stderr: text(&output.stderr) })
}

fn run(lab: &Lab, config: &Config, number: usize) -> Result<Process> {
    let file: PathBuf = lab.dir().join("gateway.toml");
    fs::write(&file, toml::to_string(config)?)?;
    let mut command = Command::new(program("voip-ha")?);
    command.arg("run").arg("--config").arg(&file);
    Process::start(lab, lab.gateway(), &format!("gateway-{number}"), command)
}
