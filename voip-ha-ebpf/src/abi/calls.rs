//! What the packet path remembers of a call while a server drains.

use core::mem::{align_of, size_of};

/// Key of the map `CALLS`: a call of one service.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct CallKey {
    /// Index of the service.
    pub service: u32,
    /// Zero.
    pub reserved: u32,
    /// Hash of the Call-ID: [`Scan::call`](crate::sip::Scan::call). Never zero.
    pub call: u64,
}

/// Value of the map `CALLS`: whose the call is.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct CallEntry {
    /// When that was noted, as `CLOCK_MONOTONIC` in nanoseconds.
    pub seen_at: u64,
    /// The number of the server plus one.
    pub server: u32,
    /// Zero.
    pub reserved: u32,
}

/// Most calls that are remembered. Beyond about that many, those that were not seen for long are forgotten.
pub const MAX_CALLS: u32 = 65_536;

const _: () = {
    assert!(size_of::<CallKey>() == 16 && align_of::<CallKey>() == 8);
    assert!(size_of::<CallEntry>() == 16 && align_of::<CallEntry>() == 8);
};
