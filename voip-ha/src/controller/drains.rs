//! What operators want of servers that drain.

use std::time::{Duration, Instant};

use super::Controller;
use crate::{
    control::{DrainOutcome, DrainRequest, DrainStep},
    datapath::Datapath,
    decision::Scope,
    engine::{Wish, Words},
    ids::{ServerId, ServiceId},
};

impl<D: Datapath> Controller<D> {
    pub(super) fn drain(&mut self, request: &DrainRequest, now: Instant) -> Result<Vec<DrainOutcome>, String> {
        let words = Words { reason: request.reason.clone(), asked_by: request.asked_by.clone() };
        if request.end {
            return self.end_drains(request, &words, now);
        }
        let name = request.name.as_deref().ok_or("which server is to drain?")?;
        let Some((server, service)) = self.config.server_named(name) else {
            return Err(format!("there is no server {name}; `voip-ha status` names them"));
        };
        let time = self.drain_time(request.drain_s)?;
        let mut engine = self.engine.clone();
        let state = &engine.services()[service.0];
        let (step, outputs) = if state.draining().is_some_and(|(draining, _)| draining == server) {
            (DrainStep::Prolonged, engine.prolong(service, time, &words, now))
        } else if state.active() != server && state.media() != server {
            let active = self.name(state.active());
            return Err(format!("{name} is not active in {}, {active} is: there is nothing to drain", state.name));
        } else {
            let refused = |why| format!("{name} is not drained: {why}");
            let to = engine.successor(service, now).map_err(refused)?;
            let wish = Wish { service, server: Some(to), scope: Scope::Both, force: false, drain: Some(time), words };
            (DrainStep::Begun, engine.wish(&wish, now).map_err(refused)?)
        };
        let state = &engine.services()[service.0];
        let active = self.name(state.planned().map_or(state.active(), |(to, _)| to));
        if !request.dry_run {
            self.engine = engine;
            self.carry_out(outputs, now);
        }
        let service = self.config.services[service.0].name.clone();
        let drain_s = Some(time.as_secs());
        Ok(vec![DrainOutcome { service, server: name.to_owned(), active, step, drain_s, dry_run: request.dry_run }])
    }

    fn end_drains(&mut self, request: &DrainRequest, words: &Words, now: Instant) -> Result<Vec<DrainOutcome>, String> {
        let mut outcomes = Vec::new();
        for (service, server) in self.drains_named(request.name.as_deref())? {
            let active = self.name(self.engine.services()[service.0].active());
            if !request.dry_run {
                let outputs = self.engine.end_drain(service, server, words);
                self.carry_out(outputs, now);
            }
            outcomes.push(DrainOutcome {
                service: self.config.services[service.0].name.clone(),
                server: self.name(server),
                active,
                step: DrainStep::Ended,
                drain_s: None,
                dry_run: request.dry_run,
            });
        }
        Ok(outcomes)
    }

    /// The drains of the service, or the server, of this name; or all.
    fn drains_named(&self, name: Option<&str>) -> Result<Vec<(ServiceId, ServerId)>, String> {
        let (services, server) = match name.and_then(|name| self.config.server_named(name)) {
            Some((server, service)) => (vec![service], Some(server)),
            None => (self.services_named(name)?, None),
        };
        let of_service = |service: ServiceId| {
            let state = &self.engine.services()[service.0];
            // One that is about to begin can be ended, too.
            let planned = state.planned().map(|_| state.active());
            planned.into_iter().chain(state.draining().map(|(server, _)| server)).map(move |server| (service, server))
        };
        let drains = services.into_iter().flat_map(of_service);
        let drains: Vec<_> = drains.filter(|(_, draining)| server.is_none_or(|server| server == *draining)).collect();
        match (drains.is_empty(), server, name) {
            (false, ..) => Ok(drains),
            (true, Some(_), Some(name)) => Err(format!("{name} does not drain")),
            (true, _, Some(name)) => Err(format!("no server of {name} drains")),
            (true, ..) => Err("no server drains".to_owned()),
        }
    }

    /// For how long a server is to drain.
    pub(super) fn drain_time(&self, seconds: Option<u64>) -> Result<Duration, String> {
        match seconds.map_or(self.config.policy.drain, Duration::from_secs) {
            Duration::ZERO => Err("for how long is it to drain? policy.drain_s is 0".to_owned()),
            time => Ok(time),
        }
    }

    fn name(&self, server: ServerId) -> String {
        self.engine.servers()[server.0].name.clone()
    }
}
