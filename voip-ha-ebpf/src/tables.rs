//! The kernel's maps and routing table, as the decision looks them up.

use core::{
    mem::{MaybeUninit, size_of},
    ptr::{read_volatile, write_volatile},
};

use aya_ebpf::{
    bindings::{
        BPF_FIB_LKUP_RET_BLACKHOLE, BPF_FIB_LKUP_RET_FRAG_NEEDED, BPF_FIB_LKUP_RET_FWD_DISABLED,
        BPF_FIB_LKUP_RET_NOT_FWDED, BPF_FIB_LKUP_RET_PROHIBIT, BPF_FIB_LKUP_RET_SUCCESS, BPF_FIB_LKUP_RET_UNREACHABLE,
        bpf_fib_lookup,
    },
    helpers::{bpf_fib_lookup as fib_lookup, bpf_ktime_get_ns},
    maps::lpm_trie::Key,
    programs::XdpContext,
};
use voip_ha_ebpf::{
    abi::{
        Address, CallKey, ENDPOINT_PROBES, ENDPOINT_ROWS, Endpoint, Ends, Family, FirstFragment, FlowKey, FragmentKey,
        LINK_PROBES, LINK_ROWS, ListedKey, Listing, ServerEntry, ServiceEntry, ServicePlace, Slot, SteeringWord,
        first_row, server_index,
    },
    packet::Datagram,
    sip::Scan,
    steer::{Hop, Owner, Route, RouteQuery, Tables},
};

use crate::{context::Context, maps, memory, senders};

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const IPPROTO_UDP: u8 = 17;

/// The tables of one run of the program.
pub(crate) struct KernelTables<'a, C, const CALLS: bool, const PLAIN: bool = false> {
    /// The frame's context, which the routing table wants to know.
    pub(crate) ctx: &'a C,
}

/// The tables of the program that decides about plain packets only, and leaves to the others what needs more.
pub(crate) type PlainTables<'a> = KernelTables<'a, XdpContext, false, true>;

