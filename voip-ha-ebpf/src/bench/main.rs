//! What `cargo xtask bench datapath` measures the XDP program with, and beside: a wrapper that gives each run a whole frame
//! of another flow, a target that does nothing, baselines, and the scanner of SIP messages alone; and what floods the lab's network
//! and counts what arrives. A binary of its own, no part of the gateway.
#![no_std]
#![no_main]

mod baselines;
mod flood;
mod headers;
mod sip_scan;
mod wrapper;

use aya_ebpf::{bindings::xdp_action, macros::xdp, programs::XdpContext};

/// Restores the frame's headers, writes the next flow into them, and becomes the program in `TARGET`.
#[xdp]
fn wrapper(ctx: XdpContext) -> u32 {
    wrapper::run::<6>(&ctx, &wrapper::PLAIN);
    // Nothing is in TARGET, or the frame is too short.
    xdp_action::XDP_ABORTED
}

/// The same for frames with a VLAN tag.
#[xdp]
fn wrapper_tagged(ctx: XdpContext) -> u32 {
    wrapper::run::<6>(&ctx, &wrapper::TAGGED);
    xdp_action::XDP_ABORTED
}

/// The same for IPv6.
#[xdp]
fn wrapper_six(ctx: XdpContext) -> u32 {
    wrapper::run::<8>(&ctx, &wrapper::SIX);
    xdp_action::XDP_ABORTED
}

/// What the wrapper costs by itself.
#[xdp]
fn no_op(_ctx: XdpContext) -> u32 {
    xdp_action::XDP_PASS
}

/// The least that a program can do to forward a frame.
#[xdp]
fn bare_redirect(_ctx: XdpContext) -> u32 {
    baselines::redirect()
}

/// Parses, rewrites, counts and redirects, and nothing else.
#[xdp]
fn feature_free(ctx: XdpContext) -> u32 {
    baselines::feature_free(&ctx)
}

/// One question to the kernel's routing table.
#[xdp]
fn fib_lookup(ctx: XdpContext) -> u32 {
    baselines::fib_lookup(&ctx)
}

/// Looks into a SIP message.
#[xdp]
fn sip_scan(ctx: XdpContext) -> u32 {
    sip_scan::run(&ctx)
}

/// Makes a frame of the next flow of a flood, and sends it.
#[xdp]
fn flood(ctx: XdpContext) -> u32 {
    flood::make(&ctx).map_or(xdp_action::XDP_ABORTED, |()| baselines::redirect())
}

/// The end of a flood.
#[xdp]
fn arrive(ctx: XdpContext) -> u32 {
    flood::arrive(&ctx)
}

/// The least that a program can do to drop a flood and nothing else.
#[xdp]
fn drop_source(ctx: XdpContext) -> u32 {
    flood::drop_source(&ctx)
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
