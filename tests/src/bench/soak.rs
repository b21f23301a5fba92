//! A time in which nothing fails, and much looks as if: every processor busy, probes lost, server processes paused.
//!
//! A failover in it is a false one. Who answers is seen from outside, in the same way for all systems: the streams' packets
//! are looked at in steps of 100 ms, and each step from "the backup answers none" to "it answers some" and back is a
//! failover.
//!
//! All systems are soaked at the same time, each in a network of its own: none has a better ten minutes than another, and
//! each is one more load for the others.

use std::{
    num::NonZero,
    process::Command,
    sync::{
        Arc, Barrier,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{JoinHandle, ScopedJoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, ensure};
use rustix::{
    process::{Pid, Signal, kill_process_group},
    thread::gettid,
};

use super::{
    fault::Fault,
    figures::{Soak, round},
    loss::Loss,
    progress::Progress,
    rig::Rig,
    system::System,
    traffic::Traffic,
};
use crate::{Lab, Options};

const STREAMS: u16 = 50;
/// What is looked at in one step.
const STEP: Duration = Duration::from_millis(100);
/// Answers to packets that are older than this have come, or do not come.
const SETTLED: Duration = Duration::from_millis(1200);
/// Mean time between two pauses of one server.
const BETWEEN_PAUSES: Duration = Duration::from_millis(500);
/// The longest pause.
const PAUSE: Duration = Duration::from_millis(50);

/// Soaks these systems for so many minutes. Gives what came of it, in their order.
pub(super) fn run(systems: &[&dyn System], minutes: f64, progress: &Progress) -> Vec<Result<Soak>> {
    if systems.is_empty() {
        return Vec::new();
    }
    // All of them until the last one is soaked. The first one keeps other labs away.
    let mut labs = Vec::new();
    for system in systems {
        let options = Options { layout: system.layout(Fault::Crash), alone: labs.is_empty(), ..Options::default() };
        labs.push(Lab::new(options));
    }
    let begin = Barrier::new(systems.len() + 1);
    std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for (&system, lab) in systems.iter().zip(&labs) {
            let begin = &begin;
            threads.push(scope.spawn(move || soak(system, lab, begin, minutes, progress)));
        }
        begin.wait();
        let load = Load::start();
        let join = |thread: ScopedJoinHandle<'_, Result<Soak>>| {
            thread.join().unwrap_or_else(|_| Err(anyhow!("the soak panicked")))
        };
        let soaked = threads.into_iter().map(join).collect();
        drop(load);
        soaked
    })
}

/// Waits for the others when it is dropped: who cannot start, or panics, does not keep them waiting.
struct Ready<'a>(&'a Barrier);

impl Drop for Ready<'_> {
    fn drop(&mut self) {
        self.0.wait();
    }
}

/// Soaks one system from when all are ready.
fn soak(system: &dyn System, lab: &Result<Lab>, begin: &Barrier, minutes: f64, progress: &Progress) -> Result<Soak> {
    let ready = Ready(begin);
    let lab = lab.as_ref().map_err(|error| anyhow!("{error:#}"))?;
    let mut rig = Rig::start(lab, system)?;
    rig.stream(STREAMS)?;
    rig.make_active("master")?;
    drop(ready);
    progress.say(&format!("{}: soak of {minutes} min begins", system.name()));

    let loss = lab.servers().iter().map(|host| Loss::start(&host.namespace)).collect::<Result<Vec<_>>>()?;
    let own_before = rig.running().flips()?.map(|flips| flips.len());
    let pauses = Pauses::default();
    let pausers = rig.servers().each_ref().map(|(_, server)| Pauser::start(server.id(), pauses.clone()));
    let counted = watch(rig.traffic()?, Duration::from_secs_f64(minutes * 60.0), system.name(), progress)?;
    // Each server runs at the end.
    for pauser in pausers {
        pauser?.stop()?;
    }
    let own_now = rig.running().flips()?.map(|flips| flips.len());
    let own_count = own_now.zip(own_before).map(|(now, before)| (now - before) as u64);
    Ok(Soak {
        system: system.name().to_owned(),
        minutes,
        false_failovers: counted.failovers.max(own_count.unwrap_or(0)),
        own_count,
        pauses: pauses.count.load(Ordering::Relaxed),
        longest_pause_ms: round(pauses.longest_us.load(Ordering::Relaxed) as f64 / 1e3),
        probes_dropped: loss.iter().map(Loss::dropped).sum::<Result<u64>>()?,
        sent: counted.sent,
        lost: counted.lost,
        reason: system.remark_on_soak().map(str::to_owned),
    })
}

