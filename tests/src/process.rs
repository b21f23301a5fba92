//! A program of the lab: started in a namespace, its output kept, killed by its id.

use std::{
    fs::File,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};

use crate::{netns::Namespace, topology::Lab, wait};

/// How long a killed process group may take until its last member is gone.
const DEATH: Duration = Duration::from_secs(5);
/// How much of the end of a log an error message shows.
const TAIL_LINES: usize = 30;

/// A running program and all that it forks. Killed on drop; if that happens in a panic, the end of its log is printed.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command` in `namespace`. What it prints goes to `<name>.log` in the lab's directory, from the beginning.
    pub fn start(lab: &Lab, namespace: &Namespace, name: &str, mut command: Command) -> Result<Self> {
        let log = lab.dir().join(format!("{name}.log"));
        let file = File::create(&log).with_context(|| log.display().to_string())?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let program = command.get_program().to_string_lossy().into_owned();
        let child = namespace.spawn(command).with_context(|| format!("start {program}"))?;
        Ok(Self { name: name.to_owned(), child, log })
    }

    /// The process id, which is its process group's too.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// All that the program has printed so far.
    pub fn log(&self) -> String {
        std::fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// The last lines of the log, each indented, for an error message.
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        let tail = &lines[lines.len().saturating_sub(TAIL_LINES)..];
        format!("last lines of {}:\n    {}", self.name, tail.join("\n    "))
    }

    /// Fails with the end of the log if the program has ended.
    pub fn must_run(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("{} ended with {status}; {}", self.name, self.log_tail());
        }
        Ok(())
    }

    /// Waits until the log contains `text`.
    pub fn wait_for_log(&mut self, text: &str, limit: Duration) -> Result<()> {
        let what = format!("{} to print {text:?}", self.name);
        let found = wait::until(limit, &what, || {
            self.must_run()?;
            Ok(self.log().contains(text).then_some(()))
        });
        found.with_context(|| self.log_tail())
    }

    /// Sends a signal to the program and all its children: `STOP` and `CONT` make it hang and come back.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        // Once the program is gone its id may be another's.
        self.must_run()?;
        kill_process_group(self.pid(), signal).with_context(|| format!("{signal:?} to {}", self.name))
    }

    /// Kills the program and all its children as `kill -9` does and returns when none is left. If the program has ended
    /// by itself, nothing happens: children that it left are killed with their namespace.
    pub fn kill9(&mut self) -> Result<()> {
        if self.child.try_wait()?.is_some() {
            return Ok(());
        }
        self.signal(Signal::KILL)?;
        self.child.wait()?;
        wait::until(DEATH, &format!("the children of {} to die", self.name), || {
            Ok(test_kill_process_group(self.pid()).is_err().then_some(()))
        })
    }

    /// Waits until the program ends by itself.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let what = format!("{} to end", self.name);
        let status = wait::until(limit, &what, || Ok(self.child.try_wait()?));
        status.with_context(|| self.log_tail())
    }

    /// Asks the program to end by SIGTERM and waits for it.
    pub fn terminate(&mut self, limit: Duration) -> Result<ExitStatus> {
        if self.child.try_wait()?.is_none() {
            self.signal(Signal::TERM)?;
        }
        self.wait(limit)
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let dead = self.kill9();
        if std::thread::panicking() {
            eprintln!("{}", self.log_tail());
        } else if let Err(error) = dead {
            eprintln!("{error:#}");
        }
    }
}
