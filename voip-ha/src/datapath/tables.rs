//! The maps of the kernel side, opened from their pins and typed. Used by the controller to write, and by the command
//! line to show what the kernel holds.

mod counters;
mod forget;
mod links;
mod protection;
mod take;

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use aya::maps::{Array, DevMap, HashMap, LpmTrie, Map, MapData, MapInfo, MapType, PerCpuArray, lpm_trie::Key};
use serde::Serialize;
use voip_ha_ebpf::abi::{
    Address, CallEntry, CallKey, ENDPOINT_ROWS, Endpoint, EndpointRow, FlipEntry, FlowEntry, FlowKey, FragmentEntry,
    FragmentKey, LINK_ROWS, LimitEntry, LinkEntry, ListedKey, MAX_CALLS, MAX_FLIPS, MAX_FLOWS, MAX_FRAGMENTS,
    MAX_LISTED, MAX_MASKED, MAX_MASKS, MAX_PLACES, MAX_PROGRAMS, MAX_SERVERS, MAX_SERVICES, MAX_SOURCES, MAX_TALLIES,
    MAX_WAYS, MEMORY_BYTES, MaskKey, MaskedEntry, MaskedKey, Ports, RefusedEntry, SIGNALS_BYTES, ServerEntry,
    ServerNumber, ServiceEntry, ServicePlace, Slot, SourceEntry, SourceKey, SteeringWord, Tally, TrafficEntry,
    server_index,
};

pub use self::{counters::Traffic, links::Link, protection::Source};
pub(super) use self::{protection::bits as protection_bits, take::CountedAs};
use super::{
    endpoints::Endpoints,
    mappings::Mappings,
    pins::{Pins, exists},
};
use crate::{config::Addresses, ids::Family};

/// What a map must look like. The kernel checks nothing when a pinned map is opened by its name.
struct Layout {
    name: &'static str,
    kind: MapType,
    key: usize,
    value: usize,
    entries: u32,
}

/// Mapped into memory, by `endpoints`.
pub(super) const ENDPOINTS: &str = "ENDPOINTS";
const SERVICES: &str = "SERVICES";
const SERVERS: &str = "SERVERS";
/// Also mapped into memory, by `mapped`.
pub(super) const STEERING: &str = "STEERING";
/// Likewise.
pub(super) const TRAFFIC: &str = "TRAFFIC";
/// Read by `signals`.
pub(super) const SIGNALS: &str = "SIGNALS";
/// Written by `object`.
pub(super) const PROGRAMS: &str = "PROGRAMS";
/// Likewise.
pub(super) const TUNNEL_PROGRAMS: &str = "TUNNEL_PROGRAMS";
const FLIPS: &str = "FLIPS";
const FLOWS: &str = "FLOWS";
const CALLS: &str = "CALLS";
const FRAGMENTS: &str = "FRAGMENTS";
/// Opened by `mappings`.
pub(super) const MASKS: &str = "MASKS";
/// Likewise.
pub(super) const MASKED: &str = "MASKED";
const LIMITS: &str = "LIMITS";
const LISTED: &str = "LISTED";
const SOURCES: &str = "SOURCES";
const REFUSED: &str = "REFUSED";
const MEMORY: &str = "MEMORY";
const COUNTERS: &str = "COUNTERS";
const LINKS: &str = "LINKS";
const DEVICES: &str = "DEVICES";

