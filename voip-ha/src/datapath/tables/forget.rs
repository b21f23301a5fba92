//! Taking out of the maps what must not be there any more.

use anyhow::{Context as _, Result};
use aya::maps::PerCpuValues;
use voip_ha_ebpf::abi::{
    CLASSES, Class, Counter, FlowKey, MAX_FLOWS, OUTCOMES, Outcome, PendingEntry, ServerNumber, TrafficEntry,
    counter_index, pending_index,
};

use super::Tables;

impl Tables {
    /// Forgets all that was counted and seen of one server: a new one takes its number.
    pub(in crate::datapath) fn forget(&mut self, server: ServerNumber) -> Result<()> {
        let first = counter_index(Some(server), Class::Other, Outcome::ToServer);
        for index in first..first + CLASSES * OUTCOMES {
            let zeros = everywhere(Counter::default())?;
            self.counters.set(index, zeros, 0).with_context(|| format!("cannot write COUNTERS[{index}]"))?;
        }
        self.signs
            .set(server.0, TrafficEntry::default(), 0)
            .with_context(|| format!("cannot write TRAFFIC[{}]", server.0))?;
        for &class in Class::ALL {
            let index = pending_index(server, class);
            let zeros = everywhere(PendingEntry::default())?;
            self.pending.set(index, zeros, 0).with_context(|| format!("cannot write PENDING[{index}]"))?;
        }
        Ok(())
    }

    /// Removes all devices but these: those that an earlier configuration named.
    pub(in crate::datapath) fn remove_other_devices(&mut self, ifindexes: &[u32]) -> Result<()> {
        let devices = self.devices.keys().collect::<Result<Vec<_>, _>>().context("cannot read DEVICES")?;
        for device in devices.into_iter().filter(|device| !ifindexes.contains(device)) {
            self.devices.remove(device).context("cannot remove from DEVICES")?;
        }
        Ok(())
    }

    /// Forgets all flows, of whichever service.
    pub(in crate::datapath) fn clear_flows(&mut self) -> Result<()> {
        self.take_flows(|_| true).map(drop)
    }

    /// Removes flows, and says how many they were.
    pub(in crate::datapath) fn take_flows(&mut self, wanted: impl Fn(&FlowKey) -> bool) -> Result<u64> {
        // The map may grow under the reader, who then begins again where the kernel lets him.
        let keys = self.flows.keys().take(MAX_FLOWS as usize).collect::<Result<Vec<_>, _>>();
        let mut taken = 0;
        for key in keys.context("cannot read FLOWS")?.iter().filter(|key| wanted(key)) {
            taken += u64::from(self.flows.remove(key).is_ok());
        }
        Ok(taken)
    }
}

/// A value for each CPU.
pub(super) fn everywhere<T: aya::Pod>(value: T) -> Result<PerCpuValues<T>> {
    let cpus = aya::util::nr_cpus().map_err(|(path, error)| anyhow::anyhow!("cannot read {path}: {error}"))?;
    vec![value; cpus].try_into().context("one value for each CPU")
}
