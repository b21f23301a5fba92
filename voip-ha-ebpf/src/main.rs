//! The XDP program. The only place where a verdict becomes an XDP action, a count, a stamp or a signal.
#![no_std]
#![no_main]

mod maps;
mod tables;

use core::ptr::{read_volatile, write_volatile};

use aya_ebpf::{
    bindings::{BPF_ANY, BPF_NOEXIST, xdp_action},
    helpers::{bpf_ktime_get_ns, bpf_xdp_adjust_head, bpf_xdp_adjust_tail},
    macros::xdp,
    programs::XdpContext,
};
use aya_log_ebpf::debug;
use voip_ha_ebpf::{
    abi::{
        Class, FirstFragment, FlowEntry, FlowKey, FragmentKey, HEARD_GRAIN_NS, Outcome, REFUSED_GRAIN_NS, ServerNumber,
        SignalRecord, Stamp, counter_index, pending_index,
    },
    packet::{self, Frame},
    rewrite::{self, Rewrite, TOO_BIG_GROWTH, TOO_BIG_LEN},
    steer::{Action, FlipId, Hop, Note, Tables as _, Verdict, steer},
};

use crate::tables::KernelTables;

/// Runs for every frame that the front or the back interface receives.
#[xdp]
fn voip_ha(ctx: XdpContext) -> u32 {
    // SAFETY: the kernel guarantees the range to be the frame's, and to be ours until the program returns.
    let mut frame = unsafe { Frame::new(ctx.data(), ctx.data_end()) };
    let bytes = frame.len() as u64;
    let verdict = steer(&mut frame, &KernelTables { ctx: &ctx });
    if let Some((key, first)) = verdict.to_remember(&mut frame) {
        remember(&key, first);
    }
    let (action, outcome) = apply(&ctx, &mut frame, verdict.action);
    count(&verdict, outcome, bytes);
    if let Some(server) = verdict.server {
        note(server, &verdict, outcome);
    }
    // Level 0, the default, is constant data for the verifier, which then removes all of this from the program.
    if action != xdp_action::XDP_REDIRECT {
        debug!(&ctx, "frame of {} bytes not redirected: outcome {}", bytes, outcome as u8);
    }
    action
}

/// Carries out a verdict: the XDP action, and what to count.
#[inline(always)]
fn apply(ctx: &XdpContext, frame: &mut Frame<'_>, action: Action) -> (u32, Outcome) {
    match action {
        Action::ToServer(rewrite, hop) => match redirect(frame, &rewrite, &hop) {
            Some(action) => (action, Outcome::ToServer),
            None => (xdp_action::XDP_DROP, Outcome::NoDevice),
        },
        Action::ToServerByStack(rewrite) => by_stack(frame, &rewrite, Outcome::ToServerByStack),
        Action::ToClient(rewrite, hop) => match redirect(frame, &rewrite, &hop) {
            Some(action) => (action, Outcome::ToClient),
            None => by_stack(frame, &rewrite, Outcome::ToClientByStack),
        },
        Action::ToClientByStack(rewrite) => by_stack(frame, &rewrite, Outcome::ToClientByStack),
        Action::TellTooBig(mtu) => tell_too_big(ctx, frame, mtu),
        Action::Pass(outcome) => (xdp_action::XDP_PASS, outcome),
        Action::Drop(outcome) => (xdp_action::XDP_DROP, outcome),
    }
}

/// Sends a packet out, or returns `None`, with nothing changed, if XDP cannot send to the device.
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
fn by_stack(frame: &mut Frame<'_>, rewrite: &Rewrite, outcome: Outcome) -> (u32, Outcome) {
    match rewrite::addresses(frame, rewrite) {
        Some(()) => (xdp_action::XDP_PASS, outcome),
        None => (xdp_action::XDP_DROP, Outcome::Malformed),
    }
}

