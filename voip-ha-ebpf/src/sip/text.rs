//! The beginning of a SIP message, at hand in words.

use super::bytes;

/// Most bytes of a message that are looked at. More than fit into an Ethernet frame; what is behind them is not seen.
pub const TEXT_BYTES: usize = 8 * (WORDS - 2);

/// A power of two: the rest of an index divided by it needs no bounds check, neither the compiler's nor the kernel's verifier's.
const WORDS: usize = 256;
/// Behind the text there is an empty line, so that whatever looks for the end of something finds one.
const BEHIND: u64 = bytes::all(b'\n');

/// The beginning of a message, and an empty line. What follows is left from messages before it, and is never looked at.
///
/// The kernel's verifier sees no bounds but those of the whole: reading from this costs no comparison with the packet's end, and
/// a packet of several buffers is no different.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Text {
    /// Bytes of the text.
    length: u64,
    words: [u64; WORDS],
}

impl Default for Text {
    fn default() -> Self {
        let mut text = Self { length: 0, words: [0; WORDS] };
        text.end(0);
        text
    }
}

impl Text {
    /// The beginning of this message.
    pub fn of(message: &[u8]) -> Self {
        let mut text = Self::default();
        text.set(message);
        text
    }

    /// Takes in the beginning of another message.
    pub fn set(&mut self, message: &[u8]) {
        let message = &message[..message.len().min(TEXT_BYTES)];
        for (word, bytes) in self.words.iter_mut().zip(message.chunks(8)) {
            let mut padded = [0; 8];
            padded[..bytes.len()].copy_from_slice(bytes);
            *word = u64::from_le_bytes(padded).to_le();
        }
        self.end(message.len() as u64);
    }

    /// Where the bytes of a message may be written to, [`TEXT_BYTES`] at most. [`Text::end`] follows.
    #[inline(always)]
    pub fn room(&mut self) -> *mut [u8; TEXT_BYTES] {
        (&raw mut self.words).cast()
    }

    /// Says how many bytes were written: [`TEXT_BYTES`] at most.
    #[inline(always)]
    pub fn end(&mut self, length: u64) {
        let (last, taken) = (index(length), (length & 7) * 8);
        let word = u64::from_le(self.words[last]);
        let behind = u64::MAX << taken;
        self.words[last] = (word & !behind | BEHIND & behind).to_le();
        self.words[(last + 1) % WORDS] = BEHIND;
        self.length = length;
    }

    /// Bytes of the text.
    #[inline(always)]
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// The aligned word that this place is in.
    #[inline(always)]
    pub(super) fn aligned(&self, at: u64) -> u64 {
        u64::from_le(self.words[index(at)])
    }

    /// Eight bytes from this place on. Put together from two words, because not every machine reads across.
    #[inline(always)]
    pub(super) fn word(&self, at: u64) -> u64 {
        let shift = (at & 7) * 8;
        // In two steps: all 64 bits of a word cannot be shifted out at once.
        self.aligned(at) >> shift | self.aligned(at + 8) << 1 << (63 - shift)
    }

    /// The byte at this place.
    #[inline(always)]
    pub(super) fn byte(&self, at: u64) -> u8 {
        (self.aligned(at) >> ((at & 7) * 8)) as u8
    }
}

#[inline(always)]
const fn index(at: u64) -> usize {
    (at as usize >> 3) % WORDS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_has_the_bytes_of_its_message_and_an_empty_line_whatever_was_there_before() {
        let message: Vec<_> = (0..TEXT_BYTES + 1).map(|place| place as u8 | 0x80).collect();
        for length in (0..64).chain(TEXT_BYTES - 9..=TEXT_BYTES + 1) {
            let mut text = Text::of(&message);
            text.set(&message[..length]);
            let kept = length.min(TEXT_BYTES);
            assert_eq!(text.length(), kept as u64);
            let followed: Vec<_> = message[..kept].iter().copied().chain([b'\n'; 9]).collect();
            for (at, bytes) in followed.windows(8).enumerate() {
                let at = at as u64;
                assert_eq!((text.word(at), text.byte(at)), (u64::from_le_bytes(bytes.try_into().unwrap()), bytes[0]));
            }
        }
    }
}
