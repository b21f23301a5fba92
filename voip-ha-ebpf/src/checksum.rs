//! Incremental update of the Internet checksum (RFC 1624, equation 3): `HC' = ~(~HC + ~m + m')`.
//!
//! The one's complement sum does not depend on byte order as long as checksum and data are read in the same one
//! (RFC 1071, section 2(B)), so all words here are the packet's bytes read in native order.

use crate::abi::Address;

/// A change of data, to be applied to the checksums that cover it.
#[derive(Clone, Copy, Default)]
pub struct Change(u32);

impl Change {
    /// The change of replacing one address by another.
    #[inline(always)]
    pub fn of_address(from: Address, to: Address) -> Self {
        let [from_high, from_low] = halves(from);
        let [to_high, to_low] = halves(to);
        Self(complement(from_high) + complement(from_low) + u32::from(to_high) + u32::from(to_low))
    }

    /// The change of replacing one aligned pair of bytes by another.
    #[inline(always)]
    pub fn of_pair(from: [u8; 2], to: [u8; 2]) -> Self {
        Self(complement(u16::from_ne_bytes(from)) + u32::from(u16::from_ne_bytes(to)))
    }

    /// This change and another one. Up to 8,000 pairs can be added before the sum overflows.
    #[inline(always)]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }

    /// The checksum after the change.
    #[inline(always)]
    pub fn apply(self, checksum: [u8; 2]) -> [u8; 2] {
        (!fold(complement(u16::from_ne_bytes(checksum)) + self.0)).to_ne_bytes()
    }

    /// The UDP checksum after the change: 0 means that the sender computed none and stays 0, and a result of 0 is sent as
    /// all ones (RFC 768).
    #[inline(always)]
    pub fn apply_udp(self, checksum: [u8; 2]) -> [u8; 2] {
        if checksum == [0, 0] {
            return checksum;
        }
        match self.apply(checksum) {
            [0, 0] => [0xff, 0xff],
            changed => changed,
        }
    }
}

/// The checksum of whole data in which the checksum itself is zero (RFC 1071). Of up to 64 KiB.
#[inline(always)]
pub fn of<const N: usize>(data: &[u8; N]) -> [u8; 2] {
    let mut sum = 0u32;
    for pair in data.as_chunks::<2>().0 {
        sum += u32::from(u16::from_ne_bytes(*pair));
    }
    // An odd byte is the first of a pair whose second is zero.
    if let [last] = data.as_chunks::<2>().1 {
        sum += u32::from(u16::from_ne_bytes([*last, 0]));
    }
    (!fold(sum)).to_ne_bytes()
}

#[inline(always)]
fn halves([a, b, c, d]: Address) -> [u16; 2] {
    [u16::from_ne_bytes([a, b]), u16::from_ne_bytes([c, d])]
}

#[inline(always)]
fn complement(word: u16) -> u32 {
    u32::from(!word)
}

/// Folds the carries back in. Two rounds suffice for any 32-bit sum.
#[inline(always)]
fn fold(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    (sum + (sum >> 16)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The checksum as RFC 1071 defines it, over all of the data.
    fn full(data: &[u8]) -> [u8; 2] {
        let mut sum = 0u32;
        for pair in data.chunks(2) {
            sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
        }
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        (!(sum as u16)).to_be_bytes()
    }

    proptest! {
        #[test]
        fn an_incremental_update_equals_a_new_computation(
            mut data in proptest::collection::vec(any::<u8>(), 20..60), to: Address, ttl: [u8; 2],
        ) {
            // All-zero data is the one case in which the two zeros of one's complement differ; headers are never that.
            data[0] = 0x45;
            let before = full(&data);
            let from: Address = data[12..16].try_into().unwrap();
            let old: [u8; 2] = data[8..10].try_into().unwrap();
            data[12..16].copy_from_slice(&to);
            data[8..10].copy_from_slice(&ttl);
            let change = Change::of_address(from, to).and(Change::of_pair(old, ttl));
            prop_assert_eq!(change.apply(before), full(&data));
        }
    }

    #[test]
    fn the_example_of_rfc_1624_section_4_gives_zero() {
        let change = Change::of_pair(0x5555u16.to_be_bytes(), 0x3285u16.to_be_bytes());
        assert_eq!(change.apply(0xdd2fu16.to_be_bytes()), [0, 0]);
        assert_eq!(change.apply_udp(0xdd2fu16.to_be_bytes()), [0xff, 0xff]);
    }

    #[test]
    fn a_udp_checksum_that_was_never_computed_stays_that_way() {
        assert_eq!(Change::of_address([10, 0, 0, 1], [192, 0, 2, 1]).apply_udp([0, 0]), [0, 0]);
    }
}