impl<C: Context, const CALLS: bool, const PLAIN: bool> Tables for KernelTables<'_, C, CALLS, PLAIN> {
    const HAS_CALLS: bool = CALLS;
    const PLAIN: bool = PLAIN;

    #[inline(always)]
    fn endpoint(&self, address: &Address) -> Endpoint {
        let first = first_row(address);
        for probe in 0..ENDPOINT_PROBES {
            let Some(row) = maps::ENDPOINTS.get_ptr((first + probe) % ENDPOINT_ROWS) else { break };
            // SAFETY: a valid, aligned pointer into the map. Volatile: the controller writes to it at any time, the address only
            // while the row is nothing.
            let (endpoint, found) = unsafe { (read_volatile(&raw const (*row).endpoint), (*row).address) };
            if endpoint == Endpoint::NONE || found == *address {
                return endpoint;
            }
        }
        Endpoint::NONE
    }

    #[inline(always)]
    fn service(&self, place: ServicePlace) -> Option<&ServiceEntry> {
        maps::SERVICES.get(place.0)
    }

    #[inline(always)]
    fn steering(&self, service: u32) -> Option<SteeringWord> {
        let word = maps::STEERING.get_ptr(service)?;
        // SAFETY: a valid, aligned pointer into the map. Volatile: the controller stores to it at any time, and the word
        // must be read once and as a whole.
        Some(unsafe { read_volatile(word) })
    }

    #[inline(always)]
    fn server(&self, slot: Slot, family: Family) -> Option<&ServerEntry> {
        maps::SERVERS.get(server_index(slot, family))
    }

    #[inline(always)]
    fn ingress(&self) -> u32 {
        self.ctx.ingress()
    }

    #[inline(always)]
    fn first_fragment(&self, key: &FragmentKey) -> Option<FirstFragment> {
        // SAFETY: the entry may be reused for another datagram at any time; it is then read as a mixture of two, and one
        // datagram is lost, as it would be if the first had been forgotten. A helper without arguments.
        unsafe { maps::FRAGMENTS.get(key)?.at_time(bpf_ktime_get_ns()) }
    }

    #[inline(always)]
    fn route(&self, query: &RouteQuery) -> Route {
        let mut on_stack = MaybeUninit::uninit();
        // The other programs have no room for it there.
        let place = if PLAIN { Some(&mut on_stack) } else { memory::fib() };
        let Some(place) = place else { return Route::Stack };
        let fib = zeros(place);
        fib.l4_protocol = IPPROTO_UDP;
        fib.sport = query.source_port.to_be();
        fib.dport = query.destination_port.to_be();
        // What an XDP frame holds fits into 16 bits; what claims more is found to be malformed.
        fib.__bindgen_anon_1.tot_len = query.total_length as u16;
        fib.ifindex = self.ctx.ingress();
        match query.family {
            Family::V4 => {
                fib.family = AF_INET;
                fib.__bindgen_anon_3.ipv4_src = query.source.last_word();
                fib.__bindgen_anon_4.ipv4_dst = query.destination.last_word();
            }
            Family::V6 => {
                fib.family = AF_INET6;
                fib.__bindgen_anon_3.ipv6_src = query.source.words();
                fib.__bindgen_anon_4.ipv6_dst = query.destination.words();
            }
        }
        // SAFETY: a valid context, and a structure of the size that is named.
        let answer = unsafe { fib_lookup(self.ctx.as_ptr(), fib, size_of::<bpf_fib_lookup>() as i32, 0) };
        match answer as u32 {
            BPF_FIB_LKUP_RET_SUCCESS => leave_by(fib.ifindex, fib),
            // SAFETY: this answer comes with the MTU in the place of the length.
            BPF_FIB_LKUP_RET_FRAG_NEEDED => Route::TooLarge(u32::from(unsafe { fib.__bindgen_anon_1.mtu_result })),
            BPF_FIB_LKUP_RET_NOT_FWDED => Route::NotForwarded,
            BPF_FIB_LKUP_RET_BLACKHOLE
            | BPF_FIB_LKUP_RET_UNREACHABLE
            | BPF_FIB_LKUP_RET_PROHIBIT
            | BPF_FIB_LKUP_RET_FWD_DISABLED => Route::Refused,
            _ => Route::Stack,
        }
    }

    #[inline(always)]
    fn listing(&self, place: ServicePlace, source: &Address) -> Listing {
        let key = Key::new(ListedKey::BITS, ListedKey::new(place, source));
        maps::LISTED.get(key).map_or(Listing::Unlisted, |value| Listing::of(*value))
    }

    #[inline(always)]
    fn spend(&self, place: ServicePlace, source: &Address) -> bool {
        senders::spend(place, source)
    }

    #[inline(always)]
    fn flow(&self, key: &FlowKey) -> Owner {
        match maps::FLOWS.get_ptr(key) {
            // SAFETY: a pointer into the map, to a word that other CPUs write as a whole.
            Some(entry) => Owner { is_known: true, server: unsafe { read_volatile(&raw const (*entry).server) } },
            None => Owner::UNKNOWN,
        }
    }

    #[inline(always)]
    fn call(&self, key: &CallKey) -> Owner {
        match maps::CALLS.get_ptr(key) {
            // SAFETY: as above.
            Some(entry) => Owner { is_known: true, server: unsafe { read_volatile(&raw const (*entry).server) } },
            None => Owner::UNKNOWN,
        }
    }

    #[inline(always)]
    fn scan(&self, _: &Datagram) -> Scan {
        // By the program before this one.
        memory::scanned().copied().unwrap_or(Scan::NOTHING)
    }
}

/// A question to the routing table of zeros only: the kernel reads all of it.
#[inline(always)]
fn zeros(fib: &mut MaybeUninit<bpf_fib_lookup>) -> &mut bpf_fib_lookup {
    const WORDS: usize = size_of::<bpf_fib_lookup>() / size_of::<u32>();
    for word in 0..WORDS {
        // By words and volatile, or the compiler calls a function that does it by bytes.
        // SAFETY: inside the value, which is aligned like its largest integer, a u32.
        unsafe { write_volatile(fib.as_mut_ptr().cast::<u32>().add(word), 0) };
    }
    // SAFETY: plain integers, for which zero is a value.
    unsafe { fib.assume_init_mut() }
}

/// What is not in LINKS is no device that XDP sends by: a tunnel, for example.
#[inline(always)]
fn leave_by(ifindex: u32, fib: &bpf_fib_lookup) -> Route {
    for probe in 0..LINK_PROBES {
        let exit = ifindex.wrapping_add(probe) % LINK_ROWS;
        let Some(link) = maps::LINKS.get(exit) else { break };
        if link.ifindex == ifindex {
            return Route::Hop(Hop { exit, ends: Ends::new(fib.dmac, fib.smac), tags: link.tags });
        }
        if link.ifindex == 0 {
            break;
        }
    }
    Route::Stack
}
