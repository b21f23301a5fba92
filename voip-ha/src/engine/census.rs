//! Running calls that are noted before a flip, so that what shows after it is known to be new.

use std::time::Instant;

use super::{Engine, Output, Words};
use crate::{
    datapath::Steering,
    decision::{Cause, Dropped, Flip, Former, Planned},
    event::Happening,
    ids::ServiceId,
};

/// How a service was before something was decided about it.
pub(super) struct Before {
    pub(super) steering: Steering,
    pub(super) planned: Option<Planned>,
    /// Whether calls were remembered, for a server that was left by an earlier flip.
    pub(super) remembered: bool,
}

impl Engine {
    pub(super) fn before(&self, service: ServiceId) -> Before {
        let decision = &self.services[service.0].decision;
        Before {
            steering: self.steering(service),
            planned: decision.planned(),
            remembered: decision.former().as_ref().is_some_and(Former::is_remembered),
        }
    }

    pub(super) fn is_planned(&self, service: ServiceId) -> bool {
        self.services[service.0].decision.planned().is_some()
    }

    /// What has to be done for a flip, if one was decided, and for what is planned now or is so no more.
    pub(super) fn moved(
        &mut self,
        service: ServiceId,
        flip: Option<Flip>,
        before: &Before,
        words: &Words,
        now: Instant,
    ) -> Vec<Output> {
        let state = &mut self.services[service.0];
        let is_made = flip.is_some() && state.decision.former().is_some_and(|former| former.is_noted);
        if let Some(flip) = flip.filter(|_| is_made) {
            let words = std::mem::take(&mut state.plan_words);
            let to = state.server(flip.to);
            let output = self.flipped(service, flip, before, &words, now);
            let chosen = (flip.cause == Cause::Operator).then(|| self.chosen(service, Some(to), &words));
            return [Some(output), chosen.map(Output::Tell)].into_iter().flatten().collect();
        }
        let mut outputs: Vec<_> =
            flip.map(|flip| self.flipped(service, flip, before, words, now)).into_iter().collect();
        let is_written = flip.is_some() || self.is_planned(service);
        outputs.extend(self.not_switched(service, before, is_written));
        outputs.extend(self.census(service, before, words));
        outputs
    }

    /// What was planned is so no more, and was not made. `is_written`: what the word says then is written in any case.
    pub(super) fn not_switched(&self, service: ServiceId, before: &Before, is_written: bool) -> Option<Output> {
        let planned = before.planned?;
        let state = &self.services[service.0];
        if state.decision.planned() == Some(planned) {
            return None;
        }
        let (left, to) = (before.steering.signalling?, state.server(planned.to));
        let why = planned.hindrance(self.rank(left), &self.standings(service)).unwrap_or(Dropped::Overruled);
        let [server, to] = [left, to].map(|server| self.servers[server.0].name.clone());
        let told = Happening::NotSwitched { service: state.name.clone(), server, to, why };
        Some(if is_written { Output::Tell(told) } else { Output::Steer(service, self.steering(service), told) })
    }

    /// What is planned from now on.
    fn census(&mut self, service: ServiceId, before: &Before, words: &Words) -> Option<Output> {
        let state = &mut self.services[service.0];
        let planned = state.decision.planned().filter(|planned| before.planned != Some(*planned))?;
        state.plan_words = words.clone();
        let [server, to] = [state.active(), state.server(planned.to)].map(|server| self.servers[server.0].name.clone());
        let Words { reason, asked_by } = words.clone();
        let (service_name, cause, seconds) = (state.name.clone(), planned.cause, planned.drain.as_secs());
        let told = Happening::Census { service: service_name, server, to, cause, seconds, reason, asked_by };
        Some(Output::Steer(service, self.steering(service), told))
    }
}
