//! Whose an address is: the one look-up of the packet path that grows with the configuration.

use super::{Address, BANKS, ServerNumber, Slot};

/// Row of the map `ENDPOINTS`, a hash table in an array: an address is in the row of its hash or in one of the rows behind it, at
/// most [`ENDPOINT_PROBES`] rows in all, and the first row that was never used ends the search.
///
/// In place of the kernel's hash map, whose look-up costs more than all other steps of a packet together. The controller maps it
/// into its memory, and writes the word of a row last and takes it away first, so a packet finds a row that is whole or none.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct EndpointRow {
    /// The address.
    pub address: Address,
    /// What it is.
    pub endpoint: Endpoint,
}

/// Rows of the map `ENDPOINTS`: a power of two, several times as many as there can be addresses.
pub const ENDPOINT_ROWS: u32 = 1024;
/// Rows that are looked at for one address.
pub const ENDPOINT_PROBES: u32 = 8;

/// What an address is.
///
/// | bits | |
/// |---|---|
/// | 0–7 | kind: 0 nothing, and nothing behind it; 1 VIP; 2 server; 3 nothing any more; 4 the gateway's own name |
/// | 8–15 | [`ServicePlace`] of the service; 0 for the gateway's own name |
/// | 16–31 | [`Slot`] with the server's present entry; 0 for the others |
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Endpoint(pub u64);

/// Index of an entry of the map `SERVICES`: as with servers, one bank is in use while the other is being written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServicePlace(pub u32);

impl ServicePlace {
    /// The place in the given bank (`0..BANKS`) of the service with this index in the map `STEERING`.
    pub const fn new(service: u32, bank: u32) -> Self {
        Self(service * BANKS + bank)
    }

    /// Index of the service's word in the map `STEERING`.
    #[inline(always)]
    pub const fn service(self) -> u32 {
        self.0 / BANKS
    }

    /// The other place of the same service.
    pub const fn other_bank(self) -> Self {
        Self(self.0 ^ 1)
    }
}

const VIP: u64 = 1;
const SERVER: u64 = 2;
const REMOVED: u64 = 3;
const MASK: u64 = 4;
const KIND: u64 = 0xff;
const PLACE_SHIFT: u32 = 8;
const SLOT_SHIFT: u32 = 16;

impl Endpoint {
    /// An address that is nobody's, and none behind it in the table.
    pub const NONE: Self = Self(0);
    /// A row that was used. The search goes on behind it.
    pub const REMOVED: Self = Self(REMOVED);

    /// An address of the gateway itself, in whose name servers get packets ([`Forwarding::Masquerade`](super::Forwarding)).
    pub const MASK: Self = Self(MASK);

    /// A VIP of a service.
    pub const fn vip(place: ServicePlace) -> Self {
        Self(VIP | (place.0 as u64) << PLACE_SHIFT)
    }

    /// An address of a server of a service.
    pub const fn server(place: ServicePlace, slot: Slot) -> Self {
        Self(SERVER | (place.0 as u64) << PLACE_SHIFT | (slot.0 as u64) << SLOT_SHIFT)
    }

    /// Whether it is a VIP.
    #[inline(always)]
    pub const fn is_vip(self) -> bool {
        self.0 & KIND == VIP
    }

    /// Whether it is a server's own address.
    #[inline(always)]
    pub const fn is_server(self) -> bool {
        self.0 & KIND == SERVER
    }

    /// Whether it is an address of the gateway itself, in whose name servers get packets.
    #[inline(always)]
    pub const fn is_mask(self) -> bool {
        self.0 & KIND == MASK
    }

    /// Whether it is anything.
    pub const fn is_known(self) -> bool {
        self.is_vip() || self.is_server() || self.is_mask()
    }

    /// The service that it belongs to.
    #[inline(always)]
    pub const fn place(self) -> ServicePlace {
        ServicePlace((self.0 >> PLACE_SHIFT) as u32 & 0xff)
    }

    /// The slot of the server.
    #[inline(always)]
    pub const fn slot(self) -> Slot {
        Slot((self.0 >> SLOT_SHIFT) as u32 & 0xffff)
    }

    /// The server.
    #[inline(always)]
    pub const fn number(self) -> ServerNumber {
        self.slot().server()
    }
}

/// The row in which the search for an address begins.
#[inline(always)]
pub const fn first_row(address: &Address) -> u32 {
    // Fibonacci hashing (Knuth, The Art of Computer Programming, volume 3, section 6.4): the highest bits depend on all others.
    let mixed = (address.high.rotate_left(17) ^ address.low).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> (u64::BITS - ENDPOINT_ROWS.ilog2())) as u32
}

/// The rows in which an address may be, in the order of the search.
pub fn rows_of(address: &Address) -> impl Iterator<Item = u32> {
    let first = first_row(address);
    (0..ENDPOINT_PROBES).map(move |probe| (first + probe) % ENDPOINT_ROWS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::{MAX_SERVERS, MAX_SERVICES, MAX_SLOTS};

    #[test]
    fn an_endpoint_gives_back_what_was_packed() {
        for place in [0, 2 * MAX_SERVICES - 1].map(ServicePlace) {
            assert_eq!(Endpoint::vip(place).place(), place);
            assert!(Endpoint::vip(place).is_vip() && !Endpoint::vip(place).is_server());
            for slot in [0, MAX_SLOTS - 1].map(Slot) {
                let server = Endpoint::server(place, slot);
                assert_eq!((server.place(), server.slot(), server.number()), (place, slot, slot.server()));
                assert!(server.is_server() && !server.is_vip());
            }
        }
    }

    #[test]
    fn as_many_addresses_as_there_can_be_find_their_rows_in_usual_networks() {
        let most = 2 * (MAX_SERVERS + MAX_SERVICES);
        for step in [1, 2, 8, 256] {
            let mut taken = [false; ENDPOINT_ROWS as usize];
            for index in 0..most {
                let four = Address::v4((0x0a00_0001 + index * step).to_be_bytes());
                let mut six = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
                six[12..].copy_from_slice(&(index * step + 1).to_be_bytes());
                let address = if index % 2 == 0 { four } else { Address::v6(six) };
                let free = rows_of(&address).find(|row| !taken[*row as usize]);
                taken[free.expect("a free row") as usize] = true;
            }
        }
    }
}
