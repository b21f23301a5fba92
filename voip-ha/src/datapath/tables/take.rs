//! Taking out of the maps what was noted, for who reads it once.

use anyhow::Result;
use voip_ha_ebpf::abi::{Class, Outcome, ServerNumber, Tally, tally_index};

use super::Tables;

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
                let counters = self.outcomes(server, class)?;
                let counted = counters.iter().filter(|(_, counter)| counter.packets > 0);
                taken.extend(counted.map(|(outcome, _)| CountedAs { server, class, outcome: *outcome }));
                self.write_tally(tally_index(server, class), Tally::default())?;
            }
        }
        Ok(taken)
    }
}
