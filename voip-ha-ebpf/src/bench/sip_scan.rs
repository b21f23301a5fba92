//! What it costs to look into a SIP message.

use aya_ebpf::{
    bindings::xdp_action,
    macros::map,
    maps::{Array, PerCpuArray},
    programs::XdpContext,
};
use voip_ha_ebpf::sip::Desk;

use crate::headers::{Headers, beginning};

const UDP_HEADER: u32 = 8;

#[map]
static SIP_DESK: PerCpuArray<Desk> = PerCpuArray::with_max_entries(1, 0);

/// What was found in the last message: the call, what the message is, and whether there is a tag (1) and the scanner gave up (2).
#[map]
static SIP_FOUND: Array<[u64; 3]> = Array::with_max_entries(1, 0);

/// Passes a frame whose message has a Call-ID, and drops the others.
#[inline(always)]
pub(crate) fn run(ctx: &XdpContext) -> u32 {
    let Some(headers) = beginning::<Headers>(ctx) else { return xdp_action::XDP_ABORTED };
    // SAFETY: integers inside the frame, to which nobody writes.
    let length = u32::from(u16::from_be(unsafe { (*headers).udp_length })).wrapping_sub(UDP_HEADER);
    let (Some(desk), Some(found)) = (SIP_DESK.get_ptr_mut(0), SIP_FOUND.get_ptr_mut(0)) else {
        return xdp_action::XDP_ABORTED;
    };
    // SAFETY: this CPU's own value, and XDP programs on one CPU do not interrupt each other. The context of this program.
    let Some(scan) = (unsafe { (*desk).scan(ctx.ctx, size_of::<Headers>() as u32, length) }) else {
        return xdp_action::XDP_ABORTED;
    };
    // SAFETY: a pointer into the map, which user space reads when nothing runs.
    unsafe { *found = [scan.call, scan.kind as u64, u64::from(scan.to_tag) | u64::from(scan.gave_up) << 1] };
    if scan.call == 0 { xdp_action::XDP_DROP } else { xdp_action::XDP_PASS }
}
