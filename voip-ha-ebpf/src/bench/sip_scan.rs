//! What it costs to look into a SIP message.

use aya_ebpf::{
    bindings::xdp_action,
    macros::map,
    maps::{Array, PerCpuArray},
    programs::XdpContext,
};
use voip_ha_ebpf::sip::{self, Text};

use crate::headers::{Headers, beginning};

const UDP_HEADER: u32 = 8;

/// Where the message is scanned.
#[map]
static SIP_TEXT: PerCpuArray<Text> = PerCpuArray::with_max_entries(1, 0);

/// What was found in the last message: the call, what the message is, and whether there is a tag (1) and the scanner gave up (2).
#[map]
static SIP_FOUND: Array<[u64; 3]> = Array::with_max_entries(1, 0);

/// Passes a frame whose message has a Call-ID, and drops the others.
#[inline(always)]
pub(crate) fn run(ctx: &XdpContext) -> u32 {
    let Some(headers) = beginning::<Headers>(ctx) else { return xdp_action::XDP_ABORTED };
    // SAFETY: integers inside the frame, to which nobody writes.
    let length = u32::from(u16::from_be(unsafe { (*headers).udp_length })).wrapping_sub(UDP_HEADER);
    let (Some(text), Some(found)) = (SIP_TEXT.get_ptr_mut(0), SIP_FOUND.get_ptr_mut(0)) else {
        return xdp_action::XDP_ABORTED;
    };
    // SAFETY: this CPU's own value, and XDP programs on one CPU do not interrupt each other.
    let text = unsafe { &mut *text };
    // SAFETY: the context of this program.
    if !unsafe { sip::load(ctx.ctx, text, size_of::<Headers>() as u32, length) } {
        return xdp_action::XDP_ABORTED;
    }
    let scan = sip::scan_loaded(text);
    // SAFETY: a pointer into the map, which user space reads when nothing runs.
    unsafe { *found = [scan.call, scan.kind as u64, u64::from(scan.to_tag) | u64::from(scan.gave_up) << 1] };
    if scan.call == 0 { xdp_action::XDP_DROP } else { xdp_action::XDP_PASS }
}
