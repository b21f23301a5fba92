//! What the bench writes: a block of figures for each system, fault and number of streams, and for each soak.
//!
//! Percentiles are by nearest rank: p99 of fewer than 100 runs is the slowest. One run in which nothing happened
//! makes the distribution null: what never comes has no time.

use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::fault::Fault;

/// Everything that was measured.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Data {
    /// On what it was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<Machine>,
    /// One entry for each system, fault and number of streams.
    pub runs: Vec<Block>,
    /// One entry for each system.
    pub soak: Vec<Soak>,
}

/// On what it was measured: figures of two machines are not to be compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Release of the kernel.
    pub kernel: String,
    /// Processors.
    pub cpus: usize,
}

/// Repetitions of one fault.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Block {
    /// Name of the system.
    pub system: String,
    /// What happened.
    pub fault: Fault,
    /// RTP streams that ran.
    pub streams: usize,
    /// How often.
    pub n: usize,
    /// From the fault to the first answer of the other server that reaches a phone; without streams to the system's own
    /// word. Null: see `reason`.
    pub fault_to_flip_ms: Option<Spread>,
    /// Longest time in which one RTP stream heard nothing.
    pub gap_ms: Option<Spread>,
    /// RTP packets without an echo.
    pub lost: Option<Losses>,
    /// Why something is null, or what is special.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// From the fault to the flip by the system's own clock, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own_flip_ms: Option<Spread>,
    /// Runs in which the other server did not answer within the limit.
    #[serde(default)]
    pub no_flip: usize,
    /// The single runs.
    pub samples: Vec<Sample>,
}

/// One run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// None: not within the limit.
    pub flip_ms: Option<f64>,
    /// The system's own word.
    pub own_flip_ms: Option<f64>,
    /// None: no streams, or no flip.
    pub gap_ms: Option<f64>,
    /// None: no streams, or no flip.
    pub lost: Option<u64>,
}

/// A distribution in ms.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// Median.
    pub p50: f64,
    /// 99 of 100 are not above it.
    pub p99: f64,
    /// The slowest.
    pub max: f64,
}

/// A distribution of packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Losses {
    /// Median.
    pub p50: u64,
    /// The worst.
    pub max: u64,
}

/// One soak.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Soak {
    /// Name of the system.
    pub system: String,
    /// How long it ran.
    pub minutes: f64,
    /// Changes of the server that answers, though neither failed.
    pub false_failovers: u64,
    /// The same by the system's own events, where it has them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own_count: Option<u64>,
    /// How often server processes were paused.
    pub pauses: u64,
    /// The longest of these pauses.
    pub longest_pause_ms: f64,
    /// Packets of probes that were dropped.
    pub probes_dropped: u64,
    /// Packets that the streams sent.
    pub sent: u64,
    /// Packets of these that had no answer.
    pub lost: u64,
    /// What is special.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Block {
    /// Sums up the runs.
    pub fn of(system: &str, fault: Fault, streams: usize, samples: Vec<Sample>, reason: Option<String>) -> Self {
        let spread = |of: fn(&Sample) -> Option<f64>| Spread::of(samples.iter().map(of));
        Self {
            system: system.to_owned(),
            fault,
            streams,
            n: samples.len(),
            fault_to_flip_ms: spread(|sample| sample.flip_ms),
            gap_ms: spread(|sample| sample.gap_ms),
            lost: Losses::of(samples.iter().map(|sample| sample.lost)),
            own_flip_ms: spread(|sample| sample.own_flip_ms),
            no_flip: samples.iter().filter(|sample| sample.flip_ms.is_none()).count(),
            reason,
            samples,
        }
    }

    fn is_like(&self, other: &Self) -> bool {
        (&self.system, self.fault, self.streams) == (&other.system, other.fault, other.streams)
    }
}

impl Spread {
    /// None if there is nothing, or if the slowest never came.
    fn of(values: impl Iterator<Item = Option<f64>>) -> Option<Self> {
        let mut values: Vec<_> = values.collect::<Option<_>>()?;
        values.sort_by(f64::total_cmp);
        let max = *values.last()?;
        Some(Self { p50: round(nearest_rank(&values, 50)), p99: round(nearest_rank(&values, 99)), max: round(max) })
    }
}

