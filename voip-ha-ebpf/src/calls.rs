//! Looking into SIP messages, and noting whose flows and calls are. Full tables, or other CPUs that write to them, are no reason to do anything else
//! with the packet.

use core::ptr::{read_volatile, write_volatile};

use aya_ebpf::{
    bindings::{BPF_ANY, BPF_NOEXIST},
    helpers::bpf_ktime_get_ns,
    programs::XdpContext,
};
use voip_ha_ebpf::{
    abi::{Address, CallEntry, CallKey, FlowEntry, FlowKey, SEEN_GRAIN_NS},
    packet::{self, Frame},
    sip::Scan,
    steer::Note,
};

use crate::maps;

const UDP_HEADER: u32 = 8;

/// Looks into the SIP message in a frame.
#[inline(always)]
pub(crate) fn scan(ctx: &XdpContext) -> Option<Scan> {
    // SAFETY: as in `voip_ha`.
    let mut frame = unsafe { Frame::new(ctx.data(), ctx.data_end()) };
    let network = packet::network(&mut frame).ok()?;
    let datagram = packet::datagram(&mut frame, &network).ok()?;
    let (offset, length) = (datagram.offset as u32 + UDP_HEADER, datagram.payload as u32);
    let desk = maps::DESK.get_ptr_mut(0)?;
    // SAFETY: this CPU's own value, and XDP programs on one CPU do not interrupt each other. The context of this run.
    unsafe { (*desk).scan(ctx.ctx, offset, length) }
}

/// Notes what a packet from or to this client says of its flow or call. A flow that was not noted before is only if it may be new.
#[inline(always)]
pub(crate) fn note(note: &Note, client: Address, may_be_new: bool) {
    let (service, owner) = (note.flip.service, note.owner);
    if note.is_flow {
        let (client_port, service_port) = (note.client_port, note.service_port);
        flow(&FlowKey { client, service, client_port, service_port }, owner, may_be_new);
    }
    if note.call != 0 {
        // SAFETY: a helper without arguments.
        let entry = CallEntry { seen_at: unsafe { bpf_ktime_get_ns() }, server: owner, reserved: 0 };
        let _ = maps::CALLS.insert(CallKey { service, reserved: 0, call: note.call }, entry, u64::from(BPF_ANY));
    }
}

/// Looks before it writes, because nearly all packets are of a flow that is known by then. Who sends on it is its owner.
#[inline(always)]
fn flow(key: &FlowKey, owner: u32, may_be_new: bool) {
    // SAFETY: a helper without arguments.
    let now = unsafe { bpf_ktime_get_ns() };
    if let Some(entry) = maps::FLOWS.get_ptr_mut(key) {
        // SAFETY: a pointer into the map. Two CPUs may both store; either value is right.
        unsafe {
            if owner != 0 && read_volatile(&raw const (*entry).server) != owner {
                write_volatile(&raw mut (*entry).server, owner);
            }
            if now.wrapping_sub(read_volatile(&raw const (*entry).seen_at)) >= SEEN_GRAIN_NS {
                write_volatile(&raw mut (*entry).seen_at, now);
            }
        }
    } else if may_be_new {
        let entry = FlowEntry { seen_at: now, server: owner, reserved: 0 };
        let _ = maps::FLOWS.insert(key, entry, u64::from(BPF_NOEXIST));
    }
}
