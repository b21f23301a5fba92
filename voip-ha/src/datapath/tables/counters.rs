//! What became of the packets.

use anyhow::{Context as _, Result};
use aya::maps::PerCpuValues;
use serde::Serialize;
use voip_ha_ebpf::abi::{Class, Counter, Outcome, ServerNumber, Tally, tally_index};

use super::Tables;

/// Packets and bytes of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Traffic {
    /// The server concerned; `None` for packets that no server is concerned with.
    #[serde(skip)]
    pub server: Option<ServerNumber>,
    /// `sip`, `rtp` or `other`.
    pub class: &'static str,
    /// What became of the packets.
    pub outcome: &'static str,
    /// Frames, over all CPUs.
    pub packets: u64,
    /// Bytes of those frames, Ethernet header included.
    pub bytes: u64,
}

impl Tables {
    /// What became of the packets of one server, or of those that no server is concerned with. Zeros are left out.
    ///
    /// # Errors
    ///
    /// The map cannot be read.
    pub fn traffic(&self, server: Option<ServerNumber>) -> Result<Vec<Traffic>> {
        let mut traffic = Vec::new();
        for &class in Class::ALL {
            for (outcome, Counter { packets, bytes }) in self.outcomes(server, class)? {
                if packets > 0 {
                    traffic.push(Traffic { server, class: class.name(), outcome: outcome.name(), packets, bytes });
                }
            }
        }
        Ok(traffic)
    }

    /// What all CPUs have counted of one class of packets, by outcome.
    ///
    /// # Errors
    ///
    /// The map cannot be read.
    pub fn outcomes(&self, server: Option<ServerNumber>, class: Class) -> Result<Vec<(Outcome, Counter)>> {
        let tallies = self.tallies(tally_index(server, class))?;
        let sum = |outcome: Outcome, of: fn(&Counter) -> u64| {
            tallies.iter().map(|tally| of(&tally.outcomes[outcome as usize])).sum()
        };
        let counter = |outcome| Counter {
            packets: sum(outcome, |counter| counter.packets),
            bytes: sum(outcome, |counter| counter.bytes),
        };
        Ok(Outcome::ALL.iter().map(|&outcome| (outcome, counter(outcome))).collect())
    }

    /// What each CPU has counted.
    ///
    /// # Errors
    ///
    /// The map cannot be read.
    pub fn tallies(&self, index: u32) -> Result<PerCpuValues<Tally>> {
        self.counters.get(&index, 0).with_context(|| format!("cannot read COUNTERS[{index}]"))
    }
}
