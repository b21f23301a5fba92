//! One system between two servers under streams, and one fault after the other.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use rustix::{
    process::Signal,
    time::{ClockId, clock_gettime},
};

use super::{
    fault::{Armed, Fault},
    figures::{Sample, round},
    sip_stream::STATUS,
    system::{Carries, Running, System},
    traffic::Traffic,
};
use crate::{
    Lab,
    process::Process,
    program,
    topology::{RTP_PORTS, VIP},
    wait,
};

/// How long a fault may last. A phone gives up a request after 32 s (RFC 3261, timer F): who has not moved the service by
/// then has not moved it.
pub(super) const LIMIT: Duration = Duration::from_secs(32);
/// How long a system may take until it sees both servers in order.
const SETTLES: Duration = Duration::from_secs(60);
/// Packets sent before a fault may still be answered by the other server: a proxy may hold them.
const BEFORE: Duration = Duration::from_millis(100);
/// The streams are steady when one server has answered all of this time.
const STEADY: Duration = Duration::from_millis(200);
/// What is younger than this may be on its way.
const ON_ITS_WAY: Duration = Duration::from_millis(100);
const START: Duration = Duration::from_secs(10);
/// How long a server runs between two crashes.
const RUNS_FOR: Duration = Duration::from_secs(4);

