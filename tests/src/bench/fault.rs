//! The faults, and how each is made within microseconds of the moment that is noted for it.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, Command, Stdio},
    time::Instant,
};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use crate::{Lab, netns::Namespace, process::Process};

/// What happens to the active server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// The SIP process is killed with -9; its host lives.
    Crash,
    /// The host's cable is pulled behind a switch: nobody is told.
    Silent,
    /// The SIP process is stopped (SIGSTOP) and its host lives.
    Hang,
    /// The gateway's own cable to the master is pulled: its interface loses the carrier.
    Link,
    /// An operator moves the service to the other server.
    Planned,
}

impl Fault {
    /// All of them, in the order in which they are reported.
    pub const ALL: [Self; 5] = [Self::Crash, Self::Silent, Self::Hang, Self::Link, Self::Planned];

    /// As it is written in data and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Crash => "crash",
            Self::Silent => "silent",
            Self::Hang => "hang",
            Self::Link => "link",
            Self::Planned => "planned",
        }
    }
}

/// A fault that only waits for its moment.
#[derive(Debug)]
pub(super) enum Armed {
    /// A signal to the server's process.
    Signal(Signal),
    /// A cable to pull.
    Cable(ReadyIp),
    /// A command of an operator, which the system carries out.
    Order,
}

impl Armed {
    /// Gets everything ready. `server` is the active one.
    pub(super) fn prepare(lab: &Lab, fault: Fault, server: &str) -> Result<Self> {
        let cable = |port: &str| Ok::<_, anyhow::Error>(Self::Cable(ReadyIp::pull(lab.router(), port)?));
        match fault {
            Fault::Crash => Ok(Self::Signal(Signal::KILL)),
            Fault::Hang => Ok(Self::Signal(Signal::STOP)),
            Fault::Silent => cable(lab.server(server)?.name),
            Fault::Link => {
                ensure!(server == "master", "the gateway's own cable leads to the master");
                cable("gateway")
            }
            Fault::Planned => Ok(Self::Order),
        }
    }

    /// Makes the fault, and returns the moment just before. `order` carries out a planned switch.
    pub(super) fn fire(self, process: &mut Process, order: impl FnOnce() -> Result<()>) -> Result<Instant> {
        match self {
            Self::Signal(signal) => {
                process.must_run()?;
                let made = Instant::now();
                process.signal(signal)?;
                Ok(made)
            }
            Self::Cable(ip) => ip.go(),
            Self::Order => {
                let made = Instant::now();
                order()?;
                Ok(made)
            }
        }
    }
}

/// An `ip` that has started, has read the interface, and waits for the line that takes it down. Starting it takes
/// milliseconds, which are no part of a fault.
#[derive(Debug)]
pub(super) struct ReadyIp {
    child: Child,
    line: String,
}

impl ReadyIp {
    fn pull(namespace: &Namespace, interface: &str) -> Result<Self> {
        let mut command = Command::new("ip");
        command.args(["-n", namespace.name(), "-oneline", "-batch", "-"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn().context("the ip command (package iproute2)")?;
        let input = child.stdin.as_mut().context("no pipe to ip")?;
        writeln!(input, "link show dev {interface}")?;
        let mut shown = String::new();
        BufReader::new(child.stdout.as_mut().context("no pipe from ip")?).read_line(&mut shown)?;
        ensure!(shown.contains(interface), "ip does not know {interface}");
        Ok(Self { child, line: format!("link set dev {interface} down\n") })
    }

    fn go(mut self) -> Result<Instant> {
        let mut input = self.child.stdin.take().context("no pipe to ip")?;
        let made = Instant::now();
        input.write_all(self.line.as_bytes())?;
        drop(input);
        let status = self.child.wait()?;
        ensure!(status.success(), "ip {}: {status}", self.line.trim());
        Ok(made)
    }
}

impl Drop for ReadyIp {
    fn drop(&mut self) {
        // One that was never needed reads the end of its input and ends.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}
