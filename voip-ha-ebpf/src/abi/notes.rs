//! What the packet path leaves for whoever judges servers and writes receipts.

use crate::pace::Pace;

use super::{Address, CLASSES, Class, MAX_SERVERS, MAX_SERVICES, OUTCOMES, ServerNumber};

/// Signs of life and death of a server, entry of the map `TRAFFIC`, whose index is a [`ServerNumber`]. A cache line of its
/// own. All times are `CLOCK_MONOTONIC` in nanoseconds; 0 for never.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct TrafficEntry {
    /// When it last sent to a client. Up to [`HEARD_GRAIN_NS`] too old; up to a tick of the kernel where packets that came fast are followed
    /// by slow ones within that tick.
    pub heard_at: u64,
    /// When an ICMP destination unreachable about a datagram to it was last seen, whoever sent that. Up to
    /// [`REFUSED_GRAIN_NS`] too old.
    pub refused_at: u64,
    /// Zeros, up to a cache line.
    pub reserved: [u64; 6],
}

/// How old [`TrafficEntry::heard_at`] must be to be written again. Packets of one server arrive on several CPUs, which
/// must not fight over a cache line for every one of them.
pub const HEARD_GRAIN_NS: u64 = 500_000;

/// How old [`TrafficEntry::refused_at`] must be to be written, and signalled, again. Anybody can forge such messages: each
/// signal wakes the controller.
pub const REFUSED_GRAIN_NS: u64 = 5_000_000;

/// A record of the ring buffer `SIGNALS`: somebody says that a datagram to a server could not be delivered.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct SignalRecord {
    /// When, as `CLOCK_MONOTONIC` in nanoseconds.
    pub at: u64,
    /// The server's number.
    pub server: u32,
    /// Code of the ICMP destination unreachable (RFC 792).
    pub code: u32,
}

/// Bytes of the ring buffer: a power of two, and whole pages on every architecture.
pub const SIGNALS_BYTES: u32 = 1 << 16;

impl SignalRecord {
    /// A record as it lies in the ring buffer; nothing if it has another size.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let at = u64::from_ne_bytes(bytes.get(..8)?.try_into().ok()?);
        let server = u32::from_ne_bytes(bytes.get(8..12)?.try_into().ok()?);
        let code = u32::from_ne_bytes(bytes.get(12..)?.try_into().ok()?);
        Some(Self { at, server, code })
    }
}

/// What one CPU has counted of the packets of one class that concern one server, or none: value of the per-CPU map `COUNTERS`, whose
/// index comes from [`tally_index`]. All in one place, because a packet's way to it costs more than what is written there.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Tally {
    /// Packets that the server was sent since it was last heard.
    pub pending: Pending,
    /// Epoch of the latest flip whose first packet to the server, as far as this CPU knows, has its stamp; 0 for none.
    pub stamped_to: u64,
    /// The same of the first packet from the server.
    pub stamped_back: u64,
    /// How often the clock is asked for packets from the server.
    pub pace: Pace,
    /// What became of the packets, by [`Outcome`](super::Outcome).
    pub outcomes: [Counter; OUTCOMES as usize],
}

/// Frames with the same outcome.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Counter {
    /// Frames.
    pub packets: u64,
    /// Bytes of those frames, Ethernet header included where there is one.
    pub bytes: u64,
}

/// Entries of the map `COUNTERS`: three for each server, and three for packets that no server is concerned with.
pub const MAX_TALLIES: u32 = (MAX_SERVERS + 1) * CLASSES;

/// Index in the map `COUNTERS`. `None`: of packets that no server is concerned with.
#[inline(always)]
pub const fn tally_index(server: Option<ServerNumber>, class: Class) -> u32 {
    let block = match server {
        Some(ServerNumber(number)) => number,
        None => MAX_SERVERS,
    };
    block * CLASSES + class as u32
}

/// Packets that one CPU redirected to a server since that was last heard.
///
/// A CPU that finds another time in `TRAFFIC` than the one it noted begins its count anew. So no packet writes what another
/// CPU reads, and who reads adds up the CPUs that have noted the present time.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Pending {
    /// [`TrafficEntry::heard_at`] as this CPU last saw it.
    pub heard_at: u64,
    /// Packets that this CPU redirected to the server since.
    pub packets: u64,
}

/// The first packet of one direction under one epoch.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Stamp {
    /// The epoch that `at` belongs to. Written after it.
    pub epoch: u64,
    /// `CLOCK_MONOTONIC` in nanoseconds; 0 for never.
    pub at: u64,
}

/// The first packets after a flip, entry of the map `FLIPS`, whose index comes from [`flip_index`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct FlipEntry {
    /// To the server that packets of this class go to.
    pub first_to: Stamp,
    /// From that server to a client.
    pub first_back: Stamp,
}

/// How many epochs of a service the map `FLIPS` remembers.
pub const EPOCHS_KEPT: u32 = 4;
/// Entries of the map `FLIPS`.
pub const MAX_FLIPS: u32 = MAX_SERVICES * EPOCHS_KEPT * CLASSES;

/// Index in the map `FLIPS`. The classes apart, because signalling and media may be flipped one without the other.
#[inline(always)]
pub const fn flip_index(service: u32, epoch: u16, class: Class) -> u32 {
    (service * EPOCHS_KEPT + epoch as u32 % EPOCHS_KEPT) * CLASSES + class as u32
}

/// Key of the map `FLOWS`: an RTP flow from a client, seen while the service's word asked for it ([`Notes`](super::Notes)).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct FlowKey {
    /// The client's address.
    pub client: Address,
    /// Index of the service's word in the map `STEERING`.
    pub service: u32,
    /// The client's port.
    pub client_port: u16,
    /// The service's port.
    pub service_port: u16,
}

/// Value of the map `FLOWS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct FlowEntry {
    /// When a packet of the flow was last seen, as `CLOCK_MONOTONIC` in nanoseconds. Up to [`SEEN_GRAIN_NS`] too old.
    pub seen_at: u64,
    /// Number plus one of the server whose flow it is: the one that has sent to the client since, or was about to be left when
    /// it was noted. 0 if there is none; then the flow is one of the server that was active before.
    pub server: u32,
    /// Zero.
    pub reserved: u32,
}

/// How old [`FlowEntry::seen_at`] must be to be written again.
pub const SEEN_GRAIN_NS: u64 = 500_000_000;

/// Most flows that a census can count. More do no harm and are not counted.
pub const MAX_FLOWS: u32 = 65_536;
