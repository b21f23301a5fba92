//! What operators want.

use std::time::{Duration, Instant};

use super::{Engine, Output, census::Before};
use crate::{
    decision::{Flip, Order, Refusal, Scope},
    event::Happening,
    ids::{ServerId, ServiceId},
};

/// What an operator asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// The service.
    pub service: ServiceId,
    /// The server that is to be active; `None` hands the choice back to the policy.
    pub server: Option<ServerId>,
    /// What is to go there.
    pub scope: Scope,
    /// Even if the server is down, and even if the service is held.
    pub force: bool,
    /// For how long the running calls of the server before stay with it.
    pub drain: Option<Duration>,
    /// Why, and who asks.
    pub words: Words,
}

/// What an operator says of an order.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Words {
    /// Why.
    pub reason: Option<String>,
    /// Who asks.
    pub asked_by: Option<String>,
}

impl Engine {
    /// Whether a wish would be granted.
    ///
    /// # Errors
    ///
    /// Says why not.
    pub fn may(&self, wish: &Wish) -> Result<(), Refusal> {
        self.services[wish.service.0].decision.may(&self.order(wish), &self.standings(wish.service))
    }

    /// Grants an operator's wish.
    ///
    /// # Errors
    ///
    /// As [`Engine::may`]; nothing has changed then.
    pub fn wish(&mut self, wish: &Wish, now: Instant) -> Result<Vec<Output>, Refusal> {
        let (order, standings) = (self.order(wish), self.standings(wish.service));
        let before = self.before(wish.service);
        let flip = self.services[wish.service.0].decision.obey(&order, &standings, now)?;
        let told = self.chosen(wish.service, wish.server, &wish.words);
        // What waits for its census is no choice yet.
        let told = if wish.server.is_some() && self.is_planned(wish.service) { None } else { Some(told) };
        Ok(self.ordered(wish.service, flip, &before, &wish.words, told, now))
    }

    /// An operator holds a service as it is, or lets it go.
    pub fn hold(&mut self, service: ServiceId, held: bool, words: &Words, now: Instant) -> Vec<Output> {
        let (before, standings) = (self.before(service), self.standings(service));
        let state = &mut self.services[service.0];
        state.decision.hold(held);
        let Words { reason, asked_by } = words.clone();
        let told = Happening::Held { service: state.name.clone(), held, reason, asked_by };
        let flip = state.decision.decide(&standings, now);
        self.ordered(service, flip, &before, words, Some(told), now)
    }

    pub(super) fn chosen(&self, service: ServiceId, server: Option<ServerId>, words: &Words) -> Happening {
        let Words { reason, asked_by } = words.clone();
        let server = server.map(|server| self.servers[server.0].name.clone());
        Happening::Choice { service: self.services[service.0].name.clone(), server, reason, asked_by }
    }

    fn order(&self, wish: &Wish) -> Order {
        let to = wish.server.map(|server| self.rank(server));
        Order { to, scope: wish.scope, force: wish.force, drain: wish.drain }
    }

    /// What an operator's order brings.
    fn ordered(
        &mut self,
        service: ServiceId,
        flip: Option<Flip>,
        before: &Before,
        words: &Words,
        told: Option<Happening>,
        now: Instant,
    ) -> Vec<Output> {
        let mut outputs = self.moved(service, flip, before, words, now);
        let after = self.steering(service);
        let is_written = outputs.iter().any(|output| matches!(output, Output::Steer(..)));
        // Without a flip the word may still have to remember, or forget, that the server was chosen.
        let only_the_memory = !is_written && after != before.steering;
        outputs.extend(
            told.map(|told| if only_the_memory { Output::Steer(service, after, told) } else { Output::Tell(told) }),
        );
        outputs.extend(self.changes(service, now));
        outputs
    }
}
