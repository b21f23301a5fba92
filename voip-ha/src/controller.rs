//! The one loop that reads the clock: it sends the probes, feeds what comes back to the [`engine`](crate::engine), and
//! carries out what the engine says. Everything that talks to people runs in another thread.
//!
//! The thread sleeps until a timer is due, the kernel has noted an ICMP error on a probe's socket, the XDP program has
//! seen one about traffic, or a letter has come. Answers to probes wake nobody: the kernel stamps them on arrival, and
//! they are read when the next timer is due, before it judges what has not come.

mod drains;
mod lines;
mod mailbox;
mod orders;
mod poller;
mod realtime;
mod receive;
mod report;
mod second;
mod waiting;
mod ways;

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use self::{
    lines::{Lines, Received, Unsent},
    mailbox::Letter,
    poller::Poller,
    second::Second,
    waiting::Waiting,
    ways::{Way, Ways},
};
pub use self::{
    mailbox::{Mailbox, Orders},
    orders::{ControllerStatus, Order},
    realtime::privileges,
};
use crate::{
    config::{Config, Server},
    datapath::{Datapath, NextHop},
    detector::Health,
    engine::{Engine, Output},
    event::{Event, Happening},
    ids::{Family, ServerId, ServiceId},
    journal::{Journal, monotonic},
    monitor::ProbeKind,
    nexthop::News,
    status::mac_text,
};

/// A timer that is this late is the gateway's own fault: whatever was due meanwhile gets its time anew.
const STALL: Duration = Duration::from_millis(8);
/// So is a round of probes that took this long to send.
const SLOW_ROUND: Duration = Duration::from_millis(1);

/// The controller of one gateway.
pub struct Controller<D> {
    config: Config,
    engine: Engine,
    datapath: D,
    poller: Poller,
    lines: Vec<Lines>,
    seconds: Vec<Option<Second>>,
    /// By [`ServerId`].
    ways: Vec<Ways>,
    journal: Journal,
    waiting: Waiting,
    /// A moment, and `CLOCK_MONOTONIC` then: one stands for the other from the start on, or the kernel's stamps would move.
    origin: (Instant, Duration),
    /// What the thread could not have: see [`privileges`].
    lacks: Vec<String>,
    stalls: u64,
    stall_told: Option<Instant>,
}

impl<D: Datapath> Controller<D> {
    /// A controller that goes on with what the datapath does already, or starts with the masters.
    ///
    /// # Errors
    ///
    /// The process has too many open files.
    pub fn new(config: Config, mut datapath: D, adopted: bool) -> Result<Self> {
        let (now, uptime) = (Instant::now(), monotonic());
        let services = (0..config.services.len()).map(ServiceId);
        let found: Vec<_> = services.map(|service| datapath.steering(service)).collect();
        let (engine, words) = Engine::new(&config, &found, now, uptime);
        for (service, steering) in words {
            datapath.steer(service, steering);
        }
        let poller = Poller::new(datapath.signal_fd()).context("cannot make an epoll instance for the probes")?;
        let lines =
            config.servers().map(|(_, _, server)| Lines::new(server.addresses.first(), server.probe.port)).collect();
        let seconds = config.servers().map(|(_, _, server)| Second::of(server, now)).collect();
        // What an earlier controller wrote counts until the network says otherwise, which also names the interface.
        let known = |id, server: &Server| Ways::of_earlier(server.addresses, |family| datapath.next_hop(id, family));
        let ways = config.servers().map(|(id, _, server)| known(id, server)).collect();
        let mut journal = Journal::new();
        journal.note(Happening::Started { adopted });
        for happening in engine.adopted_drains(now) {
            journal.note(happening);
        }
        let origin = (now, uptime);
        let (lacks, stalls, stall_told) = (Vec::new(), 0, None);
        let waiting = Waiting::default();
        Ok(Self {
            config,
            engine,
            datapath,
            poller,
            lines,
            seconds,
            ways,
            journal,
            waiting,
            origin,
            lacks,
            stalls,
            stall_told,
        })
    }

    /// Goes on after the events of earlier controllers.
    pub fn recalling(mut self, earlier: Vec<Event>) -> Self {
        self.journal.recall(earlier);
        self
    }

