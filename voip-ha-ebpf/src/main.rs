//! The XDP program. The only place where a verdict becomes an XDP action, a count, a stamp or a signal.
#![no_std]
#![no_main]

mod calls;
mod maps;
mod masquerade;
mod memory;
mod tables;

use core::ptr::{read_volatile, write_volatile};

use aya_ebpf::{
    bindings::{BPF_ANY, xdp_action},
    helpers::{bpf_ktime_get_ns, bpf_xdp_adjust_head, bpf_xdp_adjust_tail},
    macros::xdp,
    programs::XdpContext,
};
use aya_log_ebpf::debug;
use voip_ha_ebpf::{
    abi::{
        ANY_CALL, ANY_MESSAGE, ANY_PACKET, Class, FROM_MASK, FirstFragment, FragmentKey, HEARD_GRAIN_NS, Outcome,
        REFUSED_GRAIN_NS, ServerNumber, SignalRecord, Stamp, TO_MASK, counter_index, flip_index, pending_index,
    },
    packet::{self, Frame, Network},
    rewrite::{self, Rewrite},
    sip::Scan,
    steer::{self, Action, FlipId, Hop, Kind, News, Note, Verdict},
};

use crate::tables::KernelTables;

/// Runs for every frame that the front or the back interface receives, and decides about the plain ones: nearly all packets of calls.
#[xdp]
fn voip_ha(ctx: XdpContext) -> u32 {
    // SAFETY: the kernel guarantees the range to be the frame's, and to be ours until the program returns.
    let mut frame = unsafe { Frame::new(ctx.data(), ctx.data_end()) };
    if let Some(network) = packet::plain(&mut frame) {
        let verdict = steer::steer(&mut frame, &network, &KernelTables::<false, true> { ctx: &ctx });
        if verdict.action.masked != 0 {
            return match (memory::network(network), memory::verdict(verdict)) {
                (Some(_), Some(_)) => go_on(&ctx, FROM_MASK),
                _ => xdp_action::XDP_ABORTED,
            };
        }
        return carry_out(&ctx, &mut frame, &network, &verdict);
    }
    unmask(&ctx)
}

/// Goes on in the program for all packets, by the one for packets to the gateway's own name if that is there.
#[inline(always)]
fn unmask(ctx: &XdpContext) -> u32 {
    // SAFETY: this is the program's own context, and it is still whole if the call returns.
    unsafe { maps::PROGRAMS.tail_call(ctx, TO_MASK) };
    go_on(ctx, ANY_PACKET)
}

/// Decides about frames of all kinds. The first program goes on here.
#[xdp]
fn voip_ha_any(ctx: XdpContext) -> u32 {
    decide_any::<false>(&ctx)
}

/// Decides about RTP while calls are remembered, and about SIP that [`voip_ha_scan`] has looked into: the others go on here.
#[xdp]
fn voip_ha_calls(ctx: XdpContext) -> u32 {
    decide_any::<true>(&ctx)
}

/// Looks into a SIP message, by functions of Linux 5.18, and goes on. Without this program there are no drains, and nothing else is
/// missing. It is one of its own because the stack is too small for both.
#[xdp]
fn voip_ha_scan(ctx: XdpContext) -> u32 {
    let scan = calls::scan(&ctx).unwrap_or(Scan::NOTHING);
    if memory::scan(scan).is_none() {
        return xdp_action::XDP_ABORTED;
    }
    go_on(&ctx, ANY_CALL)
}

#[inline(always)]
fn decide_any<const CALLS: bool>(ctx: &XdpContext) -> u32 {
    // SAFETY: as above.
    let mut frame = unsafe { Frame::new(ctx.data(), ctx.data_end()) };
    match packet::network(&mut frame) {
        Ok(network) => {
            let Some(network) = memory::network(network) else { return xdp_action::XDP_ABORTED };
            let network = network.bounded();
            let verdict = steer::steer(&mut frame, &network, &KernelTables::<CALLS> { ctx });
            let Some(verdict) = memory::verdict(verdict) else { return xdp_action::XDP_ABORTED };
            if verdict.action.masked != 0 {
                return go_on(ctx, FROM_MASK);
            }
            carry_out(ctx, &mut frame, &network, verdict)
        }
        Err(reason) => {
            let verdict = steer::pass_by(reason);
            count(&verdict, verdict.action.outcome, frame.len() as u64);
            xdp_action::XDP_PASS
        }
    }
}

