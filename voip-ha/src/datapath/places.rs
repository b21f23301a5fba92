//! Who gets which number in the kernel's tables.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use anyhow::{Context as _, Result};
use voip_ha_ebpf::abi::{Address, Choice, MAX_SERVERS, MAX_SERVICES, Named, ServerNumber, Slot, SteeringWord};

use super::{mapped::Words, tables::Tables};
use crate::{
    config::{Addresses, Config, Server},
    ids::{ServerId, ServiceId},
};

/// Where services and servers are in the kernel's tables.
pub(super) struct Places {
    /// Index of each service's decision word, by [`ServiceId`].
    pub(super) services: Vec<u32>,
    /// By [`ServerId`].
    pub(super) servers: Vec<Place>,
}

/// Where a server is in the kernel's tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The service it belongs to.
    pub(super) service: ServiceId,
    /// The slot with its present entry; the other bank is free for the next one.
    pub(super) slot: Slot,
}

impl Places {
    /// Gives every service an index and every server a slot: what it has already, or the lowest free one. Writes nothing.
    pub(super) fn assign(config: &Config, tables: &Tables, words: &Words) -> Result<Self> {
        let services = allocate(&vips(config), &held_indexes(tables)?, MAX_SERVICES);
        let held = held_slots(tables)?;
        let numbers = held.iter().map(|(address, slot)| (*address, slot.server().0)).collect();
        let numbers = allocate(&addresses(config), &numbers, MAX_SERVERS);
        let named: Vec<_> = (0..MAX_SERVICES).map(|index| words.load(index)).collect();
        // A newcomer's number may be that of an active server which leaves: what packets look at is not written over.
        let in_use = |slot| named.iter().flat_map(|word| word.named().slots()).any(|named| named == slot);
        let unused = |slot: Slot| if in_use(slot) { slot.other_bank() } else { slot };
        let place = |((_, service, server), number): ((ServerId, ServiceId, &Server), u32)| Place {
            service,
            slot: held.get(&key(&server.addresses)).copied().unwrap_or_else(|| unused(ServerNumber(number).slot(0))),
        };
        Ok(Self { services, servers: config.servers().zip(numbers).map(place).collect() })
    }

    /// Removes services and servers that left the configuration from the tables. The words of services that stay go on
    /// naming servers that left, until [`Places::set_words_right`].
    pub(super) fn remove_others(config: &Config, tables: &mut Tables, words: &Words) -> Result<()> {
        let held = held_indexes(tables)?;
        for vip in leaving(&vips(config), &held) {
            tables.services.remove(&vip).context("cannot remove from SERVICES")?;
            // The epoch goes on: the next service with this index must not find stamps under its own.
            let epoch = words.load(held[&vip]).epoch();
            words.store(held[&vip], SteeringWord::new(Named::default(), epoch));
        }
        for address in leaving(&addresses(config), &held_slots(tables)?) {
            tables.origins.remove(&address).context("cannot remove from ORIGINS")?;
        }
        Ok(())
    }

    /// Takes servers that do not belong to a service, or did not until now, out of the service's word; `stayed` tells the
    /// others. Where signalling or media went to it, the service's first one takes its place in the same store. Points the
    /// word at the present slot of those that stay: a controller that died while it wrote a next hop left it at the
    /// other one.
    pub(super) fn set_words_right(&self, words: &Words, stayed: impl Fn(ServerId) -> bool) {
        for (index, &word_index) in self.services.iter().enumerate() {
            let (service, word) = (ServiceId(index), words.load(word_index));
            let first = || self.servers.iter().find(|place| place.service == service).map(|place| place.slot);
            let present = |slot: Slot| {
                let known = self.server_in(service, Some(slot)).filter(|server| stayed(*server));
                known.map(|server| self.servers[server.0].slot)
            };
            let old = word.named();
            let mut new = old.map(present);
            new.signalling = new.signalling.or_else(|| old.signalling.and_then(|_| first()));
            new.media = new.media.or_else(|| old.media.and_then(|_| first()));
            new.draining = new.draining.filter(|slot| ![new.signalling, new.media].contains(&Some(*slot)));
            let server = |slot: Option<Slot>| slot.map(Slot::server);
            let same = server(new.signalling) == server(old.signalling) && server(new.media) == server(old.media);
            let choice = if same { word.choice() } else { Choice::None };
            // No flip that anybody would write a receipt for, or end the count of.
            words.store(word_index, word.steered(new, choice).with_census(false));
        }
    }

    /// The server with this number.
    pub(super) fn server_numbered(&self, number: ServerNumber) -> Option<ServerId> {
        self.servers.iter().position(|place| place.slot.server() == number).map(ServerId)
    }

    /// The server that a slot belongs to, in either bank, if it is one of `service`.
    pub(super) fn server_in(&self, service: ServiceId, slot: Option<Slot>) -> Option<ServerId> {
        let number = slot?.server();
        let is_it = |place: &Place| place.service == service && place.slot.server() == number;
        self.servers.iter().position(is_it).map(ServerId)
    }
}

/// What the tables know a service or server by: they have no place for IPv6 yet.
pub(super) fn key(addresses: &Addresses) -> Address {
    addresses.v4.unwrap_or(Ipv4Addr::UNSPECIFIED).octets()
}

fn vips(config: &Config) -> Vec<Address> {
    config.services.iter().map(|service| key(&service.vips)).collect()
}

fn addresses(config: &Config) -> Vec<Address> {
    config.servers().map(|(_, _, server)| key(&server.addresses)).collect()
}

/// Indexes of the services that are in the tables, by VIP.
fn held_indexes(tables: &Tables) -> Result<BTreeMap<Address, u32>> {
    Ok(tables.services()?.into_iter().map(|(vip, entry)| (vip.octets(), entry.service)).collect())
}

/// Slots of the servers that are in the tables, by address.
fn held_slots(tables: &Tables) -> Result<BTreeMap<Address, Slot>> {
    Ok(tables.origins()?.into_iter().map(|(address, entry)| (address.octets(), Slot(entry.slot))).collect())
}

/// A number below `limit` for each key: the one it holds, or the lowest that no wanted key holds.
fn allocate(wanted: &[Address], held: &BTreeMap<Address, u32>, limit: u32) -> Vec<u32> {
    let kept: BTreeSet<u32> = wanted.iter().filter_map(|key| held.get(key).copied()).collect();
    let mut free = (0..limit).filter(|number| !kept.contains(number));
    let number = |key| held.get(key).copied().or_else(|| free.next());
    wanted.iter().map(number).collect::<Option<_>>().expect("a configuration has no more than the tables hold")
}

fn leaving<T>(wanted: &[Address], held: &BTreeMap<Address, T>) -> Vec<Address> {
    held.keys().filter(|key| !wanted.contains(key)).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Address = [10, 0, 0, 1];
    const B: Address = [10, 0, 0, 2];
    const C: Address = [10, 0, 0, 3];

    #[test]
    fn who_stays_keeps_the_number_and_who_comes_takes_the_lowest_free_one() {
        let held = BTreeMap::from([(A, 0), (B, 2)]);
        assert_eq!(allocate(&[C, B, A], &held, 4), [1, 2, 0]);
    }

    #[test]
    fn the_number_of_who_left_is_free_again() {
        let held = BTreeMap::from([(A, 0), (B, 1)]);
        assert_eq!(allocate(&[B, C], &held, 2), [1, 0]);
        assert_eq!(leaving(&[B, C], &held), [A]);
    }
}