    /// Runs in the calling thread until nobody is left who could give orders. `lacks` is what the thread could not have.
    ///
    /// # Errors
    ///
    /// The kernel does not let it wait.
    pub fn run(mut self, mailbox: &Mailbox, lacks: Vec<String>) -> Result<()> {
        self.lacks = lacks;
        self.poller.watch_mail(mailbox.bell())?;
        loop {
            let deadline = self.engine.next_deadline(Instant::now());
            let woken = self.poller.wait(deadline).context("cannot wait for the probes' answers")?;
            let now = Instant::now();
            // What has arrived is taken in before a timer judges what has not: proofs first.
            for server in &woken.errors {
                self.read(*server, now);
                self.read_second(*server);
            }
            if woken.signals {
                self.heed_signals(now);
            }
            if woken.mail && !self.read_mail(mailbox, now) {
                return Ok(());
            }
            if let Some(due) = deadline.filter(|due| *due <= now) {
                self.tick(due, now);
            }
        }
    }

    fn tick(&mut self, due: Instant, now: Instant) {
        let late = now.saturating_duration_since(due);
        if late >= STALL {
            self.stalled(late, now);
        }
        for server in (0..self.lines.len()).map(ServerId) {
            self.read(server, now);
        }
        let (datapath, (origin, uptime)) = (&self.datapath, self.origin);
        let heard = |server| {
            let heard = datapath.traffic(server).heard?;
            // What an earlier controller heard may be before the origin.
            heard.checked_sub(uptime).map_or_else(|| origin.checked_sub(uptime - heard), |since| Some(origin + since))
        };
        let outputs = self.engine.tick(heard, now);
        self.carry_out(outputs, now);
        for server in (0..self.seconds.len()).map(ServerId) {
            self.look_at_second(server, now);
        }
        let spent = now.elapsed();
        if spent >= SLOW_ROUND {
            self.engine.forgive(spent, Instant::now());
        }
    }

    /// Takes in what came back from a server.
    fn read(&mut self, server: ServerId, now: Instant) {
        for received in self.lines[server.0].receive() {
            let family = Family::of(self.lines[server.0].address());
            let outputs = match received {
                // Whatever it answers, packets do not get there.
                Received::Answer { .. } if self.ways[server.0].of(family).cut => self.engine.no_carrier(&[server], now),
                Received::Answer { kind, number, status, at } => {
                    self.engine.answered(server, kind, number, status, at, now)
                }
                Received::Refused => {
                    // From another port, that nobody can have guessed yet.
                    self.lines[server.0].reopen_options();
                    self.engine.refused(server, now)
                }
                Received::HostUnreachable => self.engine.host_unreachable(server, now),
                Received::Lost => {
                    self.engine.forgive_server(server, now);
                    continue;
                }
            };
            self.carry_out(outputs, now);
        }
    }

    fn read_second(&mut self, server: ServerId) {
        if self.seconds[server.0].as_mut().is_some_and(Second::read) {
            self.tell_second(server);
        }
    }

    fn look_at_second(&mut self, server: ServerId, now: Instant) {
        self.read_second(server);
        let up = self.engine.servers()[server.0].detector.health() == Health::Up;
        let (poller, key) = (self.poller.as_fd(), server.0 as u64);
        if self.seconds[server.0].as_mut().is_some_and(|second| second.tick(up, now, poller, key)) {
            self.tell_second(server);
        }
    }

    fn tell_second(&mut self, server: ServerId) {
        let Some(second) = &self.seconds[server.0] else { return };
        let (name, address) = (self.engine.servers()[server.0].name.clone(), second.address());
        self.journal.note(Happening::SecondAddress { server: name, address, fault: second.fault() });
    }

    fn heed_signals(&mut self, now: Instant) {
        for signal in self.datapath.signals() {
            let outputs = self.engine.traffic_refused(signal.server, now);
            self.carry_out(outputs, now);
        }
    }

    /// Takes in all letters. `false`: there will be no more.
    fn read_mail(&mut self, mailbox: &Mailbox, now: Instant) -> bool {
        mailbox.answer_bell();
        loop {
            match mailbox.take() {
                Ok(Letter::News(news)) => self.heed(news, now),
                Ok(Letter::Order(order)) => self.obey(order, now),
                Ok(Letter::Event(happening)) => self.journal.note(happening),
                Err(std::sync::mpsc::TryRecvError::Empty) => return true,
                Err(std::sync::mpsc::TryRecvError::Disconnected) => return false,
            }
        }
    }