/// Goes on in another program. The packet is dropped if that is not there, which the controller prevents: it enters the others before
/// it attaches the first one, and orders to remember calls only where the kernel took the programs for that. A census asks only
/// [`voip_ha_calls`], which needs no newer kernel than the others.
#[inline(always)]
pub(crate) fn go_on(ctx: &XdpContext, program: u32) -> u32 {
    // SAFETY: this is the program's own context, and nothing is left to do after a call that returns.
    unsafe { maps::PROGRAMS.tail_call(ctx, program) };
    xdp_action::XDP_ABORTED
}

/// Does what was decided about a packet.
#[inline(always)]
fn carry_out(ctx: &XdpContext, frame: &mut Frame<'_>, network: &Network, verdict: &Verdict) -> u32 {
    if verdict.action.kind == Kind::AskCalls {
        return go_on(ctx, if verdict.class == Class::Sip { ANY_MESSAGE } else { ANY_CALL });
    }
    if verdict.action.kind == Kind::Unmask {
        return unmask(ctx);
    }
    do_it(ctx, frame, network, verdict)
}

#[inline(always)]
pub(crate) fn do_it(ctx: &XdpContext, frame: &mut Frame<'_>, network: &Network, verdict: &Verdict) -> u32 {
    let bytes = frame.len() as u64;
    if let Some(first) = verdict.to_remember() {
        remember(&network.fragment_key(), first);
    }
    let (action, outcome) = apply(ctx, frame, network, &verdict.action);
    if let Some(server) = verdict.server {
        note(server, network, verdict, outcome);
    }
    count(verdict, outcome, bytes);
    // Level 0, the default, is constant data for the verifier, which then removes all of this from the program.
    if action != xdp_action::XDP_REDIRECT {
        debug!(ctx, "frame of {} bytes not redirected: outcome {}", bytes, outcome as u8);
    }
    action
}

/// Carries out a verdict: the XDP action, and what to count.
#[inline(always)]
fn apply(ctx: &XdpContext, frame: &mut Frame<'_>, network: &Network, action: &Action) -> (u32, Outcome) {
    let outcome = action.outcome;
    match action.kind {
        Kind::Redirect => match redirect(ctx, frame, network, action) {
            Some(xdp_action::XDP_REDIRECT) => (xdp_action::XDP_REDIRECT, outcome),
            Some(_) => (xdp_action::XDP_DROP, Outcome::Malformed),
            None if outcome == Outcome::ToClient => by_stack(frame, network, &action.rewrite, Outcome::ToClientByStack),
            None => (xdp_action::XDP_DROP, Outcome::NoDevice),
        },
        Kind::ByStack => by_stack(frame, network, &action.rewrite, outcome),
        Kind::TellTooBig => tell_too_big(ctx, network, action),
        Kind::Pass => (xdp_action::XDP_PASS, outcome),
        Kind::Drop | Kind::AskCalls | Kind::Unmask => (xdp_action::XDP_DROP, outcome),
    }
}

/// Sends a packet out, or returns `None`, with nothing changed, if XDP cannot send to the device. What turns out too late to be
/// impossible is dropped.
#[inline(always)]
fn redirect(ctx: &XdpContext, frame: &mut Frame<'_>, network: &Network, action: &Action) -> Option<u32> {
    let Action { rewrite, hop, .. } = action;
    // The kernel only notes the device here and sends when the program has returned, so the order is free, and asking
    // first leaves the packet whole for another way.
    let redirected = maps::DEVICES.redirect(hop.exit, 0).ok()?;
    rewrite::addresses(frame, network, rewrite)?;
    rewrite::count_down(frame, network)?;
    if network.tags == 0 && hop.tags[0].id == 0 {
        rewrite::address_frame(frame, hop)?;
        return Some(redirected);
    }
    Some(retag(ctx, frame, network, hop).map_or(xdp_action::XDP_DROP, |()| redirected))
}

