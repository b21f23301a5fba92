//! sipp as the application that answers calls, and as the load that registers and calls.

use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use anyhow::{Context, Result, ensure};

use super::{APPLICATION, RTP};
use crate::{
    process::Process,
    topology::{Lab, SIP, ServerHost},
};

const ANSWER_CALLS: &str = include_str!("answer_calls.xml");
const REGISTER: &str = include_str!("register.xml");
const CALL: &str = include_str!("call.xml");

/// How long a run may take beyond what its calls last: a whole SIP transaction and the start of the program.
const SLACK: Duration = Duration::from_secs(40);
/// Bytes of one second of G.711.
const G711_SECOND: usize = 8000;

static RUNS: AtomicU32 = AtomicU32::new(1);

/// A running sipp that registers or calls.
#[derive(Debug)]
pub struct Run {
    process: Process,
    statistics: PathBuf,
    limit: Duration,
}

/// What became of a run's registrations or calls, from sipp's own statistics file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Begun.
    pub created: u64,
    /// Went through the scenario to its end.
    pub successful: u64,
    /// Did not.
    pub failed: u64,
    /// Requests that sipp sent again.
    pub retransmissions: u64,
}

impl Run {
    /// Waits until every call has ended and returns what became of them. Failed calls are no error.
    pub fn wait(mut self) -> Result<Counts> {
        let status = self.process.wait(self.limit)?;
        // sipp ends with 0 if all calls succeeded and with 1 if at least one failed.
        ensure!(matches!(status.code(), Some(0 | 1)), "sipp ended with {status}; {}", self.process.log_tail());
        let text = fs::read_to_string(&self.statistics).context("sipp's statistics")?;
        parse(&text).with_context(|| format!("sipp's statistics: {text}"))
    }
}

/// Answers calls at [`APPLICATION`] and echoes RTP at `address`.
pub(super) fn start_application(lab: &Lab, host: &ServerHost, address: Ipv4Addr) -> Result<Process> {
    let name = format!("{}-application", host.name);
    let directory = directory(lab, &name)?;
    let (local, port) = APPLICATION.split_once(':').context("an address and a port")?;
    let scenario = write(&directory, "answer_calls.xml", &ANSWER_CALLS.replace("{vip}", &RTP.ip().to_string()))?;
    let mut command = sipp(&directory, &scenario);
    command.args(["-i", local, "-p", port]);
    command.args(["-rtp_echo", "-mi", &address.to_string(), "-mp", &RTP.port().to_string()]);
    Process::start(lab, &host.namespace, &name, command).context("package sip-tester")
}

pub(super) fn register(lab: &Lab, users: u32) -> Result<Run> {
    let directory = directory(lab, &format!("register-{}", RUNS.fetch_add(1, Ordering::Relaxed)))?;
    let lines: String = (0..users).map(|user| format!("user{user};\n")).collect();
    let injected = write(&directory, "users.csv", &format!("SEQUENTIAL\n{lines}"))?;
    let scenario = write(&directory, "register.xml", REGISTER)?;
    let mut command = sipp(&directory, &scenario);
    command.arg("-inf").arg(injected);
    start(lab, directory, command, users, Duration::ZERO)
}

pub(super) fn call(lab: &Lab, calls: u32, hold_ms: u32) -> Result<Run> {
    let directory = directory(lab, &format!("call-{}", RUNS.fetch_add(1, Ordering::Relaxed)))?;
    let audio = directory.join("audio.ul");
    fs::write(&audio, [0xff; G711_SECOND])?;
    let scenario = write(&directory, "call.xml", &CALL.replace("{audio}", &audio.to_string_lossy()))?;
    let mut command = sipp(&directory, &scenario);
    command.args(["-d", &hold_ms.to_string()]);
    start(lab, directory, command, calls, Duration::from_millis(hold_ms.into()))
}

fn start(lab: &Lab, directory: PathBuf, mut command: Command, count: u32, hold: Duration) -> Result<Run> {
    let statistics = directory.join("statistics.csv");
    let (limit, count) = (hold + SLACK, count.to_string());
    let phone = lab.phone_addresses().next().context("no phone address")?.to_string();
    command.args(["-m", &count, "-l", &count, "-r", &count, "-i", &phone, "-mi", &phone]);
    command.args(["-trace_stat", "-fd", "1", "-stf"]).arg(&statistics).arg(SIP.to_string());
    let name = directory.file_name().context("a directory")?.to_string_lossy().into_owned();
    let process = Process::start(lab, lab.phones(), &name, command).context("package sip-tester")?;
    Ok(Run { process, statistics, limit })
}

/// The directory that a run's files go to.
fn directory(lab: &Lab, name: &str) -> Result<PathBuf> {
    let directory = lab.dir().join(name);
    fs::create_dir_all(&directory)?;
    Ok(directory)
}

fn write(directory: &Path, name: &str, text: &str) -> Result<PathBuf> {
    let path = directory.join(name);
    fs::write(&path, text)?;
    Ok(path)
}

fn sipp(directory: &Path, scenario: &Path) -> Command {
    let mut command = Command::new("sipp");
    command.current_dir(directory).env("TERM", "dumb").arg("-sf").arg(scenario);
    command.args(["-nostdin", "-trace_err", "-error_file", "errors.log"]);
    command
}

/// The cumulative counters of the last line, found by the names in the first.
fn parse(text: &str) -> Result<Counts> {
    let mut lines = text.lines().filter(|line| !line.is_empty());
    let names: Vec<_> = lines.next().context("no first line")?.split(';').collect();
    let values: Vec<_> = lines.next_back().context("no line of values")?.split(';').collect();
    let value = |name: &str| -> Result<u64> {
        let at = names.iter().position(|candidate| *candidate == name).with_context(|| format!("no column {name}"))?;
        values.get(at).with_context(|| format!("no value of {name}"))?.parse().with_context(|| name.to_owned())
    };
    Ok(Counts {
        created: value("TotalCallCreated")?,
        successful: value("SuccessfulCall(C)")?,
        failed: value("FailedCall(C)")?,
        retransmissions: value("Retransmissions(C)")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_found_by_the_names_of_their_columns() {
        let names = "StartTime;TotalCallCreated;SuccessfulCall(P);SuccessfulCall(C);FailedCall(C);Retransmissions(C);";
        let text = format!("{names}\nx;1;0;0;0;0;\ny;20;2;18;2;5;\n");
        let expected = Counts { created: 20, successful: 18, failed: 2, retransmissions: 5 };
        assert_eq!(parse(&text).unwrap(), expected);
        assert!(parse(&text.replace("FailedCall(C)", "Other")).is_err());
        assert!(parse(names).is_err());
    }
}
