//! What libFuzzer writes while it runs, for people.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::ChildStderr;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::command::Invocation;

/// Time from one line of progress to the next.
const PROGRESS: Duration = Duration::from_secs(5);

/// Runs a fuzzer, prints its progress, and returns the file with what it found, if it found something.
pub(super) fn watch(fuzzer: &Invocation) -> Result<Option<PathBuf>> {
    let start = Instant::now();
    let mut child = fuzzer.start()?;
    let lines = lines(child.stderr.take().context("the fuzzer has no standard error")?);
    let mut seen = Seen::default();
    let mut due = start + PROGRESS;
    loop {
        match lines.recv_timeout(due.saturating_duration_since(Instant::now())) {
            Ok(line) => seen.line(&line).into_iter().for_each(|line| eprintln!("{line}")),
            Err(RecvTimeoutError::Timeout) => {
                // libFuzzer says less and less how many they are.
                eprintln!("{:4.0} s: more than {}", start.elapsed().as_secs_f64(), seen.progress());
                due += PROGRESS;
            }
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    let status = child.wait()?;
    let took = start.elapsed().as_secs_f64();
    match seen.found {
        Some(found) => {
            eprintln!("found after {took:.1} s and {} inputs or more", seen.status.unwrap_or_default().tried);
            Ok(Some(found))
        }
        None if status.success() => {
            eprintln!("{took:4.0} s: {}; nothing found", seen.progress());
            Ok(None)
        }
        None => bail!("`{fuzzer}` failed without a finding: {status}"),
    }
}

fn lines(stderr: ChildStderr) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        // A panic message may have bytes that are no text.
        for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
            if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                return;
            }
        }
    });
    receiver
}

/// What was read so far.
#[derive(Default)]
struct Seen {
    status: Option<Status>,
    found: Option<PathBuf>,
    /// The input follows in several notations.
    is_told: bool,
}

/// One of libFuzzer's lines of figures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Status {
    tried: u64,
    covered: u64,
    kept: u64,
    per_s: u64,
}

impl Seen {
    /// Takes a line in. Gives it back if people want to see it: what a target says of a fault, for one.
    fn line<'a>(&mut self, line: &'a str) -> Option<&'a str> {
        const WRITTEN: &str = "Test unit written to ";
        if let Some(status) = Status::read(line) {
            self.status = Some(status);
        } else if let Some((_, path)) = line.split_once(WRITTEN) {
            self.found = Some(path.into());
        } else {
            self.is_told |= line.starts_with("MS: ");
            let chatter = ["INFO: ", "WARNING: Failed to find", "Loaded ", "stat::", "Done ", "#", "\""]
                .iter()
                .any(|start| line.starts_with(start));
            return (!self.is_told && !chatter).then_some(line);
        }
        None
    }

    fn progress(&self) -> String {
        let Some(Status { tried, covered, kept, per_s }) = self.status else { return "nothing yet".to_owned() };
        let tried = tried as f64 / 1e6;
        format!("{tried:.1} million inputs, {per_s} a second; {covered} branches; {kept} inputs in the corpus")
    }
}

impl Status {
    /// Such as `#8192 pulse  cov: 410 ft: 1204 corp: 171/20Kb lim: 600 exec/s: 4096 rss: 43Mb`.
    fn read(line: &str) -> Option<Self> {
        let words: Vec<_> = line.strip_prefix('#')?.split_whitespace().collect();
        let after = |name: &str| {
            let place = words.iter().position(|word| *word == name)?;
            words.get(place + 1)?.split('/').next()?.parse().ok()
        };
        let tried = words.first()?.parse().ok()?;
        Some(Self { tried, covered: after("cov:")?, kept: after("corp:")?, per_s: after("exec/s:")? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: [&str; 9] = [
        "INFO: Loaded 1 PC tables (2611 PCs): 2611 [0x55d0,0x55e0), ",
        "WARNING: Failed to find function \"__sanitizer_print_stack_trace\".",
        "#749\tINITED cov: 410 ft: 1204 corp: 171/20Kb exec/s: 0 rss: 43Mb",
        "#8192\tpulse  cov: 412 ft: 1210 corp: 173/20Kb lim: 600 exec/s: 4096 rss: 43Mb",
        "thread '<unnamed>' panicked at tests/fuzz/src/lib.rs:38:9:",
        "    #9 0x5581 in main",
        "MS: 1 ChangeBit-; base unit: adc83b19e793491b1c6ea0fd8b46cd9f32e592fc",
        "0x5,0x5,0x0,",
        "artifact_prefix='findings/'; Test unit written to findings/crash-1",
    ];

    #[test]
    fn figures_are_read_and_only_what_is_said_of_the_fault_is_shown() {
        let mut seen = Seen::default();
        let shown: Vec<_> = LINES.iter().filter_map(|line| seen.line(line)).collect();
        assert_eq!(shown, LINES[4..6]);
        assert_eq!(seen.status, Some(Status { tried: 8192, covered: 412, kept: 173, per_s: 4096 }));
        assert_eq!(seen.found, Some("findings/crash-1".into()));
    }

    #[test]
    fn a_line_of_a_stack_is_no_line_of_figures() {
        assert_eq!(Status::read("    #9 0x5581 in main"), None);
        assert_eq!(Status::read("#0 0x5581 in main"), None);
    }
}
