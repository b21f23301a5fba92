//! Incremental update of the Internet checksum (RFC 1624, equation 3): `HC' = ~(~HC + ~m + m')`.
//!
//! The one's complement sum does not depend on byte order as long as checksum and data are read in the same one
//! (RFC 1071, section 2(B)), so all words here are the packet's bytes read in native order.

use crate::abi::Address;

/// A change of data, to be applied to the checksums that cover it.
#[derive(Clone, Copy, Default)]
pub struct Change(u64);

impl Change {
    /// The change of replacing one address by another.
    #[inline(always)]
    pub fn of_address(from: Address, to: Address) -> Self {
        let (high, low) = (Self::of_words(from.high, to.high), Self::of_words(from.low, to.low));
        high.and(low)
    }

    /// The change of replacing two aligned words of four bytes by others.
    #[inline(always)]
    fn of_words(from: u64, to: u64) -> Self {
        const LOW: u64 = 0xffff_ffff;
        Self((!from & LOW) + (!from >> 32) + (to & LOW) + (to >> 32))
    }

    /// The change of replacing one aligned word of four bytes by another.
    #[inline(always)]
    pub fn of_word(from: u32, to: u32) -> Self {
        Self(u64::from(!from) + u64::from(to))
    }

    /// The change of replacing one aligned pair of bytes by another.
    #[inline(always)]
    pub fn of_pair(from: u16, to: u16) -> Self {
        Self(u64::from(!from) + u64::from(to))
    }

    /// This change and another one. A sum of 64 bits takes more of them than a packet has words.
    #[inline(always)]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }

    /// The same as the kernel takes it: a sum of 32 bits that is not folded further.
    #[inline(always)]
    pub fn sum(self) -> u32 {
        let sum = (self.0 & 0xffff_ffff) + (self.0 >> 32);
        ((sum & 0xffff_ffff) + (sum >> 32)) as u32
    }

    /// The checksum after the change.
    #[inline(always)]
    pub fn apply(self, checksum: u16) -> u16 {
        !fold(u64::from(!checksum) + self.0)
    }

    /// The UDP checksum after the change: 0 means that the sender computed none and stays 0, and a result of 0 is sent as
    /// all ones (RFC 768).
    #[inline(always)]
    pub fn apply_udp(self, checksum: u16) -> u16 {
        if checksum == 0 {
            return checksum;
        }
        match self.apply(checksum) {
            0 => 0xffff,
            changed => changed,
        }
    }
}

/// The checksum after the first byte of a pair that it covers has become one less (RFC 1141), as it does at every router.
#[inline(always)]
pub fn after_one_less(checksum: u16) -> u16 {
    const ONE: u32 = u16::from_ne_bytes([1, 0]) as u32;
    let sum = u32::from(checksum) + ONE;
    // A sum of all ones is the other zero, and a checksum never is that.
    (sum + u32::from(sum >= 0xffff)) as u16
}

/// The checksum of data in which the checksum itself is zero (RFC 1071), and of what else `before` stands for. Of up to 64 KiB.
#[inline(always)]
pub fn of<const N: usize>(data: &[u8; N], before: Change) -> u16 {
    let mut sum = before.0;
    for pair in data.as_chunks::<2>().0 {
        sum += u64::from(u16::from_ne_bytes(*pair));
    }
    // An odd byte is the first of a pair whose second is zero.
    if let [last] = data.as_chunks::<2>().1 {
        sum += u64::from(u16::from_ne_bytes([*last, 0]));
    }
    !fold(sum)
}

/// Folds the carries back in: 64 bits to 33, to 18, to 17, to 16.
#[inline(always)]
fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    (sum + (sum >> 16)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The checksum as RFC 1071 defines it, over all of the data.
    fn full(data: &[u8]) -> u16 {
        let mut sum = 0u32;
        for pair in data.chunks(2) {
            sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
        }
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        u16::from_ne_bytes((!(sum as u16)).to_be_bytes())
    }

    proptest! {
        #[test]
        fn an_incremental_update_equals_a_new_computation(
            mut data in proptest::collection::vec(any::<u8>(), 28..60), to: [u8; 16], word: [u8; 4], pair: [u8; 2],
        ) {
            // All-zero data is the one case in which the two zeros of one's complement differ; headers are never that.
            data[0] = 0x45;
            let before = full(&data);
            let from: [u8; 16] = data[12..28].try_into().unwrap();
            let old: [u8; 4] = data[4..8].try_into().unwrap();
            let old_pair: [u8; 2] = data[8..10].try_into().unwrap();
            data[12..28].copy_from_slice(&to);
            data[4..8].copy_from_slice(&word);
            data[8..10].copy_from_slice(&pair);
            let change = Change::of_address(Address::v6(from), Address::v6(to))
                .and(Change::of_word(u32::from_ne_bytes(old), u32::from_ne_bytes(word)))
                .and(Change::of_pair(u16::from_ne_bytes(old_pair), u16::from_ne_bytes(pair)));
            prop_assert_eq!(change.apply(before), full(&data));
        }

        #[test]
        fn a_new_computation_is_the_one_of_rfc_1071(data: [u8; 37]) {
            prop_assert_eq!(of(&data, Change::default()), full(&data));
        }
    }

    #[test]
    fn the_example_of_rfc_1624_section_4_gives_zero() {
        let change = Change::of_pair(0x5555, 0x3285);
        assert_eq!(change.apply(0xdd2f), 0);
        assert_eq!(change.apply_udp(0xdd2f), 0xffff);
    }

    #[test]
    fn a_udp_checksum_that_was_never_computed_stays_that_way() {
        assert_eq!(Change::of_word(1, 2).apply_udp(0), 0);
    }
}