#[derive(Default)]
struct Counted {
    failovers: u64,
    sent: u64,
    lost: u64,
}

fn watch(traffic: &Traffic, length: Duration, name: &str, progress: &Progress) -> Result<Counted> {
    let (mut counted, mut backup_answers) = (Counted::default(), false);
    let (begin, mut told) = (traffic.now(), 0);
    let mut step = begin;
    while step < begin + length {
        std::thread::sleep((step + STEP + SETTLED).saturating_sub(traffic.now()));
        let account = traffic.snapshot(step..step + STEP);
        let answers = account.servers().contains(&"backup");
        counted.failovers += u64::from(answers != backup_answers);
        backup_answers = answers;
        counted.sent += account.sent;
        counted.lost += account.lost;
        step += STEP;
        let minute = (step - begin).as_secs() / 60;
        if minute > told {
            told = minute;
            let Counted { failovers, sent, lost } = counted;
            progress.say(&format!("{name}: soaked for {minute} min, {failovers} failovers, {lost} of {sent} lost"));
        }
    }
    ensure!(counted.sent > 0, "no packet was sent");
    Ok(counted)
}

/// A busy thread of normal priority for each processor.
struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    fn start() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let busy = |_| {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            })
        };
        let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
        let threads = (0..processors).map(busy).collect();
        Self { stop, threads }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

#[derive(Clone, Default)]
struct Pauses {
    count: Arc<AtomicU64>,
    longest_us: Arc<AtomicU64>,
}

/// Stops one server's processes at random, and lets them go on.
struct Pauser {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Pauser {
    fn start(process: u32, pauses: Pauses) -> Result<Self> {
        let group = Pid::from_raw(process.cast_signed()).context("process id 0")?;
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            // A pauser that waits for a processor would make its pauses longer than they are meant to be.
            be_in_time()?;
            while !told.load(Ordering::Relaxed) {
                std::thread::sleep(BETWEEN_PAUSES.mul_f64(-(1.0 - fastrand::f64()).ln()));
                let begun = Instant::now();
                kill_process_group(group, Signal::STOP)?;
                std::thread::sleep(PAUSE.mul_f64(fastrand::f64()));
                kill_process_group(group, Signal::CONT)?;
                pauses.count.fetch_add(1, Ordering::Relaxed);
                pauses.longest_us.fetch_max(begun.elapsed().as_micros() as u64, Ordering::Relaxed);
            }
            Ok(())
        });
        Ok(Self { stop, thread: Some(thread) })
    }

    fn stop(mut self) -> Result<()> {
        self.end()
    }

    fn end(&mut self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.take().map(JoinHandle::join);
        ended.map_or(Ok(()), |ended| ended.unwrap_or_else(|_| anyhow::bail!("the pauser panicked")))
    }
}

impl Drop for Pauser {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

/// Real-time priority for this thread.
fn be_in_time() -> Result<()> {
    let thread = gettid().as_raw_nonzero().to_string();
    let status = Command::new("chrt").args(["--fifo", "--pid", "50", &thread]).status();
    ensure!(status.context("the chrt command (package util-linux)")?.success(), "no real-time priority for the pauses");
    Ok(())
}
