//! Taking out of the maps what was noted, for who reads it once.

use anyhow::{Context as _, Result};
use aya::maps::PerCpuValues;
use voip_ha_ebpf::abi::{Class, Counter, Outcome, ServerNumber, counter_index};

use super::{Tables, forget::everywhere};

/// What a frame was counted as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::datapath) struct CountedAs {
    pub(in crate::datapath) server: Option<ServerNumber>,
    pub(in crate::datapath) class: Class,
    pub(in crate::datapath) outcome: Outcome,
}

impl Tables {
    /// Everything that was counted of these servers, and of none, once for each counter. They are zero then.
    pub(in crate::datapath) fn take_counts(&mut self, servers: &[ServerNumber]) -> Result<Vec<CountedAs>> {
        let mut taken = Vec::new();
        for server in servers.iter().copied().map(Some).chain([None]) {
            for &class in Class::ALL {
                for &outcome in Outcome::ALL {
                    let index = counter_index(server, class, outcome);
                    let values =
                        self.counters.get(&index, 0).with_context(|| format!("cannot read COUNTERS[{index}]"))?;
                    if values.iter().any(|value| value.packets > 0) {
                        let zeros: PerCpuValues<Counter> = everywhere(Counter::default())?;
                        self.counters
                            .set(index, zeros, 0)
                            .with_context(|| format!("cannot write COUNTERS[{index}]"))?;
                        taken.push(CountedAs { server, class, outcome });
                    }
                }
            }
        }
        Ok(taken)
    }
}