/// Gives a frame the next hop's VLAN tags. The frame is another one after this.
#[inline(always)]
fn retag(ctx: &XdpContext, frame: &mut Frame<'_>, network: &Network, hop: &Hop) -> Option<()> {
    let priority = rewrite::priority(frame, network);
    // SAFETY: a valid context. Whatever pointed into the frame is not used any more.
    if unsafe { bpf_xdp_adjust_head(ctx.ctx, -rewrite::growth(network, hop)) } != 0 {
        return None;
    }
    // SAFETY: as in `voip_ha`.
    let mut frame = unsafe { Frame::new(ctx.data(), ctx.data_end()) };
    rewrite::tag_frame(&mut frame, hop, network.family, priority)
}

/// Leaves it to the stack to resolve the neighbour, to fragment or to encapsulate. The stack counts down the time to
/// live itself, and takes a packet from the VIP, a local address, only with `accept_local` (the controller sets it).
#[inline(always)]
fn by_stack(frame: &mut Frame<'_>, network: &Network, rewrite: &Rewrite, outcome: Outcome) -> (u32, Outcome) {
    match rewrite::addresses(frame, network, rewrite) {
        Some(()) => (xdp_action::XDP_PASS, outcome),
        None => (xdp_action::XDP_DROP, Outcome::Malformed),
    }
}

/// Turns the packet into the message about it and sends that back. The frame is another one after this.
#[inline(always)]
fn tell_too_big(ctx: &XdpContext, network: &Network, action: &Action) -> (u32, Outcome) {
    let dropped = (xdp_action::XDP_DROP, Outcome::TooLarge);
    let teller = steer::teller(network, action, &KernelTables::<false> { ctx });
    let growth = rewrite::too_big_growth(network.family) as i32;
    // SAFETY: a valid context. Whatever pointed into the frame is not used any more.
    if unsafe { bpf_xdp_adjust_head(ctx.ctx, -growth) } != 0 {
        return dropped;
    }
    // SAFETY: as in `voip_ha`.
    let mut frame = unsafe { Frame::new(ctx.data(), ctx.data_end()) };
    let surplus = frame.len() as i32 - rewrite::too_big_length(network) as i32;
    if rewrite::too_big(&mut frame, network, teller, action.mtu).is_none() {
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
fn note(server: ServerNumber, network: &Network, verdict: &Verdict, outcome: Outcome) {
    let (class, note) = (verdict.class, &verdict.note);
    match note.news {
        News::Sent if matches!(outcome, Outcome::ToServer | Outcome::ToServerByStack) => {
            note_sent(server, class, note);
            calls::note(note, network.source, true);
        }
        News::Heard if matches!(outcome, Outcome::ToClient | Outcome::ToClientByStack) => {
            note_heard(server, class, note.flip, note.is_target);
            calls::note(note, network.destination, note.is_new_flow);
        }
        News::Refused => note_refused(server, note.code),
        _ => {}
    }
}

// Pointers into the maps are valid and aligned. What other CPUs and the controller use at the same time is read and written
// volatile, so that it is one load or one store of a word. Two CPUs may both store; either value is right.

#[inline(always)]
fn note_sent(server: ServerNumber, class: Class, note: &Note) {
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
    // To a draining server: that is no news about the flip away from it.
    if !note.is_target {
        return;
    }
    let flip = note.flip;
    if let Some(entry) = maps::FLIPS.get_ptr_mut(flip_index(flip.service, flip.epoch, class)) {
        // SAFETY: as above.
        unsafe { stamp(&raw mut (*entry).first_to, flip.epoch, || bpf_ktime_get_ns()) };
    }
}

#[inline(always)]
fn note_heard(server: ServerNumber, class: Class, flip: FlipId, is_target: bool) {
    let Some(traffic) = maps::TRAFFIC.get_ptr_mut(server.0) else { return };
    // SAFETY: a helper without arguments; for the rest as above.
    let now = unsafe {
        let (now, heard_at) = (bpf_ktime_get_ns(), &raw mut (*traffic).heard_at);
        if now.wrapping_sub(read_volatile(heard_at)) >= HEARD_GRAIN_NS {
            write_volatile(heard_at, now);
        }
        now
    };
    if !is_target {
        return;
    }
    if let Some(entry) = maps::FLIPS.get_ptr_mut(flip_index(flip.service, flip.epoch, class)) {
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
