//! The XDP program. The only place where a verdict becomes an XDP action and a count.
#![no_std]
#![no_main]

mod maps;
mod tables;

use core::ptr::{read_volatile, write_volatile};

use aya_ebpf::{bindings::xdp_action, helpers::bpf_ktime_get_ns, macros::xdp, programs::XdpContext};
use aya_log_ebpf::debug;
use voip_ha_ebpf::{
    abi::{HEARD_GRAIN_NS, Outcome, ServerNumber, counter_index},
    packet::Frame,
    rewrite::{self, Rewrite},
    steer::{Action, Hop, Verdict, steer},
};

use crate::tables::KernelTables;

/// Runs for every frame that the front or the back interface receives.
#[xdp]
fn voip_ha(ctx: XdpContext) -> u32 {
    // SAFETY: the kernel guarantees the range to be the frame's, and to be ours until the program returns.
    let mut frame = unsafe { Frame::new(ctx.data(), ctx.data_end()) };
    let bytes = frame.len() as u64;
    let verdict = steer(&mut frame, &KernelTables { ctx: &ctx });
    let (action, outcome) = apply(&mut frame, verdict.action);
    count(&verdict, outcome, bytes);
    if let (Some(server), Outcome::ToClient | Outcome::ToClientByStack) = (verdict.server, outcome) {
        note_heard(server);
    }
    // Level 0, the default, is constant data for the verifier, which then removes all of this from the program.
    if action != xdp_action::XDP_REDIRECT {
        debug!(&ctx, "frame of {} bytes not redirected: outcome {}", bytes, outcome as u8);
    }
    action
}

/// Carries out a verdict: the XDP action, and what to count.
#[inline(always)]
fn apply(frame: &mut Frame<'_>, action: Action) -> (u32, Outcome) {
    match action {
        Action::ToServer(rewrite, hop) => match redirect(frame, &rewrite, &hop) {
            Some(action) => (action, Outcome::ToServer),
            None => (xdp_action::XDP_DROP, Outcome::NoDevice),
        },
        Action::ToClient(rewrite, hop) => match redirect(frame, &rewrite, &hop) {
            Some(action) => (action, Outcome::ToClient),
            None => to_client_by_stack(frame, &rewrite),
        },
        Action::ToClientByStack(rewrite) => to_client_by_stack(frame, &rewrite),
        Action::Pass(outcome) => (xdp_action::XDP_PASS, outcome),
        Action::Drop(outcome) => (xdp_action::XDP_DROP, outcome),
    }
}

/// Sends a datagram out, or returns `None`, with nothing changed, if XDP cannot send to the device.
#[inline(always)]
fn redirect(frame: &mut Frame<'_>, rewrite: &Rewrite, hop: &Hop) -> Option<u32> {
    // The kernel only notes the device here and sends when the program has returned, so the order is free, and asking
    // first leaves the packet whole for another way.
    let action = maps::DEVICES.redirect(hop.ifindex, 0).ok()?;
    rewrite::addresses(frame, rewrite)?;
    rewrite::forward(frame, hop)?;
    Some(action)
}

/// Leaves it to the stack to resolve the neighbour, to fragment or to encapsulate. The stack counts down the time to
/// live itself, and takes a packet from the VIP, a local address, only with `accept_local` (the controller sets it).
#[inline(always)]
fn to_client_by_stack(frame: &mut Frame<'_>, rewrite: &Rewrite) -> (u32, Outcome) {
    match rewrite::addresses(frame, rewrite) {
        Some(()) => (xdp_action::XDP_PASS, Outcome::ToClientByStack),
        None => (xdp_action::XDP_DROP, Outcome::Malformed),
    }
}

#[inline(always)]
fn count(verdict: &Verdict, outcome: Outcome, bytes: u64) {
    let index = counter_index(verdict.server, verdict.class, outcome);
    if let Some(counter) = maps::COUNTERS.get_ptr_mut(index) {
        // SAFETY: this CPU's own value, and XDP programs on one CPU do not interrupt each other.
        unsafe {
            (*counter).packets += 1;
            (*counter).bytes += bytes;
        }
    }
}

#[inline(always)]
fn note_heard(server: ServerNumber) {
    let Some(heard) = maps::HEARD.get_ptr_mut(server.0) else { return };
    // SAFETY: a helper without arguments.
    let now = unsafe { bpf_ktime_get_ns() };
    // SAFETY: a valid, aligned pointer into the map, which other CPUs and the controller use at the same time: volatile, so
    // that it is one load and one store of a word. Two CPUs may both store; either value is right.
    unsafe {
        if now.wrapping_sub(read_volatile(heard)) >= HEARD_GRAIN_NS {
            write_volatile(heard, now);
        }
    }
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
