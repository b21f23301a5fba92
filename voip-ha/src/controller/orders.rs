//! What the other threads ask the controller, and what it answers.

use std::time::Instant;

use tokio::sync::{broadcast, oneshot};

use super::Controller;
use crate::{
    config::RESERVED_SERVER_NAME,
    control::{DrainOutcome, DrainRequest, HoldOutcome, HoldRequest, SwitchOutcome, SwitchRequest},
    datapath::Datapath,
    engine::{Wish, Words},
    event::Event,
    ids::{ServerId, ServiceId},
    plan::Plan,
    status::ServiceStatus,
};

/// What the other threads ask the controller. Each order carries the way back for its answer.
#[derive(Debug)]
pub enum Order {
    /// How things are.
    Status(oneshot::Sender<ControllerStatus>),
    /// What the kernel's tables should hold.
    Plan(oneshot::Sender<Plan>),
    /// Make a server active; the answer, or why not.
    Switch(SwitchRequest, oneshot::Sender<Result<Vec<SwitchOutcome>, String>>),
    /// Hold services as they are, or let them go; the answer, or why not.
    Hold(HoldRequest, oneshot::Sender<Result<Vec<HoldOutcome>, String>>),
    /// Take a server out gracefully, or end that; the answer, or why not.
    Drain(DrainRequest, oneshot::Sender<Result<Vec<DrainOutcome>, String>>),
    /// What happened, and what happens next.
    Events(oneshot::Sender<(Vec<Event>, broadcast::Receiver<Event>)>),
}

/// What the controller knows of itself and of the services.
#[derive(Clone, Debug, PartialEq)]
pub struct ControllerStatus {
    /// In the order of the configuration. Traffic is not filled in.
    pub services: Vec<ServiceStatus>,
    /// How often the gateway itself came late.
    pub stalls: u64,
    /// What the thread could not have: see [`privileges`](super::privileges).
    pub lacks: Vec<String>,
}

impl<D: Datapath> Controller<D> {
    pub(super) fn obey(&mut self, order: Order, now: Instant) {
        // Whoever asked may be gone by now; that is no error.
        match order {
            Order::Status(answer) => {
                let (services, lacks) = (self.service_status(now), self.lacks.clone());
                drop(answer.send(ControllerStatus { services, stalls: self.stalls, lacks }));
            }
            Order::Plan(answer) => drop(answer.send(self.plan())),
            Order::Switch(request, answer) => {
                let outcome = self.switch(&request, now);
                let done = outcome.iter().flatten().filter(|outcome| !outcome.dry_run);
                let waits = self.that_wait(done.map(|outcome| &outcome.service), now);
                self.waiting.answer(waits, outcome, answer);
            }
            Order::Hold(request, answer) => drop(answer.send(self.hold(&request, now))),
            Order::Drain(request, answer) => {
                let outcome = self.drain(&request, now);
                let done = outcome.iter().flatten().filter(|outcome| !outcome.dry_run);
                let waits = self.that_wait(done.map(|outcome| &outcome.service), now);
                self.waiting.answer(waits, outcome, answer);
            }
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
            let servers = |engine: &crate::engine::Engine| {
                let service = &engine.services()[wish.service.0];
                [service.active(), service.media()].map(|server| engine.servers()[server.0].name.clone())
            };
            let [from, media_from] = servers(&self.engine);
            let mut engine = self.engine.clone();
            let outputs = engine.wish(&wish, now).map_err(|why| why.to_string())?;
            let state = &engine.services()[wish.service.0];
            let [to, media_to] = match state.planned() {
                Some((to, _)) => [(); 2].map(|()| engine.servers()[to.0].name.clone()),
                None => servers(&engine),
            };
            let left = state.draining().map(|(_, former)| former.until.saturating_duration_since(now));
            let left = state.planned().map(|(_, planned)| planned.drain).or(left).filter(|_| from != to);
            let drain_s = left.map(|left| left.as_secs());
            if !request.dry_run {
                self.engine = engine;
                self.carry_out(outputs, now);
            }
            let service = self.config.services[wish.service.0].name.clone();
            outcomes.push(SwitchOutcome { service, from, to, media_from, media_to, drain_s, dry_run: request.dry_run });
        }
        Ok(outcomes)
    }

    /// Those of these services whose flip was ordered now and waits for the end of its census.
    fn that_wait<'a>(&self, names: impl Iterator<Item = &'a String>, now: Instant) -> Vec<String> {
        let is_ordered = |name: &&String| {
            let mut services = self.engine.services().iter().filter(|service| service.name == **name);
            services.any(|service| service.planned().is_some_and(|(_, planned)| planned.decided == now))
        };
        names.filter(is_ordered).cloned().collect()
    }

    fn hold(&mut self, request: &HoldRequest, now: Instant) -> Result<Vec<HoldOutcome>, String> {
        let words = Words { reason: request.reason.clone(), asked_by: request.asked_by.clone() };
        let mut outcomes = Vec::new();
        for service in self.services_named(request.service.as_deref())? {
            let outputs = self.engine.hold(service, !request.release, &words, now);
            self.carry_out(outputs, now);
            let state = &self.engine.services()[service.0];
            let active = self.engine.servers()[state.active().0].name.clone();
            outcomes.push(HoldOutcome { service: state.name.clone(), active, held: !request.release });
        }
        Ok(outcomes)
    }

    /// What a request means for which services.
    fn wishes(&self, request: &SwitchRequest) -> Result<Vec<Wish>, String> {
        let SwitchRequest { server, service, scope, force, reason, asked_by, .. } = request;
        let words = Words { reason: reason.clone(), asked_by: asked_by.clone() };
        let drain = request.drain.then(|| self.drain_time(request.drain_s)).transpose()?;
        let wish = |service, server: Option<ServerId>| Wish {
            service,
            server,
            scope: *scope,
            force: *force,
            drain: drain.filter(|_| server.is_some()),
            words: words.clone(),
        };
        if server != RESERVED_SERVER_NAME {
            return match self.config.server_named(server) {
                Some((server, service)) => Ok(vec![wish(service, Some(server))]),
                None => Err(format!("there is no server {server}; `voip-ha status` names them")),
            };
        }
        let services = self.services_named(service.as_deref())?;
        Ok(services.into_iter().map(|service| wish(service, None)).collect())
    }

    /// The service of this name, or all.
    pub(super) fn services_named(&self, name: Option<&str>) -> Result<Vec<ServiceId>, String> {
        let services = self.config.services.iter().enumerate();
        let meant = services.filter(|(_, service)| name.is_none_or(|name| *name == service.name));
        let meant: Vec<_> = meant.map(|(index, _)| ServiceId(index)).collect();
        match (name, meant.is_empty()) {
            (Some(name), true) => Err(format!("there is no service {name}; `voip-ha status` names them")),
            _ => Ok(meant),
        }
    }
}
