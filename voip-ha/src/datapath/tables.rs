//! The maps of the kernel side, opened from their pins and typed. Used by the controller to write, and by the command
//! line to show what the kernel holds.

mod forget;
mod take;

use std::net::Ipv4Addr;

use anyhow::{Context as _, Result, ensure};
use aya::maps::{Array, DevMapHash, HashMap, Map, MapData, MapInfo, MapType, PerCpuArray};
use serde::Serialize;
use voip_ha_ebpf::abi::{
    Address, Class, Counter, FlipEntry, FlowEntry, FlowKey, FragmentEntry, FragmentKey, MAX_COUNTERS, MAX_DEVICES,
    MAX_FLIPS, MAX_FLOWS, MAX_FRAGMENTS, MAX_PENDING, MAX_SERVERS, MAX_SERVICES, MAX_SLOTS, OriginEntry, Outcome,
    PendingEntry, SIGNALS_BYTES, ServerEntry, ServerNumber, ServiceEntry, Slot, SteeringWord, TrafficEntry,
    counter_index,
};

pub(super) use self::take::CountedAs;
use super::pins::{Pins, exists};

/// What a map must look like. The kernel checks nothing when a pinned map is opened by its name.
struct Layout {
    name: &'static str,
    kind: MapType,
    key: usize,
    value: usize,
    entries: u32,
}

const SERVICES: &str = "SERVICES";
const ORIGINS: &str = "ORIGINS";
const SERVERS: &str = "SERVERS";
/// Also mapped into memory, by `mapped`.
pub(super) const STEERING: &str = "STEERING";
/// Likewise.
pub(super) const TRAFFIC: &str = "TRAFFIC";
/// Read by `signals`.
pub(super) const SIGNALS: &str = "SIGNALS";
const PENDING: &str = "PENDING";
const FLIPS: &str = "FLIPS";
const FLOWS: &str = "FLOWS";
const FRAGMENTS: &str = "FRAGMENTS";
const COUNTERS: &str = "COUNTERS";
const DEVICES: &str = "DEVICES";

const LAYOUTS: [Layout; 12] = [
    Layout::of::<Address, ServiceEntry>(SERVICES, MapType::Hash, MAX_SERVICES),
    Layout::of::<Address, OriginEntry>(ORIGINS, MapType::Hash, MAX_SERVERS),
    Layout::of::<u32, ServerEntry>(SERVERS, MapType::Array, MAX_SLOTS),
    Layout::of::<u32, SteeringWord>(STEERING, MapType::Array, MAX_SERVICES),
    Layout::of::<u32, TrafficEntry>(TRAFFIC, MapType::Array, MAX_SERVERS),
    Layout::of::<u32, PendingEntry>(PENDING, MapType::PerCpuArray, MAX_PENDING),
    Layout::of::<u32, FlipEntry>(FLIPS, MapType::Array, MAX_FLIPS),
    Layout::of::<FlowKey, FlowEntry>(FLOWS, MapType::Hash, MAX_FLOWS),
    Layout::of::<FragmentKey, FragmentEntry>(FRAGMENTS, MapType::LruHash, MAX_FRAGMENTS),
    Layout::of::<(), ()>(SIGNALS, MapType::RingBuf, SIGNALS_BYTES),
    Layout::of::<u32, Counter>(COUNTERS, MapType::PerCpuArray, MAX_COUNTERS),
    // The value is an interface index and a program (struct bpf_devmap_val, kernel 5.8).
    Layout::of::<u32, u64>(DEVICES, MapType::DevMapHash, MAX_DEVICES),
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

/// Packets and bytes of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Traffic {
    /// The server concerned; `None` for packets that no server is concerned with.
    #[serde(skip)]
    pub server: Option<ServerNumber>,
    /// `sip`, `rtp` or `other`.
    pub class: &'static str,
    /// What became of the packets.
    pub outcome: &'static str,
    /// Frames, over all CPUs.
    pub packets: u64,
    /// Bytes of those frames, Ethernet header included.
    pub bytes: u64,
}

