//! The map `ENDPOINTS`, mapped into this process: whose an address is.

use std::{mem::offset_of, sync::atomic::Ordering};

use anyhow::{Context as _, Result};
use voip_ha_ebpf::abi::{Address, ENDPOINT_ROWS, Endpoint, EndpointRow, rows_of};

use super::{mapped::Mapped, pins::Pins, tables};

/// A hash table in memory that the XDP program reads at any time: what it finds in a row is whole, because the word that says what
/// an address is changes last when a row is taken, and first when it is given up.
pub struct Endpoints(Mapped);

/// The map is seen as words, of which each row has so many.
const WORDS: u32 = (size_of::<EndpointRow>() / size_of::<u64>()) as u32;
const ENDPOINT: u32 = (offset_of!(EndpointRow, endpoint) / size_of::<u64>()) as u32;
const ADDRESS: u32 = (offset_of!(EndpointRow, address) / size_of::<u64>()) as u32;

impl Endpoints {
    pub(super) fn open(pins: &Pins) -> Result<Self> {
        Ok(Self(Mapped::open(pins, tables::ENDPOINTS, ENDPOINT_ROWS * WORDS)?))
    }

    /// Every VIP, every address of a server and every one of the gateway's own names, in the order of the addresses.
    pub fn all(&self) -> Vec<(Address, Endpoint)> {
        let rows = (0..ENDPOINT_ROWS).map(|row| (self.address(row), self.endpoint(row)));
        let mut all: Vec<_> = rows.filter(|(_, endpoint)| endpoint.is_known()).collect();
        all.sort_unstable_by_key(|(address, _)| *address);
        all
    }

    /// What an address is; [`Endpoint::NONE`] if it is nobody's.
    pub fn get(&self, address: Address) -> Endpoint {
        self.row_of(address).map(|row| self.endpoint(row)).filter(|found| found.is_known()).unwrap_or(Endpoint::NONE)
    }

    /// Says what an address is.
    ///
    /// # Errors
    ///
    /// All rows in which it may be are taken: see [`rows_of`].
    pub fn put(&self, address: Address, endpoint: Endpoint) -> Result<()> {
        let row = match self.row_of(address) {
            Some(row) => row,
            None => {
                let is_free = |row: &u32| !self.endpoint(*row).is_known();
                let free = rows_of(&address).find(is_free);
                free.with_context(|| format!("no row is free for {}", std::net::IpAddr::from(address)))?
            }
        };
        for (index, half) in (0..).zip(address.halves()) {
            self.0.word(row * WORDS + ADDRESS + index).store(half, Ordering::Release);
        }
        self.0.word(row * WORDS + ENDPOINT).store(endpoint.0, Ordering::Release);
        Ok(())
    }

    /// The address is nobody's any more.
    pub fn remove(&self, address: Address) {
        if let Some(row) = self.row_of(address) {
            self.0.word(row * WORDS + ENDPOINT).store(Endpoint::REMOVED.0, Ordering::Release);
        }
    }

    /// The row that an address has, or had last.
    fn row_of(&self, address: Address) -> Option<u32> {
        let mut used = rows_of(&address).take_while(|row| self.endpoint(*row) != Endpoint::NONE);
        used.find(|row| self.address(*row) == address)
    }

    fn endpoint(&self, row: u32) -> Endpoint {
        Endpoint(self.0.word(row * WORDS + ENDPOINT).load(Ordering::Acquire))
    }

    fn address(&self, row: u32) -> Address {
        let half = |index| self.0.word(row * WORDS + ADDRESS + index).load(Ordering::Acquire);
        Address::of_halves([half(0), half(1)])
    }
}
