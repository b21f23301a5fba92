//! A whole frame for each run.
//!
//! A repeated BPF_PROG_TEST_RUN does not restore the packet, so a program that rewrites would see its own output from the
//! second run on.

use aya_ebpf::{
    macros::map,
    maps::{Array, ProgramArray},
    programs::XdpContext,
};

use crate::headers::beginning;

/// The beginning of the frame. The lowest 16 bits of the phone's address are zero, and so are the lowest 4 bits of its port.
#[map]
static HEADERS: Array<[u64; 8]> = Array::with_max_entries(1, 0);

/// The next flow, the number of flows (at most 1 << 20), and whether the phone is the receiver (1) or the sender (0).
#[map]
static PLAN: Array<[u32; 3]> = Array::with_max_entries(1, 0);

/// The program under test.
#[map]
static TARGET: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// Where in the frame the lowest 16 bits of the phone's address are, and its port: if it is the sender, and if it is the receiver.
pub(crate) struct Places {
    sender: [usize; 2],
    receiver: [usize; 2],
}

/// IPv4.
pub(crate) const PLAIN: Places = Places { sender: [28, 34], receiver: [32, 36] };
/// IPv4 behind a VLAN tag.
pub(crate) const TAGGED: Places = Places { sender: [32, 38], receiver: [36, 40] };
/// IPv6.
pub(crate) const SIX: Places = Places { sender: [36, 54], receiver: [52, 56] };

/// Restores so many words. Does not return if all is well.
#[inline(always)]
pub(crate) fn run<const WORDS: usize>(ctx: &XdpContext, places: &Places) {
    let Some(frame) = beginning::<[u64; WORDS]>(ctx) else { return };
    let (Some(headers), Some(plan)) = (HEADERS.get(0), PLAN.get_ptr_mut(0)) else { return };
    // SAFETY: a pointer into the map. User space writes to it while nothing runs.
    let [next, flows, receives] = unsafe { &mut *plan };
    let flow = *next;
    *next = if flow + 1 < *flows { flow + 1 } else { 0 };
    // In network order: 65,536 addresses, then the next port.
    let numbers = [(flow as u16).swap_bytes(), ((flow >> 16) as u16).swap_bytes()];
    // Put in before the words are stored. A second store to the same bytes would make a program that loads them by words
    // wait for both, which no frame from a device does.
    let mut words = [0; WORDS];
    for (word, header) in words.iter_mut().zip(headers) {
        *word = u64::from_le(*header);
    }
    if *receives == 0 {
        put(&mut words, places.sender, numbers);
    } else {
        put(&mut words, places.receiver, numbers);
    }
    // SAFETY: inside the frame; and nothing is left to be dropped here.
    unsafe {
        *frame = words.map(u64::to_le);
        TARGET.tail_call(ctx, 0);
    }
}

#[inline(always)]
fn put<const WORDS: usize>(words: &mut [u64; WORDS], places: [usize; 2], numbers: [u16; 2]) {
    for (at, number) in places.into_iter().zip(numbers) {
        words[at / 8] |= u64::from(number) << (at % 8 * 8);
    }
}
