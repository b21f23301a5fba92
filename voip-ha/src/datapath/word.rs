//! The decision words, mapped into this process: a flip is one atomic store.

use std::{
    os::fd::AsFd,
    ptr::{self, NonNull},
    sync::atomic::{AtomicU64, Ordering},
};

use anyhow::{Context as _, Result};
use aya::maps::MapData;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use voip_ha_ebpf::abi::{MAX_SERVICES, SteeringWord};

use super::{pins::Pins, tables};

const LENGTH: usize = MAX_SERVICES as usize * size_of::<SteeringWord>();

/// The map `STEERING` (`BPF_F_MMAPABLE`, kernel 5.5), shared with the XDP program.
pub(super) struct Words {
    words: NonNull<AtomicU64>,
}

// SAFETY: the memory is shared with the kernel in any case, and only atomics touch it.
unsafe impl Send for Words {}

impl Words {
    /// Maps the words of the pinned map.
    ///
    /// # Errors
    ///
    /// The map is not there, or not of the kind that can be mapped.
    pub(super) fn open(pins: &Pins) -> Result<Self> {
        let path = pins.map(tables::STEERING);
        let steering = MapData::from_pin(&path).with_context(|| format!("cannot open {}", path.display()))?;
        let steering = steering.fd().as_fd();
        // SAFETY: a new mapping at an address of the kernel's choice, which nothing else knows.
        let address =
            unsafe { mmap(ptr::null_mut(), LENGTH, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, steering, 0) }
                .context("cannot map the decision words into memory")?;
        let words = NonNull::new(address.cast()).context("the decision words are mapped at address 0")?;
        Ok(Self { words })
    }

    /// The word of a service.
    pub(super) fn load(&self, service: u32) -> SteeringWord {
        SteeringWord(self.word(service).load(Ordering::Acquire))
    }

    /// Replaces the word of a service. Release: what the word points to was written before.
    pub(super) fn store(&self, service: u32, word: SteeringWord) {
        self.word(service).store(word.0, Ordering::Release);
    }

    fn word(&self, service: u32) -> &AtomicU64 {
        assert!(service < MAX_SERVICES, "service index {service} is outside the map");
        // SAFETY: inside the mapping as just checked, aligned because array values of 8 bytes are, and alive as long as
        // self.
        unsafe { self.words.add(service as usize).as_ref() }
    }
}

impl Drop for Words {
    fn drop(&mut self) {
        // SAFETY: the mapping made by `map`, of this length, and no reference outlives self.
        if let Err(error) = unsafe { munmap(self.words.as_ptr().cast(), LENGTH) } {
            tracing::warn!(%error, "cannot unmap the decision words");
        }
    }
}
