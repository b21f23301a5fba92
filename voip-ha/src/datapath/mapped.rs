//! Maps of 64-bit words, mapped into this process: a flip is one atomic store, and asking when a server was last heard or
//! refused costs no system call.

use std::{
    mem::offset_of,
    os::fd::AsFd,
    ptr::{self, NonNull},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use anyhow::{Context as _, Result};
use aya::maps::MapData;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use voip_ha_ebpf::abi::{MAX_SERVERS, MAX_SERVICES, ServerNumber, SteeringWord, TrafficEntry};

use super::{Heard, pins::Pins, tables};

/// The map `STEERING`, shared with the XDP program.
pub(super) struct Words(Mapped);

/// The map `TRAFFIC`, shared with the XDP program.
pub(super) struct Signs(Mapped);

impl Words {
    /// Maps the pinned map.
    ///
    /// # Errors
    ///
    /// The map is not there, or not of the kind that can be mapped.
    pub(super) fn open(pins: &Pins) -> Result<Self> {
        Ok(Self(Mapped::open(pins, tables::STEERING, MAX_SERVICES)?))
    }

    /// The word of a service.
    pub(super) fn load(&self, service: u32) -> SteeringWord {
        SteeringWord(self.0.word(service).load(Ordering::Acquire))
    }

    /// Replaces the word of a service. Release: what the word points to was written before.
    pub(super) fn store(&self, service: u32, word: SteeringWord) {
        self.0.word(service).store(word.0, Ordering::Release);
    }
}

impl Signs {
    /// Maps the pinned map.
    ///
    /// # Errors
    ///
    /// As [`Words::open`].
    pub(super) fn open(pins: &Pins) -> Result<Self> {
        Ok(Self(Mapped::open(pins, tables::TRAFFIC, MAX_SERVERS * WORDS_OF_TRAFFIC)?))
    }

    /// When a server was last heard and refused.
    pub(super) fn of(&self, server: ServerNumber) -> Heard {
        let at = |offset: usize| {
            let word = self.0.word(server.0 * WORDS_OF_TRAFFIC + (offset / size_of::<u64>()) as u32);
            Some(word.load(Ordering::Relaxed)).filter(|at| *at != 0).map(Duration::from_nanos)
        };
        Heard { heard: at(offset_of!(TrafficEntry, heard_at)), refused: at(offset_of!(TrafficEntry, refused_at)) }
    }
}

/// The map is seen as words, of which each entry has so many.
const WORDS_OF_TRAFFIC: u32 = (size_of::<TrafficEntry>() / size_of::<u64>()) as u32;

/// An array map of words with `BPF_F_MMAPABLE` (kernel 5.5).
pub(super) struct Mapped {
    words: NonNull<AtomicU64>,
    count: u32,
}

// SAFETY: the memory is shared with the kernel in any case, and only atomics touch it.
unsafe impl Send for Mapped {}

impl Mapped {
    pub(super) fn open(pins: &Pins, name: &str, count: u32) -> Result<Self> {
        let path = pins.map(name);
        let map = MapData::from_pin(&path).with_context(|| format!("cannot open {}", path.display()))?;
        let (length, access) = (Self::length(count), ProtFlags::READ | ProtFlags::WRITE);
        // SAFETY: a new mapping at an address of the kernel's choice, which nothing else knows.
        let address = unsafe { mmap(ptr::null_mut(), length, access, MapFlags::SHARED, map.fd().as_fd(), 0) }
            .with_context(|| format!("cannot map {} into memory", path.display()))?;
        let words = NonNull::new(address.cast()).with_context(|| format!("{name} is mapped at address 0"))?;
        Ok(Self { words, count })
    }

    const fn length(count: u32) -> usize {
        count as usize * size_of::<u64>()
    }

    pub(super) fn word(&self, index: u32) -> &AtomicU64 {
        assert!(index < self.count, "index {index} is outside the map");
        // SAFETY: inside the mapping as just checked, aligned because array values of 8 bytes are, and alive as long as
        // self.
        unsafe { self.words.add(index as usize).as_ref() }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: the mapping made by `open`, of this length, and no reference outlives self.
        if let Err(error) = unsafe { munmap(self.words.as_ptr().cast(), Self::length(self.count)) } {
            tracing::warn!(%error, "cannot unmap a map");
        }
    }
}
