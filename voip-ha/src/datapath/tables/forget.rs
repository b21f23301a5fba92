//! Taking out of the maps what must not be there any more.

use anyhow::{Context as _, Result};
use aya::maps::PerCpuValues;
use voip_ha_ebpf::abi::{
    Class, FlowEntry, FlowKey, MAX_CALLS, MAX_FLOWS, MAX_FRAGMENTS, MAX_SERVICES, ServerNumber, Tally, TrafficEntry,
    tally_index,
};

use super::Tables;

impl Tables {
    /// Forgets all that was counted and seen of one server: a new one takes its number.
    pub(in crate::datapath) fn forget(&mut self, server: ServerNumber) -> Result<()> {
        for &class in Class::ALL {
            self.write_tally(tally_index(Some(server), class), Tally::default())?;
        }
        self.signs
            .set(server.0, TrafficEntry::default(), 0)
            .with_context(|| format!("cannot write TRAFFIC[{}]", server.0))?;
        self.mappings.forget(server);
        Ok(())
    }

    /// Has all CPUs begin with this tally.
    pub(super) fn write_tally(&mut self, index: u32, tally: Tally) -> Result<()> {
        self.counters.set(index, everywhere(tally)?, 0).with_context(|| format!("cannot write COUNTERS[{index}]"))
    }

    /// Forgets first fragments: a server whose slot they name has left.
    pub(in crate::datapath) fn forget_fragments(&mut self) {
        for key in self.fragments.keys().take(MAX_FRAGMENTS as usize).flatten().collect::<Vec<_>>() {
            let _ = self.fragments.remove(&key);
        }
    }

    /// Forgets all flows, but for those of services that a server drains from: it goes on.
    pub(in crate::datapath) fn clear_flows(&mut self) -> Result<()> {
        let draining = (0..MAX_SERVICES).map(|service| {
            let word = self.word(service)?;
            Ok(word.is_affine() && word.draining().is_some())
        });
        let draining = draining.collect::<Result<Vec<_>>>()?;
        self.forget_calls(|service| !draining.get(service as usize).is_some_and(|drains| *drains))
    }

    /// How many flows there are of this kind.
    pub(in crate::datapath) fn count_flows(&self, wanted: impl Fn(&FlowKey, &FlowEntry) -> bool) -> Result<u64> {
        // The map may grow under the reader, who then begins again where the kernel lets him.
        let flows = self.flows.iter().take(MAX_FLOWS as usize).collect::<Result<Vec<_>, _>>();
        Ok(flows.context("cannot read FLOWS")?.iter().filter(|(key, entry)| wanted(key, entry)).count() as u64)
    }

    /// The one place where what is remembered of the calls of a service is forgotten.
    pub(in crate::datapath) fn forget_calls(&mut self, of_service: impl Fn(u32) -> bool) -> Result<()> {
        let keys = self.flows.keys().take(MAX_FLOWS as usize).collect::<Result<Vec<_>, _>>();
        for key in keys.context("cannot read FLOWS")?.iter().filter(|key| of_service(key.service)) {
            // One that is not there any more is forgotten as well.
            let _ = self.flows.remove(key);
        }
        let keys: Vec<_> = self.calls.keys().take(MAX_CALLS as usize).flatten().collect();
        for key in keys.iter().filter(|key| of_service(key.service)) {
            let _ = self.calls.remove(key);
        }
        Ok(())
    }
}

/// A value for each CPU.
pub(super) fn everywhere<T: aya::Pod>(value: T) -> Result<PerCpuValues<T>> {
    let cpus = aya::util::nr_cpus().map_err(|(path, error)| anyhow::anyhow!("cannot read {path}: {error}"))?;
    vec![value; cpus].try_into().context("one value for each CPU")
}