/// The maps, opened.
pub struct Tables {
    /// VIP → service.
    pub services: HashMap<MapData, Address, ServiceEntry>,
    /// Address of a server → server.
    pub origins: HashMap<MapData, Address, OriginEntry>,
    /// Slot → server.
    pub servers: Array<MapData, ServerEntry>,
    /// Service → decision word.
    pub steering: Array<MapData, SteeringWord>,
    /// Server → when it was last heard and refused.
    pub signs: Array<MapData, TrafficEntry>,
    /// Server and class → packets that it was sent since, by each CPU.
    pub pending: PerCpuArray<MapData, PendingEntry>,
    /// Service, epoch and class → the first packets after that flip.
    pub flips: Array<MapData, FlipEntry>,
    /// RTP flows seen while flows are counted.
    pub flows: HashMap<MapData, FlowKey, FlowEntry>,
    /// Datagram → what became of its first fragment.
    pub fragments: HashMap<MapData, FragmentKey, FragmentEntry>,
    /// What became of the packets.
    pub counters: PerCpuArray<MapData, Counter>,
    /// The devices that packets may leave by.
    pub devices: DevMapHash<MapData>,
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
            services: open(pins, SERVICES)?.try_into()?,
            origins: open(pins, ORIGINS)?.try_into()?,
            servers: open(pins, SERVERS)?.try_into()?,
            steering: open(pins, STEERING)?.try_into()?,
            signs: open(pins, TRAFFIC)?.try_into()?,
            pending: open(pins, PENDING)?.try_into()?,
            flips: open(pins, FLIPS)?.try_into()?,
            flows: open(pins, FLOWS)?.try_into()?,
            fragments: open(pins, FRAGMENTS)?.try_into()?,
            counters: open(pins, COUNTERS)?.try_into()?,
            devices: open(pins, DEVICES)?.try_into()?,
        })
    }

    /// Copies what is remembered of first fragments. It changes all the time; what cannot be read or written is left out.
    pub(super) fn copy_fragments(&mut self, live: &Self) {
        for (key, entry) in live.fragments.iter().take(MAX_FRAGMENTS as usize).flatten() {
            let _ = self.fragments.insert(key, entry, 0);
        }
    }

    /// What every server is, by its address, in the order of the numbers.
    ///
    /// # Errors
    ///
    /// The map cannot be read.
    pub fn origins(&self) -> Result<Vec<(Ipv4Addr, OriginEntry)>> {
        let mut entries = self.origins.iter().collect::<Result<Vec<_>, _>>().context("cannot read ORIGINS")?;
        entries.sort_by_key(|(_, entry)| entry.slot);
        Ok(entries.into_iter().map(|(address, entry)| (address.into(), entry)).collect())
    }

    /// What every service is, by its VIP, in the order of the indexes.
    ///
    /// # Errors
    ///
    /// The map cannot be read.
    pub fn services(&self) -> Result<Vec<(Ipv4Addr, ServiceEntry)>> {
        let mut entries = self.services.iter().collect::<Result<Vec<_>, _>>().context("cannot read SERVICES")?;
        entries.sort_by_key(|(_, entry)| entry.service);
        Ok(entries.into_iter().map(|(vip, entry)| (vip.into(), entry)).collect())
    }

    /// The decision word of a service.
    ///
    /// # Errors
    ///
    /// The map cannot be read.
    pub fn word(&self, service: u32) -> Result<SteeringWord> {
        self.steering.get(&service, 0).with_context(|| format!("cannot read STEERING[{service}]"))
    }

    /// The entry in a slot.
    ///
    /// # Errors
    ///
    /// The map cannot be read.
    pub fn slot(&self, slot: Slot) -> Result<ServerEntry> {
        self.servers.get(&slot.0, 0).with_context(|| format!("cannot read SERVERS[{}]", slot.0))
    }

    /// When a server was last heard and refused.
    ///
    /// # Errors
    ///
    /// The map cannot be read.
    pub fn signs(&self, server: ServerNumber) -> Result<TrafficEntry> {
        self.signs.get(&server.0, 0).with_context(|| format!("cannot read TRAFFIC[{}]", server.0))
    }

    /// What became of the packets of one server, or of those that no server is concerned with. Zeros are left out.
    ///
    /// # Errors
    ///
    /// The map cannot be read.
    pub fn traffic(&self, server: Option<ServerNumber>) -> Result<Vec<Traffic>> {
        let mut traffic = Vec::new();
        for &class in Class::ALL {
            for &outcome in Outcome::ALL {
                let index = counter_index(server, class, outcome);
                let values = self.counters.get(&index, 0).with_context(|| format!("cannot read COUNTERS[{index}]"))?;
                let packets = values.iter().map(|value| value.packets).sum();
                let bytes = values.iter().map(|value| value.bytes).sum();
                if packets > 0 {
                    traffic.push(Traffic { server, class: class.name(), outcome: outcome.name(), packets, bytes });
                }
            }
        }
        Ok(traffic)
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

/// Opens a pinned map.
pub(super) fn open(pins: &Pins, name: &str) -> Result<Map> {
    let path = pins.map(name);
    let data = MapData::from_pin(&path).with_context(|| format!("cannot open {}", path.display()))?;
    Ok(Map::from_map_data(data)?)
}
