//! Lists and limits of services, and who is near them.

use std::{cmp::Reverse, collections::BTreeMap};

use anyhow::{Context as _, Result};
use aya::maps::lpm_trie::Key;
use voip_ha_ebpf::abi::{
    Address, DENIES, EXEMPTS, LIMITS_SIP, LimitEntry, ListedKey, Listing, MAX_LISTED, MAX_SOURCES, RefusedEntry,
    ServicePlace, SourceEntry, SourceKey,
};

use super::{Tables, forget::everywhere};
use crate::{
    config::{Prefix, Protection, SipLimit},
    journal::monotonic,
};

/// A sender of SIP to a service with a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// Index of the service in the map `STEERING`.
    pub service: u32,
    /// Its address, or the prefix of an IPv6 sender.
    pub sender: Prefix,
    /// Whether its next packet would be dropped now.
    pub is_over: bool,
    /// How many of its packets were dropped, as far as it is remembered.
    pub dropped: u64,
}

/// What the entry of a service has to say about these lists and limits.
pub(in crate::datapath) fn bits(protection: &Protection) -> u32 {
    let bit = |is_set: bool, bit: u32| if is_set { bit } else { 0 };
    bit(protection.sip.is_some(), LIMITS_SIP)
        | bit(!protection.allow.is_empty(), EXEMPTS)
        | bit(!protection.deny.is_empty(), DENIES)
}

impl Tables {
    /// Lists and limits in a place, as the packet path follows them.
    ///
    /// # Errors
    ///
    /// A map cannot be read.
    pub fn protection(&self, place: ServicePlace) -> Result<Protection> {
        let bits = self.service(place)?.protection;
        let mut protection = Protection::default();
        if bits & LIMITS_SIP != 0 {
            let entry = self.limit(place)?;
            let (packets_per_s, burst) = (entry.packets_per_s, entry.burst);
            protection.sip = Some(SipLimit { packets_per_s, burst, ipv6_prefix: entry.ipv6_prefix() });
        }
        for (key, listing) in self.listed()?.into_iter().filter(|(key, _)| key.data().place() == place) {
            let prefix = prefix(&key);
            match listing {
                Listing::Allowed if bits & (EXEMPTS | DENIES) != 0 => protection.allow.push(prefix),
                Listing::Denied if bits & (EXEMPTS | DENIES) != 0 => protection.deny.push(prefix),
                _ => {}
            }
        }
        protection.allow.sort_unstable();
        protection.deny.sort_unstable();
        Ok(protection)
    }

    /// The senders of SIP that are remembered for services with a limit: of each service those first that lost most.
    ///
    /// # Errors
    ///
    /// A map cannot be read.
    pub fn sources(&self) -> Result<Vec<Source>> {
        let now = monotonic().as_nanos() as u64;
        let mut limits = BTreeMap::new();
        for service in self.services()? {
            limits.insert(service.place.service(), self.limit(service.place)?);
        }
        let (mut sources, refused) = (Vec::new(), self.refused.get(&0, 0).context("cannot read REFUSED[0]")?);
        // The map changes all the time, and what is forgotten meanwhile is nobody's loss.
        for (key, entry) in self.sources.iter().take(MAX_SOURCES as usize).flatten() {
            let Some(limit) = limits.get(&key.service) else { continue };
            let (address, is_over) = (key.address.into(), limit.limit.due_after(entry.due, now) == 0);
            let length = if key.address.is_v4() { 32 } else { limit.ipv6_prefix() };
            let sender = Prefix { address, length };
            let of_cpus = refused.iter().filter(|refused| refused.sender == key).map(|refused| refused.dropped);
            let dropped = entry.dropped + of_cpus.sum::<u64>();
            sources.push(Source { service: key.service, sender, is_over, dropped });
        }
        sources.sort_unstable_by_key(|source| (source.service, Reverse(source.dropped), source.sender));
        Ok(sources)
    }

