//! Eight bytes at a time: which of the bytes of a word are what is looked for.
//!
//! A word's first byte in the text is its lowest. Of the masks only the lowest bit is meant: above the first byte that was looked
//! for there may be more that are set.

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;

/// The word of eight such bytes.
pub(super) const fn all(byte: u8) -> u64 {
    ONES * byte as u64
}

/// These bytes at the beginning of a word, and zeros.
pub(super) const fn prefix(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    word.split_at_mut(bytes.len()).0.copy_from_slice(bytes);
    u64::from_le_bytes(word)
}

/// A mask of so many bytes at the beginning of a word, from 0 to 7.
pub(super) const fn first(bytes: u64) -> u64 {
    !(u64::MAX << (bytes * 8))
}

/// Where the mask's first byte is, from 0 to 7. The mask must not be zero.
#[inline(always)]
pub(super) const fn place(mask: u64) -> u64 {
    // BPF has no instruction that counts zeros. Here one bit of each byte up to the one that is meant is left, and counted.
    ((mask.wrapping_sub(1) & ONES).wrapping_mul(ONES) >> 56).wrapping_sub(1)
}

/// Whether there is such a byte, and where the first one is.
#[inline(always)]
pub(super) const fn equal(word: u64, byte: u8) -> u64 {
    let other = word ^ all(byte);
    other.wrapping_sub(ONES) & !other & HIGH
}

/// Spaces and control characters.
#[inline(always)]
pub(super) const fn up_to_space(word: u64) -> u64 {
    word.wrapping_sub(all(b' ' + 1)) & !word & HIGH
}

/// What is no space, tab or CR.
#[inline(always)]
pub(super) fn not_blank(word: u64) -> u64 {
    // Exact in every byte, or its complement would not be.
    const LOW: u64 = !HIGH;
    let differs = |byte: u8| {
        let other = word ^ all(byte);
        ((other & LOW) + LOW) | other
    };
    differs(b' ') & differs(b'\t') & differs(b'\r') & HIGH
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Words of the bytes that differ in what they have in common.
    const BYTES: [u8; 14] = [0, 1, 8, 9, 10, 12, 13, 14, 31, 32, 33, b';', 0x8a, 0xff];

    fn words() -> impl Iterator<Item = [u8; 8]> {
        let all = 0..BYTES.len().pow(4);
        all.map(|number| {
            let at = |digit: u32| BYTES[number / BYTES.len().pow(digit) % BYTES.len()];
            [at(0), at(1), at(2), at(3), at(1), at(0), at(3), at(2)]
        })
    }

    #[test]
    fn the_first_byte_that_is_looked_for_is_found_and_none_where_there_is_none() {
        type Looked = (fn(u64) -> u64, fn(&u8) -> bool);
        let looked: [Looked; 4] = [
            (|word| equal(word, b'\n'), |byte| *byte == b'\n'),
            (|word| equal(word, 0), |byte| *byte == 0),
            (up_to_space, |byte| *byte <= b' '),
            (not_blank, |byte| !b" \t\r".contains(byte)),
        ];
        for bytes in words() {
            for (mask, is) in looked {
                let mask = mask(u64::from_le_bytes(bytes));
                let found = (mask != 0).then(|| place(mask));
                assert_eq!(found, bytes.iter().position(is).map(|place| place as u64), "{bytes:?}");
            }
        }
    }

    #[test]
    fn a_prefix_has_the_bytes_that_the_mask_of_its_length_takes() {
        assert_eq!(u64::from_le_bytes(*b"BYE sip:") & first(4), prefix(b"BYE "));
        assert_eq!((first(0), first(7)), (0, u64::MAX >> 8));
    }
}
