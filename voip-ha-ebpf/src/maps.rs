//! Every map of the XDP program. Keys and values are in [`voip_ha_ebpf::abi`].

use aya_ebpf::{
    bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC},
    macros::map,
    maps::{Array, DevMap, HashMap, LpmTrie, LruHashMap, PerCpuArray, ProgramArray, RingBuf},
};
use voip_ha_ebpf::abi::{
    CallEntry, CallKey, ENDPOINT_ROWS, EndpointRow, FlipEntry, FlowEntry, FlowKey, FragmentEntry, FragmentKey,
    LINK_ROWS, LimitEntry, LinkEntry, ListedKey, MAX_CALLS, MAX_FLIPS, MAX_FLOWS, MAX_FRAGMENTS, MAX_LISTED,
    MAX_MASKED, MAX_MASKS, MAX_PLACES, MAX_PROGRAMS, MAX_SERVERS, MAX_SERVICES, MAX_SOURCES, MAX_TALLIES, MAX_WAYS,
    MaskKey, MaskedEntry, MaskedKey, RefusedEntry, SIGNALS_BYTES, ServerEntry, ServiceEntry, SourceEntry, SourceKey,
    SteeringWord, Tally, TrafficEntry,
};

use voip_ha_ebpf::sip::Desk;

use crate::memory::Memory;

/// Address → what it is. Mapped into the controller's memory, so that a row changes by one atomic store.
#[map]
pub(crate) static ENDPOINTS: Array<EndpointRow> = Array::pinned(ENDPOINT_ROWS, BPF_F_MMAPABLE);

/// Place → service.
#[map]
pub(crate) static SERVICES: Array<ServiceEntry> = Array::pinned(MAX_PLACES, 0);

/// Slot and family → server and next hop.
#[map]
pub(crate) static SERVERS: Array<ServerEntry> = Array::pinned(MAX_WAYS, 0);

/// Service → decision word. Mapped into the controller's memory, so that a flip is one atomic store.
#[map]
pub(crate) static STEERING: Array<SteeringWord> = Array::pinned(MAX_SERVICES, BPF_F_MMAPABLE);

/// Server → when it was last heard and refused. Mapped into the controller's memory as well.
#[map]
pub(crate) static TRAFFIC: Array<TrafficEntry> = Array::pinned(MAX_SERVERS, BPF_F_MMAPABLE);

/// Service, epoch and class → the first packets after that flip.
#[map]
pub(crate) static FLIPS: Array<FlipEntry> = Array::pinned(MAX_FLIPS, 0);

/// RTP flows seen while flows are counted. Not preallocated, because it is empty nearly all of the time.
#[map]
pub(crate) static FLOWS: HashMap<FlowKey, FlowEntry> = HashMap::pinned(MAX_FLOWS, BPF_F_NO_PREALLOC);

/// Call → whose it is, while calls are remembered.
#[map]
pub(crate) static CALLS: LruHashMap<CallKey, CallEntry> = LruHashMap::pinned(MAX_CALLS, 0);

/// Datagram → what became of its first fragment.
#[map]
pub(crate) static FRAGMENTS: LruHashMap<FragmentKey, FragmentEntry> = LruHashMap::pinned(MAX_FRAGMENTS, 0);

/// Flow to a server that masquerades → mapped port. Not preallocated, because most gateways have none.
#[map]
pub(crate) static MASKS: HashMap<MaskKey, u32> = HashMap::pinned(MAX_MASKS, BPF_F_NO_PREALLOC);

/// Mapped port at a server → whose it is.
#[map]
pub(crate) static MASKED: HashMap<MaskedKey, MaskedEntry> = HashMap::pinned(MAX_MASKED, BPF_F_NO_PREALLOC);

/// Place → what senders of SIP may send.
#[map]
pub(crate) static LIMITS: Array<LimitEntry> = Array::pinned(MAX_PLACES, 0);

/// Place and prefix → whether its senders are exempt or denied.
#[map]
pub(crate) static LISTED: LpmTrie<ListedKey, u32> = LpmTrie::pinned(MAX_LISTED, 0);

/// Sender of SIP to a service with a limit → what it has spent.
#[map]
pub(crate) static SOURCES: LruHashMap<SourceKey, SourceEntry> = LruHashMap::pinned(MAX_SOURCES, 0);

/// The sender that a CPU refused last.
#[map]
pub(crate) static REFUSED: PerCpuArray<RefusedEntry> = PerCpuArray::pinned(1, 0);

/// What the controller must hear of at once.
#[map]
pub(crate) static SIGNALS: RingBuf = RingBuf::pinned(SIGNALS_BYTES, 0);

/// Server and class → what became of the packets.
#[map]
pub(crate) static COUNTERS: PerCpuArray<Tally> = PerCpuArray::pinned(MAX_TALLIES, 0);

/// Device of the routing table → how frames leave by it.
#[map]
pub(crate) static LINKS: Array<LinkEntry> = Array::pinned(LINK_ROWS, 0);

/// The devices that frames leave by, under the indexes of LINKS.
#[map]
pub(crate) static DEVICES: DevMap = DevMap::pinned(LINK_ROWS, 0);

/// The programs that others go on in: see [`ANY_PACKET`](voip_ha_ebpf::abi::ANY_PACKET) and what follows that.
#[map]
pub(crate) static PROGRAMS: ProgramArray = ProgramArray::pinned(MAX_PROGRAMS, 0);

/// Those that the programs of devices that only the stack can use go on in, under the same indexes.
#[map]
pub(crate) static TUNNEL_PROGRAMS: ProgramArray = ProgramArray::pinned(MAX_PROGRAMS, 0);

/// What one CPU knows of the packet at hand: see [`Memory`]. Pinned, so that a packet may go on in another object's program while a
/// controller exchanges them.
#[map]
pub(crate) static MEMORY: PerCpuArray<Memory> = PerCpuArray::pinned(1, 0);

/// Where the SIP message at hand is looked into.
#[map]
pub(crate) static DESK: PerCpuArray<Desk> = PerCpuArray::with_max_entries(1, 0);
