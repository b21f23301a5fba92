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

/// The first 48 bytes of the frame. The lower half of the phone's address is zero, and so are the lowest 4 bits of its port.
#[map]
static HEADERS: Array<[u64; 6]> = Array::with_max_entries(1, 0);

/// The next flow, the number of flows (at most 1 << 20), and whether the phone is the receiver (1) or the sender (0).
#[map]
static PLAN: Array<[u32; 3]> = Array::with_max_entries(1, 0);

/// The program under test.
#[map]
static TARGET: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// Does not return if all is well.
#[inline(always)]
pub(crate) fn run(ctx: &XdpContext) {
    let Some(frame) = beginning::<[u64; 6]>(ctx) else { return };
    let (Some(headers), Some(plan)) = (HEADERS.get(0), PLAN.get_ptr_mut(0)) else { return };
    // SAFETY: a pointer into the map. User space writes to it while nothing runs.
    let [next, flows, receives] = unsafe { &mut *plan };
    let flow = *next;
    *next = if flow + 1 < *flows { flow + 1 } else { 0 };
    // In network order: 65,536 addresses, then the next port.
    let address = u64::from((flow as u16).swap_bytes());
    let port = u64::from(((flow >> 16) as u16).swap_bytes());
    // Put in before the words are stored. A second store to the same bytes would make a program that loads them by words
    // wait for both, which no frame from a device does.
    let [a, b, c, mut at_24, mut at_32, f] = headers.map(u64::from_le);
    if *receives == 0 {
        at_24 |= address << 32;
        at_32 |= port << 16;
    } else {
        at_32 |= address | port << 32;
    }
    // SAFETY: inside the frame; and nothing is left to be dropped here.
    unsafe {
        *frame = [a, b, c, at_24, at_32, f].map(u64::to_le);
        TARGET.tail_call(ctx, 0);
    }
}
