//! Servers that were left, and still have calls.

use std::time::{Duration, Instant};

use super::{Engine, Output, Words};
use crate::{
    decision::{DrainEnd, Parting, Refusal},
    event::{DrainWhy, Happening},
    ids::{ServerId, ServiceId},
};

impl Engine {
    /// The server that takes over if the active one of a service is taken out.
    ///
    /// # Errors
    ///
    /// There is none.
    pub fn successor(&self, service: ServiceId, now: Instant) -> Result<ServerId, Refusal> {
        let state = &self.services[service.0];
        let rank = state.decision.successor(&self.standings(service), now);
        rank.map(|rank| state.server(rank)).ok_or(Refusal::Nobody)
    }

    /// An operator ends the drain of a server, which may have been about to begin. Nothing happens if there is none.
    pub fn end_drain(&mut self, service: ServiceId, server: ServerId, words: &Words) -> Vec<Output> {
        let before = self.before(service);
        let state = &mut self.services[service.0];
        if state.active() == server && state.decision.drop_planned() {
            return self.not_switched(service, &before, false).into_iter().collect();
        }
        if state.draining().is_none_or(|(draining, _)| draining != server) {
            return Vec::new();
        }
        let Some(rank) = state.decision.end_drain() else { return Vec::new() };
        let told = Happening::DrainEnded {
            service: state.name.clone(),
            server: self.servers[state.server(rank).0].name.clone(),
            end: DrainEnd::Operator,
            reason: words.reason.clone(),
            asked_by: words.asked_by.clone(),
        };
        vec![Output::Steer(service, self.steering(service), told)]
    }

    /// An operator lets the server that drains do so for this long from now on. Nothing happens if there is none.
    pub fn prolong(&mut self, service: ServiceId, time: Duration, words: &Words, now: Instant) -> Vec<Output> {
        self.services[service.0].decision.prolong(time, now);
        self.tell_drain(service, DrainWhy::Prolonged, words, now).map(Output::Tell).into_iter().collect()
    }

    /// What an earlier controller had begun, and when it began is not known: it gets the whole time again.
    pub fn adopted_drains(&self, now: Instant) -> Vec<Happening> {
        let services = (0..self.services.len()).map(ServiceId);
        services.filter_map(|service| self.tell_drain(service, DrainWhy::Adopted, &Words::default(), now)).collect()
    }

    /// What has become of the server that was left.
    pub(super) fn part(&mut self, service: ServiceId, now: Instant) -> Option<Output> {
        self.services[service.0].decision.former()?;
        let standings = self.standings(service);
        let state = &mut self.services[service.0];
        let (rank, parting) = state.decision.part(&standings, now)?;
        let (service_name, server) = (state.name.clone(), self.servers[state.server(rank).0].name.clone());
        let told = match parting {
            Parting::Fenced => Happening::Fenced { service: service_name, server },
            Parting::NotBack => Happening::NotBack { service: service_name, server },
            Parting::Drained(end) => {
                Happening::DrainEnded { service: service_name, server, end, reason: None, asked_by: None }
            }
            Parting::GivenBack => self.tell_drain(service, DrainWhy::GivenBack, &Words::default(), now)?,
        };
        Some(Output::Steer(service, self.steering(service), told))
    }

    fn tell_drain(&self, service: ServiceId, why: DrainWhy, words: &Words, now: Instant) -> Option<Happening> {
        let state = &self.services[service.0];
        let (server, former) = state.draining()?;
        Some(Happening::Draining {
            service: state.name.clone(),
            server: self.servers[server.0].name.clone(),
            seconds: former.until.saturating_duration_since(now).as_secs(),
            why,
            reason: words.reason.clone(),
            asked_by: words.asked_by.clone(),
        })
    }
}