pub(super) struct Rig<'lab> {
    lab: &'lab Lab,
    system: &'lab dyn System,
    // Before the servers, so that no system sees them die at the end.
    running: Box<dyn Running + 'lab>,
    traffic: Option<Traffic>,
    servers: [(&'static str, Process); 2],
    /// RTP ports that each server opens.
    ports: u16,
}

impl<'lab> Rig<'lab> {
    /// Starts both servers and the system, and returns when it sees both in order.
    pub(super) fn start(lab: &'lab Lab, system: &'lab dyn System) -> Result<Self> {
        for host in lab.servers().iter().filter(|host| system.listens_on(host) == VIP) {
            host.namespace.ip(&format!("address add {VIP}/32 dev lo"))?;
        }
        let ports = 1;
        let start = |name| Ok::<_, anyhow::Error>((name, start_server(lab, system, name, ports)?));
        let servers = [start("master")?, start("backup")?];
        let running = system.start(lab)?;
        let mut rig = Self { lab, system, running, traffic: None, servers, ports };
        rig.wait_until_settled(None)?;
        Ok(rig)
    }

    /// Starts so many streams anew. A server has ports for its calls and no more: one with 500 sockets takes 2 ms to die.
    pub(super) fn stream(&mut self, streams: u16) -> Result<()> {
        self.traffic = None;
        let ports = streams.max(1);
        if std::mem::replace(&mut self.ports, ports) != ports {
            for name in ["master", "backup"] {
                self.restart(name)?;
                self.wait_until_settled(None)?;
            }
        }
        self.traffic = Traffic::start(self.lab, self.system.carries(), streams)?;
        Ok(())
    }

    /// Makes `from` the active server, makes the fault at a random moment, measures it and undoes it. Who is not patient
    /// does not wait until all streams are answered again, and measures no gap.
    pub(super) fn run(&mut self, fault: Fault, from: &'static str, patient: bool) -> Result<Sample> {
        let to = if from == "master" { "backup" } else { "master" };
        self.make_active(from)?;
        let armed = Armed::prepare(self.lab, fault, from)?;
        std::thread::sleep(self.system.period().mul_f64(fastrand::f64()));
        let (server, running) = (server(&mut self.servers, from)?, &mut self.running);
        let made = armed.fire(server, || running.switch(to))?;
        let sample = self.measure(made, to, patient)?;
        self.undo(fault, from)?;
        Ok(sample)
    }

    /// Makes a server the active one and returns when all streams are answered by it.
    pub(super) fn make_active(&mut self, wanted: &str) -> Result<()> {
        if self.wait_until_settled(None)? != wanted {
            self.running.switch(wanted)?;
            self.wait_until_settled(Some(wanted))?;
        }
        let steady = self.wait_until_steady(wanted)?;
        anyhow::ensure!(steady, "{wanted} is active, but does not answer all streams");
        Ok(())
    }

    pub(super) fn running(&mut self) -> &mut dyn Running {
        &mut *self.running
    }

    pub(super) fn traffic(&self) -> Result<&Traffic> {
        self.traffic.as_ref().context("no streams run")
    }

    pub(super) fn servers(&mut self) -> &mut [(&'static str, Process); 2] {
        &mut self.servers
    }

    fn measure(&mut self, made: Instant, to: &str, patient: bool) -> Result<Sample> {
        let made_us = monotonic_us().saturating_sub(made.elapsed().as_micros() as u64);
        let Some(flip_ms) = self.wait_for_flip(made, made_us, to)? else { return Ok(Sample::default()) };
        let own_flip_ms = self.own_flip(made_us)?;
        let mut sample = Sample { flip_ms: Some(flip_ms), own_flip_ms, ..Sample::default() };
        if patient && self.traffic.is_some() && self.wait_until_steady(to)? {
            let traffic = self.traffic()?;
            let window = traffic.at(made).saturating_sub(ON_ITS_WAY)..traffic.now().saturating_sub(ON_ITS_WAY);
            let account = traffic.account(window)?;
            if self.system.carries() != Carries::Sip {
                sample.gap_ms = Some(ms(account.gap));
                sample.lost = Some(account.lost);
            }
        }
        Ok(sample)
    }

    /// The time to the first answer of the other server, or without streams to the system's own flip.
    fn wait_for_flip(&mut self, made: Instant, made_us: u64, to: &str) -> Result<Option<f64>> {
        let found = poll(LIMIT, || {
            let Some(traffic) = &self.traffic else {
                let flips = self.running.flips()?.context("without streams the system must tell its flips")?;
                return Ok(flips.into_iter().find(|us| *us >= made_us).map(|us| (us - made_us) as f64 / 1e3));
            };
            let at = traffic.at(made);
            let first = traffic.first_by(to, at.saturating_sub(BEFORE)..traffic.now());
            Ok(first.and_then(|first| first.checked_sub(at)).map(ms))
        })?;
        Ok(found)
    }

    fn own_flip(&mut self, made_us: u64) -> Result<Option<f64>> {
        // The event may be written a little after the first answer has come.
        let told = poll(START, || {
            let Some(flips) = self.running.flips()? else { return Ok(Some(None)) };
            Ok(flips.into_iter().find(|us| *us >= made_us).map(|us| Some(round((us - made_us) as f64 / 1e3))))
        })?;
        Ok(told.flatten())
    }

    fn undo(&mut self, fault: Fault, name: &'static str) -> Result<()> {
        match fault {
            Fault::Planned => {}
            Fault::Crash => {
                self.restart(name)?;
                // A host tells that a port is closed once a second, and some times at once if it has not for as many seconds
                // (net.ipv4.icmp_ratelimit). A server that has crashed has run for a while.
                std::thread::sleep(RUNS_FOR);
            }
            Fault::Hang => server(&mut self.servers, name)?.signal(Signal::CONT)?,
            Fault::Silent => self.lab.mend(name)?,
            Fault::Link => self.lab.mend_back()?,
        }
        self.running.repaired()
    }

    fn restart(&mut self, name: &'static str) -> Result<()> {
        server(&mut self.servers, name)?.kill9()?;
        *server(&mut self.servers, name)? = start_server(self.lab, self.system, name, self.ports)?;
        Ok(())
    }

    fn wait_until_settled(&mut self, wanted: Option<&str>) -> Result<String> {
        wait::until(SETTLES, &format!("{} to see both servers in order", self.system.name()), || {
            Ok(self.running.settled()?.filter(|active| wanted.is_none_or(|wanted| active == wanted)))
        })
    }

    /// Whether within the limit all streams are answered by one server.
    fn wait_until_steady(&self, by: &str) -> Result<bool> {
        let Some(traffic) = &self.traffic else { return Ok(true) };
        let begun = traffic.now();
        let steady = poll(LIMIT, || {
            let end = traffic.now().saturating_sub(ON_ITS_WAY);
            let start = end.saturating_sub(STEADY);
            Ok((start >= begun && traffic.snapshot(start..end).all_by(by)).then_some(()))
        })?;
        Ok(steady.is_some())
    }
}

fn start_server(lab: &Lab, system: &dyn System, name: &'static str, ports: u16) -> Result<Process> {
    let host = lab.server(name)?;
    let mut command = Command::new(program("lab-server")?);
    command.args(["--name", name, "--address", &system.listens_on(host).to_string(), "--advertise", &VIP.to_string()]);
    command.args(["--rtp-ports", &format!("{}-{}", RTP_PORTS.0, RTP_PORTS.0 + 2 * (ports - 1))]);
    if system.carries() == Carries::Sip {
        let (_, status) = STATUS.into_iter().find(|(of, _)| *of == name).context("no such server")?;
        command.args(["--options-status", &status.to_string()]);
    }
    let mut process = Process::start(lab, &host.namespace, name, command)?;
    process.wait_for_log("ready", START)?;
    Ok(process)
}

fn server<'all>(servers: &'all mut [(&'static str, Process); 2], name: &str) -> Result<&'all mut Process> {
    let found = servers.iter_mut().find(|(of, _)| *of == name);
    Ok(&mut found.context("no such server")?.1)
}

/// As [`wait::until`], but time that runs out is an answer. It looks the more rarely the longer it takes: what it waits
/// for has its own time stamp.
fn poll<T>(limit: Duration, mut probe: impl FnMut() -> Result<Option<T>>) -> Result<Option<T>> {
    let begun = Instant::now();
    loop {
        if let Some(value) = probe()? {
            return Ok(Some(value));
        }
        let elapsed = begun.elapsed();
        if elapsed >= limit {
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(5) + elapsed / 50);
    }
}

fn ms(duration: Duration) -> f64 {
    round(duration.as_secs_f64() * 1e3)
}

/// `CLOCK_MONOTONIC` in microseconds.
pub(super) fn monotonic_us() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec.unsigned_abs() * 1_000_000 + now.tv_nsec.unsigned_abs() / 1000
}
