//! The mapped ports of servers that masquerade: which client each stands for, and forgetting those that nobody uses any more.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result};
use aya::maps::{HashMap, MapData};
use voip_ha_ebpf::abi::{MAX_MASKED, MAX_MASKS, MaskKey, MaskedEntry, MaskedKey, ServerNumber};

use super::{
    pins::Pins,
    tables::{MASKED, MASKS, open},
};
use crate::journal::monotonic;

/// `BPF_NOEXIST`: what is there already is not replaced.
const IF_NEW: u64 = 1;

/// The maps, opened.
pub struct Mappings {
    masks: HashMap<MapData, MaskKey, u32>,
    masked: HashMap<MapData, MaskedKey, MaskedEntry>,
}

/// A flow to a server that masquerades.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mapping {
    /// The server.
    pub server: ServerNumber,
    /// The client.
    pub client: SocketAddr,
    /// The service's port.
    pub service_port: u16,
    /// The gateway's port that stands for the client at that server and port.
    pub port: u16,
    /// How long ago a packet was seen, either way; up to 0.5 s too long.
    pub idle: Duration,
}

impl Mappings {
    /// Most flows at one time.
    pub const MOST: u32 = MAX_MASKED;

    /// Opens the pinned maps.
    ///
    /// # Errors
    ///
    /// They are not there, or may not be opened.
    pub fn open(pins: &Pins) -> Result<Self> {
        Ok(Self { masks: open(pins, MASKS)?.try_into()?, masked: open(pins, MASKED)?.try_into()? })
    }

    /// How many flows there are.
    pub fn count(&self) -> usize {
        self.masked.keys().take(MAX_MASKED as usize).flatten().count()
    }

    /// All flows, in the order of servers and clients. The map changes all the time; what is gone meanwhile is left out.
    pub fn all(&self) -> Vec<Mapping> {
        let now = monotonic();
        let mapping = |(key, entry): (MaskedKey, MaskedEntry)| Mapping {
            server: ServerNumber(key.server.into()),
            client: SocketAddr::new(entry.client.into(), entry.client_port),
            service_port: key.service_port,
            port: key.port,
            idle: now.saturating_sub(Duration::from_nanos(entry.seen_at)),
        };
        let mut all: Vec<_> = self.masked.iter().take(MAX_MASKED as usize).flatten().map(mapping).collect();
        all.sort_unstable();
        all
    }

    /// Forgets the flows that were idle for longer than this, so that their ports are free again. Returns how many.
    ///
    /// # Errors
    ///
    /// A map cannot be written.
    pub fn sweep(&mut self, idle: Duration) -> Result<usize> {
        let idle_ns = idle.as_nanos() as u64;
        let mut swept = 0;
        for key in self.masked.keys().take(MAX_MASKED as usize).flatten().collect::<Vec<_>>() {
            // A lock is not needed to look, and nearly none is idle.
            if self.is_idle(&key, idle_ns) && self.masks.insert(MaskKey::lock(&key), 0, IF_NEW).is_ok() {
                let release = self.release_idle(&key, idle_ns);
                self.masks.remove(&MaskKey::lock(&key)).context("cannot remove a lock from MASKS")?;
                swept += usize::from(release?);
            }
        }
        self.forget_strays();
        Ok(swept)
    }

    fn is_idle(&self, key: &MaskedKey, idle_ns: u64) -> bool {
        let now = monotonic().as_nanos() as u64;
        self.masked.get(key, 0).is_ok_and(|entry| entry.is_idle(now, idle_ns))
    }

    /// Under the lock: who had it before may have given the port to another flow.
    fn release_idle(&mut self, key: &MaskedKey, idle_ns: u64) -> Result<bool> {
        let Ok(entry) = self.masked.get(key, 0) else { return Ok(false) };
        if !entry.is_idle(monotonic().as_nanos() as u64, idle_ns) {
            return Ok(false);
        }
        self.masked.remove(key).context("cannot remove a port from MASKED")?;
        let flow = MaskKey::of(key, &entry);
        if self.masks.get(&flow, 0).is_ok_and(|port| port == u32::from(key.port)) {
            // One that is not there any more is forgotten as well.
            let _ = self.masks.remove(&flow);
        }
        Ok(true)
    }

    /// Forgets what says of a flow that it has a port which is another's by now.
    fn forget_strays(&mut self) {
        for key in self.masks.keys().take(MAX_MASKS as usize).flatten().collect::<Vec<_>>() {
            let Ok(port) = self.masks.get(&key, 0) else { continue };
            let is_its = |entry: MaskedEntry| entry.is(&key);
            if !key.is_lock() && !self.masked.get(&key.masked(port as u16), 0).is_ok_and(is_its) {
                // As above.
                let _ = self.masks.remove(&key);
            }
        }
    }

    /// Removes the locks of a controller that ended while it had one. The kernel has its own for less than a microsecond.
    pub(super) fn remove_locks(&mut self) {
        for key in self.masks.keys().take(MAX_MASKS as usize).flatten().filter(MaskKey::is_lock).collect::<Vec<_>>() {
            // As above.
            let _ = self.masks.remove(&key);
        }
    }

    /// Forgets all flows to a server: another one takes its number.
    pub(super) fn forget(&mut self, server: ServerNumber) {
        let keys = self.masked.keys().take(MAX_MASKED as usize).flatten();
        for key in keys.filter(|key| u32::from(key.server) == server.0).collect::<Vec<_>>() {
            // As above.
            let _ = self.masked.remove(&key);
        }
        self.forget_strays();
    }

    /// Copies all flows. What cannot be read or written is left out.
    pub(super) fn copy(&mut self, live: &Self) {
        for (key, entry) in live.masked.iter().take(MAX_MASKED as usize).flatten() {
            let _ = self.masked.insert(key, entry, 0);
            let _ = self.masks.insert(MaskKey::of(&key, &entry), u32::from(key.port), 0);
        }
    }
}
