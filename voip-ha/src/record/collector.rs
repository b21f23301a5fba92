//! Makes receipts of flips. Pure: the time, the events and the kernel's notes are arguments.
//!
//! ```text
//!   flip ──at once──► unanswered, last sign of life          these change when the old server comes back
//!        ──SETTLED──► first packets, flows, first reading of the throughput
//!        ──MEASURED─► second reading; the receipt is done, unless the new server was sent packets and none came back:
//!        ──AGAIN────► looked for until GIVEN_UP, or another flip of the service
//! ```

use std::time::Duration;

use super::{
    collection::Collection,
    ledger::Ledger,
    looks::{INTERVAL, Looks},
};
use crate::{
    config::Config,
    event::{Event, FlipRecord},
    ids::{ServerId, ServiceId},
    receipt::Receipt,
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
        Self { services, looks, running: Vec::new(), next_look: now }
    }

    /// When [`Collector::tick`] has something to do.
    pub(super) fn next_deadline(&self) -> Duration {
        self.running.iter().map(Collection::next).fold(self.next_look, Duration::min)
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
        for earlier in self.running.extract_if(.., |running| running.service().0 == index) {
            done.push(earlier.superseded(ledger, Duration::from_micros(flip.flipped_us)));
        }
        let Some(old) = old else { return done };
        self.running.push(Collection::begin(event, flip, (ServiceId(index), old), &self.looks[index], ledger, now));
        done
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
