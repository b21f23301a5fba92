//! The kernel's maps and routing table, as the decision looks them up.

use core::{
    mem::{size_of, zeroed},
    ptr::read_volatile,
};

use aya_ebpf::{
    EbpfContext,
    bindings::{
        BPF_FIB_LKUP_RET_BLACKHOLE, BPF_FIB_LKUP_RET_FRAG_NEEDED, BPF_FIB_LKUP_RET_FWD_DISABLED,
        BPF_FIB_LKUP_RET_NOT_FWDED, BPF_FIB_LKUP_RET_PROHIBIT, BPF_FIB_LKUP_RET_SUCCESS, BPF_FIB_LKUP_RET_UNREACHABLE,
        bpf_fib_lookup,
    },
    helpers::{bpf_fib_lookup as fib_lookup, bpf_ktime_get_ns},
    programs::XdpContext,
};
use voip_ha_ebpf::{
    abi::{Address, FirstFragment, FragmentKey, OriginEntry, ServerEntry, ServiceEntry, Slot, SteeringWord},
    steer::{Hop, Route, RouteQuery, Tables},
};

use crate::maps;

const AF_INET: u8 = 2;
const IPPROTO_UDP: u8 = 17;

/// The tables of one run of the program.
pub(crate) struct KernelTables<'a> {
    /// The frame's context, which the routing table wants to know.
    pub(crate) ctx: &'a XdpContext,
}

impl Tables for KernelTables<'_> {
    #[inline(always)]
    fn service(&self, vip: &Address) -> Option<&ServiceEntry> {
        // SAFETY: the map does not preallocate, so the entry outlives this run even if it is replaced meanwhile.
        unsafe { maps::SERVICES.get(vip) }
    }

    #[inline(always)]
    fn origin(&self, address: &Address) -> Option<&OriginEntry> {
        // SAFETY: as above.
        unsafe { maps::ORIGINS.get(address) }
    }

    #[inline(always)]
    fn steering(&self, service: u32) -> Option<SteeringWord> {
        let word = maps::STEERING.get_ptr(service)?;
        // SAFETY: a valid, aligned pointer into the map. Volatile: the controller stores to it at any time, and the word
        // must be read once and as a whole.
        Some(unsafe { read_volatile(word) })
    }

    #[inline(always)]
    fn server(&self, slot: Slot) -> Option<&ServerEntry> {
        maps::SERVERS.get(slot.0)
    }

    #[inline(always)]
    fn ingress(&self) -> u32 {
        self.ctx.ingress_ifindex() as u32
    }

    #[inline(always)]
    fn first_fragment(&self, key: &FragmentKey) -> Option<FirstFragment> {
        // SAFETY: the entry may be reused for another datagram at any time; it is then read as a mixture of two, and one
        // datagram is lost, as it would be if the first had been forgotten. A helper without arguments.
        unsafe { maps::FRAGMENTS.get(key)?.at_time(bpf_ktime_get_ns()) }
    }

    #[inline(always)]
    fn route(&self, query: &RouteQuery) -> Route {
        // SAFETY: plain integers, for which zero is a value. Zeroed as a whole, because the kernel reads it all.
        let mut fib: bpf_fib_lookup = unsafe { zeroed() };
        fib.family = AF_INET;
        fib.l4_protocol = IPPROTO_UDP;
        fib.sport = query.source_port.to_be();
        fib.dport = query.destination_port.to_be();
        fib.__bindgen_anon_1.tot_len = query.total_length;
        fib.ifindex = self.ctx.ingress_ifindex() as u32;
        fib.__bindgen_anon_3.ipv4_src = u32::from_ne_bytes(query.source);
        fib.__bindgen_anon_4.ipv4_dst = u32::from_ne_bytes(query.destination);
        // SAFETY: a valid context, and a structure of the size that is named.
        let answer = unsafe { fib_lookup(self.ctx.as_ptr(), &mut fib, size_of::<bpf_fib_lookup>() as i32, 0) };
        match answer as u32 {
            BPF_FIB_LKUP_RET_SUCCESS => {
                Route::Hop(Hop { ifindex: fib.ifindex, source: fib.smac, destination: fib.dmac })
            }
            // SAFETY: this answer comes with the MTU in the place of the length.
            BPF_FIB_LKUP_RET_FRAG_NEEDED => Route::TooLarge(unsafe { fib.__bindgen_anon_1.mtu_result }),
            BPF_FIB_LKUP_RET_NOT_FWDED => Route::NotForwarded,
            BPF_FIB_LKUP_RET_BLACKHOLE
            | BPF_FIB_LKUP_RET_UNREACHABLE
            | BPF_FIB_LKUP_RET_PROHIBIT
            | BPF_FIB_LKUP_RET_FWD_DISABLED => Route::Refused,
            _ => Route::Stack,
        }
    }
}
