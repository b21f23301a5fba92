//! What the bench writes.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::bench::Machine;

/// Everything that was measured.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Data {
    /// On what it was measured.
    pub machine: Machine,
    /// How often each figure was measured. All figures are medians of so many.
    pub rounds: usize,
    /// One entry for each path and number of flows.
    pub ns_per_packet: Vec<Cost>,
    /// One entry for each system that was measured through the lab; empty if none was.
    pub packets_per_s: Vec<Rate>,
    /// One entry for each system that a flood from one source was sent to; empty if none was.
    pub drops_per_s: Vec<DropRate>,
    /// One entry for each size of the configuration.
    pub growth: Vec<Growth>,
    /// Instructions that the verifier walked through, by program.
    pub verified_insns: BTreeMap<String, u32>,
    /// Memory of each map.
    pub map_bytes: BTreeMap<String, u64>,
}

/// What a packet costs on one path.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Name of the path.
    pub path: String,
    /// So many flows took turns.
    pub flows: u32,
    /// Processor time.
    pub ns: f64,
    /// Of a program that only redirects.
    pub bare_redirect_ns: f64,
    /// Of a program that parses, rewrites, counts and redirects.
    pub feature_free_ns: f64,
    /// Of one question to the routing table.
    pub fib_lookup_ns: f64,
    /// Of `ns` over the rounds.
    pub ns_spread: Spread,
    /// The ratio of `ns` to `feature_free_ns` in each round.
    pub to_feature_free: Spread,
    /// The ratio of `ns` to that with the fewest flows in each round.
    pub to_fewest_flows: Spread,
}

/// What went through the lab with one system.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rate {
    /// Name of the system.
    pub system: String,
    /// Packets per second that came to the server.
    pub pps: f64,
    /// Of `pps` over the rounds.
    pub pps_spread: Spread,
    /// The share of the packets that came to the gateway: the median. Below 1 the gateway was offered more than it takes.
    pub arrived_share: f64,
    /// The ratio of `pps` to that of a program that only redirects, in each round; none if that was not measured.
    pub to_bare_redirect: Option<Spread>,
    /// The ratio of `pps` to that of DNAT by nftables, in each round; none if that was not measured.
    pub to_nft_dnat: Option<Spread>,
    /// How often it was measured.
    pub rounds: usize,
    /// So many flows took turns.
    pub flows: u32,
}

/// What one system did to a flood from one source, and to the calls beside it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DropRate {
    /// Name of the system.
    pub system: String,
    /// Packets per second that came to the gateway and not to the server.
    pub pps: f64,
    /// Of `pps` over the rounds.
    pub pps_spread: Spread,
    /// The ratio of `pps` to that of a program that knows one address to drop, in each round.
    pub to_bare_drop: Spread,
    /// How often it was measured.
    pub rounds: usize,
    /// Calls that ran beside the flood.
    pub calls: usize,
    /// RTP packets that phones sent while the flood came, in all rounds.
    pub rtp_sent: u64,
    /// Of these: no echo came back.
    pub rtp_lost: u64,
    /// SIP requests that phones sent meanwhile, repeated ones included.
    pub sip_sent: u64,
    /// Of these: no answer, or none in time.
    pub sip_lost: u64,
}

/// What a packet costs with so much in the tables.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Growth {
    /// Name of the path.
    pub path: String,
    /// Services in the configuration.
    pub services: u32,
    /// Servers of all services.
    pub servers: u32,
    /// Processor time.
    pub ns: f64,
    /// Of `ns` over the rounds.
    pub ns_spread: Spread,
    /// The ratio of `ns` to that of the smallest configuration in each round.
    pub to_smallest: Spread,
}

/// A distribution over the rounds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// Lowest.
    pub min: f64,
    /// A quarter is not above it.
    pub p25: f64,
    /// Median.
    pub p50: f64,
    /// Three quarters are not above it.
    pub p75: f64,
    /// Highest.
    pub max: f64,
}

impl Spread {
    /// Of at least one value.
    pub(super) fn of(values: &[f64]) -> Result<Self> {
        let mut values = values.to_vec();
        values.sort_by(f64::total_cmp);
        let last = values.len().checked_sub(1).context("nothing was measured")?;
        let at = |quarters: usize| round(values[(last * quarters + 2) / 4]);
        Ok(Self { min: at(0), p25: at(1), p50: at(2), p75: at(3), max: at(4) })
    }

    /// Of the ratios in each round.
    pub(super) fn of_ratios(values: &[f64], to: &[f64]) -> Result<Self> {
        Self::of(&values.iter().zip(to).map(|(value, to)| value / to).collect::<Vec<_>>())
    }
}

/// To thousandths: more digits say nothing.
fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

impl Data {
    /// Without any figure.
    pub(super) fn of(machine: Machine, rounds: usize) -> Self {
        Self {
            machine,
            rounds,
            ns_per_packet: Vec::new(),
            packets_per_s: Vec::new(),
            drops_per_s: Vec::new(),
            growth: Vec::new(),
            verified_insns: BTreeMap::new(),
            map_bytes: BTreeMap::new(),
        }
    }

    /// The figures of a path with so many flows.
    pub fn cost(&self, path: &str, flows: u32) -> Option<&Cost> {
        self.ns_per_packet.iter().find(|cost| cost.path == path && cost.flows == flows)
    }

    /// The numbers of flows, ascending.
    pub(super) fn flows(&self) -> Vec<u32> {
        let mut flows: Vec<_> = self.ns_per_packet.iter().map(|cost| cost.flows).collect();
        flows.sort_unstable();
        flows.dedup();
        flows
    }

    /// Writes all of it.
    pub(super) fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles_are_values_that_were_measured() {
        let spread = Spread::of(&[5.0, 1.0, 4.0, 2.0, 3.0]).unwrap();
        assert_eq!((spread.min, spread.p25, spread.p50, spread.p75, spread.max), (1.0, 2.0, 3.0, 4.0, 5.0));
        let one = Spread::of(&[7.0]).unwrap();
        assert_eq!((one.min, one.p50, one.max), (7.0, 7.0, 7.0));
        assert!(Spread::of(&[]).is_err());
    }

    #[test]
    fn a_ratio_is_that_of_one_round() {
        // The second round was disturbed as a whole.
        let spread = Spread::of_ratios(&[20.0, 60.0, 20.0], &[10.0, 30.0, 10.0]).unwrap();
        assert_eq!((spread.min, spread.max), (2.0, 2.0));
    }
}
