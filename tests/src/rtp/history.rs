//! Which of the latest packets of a stream have arrived.

const WORDS: usize = 4;

/// The arrivals among the 256 sequence numbers up to the highest one: 5 s of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct History {
    highest: u16,
    // Bit n of the 256 stands for the sequence number n below the highest; all zero is a stream without packets.
    bits: [u64; WORDS],
}

/// What an arriving sequence number means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// Higher than all before.
    Next,
    /// Lower than one before, for the first time or too old to tell.
    Late,
    /// It was here before.
    Repeated,
}

impl History {
    /// How many sequence numbers it remembers.
    pub const WINDOW: u16 = 64 * WORDS as u16;

    /// A history read from a packet.
    pub fn new(highest: u16, bits: [u64; WORDS]) -> Self {
        Self { highest, bits }
    }

    /// The highest sequence number, counting around from 65535 to 0.
    pub fn highest(&self) -> u16 {
        self.highest
    }

    /// For writing it into a packet.
    pub fn bits(&self) -> [u64; WORDS] {
        self.bits
    }

    /// Notes an arrival.
    pub fn insert(&mut self, sequence: u16) -> Arrival {
        let ahead = sequence.wrapping_sub(self.highest);
        if self.bits == [0; WORDS] {
            (self.highest, self.bits[0]) = (sequence, 1);
            return Arrival::Next;
        }
        if ahead != 0 && ahead < 1 << 15 {
            self.shift(ahead);
            (self.highest, self.bits[0]) = (sequence, self.bits[0] | 1);
            return Arrival::Next;
        }
        let below = self.highest.wrapping_sub(sequence);
        if self.has(below) {
            return Arrival::Repeated;
        }
        if below < Self::WINDOW {
            self.bits[usize::from(below / 64)] |= 1 << (below % 64);
        }
        Arrival::Late
    }

    /// Whether the number `below` the highest has arrived. False beyond the window.
    pub fn has(&self, below: u16) -> bool {
        below < Self::WINDOW && self.bits[usize::from(below / 64)] & (1 << (below % 64)) != 0
    }

    fn shift(&mut self, by: u16) {
        let (words, bits) = (usize::from(by / 64), u32::from(by % 64));
        let old = self.bits;
        let word = |at: Option<usize>| at.and_then(|at| old.get(at)).copied().unwrap_or(0);
        for (at, new) in self.bits.iter_mut().enumerate() {
            let carried = word(at.checked_sub(words + 1)).checked_shr(64 - bits).unwrap_or(0);
            *new = word(at.checked_sub(words)) << bits | carried;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn history_agrees_with_a_plain_set_over_random_arrivals_around_the_wrap() {
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..200 {
            let (mut history, mut seen) = (History::default(), std::collections::BTreeSet::new());
            let mut position = 65_300_u32;
            let mut highest = None;
            for _ in 0..400 {
                position = (position + random.u32(0..6)).saturating_sub(random.u32(0..5));
                if random.u8(..) == 0 {
                    position += random.u32(0..300);
                }
                let expected = match highest {
                    Some(highest) if position <= highest => {
                        if seen.contains(&position) && highest - position < History::WINDOW.into() {
                            Arrival::Repeated
                        } else {
                            Arrival::Late
                        }
                    }
                    _ => Arrival::Next,
                };
                assert_eq!(history.insert(position as u16), expected);
                seen.insert(position);
                let top = highest.map_or(position, |highest: u32| highest.max(position));
                highest = Some(top);
                for below in 0..History::WINDOW {
                    let there = top.checked_sub(below.into()).is_some_and(|number| seen.contains(&number));
                    assert_eq!(history.has(below), there, "{below} below {top}");
                }
            }
        }
    }
}
