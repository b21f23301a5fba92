//! The programs through which packets of servers that masquerade go, and the kernel's maps of mapped ports.

use core::ptr::{read_volatile, write_volatile};

use aya_ebpf::{
    bindings::{BPF_ANY, BPF_NOEXIST, xdp_action},
    helpers::{bpf_ktime_get_coarse_ns, bpf_ktime_get_ns},
    macros::xdp,
    programs::XdpContext,
};
use voip_ha_ebpf::{
    abi::{ANY_PACKET, ANY_VERDICT, Address, FragmentEntry, FragmentKey, MaskKey, MaskedEntry, MaskedKey, Outcome},
    packet, rewrite,
    steer::{self, Action, Masks},
};

use crate::{context::Context, frame_of, go_on, maps, memory, tables::KernelTables};

/// Puts the client into a packet to the gateway's own name, before it is decided about. It is one of its own, so that no packet pays for
/// it while no server masquerades.
#[xdp]
pub(crate) fn voip_ha_unmask(ctx: XdpContext) -> u32 {
    let mut frame = frame_of(&ctx);
    if let Ok(network) = packet::network(&mut frame) {
        let Some(network) = memory::network(network) else { return xdp_action::XDP_ABORTED };
        let network = network.bounded();
        let found = steer::unmask(&mut frame, &network, &KernelTables::<_, false> { ctx: &ctx });
        if found.is_clients && rewrite::unmask(&mut frame, &network, &found).is_none() {
            return xdp_action::XDP_ABORTED;
        }
    }
    go_on(&ctx, ANY_PACKET)
}

/// Gives the gateway's own name to a packet that was decided about.
#[xdp]
pub(crate) fn voip_ha_mask(ctx: XdpContext) -> u32 {
    let (Some(network), Some(verdict)) = (memory::read(), memory::decided_mut()) else {
        return xdp_action::XDP_ABORTED;
    };
    let (mut frame, network) = (frame_of(&ctx), network.bounded());
    let port = steer::mask(&mut frame, &network, verdict, &KernelTables::<_, false> { ctx: &ctx });
    if rewrite::mask(&mut frame, &network, &verdict.action, &port).is_none() {
        verdict.action = Action::drop(Outcome::Malformed);
    }
    go_on(&ctx, ANY_VERDICT)
}

impl<C: Context, const CALLS: bool, const PLAIN: bool> Masks for KernelTables<'_, C, CALLS, PLAIN> {
    #[inline(always)]
    fn now(&self) -> u64 {
        // SAFETY: a helper without arguments.
        unsafe { bpf_ktime_get_coarse_ns() }
    }

    #[inline(always)]
    fn mask(&self, key: &MaskKey) -> u16 {
        // SAFETY: a word that is written as a whole.
        maps::MASKS.get_ptr(key).map_or(0, |port| unsafe { read_volatile(port) } as u16)
    }

    #[inline(always)]
    fn masked(&self, key: &MaskedKey) -> MaskedEntry {
        match maps::MASKED.get_ptr(key) {
            // SAFETY: a pointer into the map. An entry is never changed but for the time. One that is taken away meanwhile was idle for
            // long, and if the kernel uses its memory for another one in that moment, a packet of an idle flow is lost.
            Some(entry) => unsafe { MaskedEntry { seen_at: read_volatile(&raw const (*entry).seen_at), ..*entry } },
            None => MaskedEntry::NOBODY,
        }
    }

    #[inline(always)]
    fn see(&self, key: &MaskedKey, now: u64) {
        if let Some(entry) = maps::MASKED.get_ptr_mut(key) {
            // SAFETY: as above. Two CPUs may both store; either value is right.
            unsafe { write_volatile(&raw mut (*entry).seen_at, now) };
        }
    }

    #[inline(always)]
    fn claim(&self, key: &MaskedKey, entry: &MaskedEntry) -> bool {
        // The stack is too small for it.
        memory::masked(*entry).is_some_and(|entry| maps::MASKED.insert(key, entry, u64::from(BPF_NOEXIST)).is_ok())
    }

    #[inline(always)]
    fn release(&self, key: &MaskedKey) {
        // One that is not there any more is released as well.
        let _ = maps::MASKED.remove(key);
    }

    #[inline(always)]
    fn put_mask(&self, key: &MaskKey, port: u16) -> bool {
        maps::MASKS.insert(key, u32::from(port), u64::from(BPF_ANY)).is_ok()
    }

    #[inline(always)]
    fn remove_mask(&self, key: &MaskKey) {
        // As above.
        let _ = maps::MASKS.remove(key);
    }

    #[inline(always)]
    fn lock(&self, key: &MaskKey) -> bool {
        maps::MASKS.insert(key, 0, u64::from(BPF_NOEXIST)).is_ok()
    }

    #[inline(always)]
    fn masked_fragment(&self, key: &FragmentKey) -> Address {
        // SAFETY: as of first fragments in general, see `first_fragment`.
        unsafe { maps::FRAGMENTS.get(key).map_or(Address::NONE, |entry| entry.client_at_time(bpf_ktime_get_ns())) }
    }

    #[inline(always)]
    fn put_masked_fragment(&self, key: &FragmentKey, client: Address) {
        // SAFETY: a helper without arguments.
        let entry = FragmentEntry::masked(client, unsafe { bpf_ktime_get_ns() });
        let _ = maps::FRAGMENTS.insert(key, entry, u64::from(BPF_ANY));
    }
}
