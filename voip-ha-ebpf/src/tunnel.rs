//! The way back from servers that are reached by a device which only the kernel's stack can use: a VPN, a tunnel.
//!
//! XDP sees no Ethernet header there, or no packet at all, so these programs are classifiers of the stack (tc, at ingress). They decide
//! as the XDP programs do, by the same tables, and send nothing themselves: what those redirect is rewritten here and goes on
//! through the stack, which resolves the neighbour, fragments and counts down the time to live. What they pass goes on to the
//! classifiers behind this one, rewritten or not.

use aya_ebpf::{
    bindings::{BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR, TC_ACT_SHOT, TC_ACT_UNSPEC},
    helpers::{bpf_l4_csum_replace, generated::bpf_csum_update},
    macros::classifier,
    programs::TcContext,
};
use voip_ha_ebpf::{
    abi::{ANY_CALL, ANY_ERROR, ANY_PACKET, Family, Outcome, TO_MASK},
    packet::{self, Frame, Network, NotNetwork},
    rewrite::{self, Rewrite},
    sip::Scan,
    steer::{self, Action, Kind, Unmasked, Verdict},
};

use crate::{decide, maps, memory, record, tables::KernelTables};

const ON: i32 = TC_ACT_UNSPEC;
const DROP: i32 = TC_ACT_SHOT;

/// Bytes of what is several packets in one that are looked at: enough to see that it is none of a service.
const HEADERS: u32 = 256;
const UDP_HEADER: u32 = 8;
/// Offset of the checksum in a UDP header.
const UDP_CHECKSUM: u32 = 6;
/// The difference is given, not two values of so many bytes. A checksum of 0 is none.
const BY_DIFFERENCE: u64 = (BPF_F_PSEUDO_HDR | BPF_F_MARK_MANGLED_0) as u64;
/// Two bytes that no pseudo header has.
const OF_PAIR: u64 = BPF_F_MARK_MANGLED_0 as u64 | 2;
/// What the programs know of the device, in `cb[0]` of the packet.
const BARE: u32 = 0;
const ETHERNET: u32 = 1;

/// Runs for every packet from a device without Ethernet headers.
#[classifier]
fn voip_ha_tunnel(ctx: TcContext) -> i32 {
    begin(ctx, BARE)
}

/// Runs for every packet from a device with Ethernet headers.
#[classifier]
fn voip_ha_tunnel_ethernet(ctx: TcContext) -> i32 {
    begin(ctx, ETHERNET)
}

/// Puts the client into a packet to the gateway's own name, before it is decided about.
#[classifier]
fn voip_ha_tunnel_unmask(ctx: TcContext) -> i32 {
    let mut frame = frame_of(&ctx);
    if let Ok(network) = network(&ctx, &mut frame) {
        let Some(network) = memory::network(network) else { return DROP };
        let network = network.bounded();
        let found = steer::unmask(&mut frame, &network, &KernelTables::<_, false> { ctx: &ctx });
        if found.is_clients && unmask(&ctx, &mut frame, &network, &found).is_none() {
            return DROP;
        }
    }
    go_on(&ctx, ANY_PACKET)
}

/// Decides. The others go on here.
#[classifier]
fn voip_ha_tunnel_any(ctx: TcContext) -> i32 {
    let mut frame = frame_of(&ctx);
    let network = match network(&ctx, &mut frame) {
        Ok(network) => network,
        Err(reason) => {
            record::silent(&steer::pass_by(reason), u64::from(ctx.len()));
            return ON;
        }
    };
    let Some(network) = memory::network(network) else { return DROP };
    if network.is_icmp() {
        return go_on(&ctx, ANY_ERROR);
    }
    let tables = KernelTables::<_, false> { ctx: &ctx };
    go_on_in(&ctx, decide::datagram(&mut frame, &network.bounded(), &tables))
}

