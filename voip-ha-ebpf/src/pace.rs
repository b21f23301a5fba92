//! How seldom the clock may be asked: an answer costs as much as all else that is done with a packet of RTP.

use crate::abi::HEARD_GRAIN_NS;

/// Half of the grain goes by between two answers while packets come fast, the other half between what is written of them.
const WINDOW_NS: u64 = HEARD_GRAIN_NS / 2;
/// Most packets that go by without a question: few, because where fast packets are followed by slow ones, those are not asked about
/// before the kernel's next tick.
const MOST: u32 = 31;

/// When one CPU last asked the clock for the packets of one class from one server, and how many may go by until it asks again.
///
/// One more each time that the packets since the last answer took less than a window, none if they took longer. So with packets that
/// come fast the answer is never older than a window or two, and each packet that comes alone has one of its own. Where fast packets
/// are followed by slow ones, the kernel's tick, which costs nothing to read, ends what they were granted.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Pace {
    /// The latest answer, as `CLOCK_MONOTONIC` in nanoseconds.
    asked_at: u64,
    /// The kernel's tick at that time.
    tick: u64,
    /// Packets that were to go by since.
    granted: u32,
    /// Those of them that have not come yet.
    left: u32,
}

impl Pace {
    /// Takes in a packet: whether the clock is to be asked for it.
    #[inline(always)]
    pub fn asks(&mut self, tick: u64) -> bool {
        let asks = self.left == 0 || self.tick != tick;
        if !asks {
            self.left -= 1;
        }
        asks
    }

    /// Takes in the answer.
    #[inline(always)]
    pub fn answered(&mut self, tick: u64, now: u64) {
        let is_fast = now.wrapping_sub(self.asked_at) < WINDOW_NS;
        let granted = if !is_fast {
            0
        } else if self.granted < MOST {
            self.granted + 1
        } else {
            MOST
        };
        *self = Self { asked_at: now, tick, granted, left: granted };
    }
}

/// Whether what was written of an earlier packet is to be written again.
#[inline(always)]
pub fn is_stale(written_at: u64, now: u64) -> bool {
    now.wrapping_sub(written_at) >= WINDOW_NS
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK_NS: u64 = 4_000_000;

    /// Packets at these times: how often the clock was asked, and how much older than the packets what is written of them ever is.
    fn run(packets: impl Iterator<Item = u64>) -> (u64, u64) {
        let (mut pace, mut written_at) = (Pace::default(), 0);
        let (mut questions, mut oldest) = (0, 0);
        for now in packets.map(|at| at + 1_000_000_000) {
            let tick = now / TICK_NS;
            if pace.asks(tick) {
                pace.answered(tick, now);
                questions += 1;
                if is_stale(written_at, now) {
                    written_at = now;
                }
            }
            oldest = oldest.max(now - written_at);
        }
        (questions, oldest)
    }

    #[test]
    fn a_packet_that_comes_alone_asks_the_clock() {
        assert_eq!(run((0..100).map(|packet| packet * 20_000_000)), (100, 0));
        assert_eq!(run((0..100).map(|packet| packet * WINDOW_NS)), (100, 0));
    }

    #[test]
    fn at_any_steady_pace_what_is_written_is_no_older_than_the_grain() {
        for gap in [200, 1_000, 5_000, 40_000, 100_000, 240_000, 400_000, 1_000_000] {
            let (_, oldest) = run((0..100_000).map(|packet| packet * gap));
            assert!(oldest <= HEARD_GRAIN_NS + gap, "one packet each {gap} ns: {oldest} ns");
        }
    }

    #[test]
    fn five_million_packets_a_second_ask_for_one_in_thirty() {
        let (questions, _) = run((0..1_000_000).map(|packet| packet * 200));
        assert!(questions < 33_000, "{questions}");
    }

    #[test]
    fn what_slows_down_is_found_at_the_next_tick() {
        let fast = (0..20_000).map(|packet| packet * 200);
        let slow = (1..20).map(|packet| TICK_NS + packet * 1_500_000);
        let (_, oldest) = run(fast.chain(slow));
        assert!(oldest < TICK_NS, "{oldest}");
    }
}
