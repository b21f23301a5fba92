//! Who gets which number in the kernel's tables.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use voip_ha_ebpf::abi::{
    Address, Choice, MAX_SERVERS, MAX_SERVICES, Named, ServerNumber, ServicePlace, Slot, SteeringWord,
};

use super::{mapped::Words, tables::Tables};
use crate::{
    config::{Addresses, Config, Server, Service},
    ids::{ServerId, ServiceId},
};

/// Where services and servers are in the kernel's tables.
pub(super) struct Places {
    /// The place with each service's present entry, by [`ServiceId`]. It says which decision word is the service's, too.
    pub(super) services: Vec<ServicePlace>,
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
    /// Gives every service a place and every server a slot: what it has already by one of its addresses, or the lowest free one.
    /// Writes nothing.
    pub(super) fn assign(config: &Config, tables: &Tables, words: &Words) -> Result<Self> {
        let held = held_places(tables)?;
        let indexes = held.iter().map(|(vip, place)| (*vip, place.service())).collect();
        let vips: Vec<_> = config.services.iter().map(|service| keys(&service.vips)).collect();
        let indexes = allocate(&vips, &indexes, MAX_SERVICES);
        let place = |(vips, index): (&Vec<Address>, u32)| {
            let present = vips.iter().filter_map(|vip| held.get(vip)).find(|place| place.service() == index);
            present.copied().unwrap_or(ServicePlace::new(index, 0))
        };
        let services = vips.iter().zip(indexes).map(place).collect();

        let held = held_slots(tables);
        let numbers = held.iter().map(|(address, slot)| (*address, slot.server().0)).collect();
        let addresses: Vec<_> = config.servers().map(|(_, _, server)| keys(&server.addresses)).collect();
        let numbers = allocate(&addresses, &numbers, MAX_SERVERS);
        let named: Vec<_> = (0..MAX_SERVICES).map(|index| words.load(index)).collect();
        // A newcomer's number may be that of an active server which leaves: what packets look at is not written over.
        let in_use = |slot| named.iter().flat_map(|word| word.named().slots()).any(|named| named == slot);
        let unused = |slot: Slot| if in_use(slot) { slot.other_bank() } else { slot };
        let place = |((_, service, server), number): ((ServerId, ServiceId, &Server), u32)| {
            let present =
                keys(&server.addresses).iter().filter_map(|address| held.get(address).copied()).collect::<Vec<_>>();
            let present = present.into_iter().find(|slot| slot.server().0 == number);
            Place { service, slot: present.unwrap_or_else(|| unused(ServerNumber(number).slot(0))) }
        };
        Ok(Self { services, servers: config.servers().zip(numbers).map(place).collect() })
    }

    /// Removes services and servers that left the configuration from the tables. The words of services that stay go on
    /// naming servers that left, until [`Places::set_words_right`].
    pub(super) fn remove_others(&self, config: &Config, tables: &mut Tables, words: &Words) -> Result<()> {
        let held = held_places(tables)?;
        let stay = |vip: &Address, index: u32| {
            let is_its = |(service, place): (&Service, &ServicePlace)| {
                place.service() == index && keys(&service.vips).contains(vip)
            };
            config.services.iter().zip(&self.services).any(is_its)
        };
        let staying: BTreeSet<_> = held
            .iter()
            .map(|(vip, place)| (vip, place.service()))
            .filter(|(vip, index)| stay(vip, *index))
            .map(|(_, index)| index)
            .collect();
        for (vip, place) in held.iter().filter(|(vip, place)| !stay(vip, place.service())) {
            tables.endpoints.remove(*vip);
            if !staying.contains(&place.service()) {
                // The epoch goes on: the next service with this index must not find stamps under its own.
                let epoch = words.load(place.service()).epoch();
                words.store(place.service(), SteeringWord::new(Named::default(), epoch));
            }
        }
        let addresses: Vec<_> = config.servers().flat_map(|(_, _, server)| keys(&server.addresses)).collect();
        for (address, _) in held_slots(tables).into_iter().filter(|(address, _)| !addresses.contains(address)) {
            tables.endpoints.remove(address);
            tables.forget_fragments();
        }
        Ok(())
    }

    /// Takes servers that do not belong to a service, or did not until now, out of the service's word; `stayed` tells the
    /// others. Where signalling or media went to it, the service's first one takes its place in the same store. Points the
    /// word at the present slot of those that stay: a controller that died while it wrote a next hop left it at the
    /// other one.
    pub(super) fn set_words_right(&self, words: &Words, stayed: impl Fn(ServerId) -> bool) {
        for (index, place) in self.services.iter().enumerate() {
            let word_index = place.service();
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
            words.store(word_index, word.steered(new, choice).with_notes(word.notes().settled()));
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

/// Addresses as the tables have them.
pub(super) fn keys(addresses: &Addresses) -> Vec<Address> {
    addresses.iter().map(Address::from).collect()
}

/// Places of the services that are in the tables, by VIP.
fn held_places(tables: &Tables) -> Result<BTreeMap<Address, ServicePlace>> {
    let services = tables.services()?;
    let vips = services.iter().flat_map(|service| keys(&service.vips).into_iter().map(|vip| (vip, service.place)));
    Ok(vips.collect())
}

/// Slots of the servers that are in the tables, by address.
fn held_slots(tables: &Tables) -> BTreeMap<Address, Slot> {
    let servers = tables.servers();
    servers
        .iter()
        .flat_map(|server| keys(&server.addresses).into_iter().map(|address| (address, server.slot)))
        .collect()
}

/// A number below `limit` for each of those that have these addresses: the one that an address holds, or the lowest that nobody
/// else holds. Where two of them share a number, because their addresses were one's, the first keeps it.
fn allocate(wanted: &[Vec<Address>], held: &BTreeMap<Address, u32>, limit: u32) -> Vec<u32> {
    let mut taken = BTreeSet::new();
    let mut kept = Vec::new();
    for addresses in wanted {
        let number = addresses.iter().find_map(|address| held.get(address)).copied();
        kept.push(number.filter(|number| taken.insert(*number)));
    }
    let mut free = (0..limit).filter(|number| !taken.contains(number));
    let number = |kept: Option<u32>| kept.or_else(|| free.next());
    kept.into_iter().map(number).collect::<Option<_>>().expect("a configuration has no more than the tables hold")
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Address = Address::v4([10, 0, 0, 1]);
    const B: Address = Address::v4([10, 0, 0, 2]);
    const C: Address = Address::v4([10, 0, 0, 3]);

    #[test]
    fn who_stays_keeps_the_number_and_who_comes_takes_the_lowest_free_one() {
        let held = BTreeMap::from([(A, 0), (B, 2)]);
        assert_eq!(allocate(&[vec![C], vec![B], vec![A]], &held, 4), [1, 2, 0]);
    }

    #[test]
    fn the_number_of_who_left_is_free_again() {
        let held = BTreeMap::from([(A, 0), (B, 1)]);
        assert_eq!(allocate(&[vec![B], vec![C]], &held, 2), [1, 0]);
    }

    #[test]
    fn an_address_more_or_less_changes_no_number_and_one_number_is_nobody_elses() {
        let held = BTreeMap::from([(A, 1), (B, 1)]);
        assert_eq!(allocate(&[vec![C, A]], &held, 4), [1]);
        assert_eq!(allocate(&[vec![B], vec![A]], &held, 4), [1, 0]);
    }
}