/// Turns the packet into the message about it and sends that back. The frame is another one after this.
#[inline(always)]
fn tell_too_big(ctx: &XdpContext, frame: &mut Frame<'_>, mtu: u16) -> (u32, Outcome) {
    let dropped = (xdp_action::XDP_DROP, Outcome::TooLarge);
    let tables = KernelTables { ctx };
    let Some(FragmentKey { source, destination, .. }) = packet::fragment_key(frame) else { return dropped };
    let vip = tables.origin(&source).map_or(destination, |origin| origin.vip);
    // SAFETY: a valid context. Whatever pointed into the frame is not used any more.
    if unsafe { bpf_xdp_adjust_head(ctx.ctx, -(TOO_BIG_GROWTH as i32)) } != 0 {
        return dropped;
    }
    // SAFETY: as in `voip_ha`.
    let mut frame = unsafe { Frame::new(ctx.data(), ctx.data_end()) };
    let surplus = frame.len() as i32 - TOO_BIG_LEN as i32;
    if rewrite::too_big(&mut frame, vip, mtu).is_none() {
        return dropped;
    }
    // SAFETY: as above.
    match unsafe { bpf_xdp_adjust_tail(ctx.ctx, -surplus) } {
        0 => (xdp_action::XDP_TX, Outcome::ToldTooBig),
        _ => dropped,
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

/// Only of the first fragment of a datagram. A map that takes no more leaves the others as if the first one had not been seen.
#[inline(always)]
fn remember(key: &FragmentKey, first: FirstFragment) {
    // SAFETY: a helper without arguments.
    let entry = first.entry(unsafe { bpf_ktime_get_ns() });
    let _ = maps::FRAGMENTS.insert(key, entry, u64::from(BPF_ANY));
}

#[inline(always)]
fn note(server: ServerNumber, verdict: &Verdict, outcome: Outcome) {
    match verdict.note {
        Note::Sent { flip, flow } if matches!(outcome, Outcome::ToServer | Outcome::ToServerByStack) => {
            note_sent(server, verdict.class, flip);
            if let Some(flow) = flow {
                note_flow(&flow);
            }
        }
        Note::Heard { flip } if matches!(outcome, Outcome::ToClient | Outcome::ToClientByStack) => {
            note_heard(server, flip);
        }
        Note::Refused { code } => note_refused(server, code),
        _ => {}
    }
}

// Pointers into the maps are valid and aligned. What other CPUs and the controller use at the same time is read and written
// volatile, so that it is one load or one store of a word. Two CPUs may both store; either value is right.

#[inline(always)]
fn note_sent(server: ServerNumber, class: Class, flip: FlipId) {
    let Some(traffic) = maps::TRAFFIC.get_ptr(server.0) else { return };
    let Some(pending) = maps::PENDING.get_ptr_mut(pending_index(server, class)) else { return };
    // SAFETY: as above for what is shared. The count is this CPU's own, and XDP programs on one CPU do not interrupt each
    // other; the time last, or who reads would take the old count for one of the new time.
    unsafe {
        let heard_at = read_volatile(&raw const (*traffic).heard_at);
        let before = if (*pending).heard_at == heard_at { (*pending).packets } else { 0 };
        write_volatile(&raw mut (*pending).packets, before + 1);
        write_volatile(&raw mut (*pending).heard_at, heard_at);
    }
    if let Some(entry) = maps::FLIPS.get_ptr_mut(flip.index) {
        // SAFETY: as above.
        unsafe { stamp(&raw mut (*entry).first_to, flip.epoch, || bpf_ktime_get_ns()) };
    }
}

#[inline(always)]
fn note_heard(server: ServerNumber, flip: Option<FlipId>) {
    let Some(traffic) = maps::TRAFFIC.get_ptr_mut(server.0) else { return };
    // SAFETY: a helper without arguments; for the rest as above.
    let now = unsafe {
        let (now, heard_at) = (bpf_ktime_get_ns(), &raw mut (*traffic).heard_at);
        if now.wrapping_sub(read_volatile(heard_at)) >= HEARD_GRAIN_NS {
            write_volatile(heard_at, now);
        }
        now
    };
    let Some(flip) = flip else { return };
    if let Some(entry) = maps::FLIPS.get_ptr_mut(flip.index) {
        // SAFETY: as above.
        unsafe { stamp(&raw mut (*entry).first_back, flip.epoch, || now) };
    }
}

/// Stamps the first packet of an epoch. The clock is asked only then.
///
/// # Safety
///
/// `stamp` must point into a map.
#[inline(always)]
unsafe fn stamp(stamp: *mut Stamp, epoch: u16, now: impl FnOnce() -> u64) {
    // SAFETY: as the caller promises. The epoch last: who sees it sees the time too.
    unsafe {
        if read_volatile(&raw const (*stamp).epoch) != u64::from(epoch) {
            write_volatile(&raw mut (*stamp).at, now());
            write_volatile(&raw mut (*stamp).epoch, u64::from(epoch));
        }
    }
}

/// Looks before it writes, because nearly all packets are of a flow that is known by then. A full table, or one that other
/// CPUs write to, is no reason to do anything else with the packet.
#[inline(always)]
fn note_flow(flow: &FlowKey) {
    if maps::FLOWS.get_ptr(flow).is_none() {
        // SAFETY: a helper without arguments.
        let entry = FlowEntry { seen_at: unsafe { bpf_ktime_get_ns() }, ..FlowEntry::default() };
        let _ = maps::FLOWS.insert(flow, entry, u64::from(BPF_NOEXIST));
    }
}

#[inline(always)]
fn note_refused(server: ServerNumber, code: u8) {
    let Some(traffic) = maps::TRAFFIC.get_ptr_mut(server.0) else { return };
    // SAFETY: as in `note_heard`.
    unsafe {
        let (at, refused_at) = (bpf_ktime_get_ns(), &raw mut (*traffic).refused_at);
        if at.wrapping_sub(read_volatile(refused_at)) < REFUSED_GRAIN_NS {
            return;
        }
        write_volatile(refused_at, at);
        // A full ring has woken the controller long ago.
        if let Some(mut record) = maps::SIGNALS.reserve::<SignalRecord>(0) {
            record.write(SignalRecord { at, server: server.0, code: u32::from(code) });
            record.submit(0);
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
