//! Makes receipts of flips. Pure: the time, the events and the kernel's notes are arguments.
//!
//! ```text
//!   flip ──at once──► unanswered, last sign of life          these change when the old server comes back
//!        ──SETTLED──► first packets, flows, first reading of the throughput
//!        ──MEASURED─► second reading; the receipt is done, unless the new server was sent packets and none came back:
//!        ──AGAIN────► looked for until GIVEN_UP, or another flip of the service
//! ```

use std::{collections::HashMap, time::Duration};

use super::{
    collection::Collection,
    ledger::Ledger,
    looks::{INTERVAL, Looks},
};
use crate::{
    config::Config,
    detector::Health,
    event::{Event, FlipRecord, Happening},
    evidence::Fault,
    ids::{ServerId, ServiceId},
    receipt::Receipt,
    status::FLOW_ENDED,
};

/// Names and numbers of a service.
struct Known {
    name: String,
    servers: Vec<(String, ServerId)>,
}

/// Collects receipts.
pub(super) struct Collector {
    services: Vec<Known>,
    looks: Vec<Looks>,
    running: Vec<Collection>,
    /// By name of the server: the latest health that was told, and what was wrong with it then.
    health: HashMap<String, (Health, Option<Fault>)>,
    next_look: Duration,
}

impl Collector {
    /// A collector that begins to look now.
    pub(super) fn new(config: &Config, now: Duration) -> Self {
        let services = config.services.iter().enumerate().map(|(index, service)| {
            let of_service = config.servers().filter(|(_, of, _)| of.0 == index);
            Known {
                name: service.name.clone(),
                servers: of_service.map(|(id, _, server)| (server.name.clone(), id)).collect(),
            }
        });
        let services: Vec<_> = services.collect();
        let looks = services.iter().map(|_| Looks::default()).collect();
        Self { services, looks, running: Vec::new(), health: HashMap::new(), next_look: now }
    }

    /// When [`Collector::tick`] has something to do.
    pub(super) fn next_deadline(&self) -> Duration {
        self.running.iter().map(Collection::next).fold(self.next_look, Duration::min)
    }

    /// Something else happened.
    pub(super) fn hear(&mut self, happening: &Happening) {
        match happening {
            Happening::Health { server, to, fault, .. } => {
                self.health.insert(server.clone(), (*to, *fault));
            }
            Happening::Started { .. } => self.health.clear(),
            _ => {}
        }
    }

    /// Where calls were remembered until now, they are forgotten. Returns what was left, if it was a drain that ended.
    pub(super) fn forget(&self, happening: &Happening, ledger: &mut dyn Ledger, now: Duration) -> Option<Happening> {
        let (service, server, drained) = match happening {
            Happening::DrainEnded { service, server, .. } => (service, server, true),
            Happening::NotBack { service, server } | Happening::NotSwitched { service, server, .. } => {
                (service, server, false)
            }
            _ => return None,
        };
        let (id, former) = self.known(service, server)?;
        let left = drained.then(|| ledger.flows_left(id, former, now.saturating_sub(FLOW_ENDED)));
        // What cannot be read is not forgotten; the next flip tries again.
        let _ = ledger.take_flows(id);
        let (service, server) = (service.clone(), server.clone());
        Some(Happening::DrainLeft { service, server, rtp_flows: left?.ok()? })
    }

    fn known(&self, service: &str, server: &str) -> Option<(ServiceId, ServerId)> {
        let index = self.services.iter().position(|known| known.name == service)?;
        let (_, id) = self.services[index].servers.iter().find(|(name, _)| name == server)?;
        Some((ServiceId(index), *id))
    }

    /// A service was flipped. Returns the receipts of earlier flips of the same service, which end by that.
    pub(super) fn flip(
        &mut self,
        event: &Event,
        flip: &FlipRecord,
        ledger: &mut dyn Ledger,
        now: Duration,
    ) -> Vec<Receipt> {
        let Some(index) = self.services.iter().position(|service| service.name == flip.service) else {
            return Vec::new();
        };
        let service = &self.services[index];
        let old = service.servers.iter().find(|(name, _)| *name == flip.from).map(|(_, id)| *id);
        let mut done = Vec::new();
        let at = Duration::from_micros(flip.flipped_us);
        let mut mixed = false;
        for mut earlier in self.running.extract_if(.., |running| running.service().0 == index) {
            if earlier.is_mixed_with(at, now) {
                mixed = true;
                earlier.share_flows();
            }
            done.push(earlier.superseded(ledger, at));
        }
        let Some(old) = old else { return done };
        let fault = self.fault(flip);
        let mut new = Collection::begin(
            event,
            &FlipRecord { fault, ..flip.clone() },
            (ServiceId(index), old),
            &self.looks[index],
            ledger,
            now,
        );
        if mixed {
            new.share_flows();
        }
        self.running.push(new);
        done
    }

    /// What was wrong with the old server. An operator's flip does not say that: he may switch off a server that is down,
    /// and is kept because he holds the service.
    fn fault(&self, flip: &FlipRecord) -> Option<Fault> {
        let proved = || flip.trail.iter().rev().find_map(|witness| witness.evidence.fault());
        flip.fault.or_else(|| match self.health.get(&flip.from) {
            // It lives, whatever was proved before.
            Some((Health::Maintenance, fault)) => *fault,
            Some((Health::Down, fault)) => proved().or(*fault),
            // Its trail begins anew with each answer.
            _ => proved(),
        })
    }

    /// Does what is due, and returns the receipts that are done.
    pub(super) fn tick(&mut self, ledger: &mut dyn Ledger, now: Duration) -> Vec<Receipt> {
        if now >= self.next_look {
            self.next_look = now + INTERVAL;
            for (index, (service, looks)) in self.services.iter().zip(&mut self.looks).enumerate() {
                looks.look(ServiceId(index), service.servers.iter().map(|(_, id)| *id), ledger, now);
            }
        }
        for running in self.running.iter_mut().filter(|running| running.next() <= now) {
            running.go_on(ledger, now);
        }
        self.running.extract_if(.., |running| running.is_done()).map(Collection::finish).collect()
    }

    /// The controller ends: the receipts with what is known.
    pub(super) fn end(&mut self, ledger: &mut dyn Ledger, now: Duration) -> Vec<Receipt> {
        self.running.drain(..).map(|running| running.interrupted(ledger, now)).collect()
    }
}

#[cfg(test)]
mod tests;