    /// Writes lists and limits into a place that no packet looks at yet.
    pub(in crate::datapath) fn put_protection(&mut self, place: ServicePlace, wanted: &Protection) -> Result<()> {
        self.remove_listed(|of| of == place)?;
        let entry = wanted.sip.map_or_else(LimitEntry::default, |sip| {
            let SipLimit { packets_per_s, burst, ipv6_prefix } = sip;
            LimitEntry::new(packets_per_s, burst, ipv6_prefix)
        });
        self.limits.set(place.0, entry, 0).with_context(|| format!("cannot write LIMITS[{}]", place.0))?;
        for (list, listing) in [(&wanted.allow, Listing::Allowed), (&wanted.deny, Listing::Denied)] {
            for prefix in list {
                let address = Address::from(prefix.address);
                let key = Key::new(ListedKey::bits(&address, prefix.length), ListedKey::new(place, &address));
                let value = listing as u32;
                self.listed.insert(&key, value, 0).with_context(|| format!("cannot write {prefix} into LISTED"))?;
            }
        }
        Ok(())
    }

    /// Removes the lists of all places but these, and what senders have spent at services that are not among them.
    pub(in crate::datapath) fn keep_protection(&mut self, places: &[ServicePlace]) -> Result<()> {
        self.remove_listed(|place| !places.contains(&place))?;
        self.forget_sources(|service| !places.iter().any(|place| place.service() == service));
        Ok(())
    }

    /// Forgets what senders have spent at these services: it was counted by another limit.
    pub(in crate::datapath) fn forget_sources(&mut self, of_service: impl Fn(u32) -> bool) {
        let keys = self.sources.keys().take(MAX_SOURCES as usize).flatten();
        for key in keys.filter(|key| of_service(key.service)).collect::<Vec<_>>() {
            // One that is not there any more is forgotten as well.
            let _ = self.sources.remove(&key);
        }
        let refused = self.refused.get(&0, 0).ok();
        // At worst somebody is searched for once more.
        if refused.is_some_and(|cpus| cpus.iter().any(|refused| of_service(refused.sender.service)))
            && let Err(error) = everywhere(RefusedEntry::default()).and_then(|none| Ok(self.refused.set(0, none, 0)?))
        {
            tracing::warn!("cannot write REFUSED[0]: {error:#}");
        }
    }

    /// Copies what lists, limits and senders say. Who has not spent anything that counts is left out.
    pub(in crate::datapath) fn copy_protection(&mut self, live: &Self) -> Result<()> {
        for service in live.services()? {
            let place = service.place;
            self.put_protection(place, &live.protection(place)?)?;
        }
        let now = monotonic().as_nanos() as u64;
        let all = live.sources.iter().take(MAX_SOURCES as usize).flatten();
        for (key, entry) in all.filter(|(_, entry): &(SourceKey, SourceEntry)| entry.due > now) {
            let _ = self.sources.insert(key, entry, 0);
        }
        Ok(())
    }

    fn limit(&self, place: ServicePlace) -> Result<LimitEntry> {
        self.limits.get(&place.0, 0).with_context(|| format!("cannot read LIMITS[{}]", place.0))
    }

    fn listed(&self) -> Result<Vec<(Key<ListedKey>, Listing)>> {
        let entries = self.listed.iter().take(MAX_LISTED as usize).collect::<Result<Vec<_>, _>>();
        let entries = entries.context("cannot read LISTED")?;
        Ok(entries.into_iter().map(|(key, value)| (key, Listing::of(value))).collect())
    }

    fn remove_listed(&mut self, of_place: impl Fn(ServicePlace) -> bool) -> Result<()> {
        for (key, _) in self.listed()?.into_iter().filter(|(key, _)| of_place(key.data().place())) {
            self.listed.remove(&key).context("cannot remove a prefix from LISTED")?;
        }
        Ok(())
    }
}

fn prefix(key: &Key<ListedKey>) -> Prefix {
    Prefix { address: key.data().address().into(), length: key.data().length(key.prefix_len()) }
}