    /// The gateway itself came late: that is no evidence against anybody.
    fn stalled(&mut self, late: Duration, now: Instant) {
        self.stalls += 1;
        self.engine.forgive(late, now);
        self.seconds.iter_mut().flatten().for_each(Second::forgive);
        // A gateway that is short of CPU must not fill its journal with that as well.
        if self.stall_told.is_none_or(|told| now - told >= Duration::from_secs(1)) {
            self.stall_told = Some(now);
            self.journal.note(Happening::GatewayStall { late_ms: late.as_millis() as u64, count: self.stalls });
        }
    }

    /// The one place where a decision becomes an action.
    fn carry_out(&mut self, outputs: Vec<Output>, received: Instant) {
        let mut outputs = VecDeque::from(outputs);
        let mut told = Vec::new();
        while let Some(output) = outputs.pop_front() {
            match output {
                Output::Steer(service, steering, mut happening) => {
                    let epoch = self.datapath.steer(service, steering);
                    if let Happening::Flip(flip) = &mut happening {
                        flip.evidence_to_flip_us = received.elapsed().as_secs_f64() * 1e6;
                        flip.flipped_us = monotonic().as_micros() as u64;
                        flip.epoch = epoch;
                    }
                    told.push(happening);
                }
                Output::EndCensus(service) => self.datapath.end_census(service),
                Output::Ask(server, kind, number) => outputs.extend(self.ask(server, kind, number, received)),
                Output::Tell(happening) => told.push(happening),
            }
        }
        // All words first: telling people takes time.
        for happening in told {
            self.waiting.hear(&happening);
            self.journal.note(happening);
        }
    }

    fn ask(&mut self, server: ServerId, kind: ProbeKind, number: u64, now: Instant) -> Vec<Output> {
        let sent = self.lines[server.0].send(kind, number, self.poller.as_fd(), server.0 as u64);
        match sent {
            Ok(()) => Vec::new(),
            Err(Unsent::NoWay) => self.engine.cannot_send(server, kind, number, now),
            Err(Unsent::OwnFault) => {
                self.engine.take_back(server, kind, number);
                Vec::new()
            }
        }
    }

    fn heed(&mut self, news: News, now: Instant) {
        match news {
            // The network tells again and again; what failed is not known, and is tried again.
            News::Way { server, family, hop, interface } if self.ways[server.0].of(family).is(hop, &interface) => {}
            News::NoWay { server, family, why } if self.ways[server.0].of(family).missing.as_ref() == Some(&why) => {}
            News::Way { server, family, hop, interface } => self.take_way((server, family), hop, interface, now),
            News::NoWay { server, family, why } => {
                tracing::warn!("no way to {} by {family}: {why}", self.engine.servers()[server.0].name);
                self.ways[server.0].of_mut(family).missing = Some(why);
                let outputs = self.engine.set_reachable(server, false, now);
                self.carry_out(outputs, now);
            }
            News::Carrier { interface, up, servers } => {
                // The servers first: telling people takes time.
                if !up {
                    let outputs = self.engine.no_carrier(&servers, now);
                    self.carry_out(outputs, now);
                }
                self.journal.note(Happening::Carrier { interface, up });
            }
            News::InterfaceLost { interface } => {
                self.ways.iter_mut().for_each(|ways| ways.lose(&interface));
                self.journal.note(Happening::InterfaceLost { interface });
            }
            News::Watching { up, why } => self.journal.note(Happening::NetworkWatch { up, why }),
        }
    }

    fn take_way(&mut self, (server, family): (ServerId, Family), hop: NextHop, interface: String, now: Instant) {
        if let Err(error) = self.datapath.set_next_hop(server, family, hop) {
            tracing::error!("the kernel did not take a next hop: {error:#}");
            return;
        }
        let mac = (!hop.by_stack).then(|| mac_text(hop.destination));
        *self.ways[server.0].of_mut(family) = Way { known: Some((hop, interface.clone())), ..Way::default() };
        let outputs = self.engine.set_reachable(server, self.ways[server.0].are_whole(), now);
        self.carry_out(outputs, now);
        if Family::of(self.lines[server.0].address()) == family {
            self.lines[server.0].reopen();
            self.engine.reopened(server);
        } else if let Some(second) = &mut self.seconds[server.0] {
            second.reopen();
        }
        let name = self.engine.servers()[server.0].name.clone();
        self.journal.note(Happening::NextHop { server: name, family: Some(family), interface, mac });
    }
}

#[cfg(test)]
mod tests;
