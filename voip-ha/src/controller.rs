//! The one loop that reads the clock: it sends the probes, feeds what comes back to the [`engine`](crate::engine), and
//! carries out what the engine says. Everything that talks to people runs in another thread.

mod prober;
mod probers;
mod report;

use std::{
    future::poll_fn,
    io,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use tokio::sync::{
    broadcast,
    mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    oneshot,
};

use self::probers::Probers;
use crate::{
    config::Config,
    control::{SwitchOutcome, SwitchRequest},
    datapath::{Datapath, NextHop},
    detector::Evidence,
    engine::{Engine, Output, Wish},
    event::{Event, Happening},
    ids::{ServerId, ServiceId},
    journal::{Journal, monotonic},
    nexthop::News,
    plan::Plan,
    status::{ServiceStatus, mac_text},
};

/// A timer that is this late is the gateway's own fault: whatever was due meanwhile gets its time anew.
const STALL: Duration = Duration::from_millis(8);

/// What the other threads ask the controller.
#[derive(Debug)]
pub enum Order {
    /// The state of the services. Traffic is not filled in.
    Status(oneshot::Sender<(Vec<ServiceStatus>, u64)>),
    /// What the kernel's tables should hold.
    Plan(oneshot::Sender<Plan>),
    /// Make a server active; the answer, or why not.
    Switch(SwitchRequest, oneshot::Sender<Result<Vec<SwitchOutcome>, String>>),
    /// What happened, and what happens next.
    Events(oneshot::Sender<(Vec<Event>, broadcast::Receiver<Event>)>),
}

/// What is known about the way to a server.
#[derive(Clone, Debug, Default)]
struct Way {
    known: Option<(NextHop, String)>,
    missing: Option<String>,
    /// The interface of the known way is gone: packets cannot reach the server, whatever way probes find.
    cut: bool,
}

impl Way {
    /// A way that nothing is known of yet, or that an earlier controller wrote, may lead anywhere. What leads by another
    /// interface is told anew at once, which ends the doubt.
    fn may_lead_by(&self, interface: &str) -> bool {
        self.known.as_ref().is_none_or(|(_, by)| by.is_empty() || by == interface)
    }

    fn is(&self, hop: NextHop, interface: &str) -> bool {
        self.missing.is_none() && self.known.as_ref().is_some_and(|(known, name)| *known == hop && name == interface)
    }
}

/// The controller of one gateway.
pub struct Controller<D> {
    config: Config,
    engine: Engine,
    datapath: D,
    probers: Probers,
    ways: Vec<Way>,
    journal: Journal,
    stalls: u64,
    stall_told: Option<Instant>,
}

/// The other threads' ends of the channels to a controller.
#[derive(Clone, Debug)]
pub struct Orders(UnboundedSender<Order>);

/// What woke the loop.
enum Wake {
    Probe(io::Result<(ServerId, Evidence)>),
    News(Option<News>),
    Order(Option<Order>),
    Timer,
}

impl Orders {
    /// A channel for orders.
    pub fn channel() -> (Self, UnboundedReceiver<Order>) {
        let (sender, receiver) = unbounded_channel();
        (Self(sender), receiver)
    }

    /// Gives an order and waits for the answer. `None` if the controller has ended.
    pub async fn ask<T>(&self, order: impl FnOnce(oneshot::Sender<T>) -> Order) -> Option<T> {
        let (sender, receiver) = oneshot::channel();
        self.0.send(order(sender)).ok()?;
        receiver.await.ok()
    }
}

impl<D: Datapath> Controller<D> {
    /// A controller that goes on with what the datapath does already, or starts with the masters.
    ///
    /// # Errors
    ///
    /// The kernel has no epoll instance for the probes.
    pub fn new(config: Config, mut datapath: D, adopted: bool) -> Result<Self> {
        let now = Instant::now();
        let services = (0..config.services.len()).map(ServiceId);
        let found: Vec<_> = services.map(|service| datapath.steering(service)).collect();
        let (engine, words) = Engine::new(&config, &found, now);
        for (service, steering) in words {
            datapath.steer(service, steering);
        }
        let probers = Probers::new(&config, now).context("cannot make an epoll instance for the probes")?;
        // What an earlier controller wrote counts until the network says otherwise, which also names the interface.
        let known = |server| datapath.next_hop(server).map(|hop| (hop, String::new()));
        let ways = config.servers().map(|(server, ..)| Way { known: known(server), ..Way::default() }).collect();
        let mut journal = Journal::new();
        journal.note(Happening::Started { adopted });
        Ok(Self { config, engine, datapath, probers, ways, journal, stalls: 0, stall_told: None })
    }

    /// Goes on after the events of earlier controllers.
    pub fn recalling(mut self, earlier: Vec<Event>) -> Self {
        self.journal.recall(earlier);
        self
    }

    /// Runs until the sender of orders is gone.
    pub async fn run(mut self, mut orders: UnboundedReceiver<Order>, mut news: UnboundedReceiver<News>) {
        loop {
            let deadline = self.next_deadline();
            // Biased: what has arrived is taken in before a timer judges what has not.
            let wake = tokio::select! {
                biased;
                probe = poll_fn(|context| self.probers.poll(context)) => Wake::Probe(probe),
                news = news.recv(), if !news.is_closed() || !news.is_empty() => Wake::News(news),
                order = orders.recv() => Wake::Order(order),
                () = tokio::time::sleep_until(deadline.into()) => Wake::Timer,
            };
            let now = Instant::now();
            match wake {
                Wake::Probe(Ok((server, evidence))) => self.observe(server, evidence, now),
                Wake::Probe(Err(error)) => tracing::error!(%error, "cannot wait for the probes' answers"),
                Wake::News(Some(news)) => self.heed(news, now),
                Wake::News(None) => tracing::warn!("the network is no longer followed: next hops stay as they are"),
                Wake::Order(Some(order)) => self.obey(order, now),
                Wake::Order(None) => return,
                Wake::Timer => self.tick(deadline, now),
            }
        }
    }

    fn next_deadline(&self) -> Instant {
        // There is at least one server, and so one prober.
        self.probers.next_deadline().into_iter().chain(self.engine.next_deadline()).min().unwrap_or_else(Instant::now)
    }

    fn observe(&mut self, server: ServerId, evidence: Evidence, now: Instant) {
        let evidence = if self.ways[server.0].cut { Evidence::NoCarrier } else { evidence };
        let outputs = self.engine.observe(server, evidence, now);
        self.carry_out(outputs, now);
    }

    fn tick(&mut self, due: Instant, now: Instant) {
        let late = now.saturating_duration_since(due);
        if late >= STALL {
            self.stalled(late, now);
        }
        let uptime = monotonic();
        let heard = |server| {
            let ago = uptime.saturating_sub(self.datapath.traffic(server).heard?);
            now.checked_sub(ago)
        };
        for (server, evidence) in self.probers.tick(heard, now) {
            self.observe(server, evidence, now);
        }
        let outputs = self.engine.tick(now);
        self.carry_out(outputs, now);
    }

    /// The gateway itself came late: that is no evidence against anybody.
    fn stalled(&mut self, late: Duration, now: Instant) {
        self.stalls += 1;
        self.probers.forgive(now);
        // A gateway that is short of CPU must not fill its journal with that as well.
        if self.stall_told.is_none_or(|told| now - told >= Duration::from_secs(1)) {
            self.stall_told = Some(now);
            self.journal.note(Happening::GatewayStall { late_ms: late.as_millis() as u64, count: self.stalls });
        }
    }

    /// The one place where a decision becomes an action.
    fn carry_out(&mut self, outputs: Vec<Output>, received: Instant) {
        for output in outputs {
            match output {
                Output::Steer(service, steering, mut happening) => {
                    let decided = monotonic();
                    let epoch = self.datapath.steer(service, steering);
                    if let Happening::Flip(flip) = &mut happening {
                        flip.decided_us = decided.as_micros() as u64;
                        flip.flipped_us = monotonic().as_micros() as u64;
                        flip.epoch = epoch;
                        flip.evidence_to_flip_us = received.elapsed().as_secs_f64() * 1e6;
                    }
                    self.journal.note(happening);
                }
                Output::Tell(happening) => self.journal.note(happening),
            }
        }
    }

    fn heed(&mut self, news: News, now: Instant) {
        match news {
            // The network tells again and again; what failed is not known, and is tried again.
            News::Way { server, hop, interface } if self.ways[server.0].is(hop, &interface) => {}
            News::NoWay { server, why } if self.ways[server.0].missing.as_ref() == Some(&why) => {}
            News::Way { server, hop, interface } => self.take_way(server, hop, interface, now),
            News::NoWay { server, why } => {
                tracing::warn!("no way to {}: {why}", self.engine.servers()[server.0].name);
                self.ways[server.0].missing = Some(why);
                let outputs = self.engine.set_reachable(server, false, now);
                self.carry_out(outputs, now);
            }
            News::Carrier { interface, up, servers } => {
                // The servers first: telling people takes time.
                if !up {
                    let outputs = self.engine.observe_all(&servers, Evidence::NoCarrier, now);
                    self.carry_out(outputs, now);
                }
                self.journal.note(Happening::Carrier { interface, up });
            }
            News::InterfaceLost { interface } => {
                for way in &mut self.ways {
                    way.cut |= way.may_lead_by(&interface);
                }
                self.journal.note(Happening::InterfaceLost { interface });
            }
            News::Watching { up, why } => self.journal.note(Happening::NetworkWatch { up, why }),
        }
    }

    fn take_way(&mut self, server: ServerId, hop: NextHop, interface: String, now: Instant) {
        if let Err(error) = self.datapath.set_next_hop(server, hop) {
            tracing::error!("the kernel did not take a next hop: {error:#}");
            return;
        }
        let outputs = self.engine.set_reachable(server, true, now);
        self.carry_out(outputs, now);
        self.probers.reopen(server);
        let name = self.engine.servers()[server.0].name.clone();
        let mac = mac_text(hop.destination);
        self.journal.note(Happening::NextHop { server: name, interface: interface.clone(), mac });
        self.ways[server.0] = Way { known: Some((hop, interface)), ..Way::default() };
    }

    fn obey(&mut self, order: Order, now: Instant) {
        // Whoever asked may be gone by now; that is no error.
        match order {
            Order::Status(answer) => drop(answer.send((self.service_status(now), self.stalls))),
            Order::Plan(answer) => drop(answer.send(self.plan())),
            Order::Switch(request, answer) => drop(answer.send(self.switch(&request, now))),
            Order::Events(answer) => drop(answer.send(self.journal.read())),
        }
    }

    fn switch(&mut self, request: &SwitchRequest, now: Instant) -> Result<Vec<SwitchOutcome>, String> {
        let wishes = self.wishes(request)?;
        for wish in &wishes {
            self.engine.may(wish).map_err(|why| format!("{} is not switched to: {why}", request.server))?;
        }
        let mut outcomes = Vec::new();
        for wish in wishes {
            let from = self.engine.services()[wish.service.0].active();
            let mut engine = self.engine.clone();
            let outputs = engine.wish(&wish, now).map_err(|why| why.to_string())?;
            let to = engine.services()[wish.service.0].active();
            if !request.dry_run {
                self.engine = engine;
                self.carry_out(outputs, now);
            }
            let name = |server: ServerId| self.engine.servers()[server.0].name.clone();
            outcomes.push(SwitchOutcome {
                service: self.config.services[wish.service.0].name.clone(),
                from: name(from),
                to: name(to),
                dry_run: request.dry_run,
            });
        }
        Ok(outcomes)
    }

    /// What a request means for which services.
    fn wishes(&self, request: &SwitchRequest) -> Result<Vec<Wish>, String> {
        let wish = |service, server| Wish { service, server, reason: request.reason.clone() };
        if request.server != crate::config::RESERVED_SERVER_NAME {
            return match self.config.server_named(&request.server) {
                Some((server, service)) => Ok(vec![wish(service, Some(server))]),
                None => Err(format!("there is no server {}; `voip-ha status` names them", request.server)),
            };
        }
        let services = self.config.services.iter().enumerate();
        let meant = services.filter(|(_, service)| request.service.as_ref().is_none_or(|name| *name == service.name));
        let wishes: Vec<_> = meant.map(|(index, _)| wish(ServiceId(index), None)).collect();
        match (&request.service, wishes.is_empty()) {
            (Some(name), true) => Err(format!("there is no service {name}; `voip-ha status` names them")),
            _ => Ok(wishes),
        }
    }
}

#[cfg(test)]
mod tests;
