//! The headers of a UDP datagram without IP options, in halves of words as they lie in the frame: network order.
//!
//! Not those of the gateway's own program: a baseline that grew with it would hide what it grows by.

use aya_ebpf::programs::XdpContext;

/// Ethernet, IPv4 and UDP.
#[repr(C)]
pub(crate) struct Headers {
    pub(crate) ethernet_destination: [u16; 3],
    pub(crate) ethernet_source: [u16; 3],
    pub(crate) ethertype: u16,
    pub(crate) version_ihl: u8,
    pub(crate) tos: u8,
    pub(crate) total_length: u16,
    pub(crate) identification: u16,
    pub(crate) fragment: u16,
    pub(crate) ttl: u8,
    pub(crate) protocol: u8,
    pub(crate) checksum: u16,
    pub(crate) source: [u16; 2],
    pub(crate) destination: [u16; 2],
    pub(crate) source_port: u16,
    pub(crate) destination_port: u16,
    pub(crate) udp_length: u16,
    pub(crate) udp_checksum: u16,
}

/// The beginning of the frame, if the frame is long enough for a `T`. The pointer may be written through; BPF_PROG_TEST_RUN puts
/// frames at multiples of 8 bytes.
#[inline(always)]
pub(crate) fn beginning<T>(ctx: &XdpContext) -> Option<*mut T> {
    let (start, end) = (ctx.data(), ctx.data_end());
    (start + size_of::<T>() <= end).then_some(start as *mut T)
}