/// Decides about ICMP.
#[classifier]
fn voip_ha_tunnel_errors(ctx: TcContext) -> i32 {
    let Some(network) = memory::read() else { return DROP };
    let tables = KernelTables::<_, true> { ctx: &ctx };
    go_on_in(&ctx, decide::error(&mut frame_of(&ctx), &network.bounded(), &tables))
}

/// Decides while calls are remembered.
#[classifier]
fn voip_ha_tunnel_calls(ctx: TcContext) -> i32 {
    let Some(network) = memory::read() else { return DROP };
    let tables = KernelTables::<_, true> { ctx: &ctx };
    go_on_in(&ctx, decide::datagram(&mut frame_of(&ctx), &network.bounded(), &tables))
}

/// Carries out what was decided.
#[classifier]
fn voip_ha_tunnel_act(ctx: TcContext) -> i32 {
    let (Some(network), Some(verdict)) = (memory::read(), memory::decided()) else { return DROP };
    carry_out(&ctx, &mut frame_of(&ctx), &network.bounded(), verdict)
}

/// Looks into a SIP message before that.
#[classifier]
fn voip_ha_tunnel_scan(ctx: TcContext) -> i32 {
    if memory::scan(scan(&ctx).unwrap_or(Scan::NOTHING)).is_none() {
        return DROP;
    }
    go_on(&ctx, ANY_CALL)
}

#[inline(always)]
fn begin(mut ctx: TcContext, kind: u32) -> i32 {
    ctx.cb_mut()[0] = kind;
    // The kernel may have joined packets of one TCP connection to a large one (GRO), which stays as it is.
    // SAFETY: a valid context.
    let is_joined = unsafe { (*ctx.skb.skb).gso_size } != 0;
    // Where the kernel has no memory for that, the packet is malformed below.
    let _ = ctx.pull_data(if is_joined && ctx.len() > HEADERS { HEADERS } else { ctx.len() });
    // SAFETY: as in `go_on`. Behind it is one that goes on by itself.
    unsafe { maps::TUNNEL_PROGRAMS.tail_call(&ctx, TO_MASK) };
    go_on(&ctx, ANY_PACKET)
}

/// Goes on in another program. The packet goes on through the stack if that is not there, which the controller prevents.
#[inline(always)]
fn go_on(ctx: &TcContext, program: u32) -> i32 {
    // SAFETY: this is the program's own context, and nothing is left to do after a call that returns.
    unsafe { maps::TUNNEL_PROGRAMS.tail_call(ctx, program) };
    ON
}

#[inline(always)]
fn frame_of(ctx: &TcContext) -> Frame<'_> {
    // SAFETY: the kernel guarantees the range to be the packet's, and to be ours until its data is asked for again.
    unsafe { Frame::new(ctx.data(), ctx.data_end()) }
}

#[inline(always)]
fn network(ctx: &TcContext, frame: &mut Frame<'_>) -> Result<Network, NotNetwork> {
    if ctx.cb()[0] == ETHERNET {
        return packet::network(frame);
    }
    // SAFETY: a valid context. The EtherType is in network order.
    packet::bare(frame, unsafe { (*ctx.skb.skb).protocol } as u16)
}

#[inline(always)]
fn go_on_in(ctx: &TcContext, program: Option<u32>) -> i32 {
    match program {
        Some(program) => go_on(ctx, program),
        None => DROP,
    }
}

#[inline(always)]
fn carry_out(ctx: &TcContext, frame: &mut Frame<'_>, network: &Network, verdict: &Verdict) -> i32 {
    let bytes = u64::from(ctx.len());
    if let Some(first) = verdict.to_remember() {
        record::first_fragment(&network.fragment_key(), first);
    }
    let (action, outcome) = apply(ctx, frame, network, &verdict.action);
    record::packet(network, verdict, outcome, bytes);
    action
}

