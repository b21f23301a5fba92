//! What senders of SIP have spent of their limits.

use core::ptr::{read_volatile, write_volatile};

use aya_ebpf::{bindings::BPF_ANY, helpers::bpf_ktime_get_coarse_ns};
use voip_ha_ebpf::{
    abi::{Address, RefusedEntry, ServicePlace, SourceEntry, SourceKey},
    limit::Limit,
};

use crate::maps;

/// Counts a packet against its sender's limit at the service in this place: whether it may go on.
#[inline(always)]
pub(crate) fn spend(place: ServicePlace, source: &Address) -> bool {
    let Some(entry) = maps::LIMITS.get(place.0) else { return true };
    let key = SourceKey { address: entry.sender(source), service: place.service(), reserved: 0 };
    // The coarse time is late by a tick of the kernel at most, which no limit notices, and costs a tenth.
    // SAFETY: a helper without arguments.
    let now = unsafe { bpf_ktime_get_coarse_ns() };
    let Some(refused) = maps::REFUSED.get_ptr_mut(0) else { return true };
    // SAFETY: this CPU's own value, and programs on one CPU do not interrupt each other.
    let refused = unsafe { &mut *refused };
    // A flood is of one sender, whose place needs no search then.
    if refused.sender == key && now < refused.until {
        refused.dropped += 1;
        return false;
    }
    let limit = entry.limit;
    let Some(sender) = maps::SOURCES.get_ptr_mut(key) else {
        let first = SourceEntry { due: limit.due_after(0, now), dropped: 0 };
        // A map that takes no more is no reason to drop anything.
        let _ = maps::SOURCES.insert(key, first, u64::from(BPF_ANY));
        return true;
    };
    // SAFETY: a valid, aligned pointer into the map, which other CPUs use at the same time. What two of them admit at the same
    // moment is paid for once. An entry that is reused for another sender meanwhile costs that one a packet.
    let was_due = unsafe { read_volatile(&raw const (*sender).due) };
    let next = limit.due_after(was_due, now);
    if next == 0 {
        refuse(refused, key, was_due, limit);
        // SAFETY: as above.
        unsafe { add(sender, 1) };
        return false;
    }
    // SAFETY: as above.
    unsafe { write_volatile(&raw mut (*sender).due, next) };
    true
}

/// Remembers whom this CPU refused last, and settles what was dropped of the one before.
#[inline(always)]
fn refuse(refused: &mut RefusedEntry, key: SourceKey, due: u64, limit: Limit) {
    if refused.dropped != 0
        && let Some(before) = maps::SOURCES.get_ptr_mut(refused.sender)
    {
        // SAFETY: as in `spend`.
        unsafe { add(before, refused.dropped) };
    }
    *refused = RefusedEntry { sender: key, until: limit.refused_until(due), dropped: 0 };
}

/// # Safety
///
/// `sender` must point into the map.
#[inline(always)]
unsafe fn add(sender: *mut SourceEntry, packets: u64) {
    // SAFETY: as the caller promises.
    unsafe {
        let dropped = &raw mut (*sender).dropped;
        write_volatile(dropped, read_volatile(dropped) + packets);
    }
}
