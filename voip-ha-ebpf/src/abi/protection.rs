//! Who may send to a service, and how much.

use super::{Address, FAMILIES, Family, ServicePlace};
use crate::limit::Limit;

/// Bit of [`ServiceEntry::protection`](super::ServiceEntry::protection): senders of SIP have a limit, in the map `LIMITS`.
pub const LIMITS_SIP: u32 = 1;
/// Bit of the same: the map `LISTED` names senders that are exempt from it.
pub const EXEMPTS: u32 = 1 << 1;
/// Bit of the same: the map `LISTED` names senders whose SIP and RTP is dropped.
pub const DENIES: u32 = 1 << 2;

/// Value of the map `LIMITS`, whose index is a [`ServicePlace`]. Like the service's entry in that place it never changes while packets
/// look at it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct LimitEntry {
    /// What a sender may send.
    pub limit: Limit,
    /// The bits of an IPv6 address that make a sender, in two words as they lie in memory. An IPv4 address is one whole.
    pub mask: [u64; 2],
    /// Packets in a second, as people wrote it.
    pub packets_per_s: u32,
    /// The burst, likewise.
    pub burst: u32,
}

impl LimitEntry {
    /// A limit, for IPv6 senders by prefixes of this length, at most 128.
    pub fn new(packets_per_s: u32, burst: u32, ipv6_prefix: u8) -> Self {
        let bits = u128::MAX.checked_shl(128 - u32::from(ipv6_prefix.min(128))).unwrap_or(0);
        let (limit, mask) = (Limit::new(packets_per_s, burst), Address::v6(bits.to_be_bytes()).halves());
        Self { limit, mask, packets_per_s, burst }
    }

    /// Length of the prefix of IPv6 senders.
    pub fn ipv6_prefix(&self) -> u8 {
        self.mask.iter().map(|word| word.count_ones() as u8).sum()
    }

    /// Whom a packet from this address is counted for.
    #[inline(always)]
    pub const fn sender(&self, address: &Address) -> Address {
        if address.is_v4() {
            return *address;
        }
        Address { high: address.high & self.mask[0], low: address.low & self.mask[1] }
    }
}

/// What the map `LISTED` finds a sender by, from the first bit on: all of the place and the family, and a part of the address.
///
/// Lists belong to a place as limits do: new ones are whole before packets look at them.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ListedKey {
    /// Place and family: no prefix of IPv6 holds IPv4 in its mapped form.
    owner: u32,
    address: [u32; 4],
}

impl ListedKey {
    /// Bits of a key before the address.
    const BEFORE: u32 = 32;
    /// Bits before an IPv4 address in its mapped form.
    const MAPPED: u32 = 96;
    /// Bits of a key.
    pub const BITS: u32 = Self::BEFORE + 128;

    /// The key of an address.
    #[inline(always)]
    pub const fn new(place: ServicePlace, address: &Address) -> Self {
        let family = if address.is_v4() { Family::V4 } else { Family::V6 };
        Self { owner: place.0 * FAMILIES + family as u32, address: address.words() }
    }

    /// How many bits of the key belong to a prefix of this length.
    pub const fn bits(address: &Address, length: u8) -> u32 {
        let mapped = if address.is_v4() { Self::MAPPED } else { 0 };
        Self::BEFORE + mapped + length as u32
    }

    /// The length of a prefix with so many bits of the key.
    pub fn length(&self, bits: u32) -> u8 {
        let mapped = if self.address().is_v4() { Self::MAPPED } else { 0 };
        bits.saturating_sub(Self::BEFORE + mapped) as u8
    }

    /// The service.
    pub const fn place(&self) -> ServicePlace {
        ServicePlace(self.owner / FAMILIES)
    }

    /// The address.
    pub fn address(&self) -> Address {
        let [a, b, c, d] = self.address.map(u32::to_ne_bytes);
        let mut octets = [0; 16];
        octets.copy_from_slice([a, b, c, d].as_flattened());
        Address::v6(octets)
    }
}

