//! A place outside the program's stack.

use core::{hint::black_box, mem::MaybeUninit};

use aya_ebpf::bindings::bpf_fib_lookup;

use voip_ha_ebpf::{
    abi::{MEMORY_BYTES, MaskedEntry},
    packet::Network,
    sip::Scan,
    steer::Verdict,
};

use crate::maps;

/// What is known of the packet at hand, kept where the kernel's verifier does not look into. On the stack it would follow all that
/// is done with a packet once for each combination of tags, extension headers and reasons that leads there.
#[repr(C)]
pub(crate) struct Memory {
    network: Network,
    verdict: Verdict,
    scan: Scan,
    fib: MaybeUninit<bpf_fib_lookup>,
    masked: MaskedEntry,
}

// Another layout is one that the programs of an earlier version do not know: it asks for a new ABI_VERSION.
const _: () = assert!(size_of::<Memory>() == MEMORY_BYTES);

/// Puts a value into its place and forgets, to compiler and verifier, what it was.
macro_rules! forgetting {
    ($name:ident, $field:ident: $type:ty) => {
        #[inline(always)]
        pub(crate) fn $name(value: $type) -> Option<&'static $type> {
            let memory = maps::MEMORY.get_ptr_mut(0)?;
            // SAFETY: this CPU's own entry, aligned for any type, and programs of packets, XDP or tc, do not interrupt each other on
            // one CPU. Nobody else has a reference: a place is used once in a program.
            unsafe {
                let place = &raw mut (*memory).$field;
                place.write(value);
                Some(&*black_box(place))
            }
        }
    };
}

forgetting!(network, network: Network);
forgetting!(verdict, verdict: Verdict);
forgetting!(scan, scan: Scan);
forgetting!(masked, masked: MaskedEntry);

/// What a program before this one has put in the place of [`network`].
#[inline(always)]
pub(crate) fn read() -> Option<&'static Network> {
    let memory = maps::MEMORY.get_ptr(0)?;
    // SAFETY: as above. That program has written it for the same packet.
    Some(unsafe { &(*memory).network })
}

/// What a program before this one has put in the place of [`verdict`].
#[inline(always)]
pub(crate) fn decided() -> Option<&'static Verdict> {
    let memory = maps::MEMORY.get_ptr(0)?;
    // SAFETY: as above.
    Some(unsafe { &(*memory).verdict })
}

/// The same, to be changed.
#[inline(always)]
pub(crate) fn decided_mut() -> Option<&'static mut Verdict> {
    let memory = maps::MEMORY.get_ptr_mut(0)?;
    // SAFETY: as above.
    Some(unsafe { &mut *black_box(&raw mut (*memory).verdict) })
}

/// Where a question to the routing table is written.
#[inline(always)]
pub(crate) fn fib() -> Option<&'static mut MaybeUninit<bpf_fib_lookup>> {
    let memory = maps::MEMORY.get_ptr_mut(0)?;
    // SAFETY: this CPU's own entry, as above, and no question is asked while another one waits for its answer.
    Some(unsafe { &mut (*memory).fib })
}

/// What the program before this one has put in the place of [`scan`].
#[inline(always)]
pub(crate) fn scanned() -> Option<&'static Scan> {
    let memory = maps::MEMORY.get_ptr(0)?;
    // SAFETY: as above. That program has written it for the same packet.
    Some(unsafe { &(*memory).scan })
}
