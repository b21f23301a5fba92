//! Every map of the XDP program. Keys and values are in [`voip_ha_ebpf::abi`].

use aya_ebpf::{
    bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC},
    macros::map,
    maps::{Array, DevMapHash, HashMap, LruHashMap, PerCpuArray, RingBuf},
};
use voip_ha_ebpf::abi::{
    Address, Counter, FlipEntry, FlowEntry, FlowKey, FragmentEntry, FragmentKey, MAX_COUNTERS, MAX_DEVICES, MAX_FLIPS,
    MAX_FLOWS, MAX_FRAGMENTS, MAX_PENDING, MAX_SERVERS, MAX_SERVICES, MAX_SLOTS, OriginEntry, PendingEntry,
    SIGNALS_BYTES, ServerEntry, ServiceEntry, SteeringWord, TrafficEntry,
};

/// VIP → service.
///
/// Without preallocation an entry that is replaced or removed is not reused while a packet still reads it.
#[map]
pub(crate) static SERVICES: HashMap<Address, ServiceEntry> = HashMap::pinned(MAX_SERVICES, BPF_F_NO_PREALLOC);

/// Address of a server → whose it is. Not preallocated for the same reason.
#[map]
pub(crate) static ORIGINS: HashMap<Address, OriginEntry> = HashMap::pinned(MAX_SERVERS, BPF_F_NO_PREALLOC);

/// Slot → server and next hop.
#[map]
pub(crate) static SERVERS: Array<ServerEntry> = Array::pinned(MAX_SLOTS, 0);

/// Service → decision word. Mapped into the controller's memory, so that a flip is one atomic store.
#[map]
pub(crate) static STEERING: Array<SteeringWord> = Array::pinned(MAX_SERVICES, BPF_F_MMAPABLE);

/// Server → when it was last heard and refused. Mapped into the controller's memory as well.
#[map]
pub(crate) static TRAFFIC: Array<TrafficEntry> = Array::pinned(MAX_SERVERS, BPF_F_MMAPABLE);

/// Server and class → packets that it was sent since it was last heard.
#[map]
pub(crate) static PENDING: PerCpuArray<PendingEntry> = PerCpuArray::pinned(MAX_PENDING, 0);

/// Service, epoch and class → the first packets after that flip.
#[map]
pub(crate) static FLIPS: Array<FlipEntry> = Array::pinned(MAX_FLIPS, 0);

/// RTP flows seen while flows are counted. Not preallocated, because it is empty nearly all of the time.
#[map]
pub(crate) static FLOWS: HashMap<FlowKey, FlowEntry> = HashMap::pinned(MAX_FLOWS, BPF_F_NO_PREALLOC);

/// Datagram → what became of its first fragment.
#[map]
pub(crate) static FRAGMENTS: LruHashMap<FragmentKey, FragmentEntry> = LruHashMap::pinned(MAX_FRAGMENTS, 0);

/// What the controller must hear of at once.
#[map]
pub(crate) static SIGNALS: RingBuf = RingBuf::pinned(SIGNALS_BYTES, 0);

/// What became of the packets, by server, class and outcome.
#[map]
pub(crate) static COUNTERS: PerCpuArray<Counter> = PerCpuArray::pinned(MAX_COUNTERS, 0);

/// The devices that packets may leave by, each under its own interface index.
#[map]
pub(crate) static DEVICES: DevMapHash = DevMapHash::pinned(MAX_DEVICES, 0);