named_enum! {
    /// Value of the map `LISTED`, as a number: what the longest prefix that holds a sender says about it.
    Listing {
        /// It is in no list.
        Unlisted = "unlisted",
        /// It has no limit.
        Allowed = "allowed",
        /// Its SIP and RTP is dropped.
        Denied = "denied",
    }
}

impl Listing {
    /// What a value of the map means.
    #[inline(always)]
    pub const fn of(value: u32) -> Self {
        if value == Self::Allowed as u32 {
            Self::Allowed
        } else if value == Self::Denied as u32 {
            Self::Denied
        } else {
            Self::Unlisted
        }
    }
}

/// Most prefixes in the lists of one service.
pub const MAX_LISTED_PER_SERVICE: u32 = 1024;
/// Entries of the map `LISTED`: those of all services, and of one that is being written for each. None takes memory before it is there.
pub const MAX_LISTED: u32 = MAX_LISTED_PER_SERVICE * super::MAX_PLACES;

/// Key of the map `SOURCES`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct SourceKey {
    /// See [`LimitEntry::sender`].
    pub address: Address,
    /// Index of the service in the map `STEERING`.
    pub service: u32,
    /// Zero.
    pub reserved: u32,
}

/// Value of the map `SOURCES`: a sender of SIP to a service with a limit.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct SourceEntry {
    /// When its next packet is due, as `CLOCK_MONOTONIC` in nanoseconds: see [`Limit::due_after`].
    pub due: u64,
    /// How many of its packets were dropped, as far as it is remembered, but for those of [`RefusedEntry::dropped`]. Two CPUs
    /// may count two as one.
    pub dropped: u64,
}

/// Value of the per-CPU map `REFUSED`, which has one: the sender that the CPU refused last.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct RefusedEntry {
    /// The sender.
    pub sender: SourceKey,
    /// Until when all that it sends is dropped, as `CLOCK_MONOTONIC` in nanoseconds.
    pub until: u64,
    /// How many of its packets were dropped since, which are not in [`SourceEntry::dropped`] yet.
    pub dropped: u64,
}

/// Most senders that are remembered. Beyond about that many, those that were not seen for long are forgotten, and begin anew.
pub const MAX_SOURCES: u32 = 65_536;

#[cfg(test)]
mod tests {
    use super::*;

    const FOUR: Address = Address::v4([192, 0, 2, 129]);
    const SIX: Address = Address::v6([0x20, 1, 0xd, 0xb8, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);

    #[test]
    fn an_ipv6_sender_is_its_prefix_and_an_ipv4_sender_is_itself() {
        let by = |prefix| LimitEntry::new(1, 1, prefix);
        let by_64 = by(64);
        assert_eq!(by_64.sender(&SIX), Address::v6([0x20, 1, 0xd, 0xb8, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]));
        assert_eq!(by_64.sender(&FOUR), FOUR);
        for prefix in [0, 1, 47, 48, 64, 65, 127, 128] {
            assert_eq!(by(prefix).ipv6_prefix(), prefix);
        }
        assert_eq!(by(128).sender(&SIX), SIX);
        assert_eq!(by(0).sender(&SIX), Address::NONE);
    }

    #[test]
    fn a_key_of_a_list_gives_back_its_place_address_and_length() {
        for (address, length) in [(FOUR, 0), (FOUR, 25), (FOUR, 32), (SIX, 0), (SIX, 64), (SIX, 128)] {
            let key = ListedKey::new(ServicePlace(31), &address);
            let bits = ListedKey::bits(&address, length);
            assert_eq!((key.place(), key.address(), key.length(bits)), (ServicePlace(31), address, length));
            assert!(bits <= ListedKey::BITS);
        }
        assert_eq!(ListedKey::bits(&FOUR, 32), ListedKey::BITS);
        for &listing in Listing::ALL {
            assert_eq!(Listing::of(listing as u32), listing);
        }
    }
}
