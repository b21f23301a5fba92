//! What is left in the maps of a packet that something was done with.

use core::{
    hint::black_box,
    ptr::{read_volatile, write_volatile},
};

use aya_ebpf::{
    bindings::BPF_ANY,
    helpers::{bpf_jiffies64, bpf_ktime_get_ns},
};
use voip_ha_ebpf::{
    abi::{
        Class, FirstFragment, FragmentKey, OUTCOMES, Outcome, REFUSED_GRAIN_NS, ServerNumber, SignalRecord, Stamp,
        Tally, flip_index, tally_index,
    },
    pace,
    packet::Network,
    steer::{News, Note, Verdict},
};

use crate::{calls, maps};

/// Counts a packet of so many bytes that became this, and notes what it says about a server.
#[inline(always)]
pub(crate) fn packet(network: &Network, verdict: &Verdict, outcome: Outcome, bytes: u64) {
    let Some(tally) = tally(verdict) else { return };
    count(tally, outcome, bytes);
    if let Some(server) = verdict.server {
        note(tally, server, network, verdict, outcome);
    }
}

/// Counts a packet that says nothing about a server.
#[inline(always)]
pub(crate) fn silent(verdict: &Verdict, bytes: u64) {
    if let Some(tally) = tally(verdict) {
        count(tally, verdict.action.outcome, bytes);
    }
}

/// Remembers what became of the first fragment of a datagram. A map that takes no more leaves the others as if that had not been seen.
#[inline(always)]
pub(crate) fn first_fragment(key: &FragmentKey, first: FirstFragment) {
    // SAFETY: a helper without arguments.
    let entry = first.entry(unsafe { bpf_ktime_get_ns() });
    let _ = maps::FRAGMENTS.insert(key, entry, u64::from(BPF_ANY));
}

/// Where the packet is counted.
#[inline(always)]
fn tally(verdict: &Verdict) -> Option<&'static mut Tally> {
    let tally = maps::COUNTERS.get_ptr_mut(tally_index(verdict.server, verdict.class))?;
    // SAFETY: this CPU's own value, XDP programs on one CPU do not interrupt each other, and this is called once in a run.
    Some(unsafe { &mut *tally })
}

#[inline(always)]
fn count(tally: &mut Tally, outcome: Outcome, bytes: u64) {
    // The compiler knows that there are no more outcomes than places, and the verifier does not.
    let place = black_box(outcome as usize) % OUTCOMES as usize;
    let counter = &mut tally.outcomes[place];
    counter.packets += 1;
    counter.bytes += bytes;
}

#[inline(always)]
fn note(tally: &mut Tally, server: ServerNumber, network: &Network, verdict: &Verdict, outcome: Outcome) {
    let (class, note) = (verdict.class, &verdict.note);
    match note.news {
        News::Sent if matches!(outcome, Outcome::ToServer | Outcome::ToServerByStack) => {
            note_sent(tally, server, class, note);
            calls::note(note, network.source, true);
        }
        News::Heard if matches!(outcome, Outcome::ToClient | Outcome::ToClientByStack) => {
            note_heard(tally, server, class, note);
            calls::note(note, network.destination, note.is_new_flow);
        }
        News::Refused => note_refused(server, note.code),
        _ => {}
    }
}

// Pointers into the maps are valid and aligned. What other CPUs and the controller use at the same time is read and written
// volatile, so that it is one load or one store of a word. Two CPUs may both store; either value is right.

#[inline(always)]
fn note_sent(tally: &mut Tally, server: ServerNumber, class: Class, note: &Note) {
    let Some(traffic) = maps::TRAFFIC.get_ptr(server.0) else { return };
    let pending = &mut tally.pending;
    // SAFETY: as above for what is shared. The time last, or who reads would take the old count for one of the new time.
    unsafe {
        let heard_at = read_volatile(&raw const (*traffic).heard_at);
        let before = if pending.heard_at == heard_at { pending.packets } else { 0 };
        write_volatile(&raw mut pending.packets, before + 1);
        write_volatile(&raw mut pending.heard_at, heard_at);
    }
    let flip = note.flip;
    // To a draining server: that is no news about the flip away from it.
    if !note.is_target || tally.stamped_to == u64::from(flip.epoch) {
        return;
    }
    tally.stamped_to = flip.epoch.into();
    if let Some(entry) = maps::FLIPS.get_ptr_mut(flip_index(flip.service, flip.epoch, class)) {
        // SAFETY: as above.
        unsafe { stamp(&raw mut (*entry).first_to, flip.epoch, || bpf_ktime_get_ns()) };
    }
}

#[inline(always)]
fn note_heard(tally: &mut Tally, server: ServerNumber, class: Class, note: &Note) {
    // SAFETY: helpers without arguments.
    let (tick, clock) = (unsafe { bpf_jiffies64() }, || unsafe { bpf_ktime_get_ns() });
    if tally.pace.asks(tick) {
        let now = clock();
        tally.pace.answered(tick, now);
        if let Some(traffic) = maps::TRAFFIC.get_ptr_mut(server.0) {
            // SAFETY: as above.
            unsafe {
                let heard_at = &raw mut (*traffic).heard_at;
                if pace::is_stale(read_volatile(heard_at), now) {
                    write_volatile(heard_at, now);
                }
            }
        }
    }
    let flip = note.flip;
    if !note.is_target || tally.stamped_back == u64::from(flip.epoch) {
        return;
    }
    tally.stamped_back = flip.epoch.into();
    if let Some(entry) = maps::FLIPS.get_ptr_mut(flip_index(flip.service, flip.epoch, class)) {
        // SAFETY: as above.
        unsafe { stamp(&raw mut (*entry).first_back, flip.epoch, clock) };
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