const LAYOUTS: [Layout; 22] = [
    Layout::of::<u32, EndpointRow>(ENDPOINTS, MapType::Array, ENDPOINT_ROWS),
    Layout::of::<u32, ServiceEntry>(SERVICES, MapType::Array, MAX_PLACES),
    Layout::of::<u32, ServerEntry>(SERVERS, MapType::Array, MAX_WAYS),
    Layout::of::<u32, SteeringWord>(STEERING, MapType::Array, MAX_SERVICES),
    Layout::of::<u32, TrafficEntry>(TRAFFIC, MapType::Array, MAX_SERVERS),
    Layout::of::<u32, FlipEntry>(FLIPS, MapType::Array, MAX_FLIPS),
    Layout::of::<FlowKey, FlowEntry>(FLOWS, MapType::Hash, MAX_FLOWS),
    Layout::of::<CallKey, CallEntry>(CALLS, MapType::LruHash, MAX_CALLS),
    Layout::of::<FragmentKey, FragmentEntry>(FRAGMENTS, MapType::LruHash, MAX_FRAGMENTS),
    Layout::of::<MaskKey, u32>(MASKS, MapType::Hash, MAX_MASKS),
    Layout::of::<MaskedKey, MaskedEntry>(MASKED, MapType::Hash, MAX_MASKED),
    Layout::of::<u32, LimitEntry>(LIMITS, MapType::Array, MAX_PLACES),
    Layout::of::<Key<ListedKey>, u32>(LISTED, MapType::LpmTrie, MAX_LISTED),
    Layout::of::<SourceKey, SourceEntry>(SOURCES, MapType::LruHash, MAX_SOURCES),
    Layout::of::<u32, RefusedEntry>(REFUSED, MapType::PerCpuArray, 1),
    Layout::of::<u32, [u8; MEMORY_BYTES]>(MEMORY, MapType::PerCpuArray, 1),
    Layout::of::<(), ()>(SIGNALS, MapType::RingBuf, SIGNALS_BYTES),
    Layout::of::<u32, Tally>(COUNTERS, MapType::PerCpuArray, MAX_TALLIES),
    Layout::of::<u32, LinkEntry>(LINKS, MapType::Array, LINK_ROWS),
    // The value is an interface index and a program (struct bpf_devmap_val, kernel 5.8).
    Layout::of::<u32, u64>(DEVICES, MapType::DevMap, LINK_ROWS),
    Layout::of::<u32, u32>(PROGRAMS, MapType::ProgramArray, MAX_PROGRAMS),
    Layout::of::<u32, u32>(TUNNEL_PROGRAMS, MapType::ProgramArray, MAX_PROGRAMS),
];

impl Layout {
    const fn of<K, V>(name: &'static str, kind: MapType, entries: u32) -> Self {
        Self { name, kind, key: size_of::<K>(), value: size_of::<V>(), entries }
    }

    fn check(&self, info: &MapInfo) -> Result<()> {
        let found = (info.map_type()?, info.key_size() as usize, info.value_size() as usize, info.max_entries());
        let wanted = (self.kind, self.key, self.value, self.entries);
        ensure!(found == wanted, "(type, key bytes, value bytes, entries) is {found:?} and should be {wanted:?}");
        Ok(())
    }
}

/// Compares every pinned map with what this version expects.
///
/// # Errors
///
/// Names the map that differs.
pub(super) fn check_layouts(pins: &Pins) -> Result<()> {
    for layout in &LAYOUTS {
        let path = pins.map(layout.name);
        if exists(&path)? {
            let info = MapInfo::from_pin(&path).with_context(|| format!("cannot open {}", path.display()))?;
            layout.check(&info).with_context(|| {
                format!("{} has another layout: run `voip-ha unload`, then start again", path.display())
            })?;
        }
    }
    Ok(())
}

/// Size and memory of one map, as the kernel reports them.
#[derive(Clone, Debug, Serialize)]
pub struct MapFacts {
    /// Name.
    pub name: &'static str,
    /// Kind, such as `Hash`.
    pub kind: String,
    /// Bytes of a key.
    pub key_bytes: u32,
    /// Bytes of a value, for one CPU if the map has a value per CPU.
    pub value_bytes: u32,
    /// Most entries.
    pub max_entries: u32,
}

/// A service, as the kernel knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelService {
    /// Where its entry is, and with that its index in the map `STEERING`.
    pub place: ServicePlace,
    /// The addresses that clients know.
    pub vips: Addresses,
    /// Its ports.
    pub ports: Ports,
}

