//! What a packet costs without any of the gateway's features.

use core::{mem::MaybeUninit, ptr::write_volatile};

use aya_ebpf::{
    EbpfContext as _,
    bindings::{BPF_FIB_LKUP_RET_SUCCESS, bpf_fib_lookup, xdp_action},
    helpers::bpf_fib_lookup as lookup,
    macros::map,
    maps::{Array, DevMap, PerCpuArray},
    programs::XdpContext,
};

use crate::headers::{Headers, beginning};

const AF_INET: u8 = 2;
const IPPROTO_UDP: u8 = 17;
const ETHERTYPE_IPV4: u16 = 0x0800u16.to_be();
const VERSION_4_NO_OPTIONS: u8 = 0x45;
/// "More fragments" and the fragment offset.
const FRAGMENT_BITS: u16 = 0x3fffu16.to_be();

/// The device that redirected frames leave by.
#[map]
static OUT: DevMap = DevMap::with_max_entries(1, 0);

/// In halves of words, in network order: the VIP (2), the server's address (2), the next hop's Ethernet address (3) and that of
/// the device (3).
#[map]
static WAY: Array<[u16; 10]> = Array::with_max_entries(1, 0);

/// Packets and bytes.
#[map]
static COUNT: PerCpuArray<[u64; 2]> = PerCpuArray::with_max_entries(1, 0);

#[inline(always)]
pub(crate) fn redirect() -> u32 {
    OUT.redirect(0, 0).unwrap_or(xdp_action::XDP_ABORTED)
}

/// Sends a datagram for one address to one server. Passes everything else.
#[inline(always)]
pub(crate) fn feature_free(ctx: &XdpContext) -> u32 {
    let Some(headers) = beginning::<Headers>(ctx) else { return xdp_action::XDP_PASS };
    // SAFETY: integers inside the frame, and the only reference to them.
    let headers = unsafe { &mut *headers };
    let Some(&[vip_high, vip_low, server_high, server_low, next_hop @ .., s0, s1, s2]) = WAY.get(0) else {
        return xdp_action::XDP_ABORTED;
    };
    if headers.ethertype != ETHERTYPE_IPV4
        || headers.version_ihl != VERSION_4_NO_OPTIONS
        || headers.protocol != IPPROTO_UDP
        || headers.fragment & FRAGMENT_BITS != 0
        || headers.destination != [vip_high, vip_low]
        || headers.ttl <= 1
    {
        return xdp_action::XDP_PASS;
    }
    let moved = change(vip_high, server_high) + change(vip_low, server_low);
    headers.destination = [server_high, server_low];
    let before = u16::from_ne_bytes([headers.ttl, headers.protocol]);
    headers.ttl -= 1;
    let after = u16::from_ne_bytes([headers.ttl, headers.protocol]);
    headers.checksum = updated(headers.checksum, moved + change(before, after));
    if headers.udp_checksum != 0 {
        let checksum = updated(headers.udp_checksum, moved);
        headers.udp_checksum = if checksum == 0 { 0xffff } else { checksum };
    }
    headers.ethernet_destination = next_hop;
    headers.ethernet_source = [s0, s1, s2];
    count((ctx.data_end() - ctx.data()) as u64);
    redirect()
}

/// What replacing one half of a word by another adds to a checksum (RFC 1624, equation 3).
#[inline(always)]
fn change(from: u16, to: u16) -> u32 {
    u32::from(!from) + u32::from(to)
}

#[inline(always)]
fn updated(checksum: u16, change: u32) -> u16 {
    let sum = u32::from(!checksum) + change;
    let sum = (sum & 0xffff) + (sum >> 16);
    !((sum + (sum >> 16)) as u16)
}

#[inline(always)]
pub(crate) fn count(bytes: u64) {
    if let Some(count) = COUNT.get_ptr_mut(0) {
        // SAFETY: this CPU's own value.
        unsafe {
            (*count)[0] += 1;
            (*count)[1] += bytes;
        }
    }
}

/// Asks for the way to the frame's receiver, as the gateway's program does for a packet to a client.
#[inline(always)]
pub(crate) fn fib_lookup(ctx: &XdpContext) -> u32 {
    let Some(headers) = beginning::<Headers>(ctx) else { return xdp_action::XDP_ABORTED };
    // SAFETY: integers inside the frame, and the only reference to them.
    let headers = unsafe { &*headers };
    let mut fib = MaybeUninit::<bpf_fib_lookup>::uninit();
    for word in 0..size_of::<bpf_fib_lookup>() / size_of::<u32>() {
        // SAFETY: inside the value. By words, as the gateway's program does it.
        unsafe { write_volatile(fib.as_mut_ptr().cast::<u32>().add(word), 0) };
    }
    // SAFETY: plain integers, for which zero is a value.
    let fib = unsafe { fib.assume_init_mut() };
    fib.family = AF_INET;
    fib.l4_protocol = IPPROTO_UDP;
    fib.sport = headers.source_port;
    fib.dport = headers.destination_port;
    fib.__bindgen_anon_1.tot_len = u16::from_be(headers.total_length);
    fib.ifindex = ctx.ingress_ifindex() as u32;
    fib.__bindgen_anon_3.ipv4_src = word(headers.source);
    fib.__bindgen_anon_4.ipv4_dst = word(headers.destination);
    // SAFETY: a valid context, and a structure of the size that is named.
    let answer = unsafe { lookup(ctx.as_ptr(), fib, size_of::<bpf_fib_lookup>() as i32, 0) };
    if answer as u32 == BPF_FIB_LKUP_RET_SUCCESS { xdp_action::XDP_PASS } else { xdp_action::XDP_ABORTED }
}

/// Two halves in network order as one word in network order.
#[inline(always)]
fn word([high, low]: [u16; 2]) -> u32 {
    let ([a, b], [c, d]) = (high.to_ne_bytes(), low.to_ne_bytes());
    u32::from_ne_bytes([a, b, c, d])
}
