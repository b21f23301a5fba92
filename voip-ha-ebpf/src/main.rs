//! The XDP programs. Here a verdict becomes an XDP action, in `tunnel.rs` one of tc, and in `record.rs` a count, a stamp or a signal.
#![no_std]
#![no_main]

mod calls;
mod context;
mod decide;
mod maps;
mod masquerade;
mod memory;
mod record;
mod senders;
mod tables;
mod tunnel;

use aya_ebpf::{
    bindings::xdp_action,
    helpers::{bpf_xdp_adjust_head, bpf_xdp_adjust_tail},
    macros::xdp,
    programs::XdpContext,
};
use aya_log_ebpf::debug;
use voip_ha_ebpf::{
    abi::{ANY_CALL, ANY_ERROR, ANY_PACKET, Outcome, TO_MASK},
    packet::{self, Frame, Network},
    rewrite::{self, Rewrite},
    sip::Scan,
    steer::{self, Action, Hop, Kind, Tables, Verdict},
};

use crate::tables::{KernelTables, PlainTables};

/// Runs for every frame that the front or the back interface receives, and decides about the plain ones: nearly all packets of calls.
#[xdp]
fn voip_ha(ctx: XdpContext) -> u32 {
    let mut frame = frame_of(&ctx);
    if let Some(network) = packet::plain(&mut frame) {
        let tables = PlainTables { ctx: &ctx };
        let receiver = tables.endpoint(&network.destination);
        if let Some(verdict) = steer::to_vip(&mut frame, &network, receiver, &tables) {
            return finish(&ctx, &mut frame, &network, &verdict);
        }
        if receiver.is_mask() {
            return elsewhere(&ctx);
        }
        if let Some(verdict) = steer::from_server(&mut frame, &network, receiver, &tables) {
            return finish(&ctx, &mut frame, &network, &verdict);
        }
        record::silent(&steer::not_service(), frame.len() as u64);
        return xdp_action::XDP_PASS;
    }
    elsewhere(&ctx)
}

/// Goes on in the program for all packets, by the one for packets to the gateway's own name if that is there.
#[inline(always)]
fn elsewhere(ctx: &XdpContext) -> u32 {
    // SAFETY: this is the program's own context, and it is still whole if the call returns.
    unsafe { maps::PROGRAMS.tail_call(ctx, TO_MASK) };
    go_on(ctx, ANY_PACKET)
}

/// Does what is done with nearly all packets. Everything else is decided anew, and done, by the other programs: so this one is small, and
/// each of the two ways through it is compiled for itself.
#[inline(always)]
fn finish(ctx: &XdpContext, frame: &mut Frame<'_>, network: &Network, verdict: &Verdict) -> u32 {
    let (action, bytes) = (&verdict.action, frame.len() as u64);
    match action.kind {
        Kind::Redirect if action.is_plain() => {
            let Some(redirected) = redirect(ctx, frame, network, action) else { return elsewhere(ctx) };
            record::packet(network, verdict, action.outcome, bytes);
            redirected
        }
        Kind::Drop => {
            record::silent(verdict, bytes);
            xdp_action::XDP_DROP
        }
        _ => elsewhere(ctx),
    }
}

/// Decides about frames of all kinds. The first program goes on here, and this one in others.
#[xdp]
fn voip_ha_any(ctx: XdpContext) -> u32 {
    let mut frame = frame_of(&ctx);
    let network = match packet::network(&mut frame) {
        Ok(network) => network,
        Err(reason) => {
            record::silent(&steer::pass_by(reason), frame.len() as u64);
            return xdp_action::XDP_PASS;
        }
    };
    let Some(network) = memory::network(network) else { return xdp_action::XDP_ABORTED };
    if network.is_icmp() {
        return go_on(&ctx, ANY_ERROR);
    }
    let tables = KernelTables::<_, false> { ctx: &ctx };
    go_on_in(&ctx, decide::datagram(&mut frame, &network.bounded(), &tables))
}

/// Decides about ICMP.
#[xdp]
fn voip_ha_errors(ctx: XdpContext) -> u32 {
    let Some(network) = memory::read() else { return xdp_action::XDP_ABORTED };
    let tables = KernelTables::<_, true> { ctx: &ctx };
    go_on_in(&ctx, decide::error(&mut frame_of(&ctx), &network.bounded(), &tables))
}

/// Decides about RTP while calls are remembered, and about SIP that [`voip_ha_scan`] has looked into.
#[xdp]
fn voip_ha_calls(ctx: XdpContext) -> u32 {
    let Some(network) = memory::read() else { return xdp_action::XDP_ABORTED };
    let tables = KernelTables::<_, true> { ctx: &ctx };
    go_on_in(&ctx, decide::datagram(&mut frame_of(&ctx), &network.bounded(), &tables))
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

/// Carries out what was decided.
#[xdp]
fn voip_ha_act(ctx: XdpContext) -> u32 {
    let (Some(network), Some(verdict)) = (memory::read(), memory::decided()) else { return xdp_action::XDP_ABORTED };
    carry_out(&ctx, &mut frame_of(&ctx), &network.bounded(), verdict)
}

/// The frame of this run. After it was asked to grow or shrink, it is another one.
#[inline(always)]
pub(crate) fn frame_of(ctx: &XdpContext) -> Frame<'_> {
    // SAFETY: the kernel guarantees the range to be the frame's, and to be ours until the program returns.
    unsafe { Frame::new(ctx.data(), ctx.data_end()) }
}

#[inline(always)]
fn go_on_in(ctx: &XdpContext, program: Option<u32>) -> u32 {
    match program {
        Some(program) => go_on(ctx, program),
        None => xdp_action::XDP_ABORTED,
    }
}

/// Goes on in another program. The packet is dropped if that is not there, which the controller prevents: it enters the others before
/// it attaches the first one, and orders to remember calls only where the kernel took the programs for that. A count asks only
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
    let bytes = frame.len() as u64;
    if let Some(first) = verdict.to_remember() {
        record::first_fragment(&network.fragment_key(), first);
    }
    let (action, outcome) = apply(ctx, frame, network, &verdict.action);
    record::packet(network, verdict, outcome, bytes);
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
        Kind::Drop | Kind::AskCalls => (xdp_action::XDP_DROP, outcome),
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
    let mut frame = frame_of(ctx);
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
    let teller = steer::teller(network, action, &KernelTables::<_, false> { ctx });
    let growth = rewrite::too_big_growth(network.family) as i32;
    // SAFETY: a valid context. Whatever pointed into the frame is not used any more.
    if unsafe { bpf_xdp_adjust_head(ctx.ctx, -growth) } != 0 {
        return dropped;
    }
    let mut frame = frame_of(ctx);
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

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