/// A server, as the kernel knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelServer {
    /// The slot with its present entries, and with that its number.
    pub slot: Slot,
    /// Index of its service in the map `STEERING`.
    pub service: u32,
    /// Its own addresses.
    pub addresses: Addresses,
}

/// The maps, opened.
pub struct Tables {
    /// Address → what it is.
    pub endpoints: Endpoints,
    /// Place → service.
    pub services: Array<MapData, ServiceEntry>,
    /// Slot and family → server.
    pub servers: Array<MapData, ServerEntry>,
    /// Service → decision word.
    pub steering: Array<MapData, SteeringWord>,
    /// Server → when it was last heard and refused.
    pub signs: Array<MapData, TrafficEntry>,
    /// Service, epoch and class → the first packets after that flip.
    pub flips: Array<MapData, FlipEntry>,
    /// RTP flows seen while flows are counted.
    pub flows: HashMap<MapData, FlowKey, FlowEntry>,
    /// Call → whose it is, while calls are remembered.
    pub calls: HashMap<MapData, CallKey, CallEntry>,
    /// Datagram → what became of its first fragment.
    pub fragments: HashMap<MapData, FragmentKey, FragmentEntry>,
    /// The mapped ports of servers that masquerade.
    pub mappings: Mappings,
    /// Place → what senders of SIP may send.
    limits: Array<MapData, LimitEntry>,
    /// Place and prefix → whether its senders are exempt or denied.
    listed: LpmTrie<MapData, ListedKey, u32>,
    /// Sender of SIP → what it has spent.
    sources: HashMap<MapData, SourceKey, SourceEntry>,
    /// The sender that a CPU refused last.
    refused: PerCpuArray<MapData, RefusedEntry>,
    /// What became of the packets.
    counters: PerCpuArray<MapData, Tally>,
    /// Device of the routing table → how frames leave by it.
    pub links: Array<MapData, LinkEntry>,
    /// The devices that frames leave by.
    pub devices: DevMap<MapData>,
}

impl Tables {
    /// Opens the pinned maps.
    ///
    /// # Errors
    ///
    /// They are not there, have another layout, or may not be opened.
    pub fn open(pins: &Pins) -> Result<Self> {
        ensure!(exists(&pins.map(STEERING))?, "no gateway is loaded: {} holds no maps", pins.directory().display());
        check_layouts(pins)?;
        Ok(Self {
            endpoints: Endpoints::open(pins)?,
            services: open(pins, SERVICES)?.try_into()?,
            servers: open(pins, SERVERS)?.try_into()?,
            steering: open(pins, STEERING)?.try_into()?,
            signs: open(pins, TRAFFIC)?.try_into()?,
            flips: open(pins, FLIPS)?.try_into()?,
            flows: open(pins, FLOWS)?.try_into()?,
            calls: open(pins, CALLS)?.try_into()?,
            fragments: open(pins, FRAGMENTS)?.try_into()?,
            mappings: Mappings::open(pins)?,
            limits: open(pins, LIMITS)?.try_into()?,
            listed: open(pins, LISTED)?.try_into()?,
            sources: open(pins, SOURCES)?.try_into()?,
            refused: open(pins, REFUSED)?.try_into()?,
            counters: open(pins, COUNTERS)?.try_into()?,
            links: open(pins, LINKS)?.try_into()?,
            devices: open(pins, DEVICES)?.try_into()?,
        })
    }

    /// Copies what packets leave behind and others are judged by: first fragments, flows, calls and mapped ports. It changes all the time; what
    /// cannot be read or written is left out.
    pub(super) fn copy_memory(&mut self, live: &Self) {
        for (key, entry) in live.fragments.iter().take(MAX_FRAGMENTS as usize).flatten() {
            let _ = self.fragments.insert(key, entry, 0);
        }
        for (key, entry) in live.flows.iter().take(MAX_FLOWS as usize).flatten() {
            let _ = self.flows.insert(key, entry, 0);
        }
        for (key, entry) in live.calls.iter().take(MAX_CALLS as usize).flatten() {
            let _ = self.calls.insert(key, entry, 0);
        }
        self.mappings.copy(&live.mappings);
    }

