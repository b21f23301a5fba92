//! The state of the gateway, as `voip-ha status` shows it.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::{
    config::{Addresses, Forwarding},
    datapath::{NextHop, Traffic, XdpMode},
    decision::{Cause, Choice},
    detector::Health,
    evidence::{Evidence, Fault},
    ids::Family,
};

/// An RTP flow of which nothing was seen for this long has ended, or its call is on hold.
pub const FLOW_ENDED: Duration = Duration::from_secs(5);

/// Everything at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Version of voip-ha.
    pub version: String,
    /// Process id of the controller.
    pub pid: u32,
    /// When the controller started.
    pub started: jiff::Timestamp,
    /// Front and back.
    pub interfaces: Vec<InterfaceStatus>,
    /// What is wrong with the gateway itself, and the remedy.
    pub warnings: Vec<String>,
    /// How often the gateway itself came late since the controller started.
    pub gateway_stalls: u64,
    /// Flows to servers that masquerade; `None` if there is no such server, or it is not known.
    pub masquerade: Option<MasqueradeStatus>,
    /// In the order of the configuration.
    pub services: Vec<ServiceStatus>,
}

/// How many flows have a port of the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MasqueradeStatus {
    /// So many.
    pub flows: usize,
    /// At most.
    pub most: u32,
}

/// One interface with the XDP program.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InterfaceStatus {
    /// Name.
    pub name: String,
    /// How XDP runs, as the kernel says; `None` if the interface has no XDP program any more.
    pub mode: Option<XdpMode>,
    /// Id of the program on the interface.
    pub program_id: Option<u32>,
    /// Whether it has a carrier.
    pub carrier: bool,
}

/// One service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// Name.
    pub name: String,
    /// The addresses that clients know.
    pub vips: Addresses,
    /// Name of the server that new calls go to.
    pub active: String,
    /// Name of the server that media goes to.
    pub media: String,
    /// Since when.
    pub since: jiff::Timestamp,
    /// Why.
    pub cause: Cause,
    /// Whether the active server is down and no other is up.
    pub outage: bool,
    /// Whether the active server is down and stays active though another one is up.
    pub kept: bool,
    /// Whether an operator chose the active server, or holds the service as it is.
    pub choice: Choice,
    /// Name of the server that takes over as soon as the running calls of the active one are noted, which stay with that.
    #[serde(default)]
    pub switching_to: Option<String>,
    /// A server that may still send to clients, though it is no longer active.
    pub draining: Option<DrainStatus>,
    /// In order of priority.
    pub servers: Vec<ServerStatus>,
}

/// A server that was left.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DrainStatus {
    /// Its name.
    pub server: String,
    /// Whether its running calls stay with it. Else it may only send what is on its way.
    pub keeps_calls: bool,
    /// Since when.
    pub since: jiff::Timestamp,
    /// Until when at most.
    pub until: jiff::Timestamp,
    /// RTP flows from clients in the last 5 s ([`FLOW_ENDED`]) that are its own; `None` where calls do not stay, or it is not known.
    pub rtp_flows: Option<u64>,
}

/// One server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServerStatus {
    /// Name.
    pub name: String,
    /// Its own addresses.
    pub addresses: Addresses,
    /// How packets reach it.
    pub forwarding: Forwarding,
    /// What is believed about it.
    pub health: Health,
    /// What is wrong with it, if it is not up.
    pub fault: Option<Fault>,
    /// Since when.
    pub since: jiff::Timestamp,
    /// The latest observation.
    pub evidence: Option<Evidence>,
    /// Answers in a row.
    pub answers: u32,
    /// Failures in a row.
    pub failures: u32,
    /// Smoothed round-trip time of OPTIONS in milliseconds; `None` before the first answer.
    pub rtt_ms: Option<f64>,
    /// How long an answer is waited for now, in milliseconds.
    pub timeout_ms: f64,
    /// For how long OPTIONS stay unanswered, in milliseconds.
    pub unanswered_ms: Option<f64>,
    /// How long ago it last sent to a client, in milliseconds.
    pub heard_ms: Option<f64>,
    /// Whether its host answers ICMP echoes. Without them a dead host takes as long to notice as a hung process.
    pub echo_works: bool,
    /// How often it was asked more than once whether it lives, and did.
    pub close_calls: u64,
    /// For how many more seconds others are preferred, because it fell too often.
    pub suppressed_s: Option<u64>,
    /// The ways to it that are known.
    pub next_hops: Vec<HopStatus>,
    /// Why there is no way to it now.
    pub no_way: Option<String>,
    /// What is wrong with its second address alone, if something is.
    pub second_address: Option<String>,
    /// Packets and bytes since the maps were made.
    pub traffic: Vec<TrafficStatus>,
}

/// The way to an address of a server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HopStatus {
    /// Family of the address.
    pub family: Family,
    /// Name of the interface.
    pub interface: String,
    /// As the kernel has it.
    #[serde(flatten)]
    pub hop: NextHop,
}

/// Packets and bytes of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrafficStatus {
    /// `sip`, `rtp` or `other`.
    pub class: String,
    /// What became of the packets.
    pub outcome: String,
    /// Frames.
    pub packets: u64,
    /// Bytes of those frames, Ethernet header included.
    pub bytes: u64,
}

impl From<Traffic> for TrafficStatus {
    fn from(traffic: Traffic) -> Self {
        let Traffic { server: _, class, outcome, packets, bytes } = traffic;
        Self { class: class.to_owned(), outcome: outcome.to_owned(), packets, bytes }
    }
}

/// The wall-clock time of a moment in the past.
pub fn wall_clock(moment: Instant, now: Instant) -> jiff::Timestamp {
    let ago = now.saturating_duration_since(moment);
    let wall = jiff::Timestamp::now();
    wall.checked_sub(ago).unwrap_or(wall)
}

/// The wall-clock time of a moment to come.
pub fn wall_clock_ahead(moment: Instant, now: Instant) -> jiff::Timestamp {
    let wall = jiff::Timestamp::now();
    wall.checked_add(moment.saturating_duration_since(now)).unwrap_or(wall)
}

/// An Ethernet address as people write it.
pub fn mac_text(mac: voip_ha_ebpf::abi::Mac) -> String {
    let [a, b, c, d, e, f] = mac;
    format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
}