#[inline(always)]
fn apply(ctx: &TcContext, frame: &mut Frame<'_>, network: &Network, action: &Action) -> (i32, Outcome) {
    let outcome = match action.outcome {
        Outcome::ToServer => Outcome::ToServerByStack,
        Outcome::ToClient => Outcome::ToClientByStack,
        other => other,
    };
    match action.kind {
        // An answer would have to be sent by the stack, and would be from the VIP to a server that is behind a tunnel.
        Kind::TellTooBig => (DROP, Outcome::TooLarge),
        // From the tunnel to a server that masquerades: nobody needs that, and it would be a program more.
        _ if action.masked != 0 => (DROP, Outcome::NoDevice),
        // A server with `dsr`. The stack would take a packet to the VIP for its own.
        Kind::Redirect if action.outcome == Outcome::ToServer && action.rewrite.destination == network.destination => {
            (DROP, Outcome::NoDevice)
        }
        Kind::Redirect | Kind::ByStack => match rewrite(ctx, frame, network, &action.rewrite) {
            Some(()) => (ON, outcome),
            None => (DROP, Outcome::Malformed),
        },
        Kind::Pass => (ON, outcome),
        Kind::Drop | Kind::AskCalls => (DROP, outcome),
    }
}

/// Gives a packet the client's address and port. The frame may be another one after this.
#[inline(always)]
fn unmask(ctx: &TcContext, frame: &mut Frame<'_>, network: &Network, found: &Unmasked) -> Option<()> {
    if found.port.udp == 0 || found.port.icmp != 0 {
        // No checksum that the kernel might not have computed yet.
        return rewrite::unmask(frame, network, found);
    }
    let (offset, port) = (found.port.udp as u32, found.port.port.to_be());
    let before = packet::replace_receivers_port(frame, found.port.udp, port)?;
    // SAFETY: a valid context.
    let replaced =
        unsafe { bpf_l4_csum_replace(ctx.skb.skb, offset + UDP_CHECKSUM, before.into(), port.into(), OF_PAIR) };
    (replaced == 0).then_some(())?;
    rewrite(ctx, &mut frame_of(ctx), network, &found.rewrite)
}

/// Rewrites a packet. The frame may be another one after this.
#[inline(always)]
fn rewrite(ctx: &TcContext, frame: &mut Frame<'_>, network: &Network, rewrite: &Rewrite) -> Option<()> {
    let udp = rewrite.inside.udp as u32;
    let mut without_udp = *rewrite;
    without_udp.inside.udp = 0;
    rewrite::addresses(frame, network, &without_udp)?;
    if udp == 0 {
        return Some(());
    }
    // The checksum may be a partial one, which a device is to complete, or the kernel may know a sum of the whole packet: what it
    // is, only the kernel knows.
    let change = rewrite::change_of(network, rewrite).sum();
    // SAFETY: a valid context.
    if unsafe { bpf_l4_csum_replace(ctx.skb.skb, udp + UDP_CHECKSUM, 0, u64::from(change), BY_DIFFERENCE) } != 0 {
        return None;
    }
    if network.family == Family::V6 {
        // The helper has changed the sum of the whole packet by what it changed in the checksum. The addresses, which of IPv6 no other
        // checksum covers, have changed it back.
        // SAFETY: as above. It refuses where there is no such sum.
        unsafe { bpf_csum_update(ctx.skb.skb, change) };
    }
    Some(())
}

#[inline(always)]
fn scan(ctx: &TcContext) -> Option<Scan> {
    let mut frame = frame_of(ctx);
    let network = network(ctx, &mut frame).ok()?;
    let datagram = packet::datagram(&mut frame, &network).ok()?;
    let (offset, length) = (datagram.offset as u32 + UDP_HEADER, datagram.payload as u32);
    let desk = maps::DESK.get_ptr_mut(0)?;
    // SAFETY: this CPU's own value, and these programs do not interrupt each other on one CPU. The context of this run.
    unsafe { (*desk).scan_packet(ctx.skb.skb, offset, length) }
}