    /// Every server, in the order of the numbers.
    pub fn servers(&self) -> Vec<KernelServer> {
        let servers = grouped(self.endpoints.all(), Endpoint::is_server, |endpoint| endpoint.number().0);
        let server = |(addresses, endpoint): (Addresses, Endpoint)| KernelServer {
            slot: endpoint.slot(),
            service: endpoint.place().service(),
            addresses,
        };
        servers.into_values().map(server).collect()
    }

    /// Every service, in the order of the indexes.
    ///
    /// # Errors
    ///
    /// The map cannot be read.
    pub fn services(&self) -> Result<Vec<KernelService>> {
        let services = grouped(self.endpoints.all(), Endpoint::is_vip, |endpoint| endpoint.place().service());
        let service = |(vips, endpoint): (Addresses, Endpoint)| {
            let place = endpoint.place();
            Ok(KernelService { place, vips, ports: self.service(place)?.ports })
        };
        services.into_values().map(service).collect()
    }

    /// The entry in a place.
    ///
    /// # Errors
    ///
    /// The map cannot be read.
    pub fn service(&self, place: ServicePlace) -> Result<ServiceEntry> {
        self.services.get(&place.0, 0).with_context(|| format!("cannot read SERVICES[{}]", place.0))
    }

    /// The decision word of a service.
    ///
    /// # Errors
    ///
    /// The map cannot be read.
    pub fn word(&self, service: u32) -> Result<SteeringWord> {
        self.steering.get(&service, 0).with_context(|| format!("cannot read STEERING[{service}]"))
    }

    /// The entry of a family in a slot.
    ///
    /// # Errors
    ///
    /// The map cannot be read.
    pub fn slot(&self, slot: Slot, family: Family) -> Result<ServerEntry> {
        let index = server_index(slot, family);
        self.servers.get(&index, 0).with_context(|| format!("cannot read SERVERS[{index}]"))
    }

    /// When a server was last heard and refused.
    ///
    /// # Errors
    ///
    /// The map cannot be read.
    pub fn signs(&self, server: ServerNumber) -> Result<TrafficEntry> {
        self.signs.get(&server.0, 0).with_context(|| format!("cannot read TRAFFIC[{}]", server.0))
    }

    /// Size and memory of all maps.
    ///
    /// # Errors
    ///
    /// A map is not there.
    pub fn facts(pins: &Pins) -> Result<Vec<MapFacts>> {
        LAYOUTS
            .iter()
            .map(|layout| {
                let path = pins.map(layout.name);
                let info = MapInfo::from_pin(&path).with_context(|| format!("cannot open {}", path.display()))?;
                Ok(MapFacts {
                    name: layout.name,
                    kind: format!("{:?}", info.map_type()?),
                    key_bytes: info.key_size(),
                    value_bytes: info.value_size(),
                    max_entries: info.max_entries(),
                })
            })
            .collect()
    }
}

/// Addresses of one kind with what they are, those of one owner together.
fn grouped(
    all: Vec<(Address, Endpoint)>,
    is_wanted: impl Fn(Endpoint) -> bool,
    owner: impl Fn(Endpoint) -> u32,
) -> BTreeMap<u32, (Addresses, Endpoint)> {
    let mut groups = BTreeMap::<u32, (Addresses, Endpoint)>::new();
    for (address, endpoint) in all.into_iter().filter(|(_, endpoint)| is_wanted(*endpoint)) {
        let address = std::net::IpAddr::from(address);
        let group = groups.entry(owner(endpoint)).or_insert((address.into(), endpoint));
        group.0 = group.0.with(address);
    }
    groups
}

/// Opens a pinned map.
pub(super) fn open(pins: &Pins, name: &str) -> Result<Map> {
    let path = pins.map(name);
    let data = MapData::from_pin(&path).with_context(|| format!("cannot open {}", path.display()))?;
    Ok(Map::from_map_data(data)?)
}
