//! A flood of datagrams through the lab's network, and what it is counted or dropped by.

use aya_ebpf::{bindings::xdp_action, macros::map, maps::Array, programs::XdpContext};

use crate::{
    baselines::count,
    headers::{Headers, beginning},
};

const ETHERTYPE_IPV4: u16 = 0x0800u16.to_be();

/// The first 48 bytes of the frames of each flow, checksums included.
#[map]
static FLOWS: Array<[u64; 6]> = Array::with_max_entries(1024, 0);

/// The next flow, and the number of flows.
#[map]
static TURN: Array<[u32; 2]> = Array::with_max_entries(1, 0);

/// In halves of words, in network order: an address (2), and what the flood's payload begins with (3).
#[map]
static SOUGHT: Array<[u16; 5]> = Array::with_max_entries(1, 0);

/// The beginning of a datagram with at least 6 bytes of payload.
#[repr(C)]
struct Marked {
    headers: Headers,
    mark: [u16; 3],
}

/// Makes the frame one of the next flow. A frame that comes back to be sent again is as the last receiver left it, so all of
/// its headers are written.
#[inline(always)]
pub(crate) fn make(ctx: &XdpContext) -> Option<()> {
    let (frame, turn) = (beginning::<[u64; 6]>(ctx)?, TURN.get_ptr_mut(0)?);
    // SAFETY: a pointer into the map. One processor floods, and user space writes to it while nothing runs.
    let [next, flows] = unsafe { &mut *turn };
    let flow = *next;
    *next = if flow + 1 < *flows { flow + 1 } else { 0 };
    let headers = FLOWS.get(flow)?;
    // By words, which a copy of the whole would not be: it becomes a loop over bytes.
    for (place, word) in headers.iter().enumerate() {
        // SAFETY: inside the frame.
        unsafe { (*frame)[place] = *word };
    }
    Some(())
}

/// Counts and drops what has come to the server, and passes what is not of the flood.
#[inline(always)]
pub(crate) fn arrive(ctx: &XdpContext) -> u32 {
    let (Some(frame), Some(&[high, low, mark @ ..])) = (beginning::<Marked>(ctx), SOUGHT.get(0)) else {
        return xdp_action::XDP_PASS;
    };
    // SAFETY: integers inside the frame.
    let Marked { headers, mark: seen } = unsafe { &*frame };
    if headers.ethertype != ETHERTYPE_IPV4 || headers.destination != [high, low] || *seen != mark {
        return xdp_action::XDP_PASS;
    }
    count((ctx.data_end() - ctx.data()) as u64);
    xdp_action::XDP_DROP
}

/// Drops what comes from the address, and passes everything else.
#[inline(always)]
pub(crate) fn drop_source(ctx: &XdpContext) -> u32 {
    let (Some(headers), Some(&[high, low, ..])) = (beginning::<Headers>(ctx), SOUGHT.get(0)) else {
        return xdp_action::XDP_PASS;
    };
    // SAFETY: integers inside the frame.
    let headers = unsafe { &*headers };
    let denied = headers.ethertype == ETHERTYPE_IPV4 && headers.source == [high, low];
    if denied { xdp_action::XDP_DROP } else { xdp_action::XDP_PASS }
}