impl Losses {
    fn of(values: impl Iterator<Item = Option<u64>>) -> Option<Self> {
        let mut values: Vec<_> = values.collect::<Option<_>>()?;
        values.sort_unstable();
        let max = *values.last()?;
        Some(Self { p50: nearest_rank(&values, 50), max })
    }
}

impl Data {
    /// Reads what an earlier bench wrote; a file that is not there yet is an empty one.
    pub fn read(path: &Path) -> Result<Self> {
        match std::fs::read_to_string(path) {
            Ok(text) => serde_json::from_str(&text).with_context(|| format!("{} is not of this bench", path.display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).with_context(|| path.display().to_string()),
        }
    }

    /// Writes all of it, so that the file is whole at every moment.
    pub fn write(&self, path: &Path) -> Result<()> {
        let unfinished = path.with_extension("unfinished");
        std::fs::write(&unfinished, serde_json::to_string_pretty(self)? + "\n")
            .and_then(|()| std::fs::rename(&unfinished, path))
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// Adds a block, in the place of an earlier one of the same kind.
    pub fn put(&mut self, block: Block) {
        self.runs.retain(|other| !other.is_like(&block));
        self.runs.push(block);
    }

    /// Adds a soak, in the place of an earlier one of the same system.
    pub fn put_soak(&mut self, soak: Soak) {
        self.soak.retain(|other| other.system != soak.system);
        self.soak.push(soak);
    }

    /// The block of this kind.
    pub fn block(&self, system: &str, fault: Fault, streams: usize) -> Option<&Block> {
        self.runs.iter().find(|block| (block.system.as_str(), block.fault, block.streams) == (system, fault, streams))
    }

    /// Whether there are figures of this kind from so many runs.
    pub fn has(&self, system: &str, fault: Fault, streams: usize, runs: usize) -> bool {
        // A block that ended early, since nothing ever happened, is whole.
        let whole = |block: &Block| block.n >= runs || (block.n > 0 && block.no_flip == block.n);
        self.block(system, fault, streams).is_some_and(whole)
    }

    /// Whether this system has soaked for so many minutes; for none it always has.
    pub fn has_soak(&self, system: &str, minutes: f64) -> bool {
        minutes <= 0.0 || self.soak.iter().any(|soak| soak.system == system && soak.minutes >= minutes)
    }
}

/// Of ascending values, not empty.
fn nearest_rank<T: Copy>(values: &[T], percent: usize) -> T {
    let rank = (values.len() * percent).div_ceil(100);
    values[rank.max(1) - 1]
}

/// To microseconds: more digits say nothing.
pub(super) fn round(ms: f64) -> f64 {
    (ms * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(flips: &[Option<f64>]) -> Block {
        let sample = |flip_ms: &Option<f64>| Sample { flip_ms: *flip_ms, lost: Some(3), ..Sample::default() };
        Block::of("x", Fault::Crash, 50, flips.iter().map(sample).collect(), None)
    }

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let flips: Vec<_> = (1..=200).rev().map(|ms| Some(f64::from(ms))).collect();
        let spread = block(&flips).fault_to_flip_ms.unwrap();
        assert_eq!((spread.p50, spread.p99, spread.max), (100.0, 198.0, 200.0));
        let few = block(&[Some(7.0), Some(1.0), Some(2.0)]).fault_to_flip_ms.unwrap();
        assert_eq!((few.p50, few.p99, few.max), (2.0, 7.0, 7.0));
    }

    #[test]
    fn one_run_without_a_flip_makes_the_whole_null() {
        let block = block(&[Some(1.0), None, Some(2.0)]);
        assert_eq!((block.fault_to_flip_ms, block.no_flip, block.n), (None, 1, 3));
        assert_eq!(block.lost, Some(Losses { p50: 3, max: 3 }));
    }

    #[test]
    fn a_block_takes_the_place_of_its_like_and_of_no_other() {
        let mut data = Data::default();
        data.put(block(&[Some(1.0)]));
        data.put(Block { streams: 1, ..block(&[Some(2.0)]) });
        data.put(block(&[Some(3.0); 5]));
        assert_eq!(data.runs.len(), 2);
        assert!(data.has("x", Fault::Crash, 50, 5) && !data.has("x", Fault::Crash, 50, 6));
        assert!(!data.has("x", Fault::Hang, 50, 1) && !data.has("y", Fault::Crash, 50, 1));
    }
}
