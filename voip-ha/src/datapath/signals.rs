//! The ring buffer through which the kernel side wakes the controller.

use std::os::fd::{AsFd as _, BorrowedFd};

use anyhow::Result;
use aya::maps::{MapData, RingBuf};
use voip_ha_ebpf::abi::SignalRecord;

use super::{pins::Pins, tables};

/// The map `SIGNALS`. It has one reader, who takes what is in it.
pub(super) struct Signals(RingBuf<MapData>);

impl Signals {
    /// Opens the pinned map, and forgets what was signalled while nobody listened: it is old, and with it in the ring the
    /// kernel would wake nobody for what comes.
    ///
    /// # Errors
    ///
    /// The map is not there, or cannot be mapped into memory.
    pub(super) fn open(pins: &Pins) -> Result<Self> {
        let mut signals = Self(tables::open(pins, tables::SIGNALS)?.try_into()?);
        signals.take();
        Ok(signals)
    }

    /// Takes everything, oldest first.
    pub(super) fn take(&mut self) -> Vec<SignalRecord> {
        let mut records = Vec::new();
        while let Some(item) = self.0.next() {
            records.extend(SignalRecord::read(&item));
        }
        records
    }

    /// Readable while there is something to take.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
