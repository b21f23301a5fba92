//! The gateway's configuration file, with the values that fit a lab. A field that is `None` is left out of the file.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
};

use serde::{Serialize, Serializer};

use crate::topology::{Lab, RTP_PORTS, SIP_PORT};

/// The whole file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Config {
    /// `[gateway]`
    pub gateway: GatewaySection,
    /// `[probe]`, the defaults for every server
    pub probe: Probe,
    /// `[policy]`
    pub policy: Policy,
    /// `[[service]]`
    pub service: Vec<Service>,
}

/// `[gateway]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GatewaySection {
    /// Interface towards phones.
    pub front: String,
    /// Interface towards servers.
    pub back: String,
    /// Permit generic XDP.
    pub allow_generic: bool,
    /// Where maps are pinned.
    pub pin_dir: PathBuf,
    /// Where the daemon listens.
    pub control_socket: PathBuf,
    /// Where receipts and events are kept; gone when the lab is.
    pub state_dir: PathBuf,
    /// Seconds until a port that stands for a phone may be another's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub masquerade_idle_s: Option<u32>,
}

/// `[probe]` and `[service.server.probe]`
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Probe {
    /// `lan`, `wan` or `cautious`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preset: Option<String>,
    /// Time from one OPTIONS to the next in ms, to the active server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval_ms: Option<u32>,
    /// The same to the others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub standby_interval_ms: Option<u32>,
    /// Shortest pause in ms of the active server's traffic that makes the gateway ask; 0: traffic is not looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quiet_ms: Option<u32>,
    /// How long in ms OPTIONS may stay unanswered by a host that lives.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hang_ms: Option<u32>,
    /// How long in ms traffic excuses that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patience_ms: Option<u32>,
    /// Answers in a row until a server is up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rise: Option<u32>,
    /// Whether hosts are asked by ICMP echo.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub echo: Option<bool>,
    /// Port that is probed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

/// `[policy]`
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Policy {
    /// `manual` or `auto`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failback: Option<String>,
    /// How long in s the master must have been up before it becomes active by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold_down_s: Option<u32>,
    /// How long in ms the old server may still send to phones after a planned switch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub switch_grace_ms: Option<u32>,
    /// How long in s media may stay with a server that refuses service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drain_s: Option<u32>,
    /// Half-life in s of the penalty for falling; 0: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub damping_half_life_s: Option<u32>,
    /// Failovers in an hour; 0: any number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failovers_per_hour: Option<u32>,
}

/// `[[service]]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// Its virtual addresses, at most one of each family.
    #[serde(serialize_with = "one_or_list")]
    pub vip: Vec<IpAddr>,
    /// Its SIP ports.
    pub sip_ports: Vec<u16>,
    /// Its RTP ports, `first-last`.
    pub rtp_ports: String,
    /// What it asks of senders.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protection: Option<Protection>,
    /// Its servers in order of priority.
    pub server: Vec<ServerSection>,
}

/// `[service.protection]`
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Protection {
    /// SIP packets in a second of one sender.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sip_packets_per_s: Option<u32>,
    /// SIP packets of one sender at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sip_burst: Option<u32>,
    /// Prefixes without that limit.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<String>,
    /// Prefixes whose packets are dropped.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub deny: Vec<String>,
}

/// `[[service.server]]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ServerSection {
    /// Its name.
    pub name: String,
    /// Its own addresses, at most one of each family.
    #[serde(serialize_with = "one_or_list")]
    pub address: Vec<IpAddr>,
    /// How packets reach it.
    pub forwarding: String,
    /// What differs from `[probe]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probe: Option<Probe>,
}

impl Config {
    /// One service `pbx` with the lab's VIP and both servers, and the gateway's own defaults for everything else.
    pub fn of(lab: &Lab) -> Self {
        let (front, back) = lab.interfaces();
        let server = |host: &crate::topology::ServerHost| ServerSection {
            name: host.name.to_owned(),
            address: host.addresses().collect(),
            forwarding: "nat".to_owned(),
            probe: None,
        };
        Self {
            gateway: GatewaySection {
                front: front.to_owned(),
                back: back.to_owned(),
                allow_generic: false,
                pin_dir: lab.pin_dir(),
                control_socket: socket(lab),
                state_dir: state_dir(lab),
                masquerade_idle_s: None,
            },
            probe: Probe::default(),
            // A test makes more failovers in a minute than an hour may see.
            policy: Policy { failovers_per_hour: Some(0), ..Policy::default() },
            service: vec![Service {
                name: "pbx".to_owned(),
                vip: lab.vips().collect(),
                sip_ports: vec![SIP_PORT],
                rtp_ports: format!("{}-{}", RTP_PORTS.0, RTP_PORTS.1),
                protection: None,
                server: lab.servers().iter().map(server).collect(),
            }],
        }
    }
}

/// As people write it.
fn one_or_list<S: Serializer>(addresses: &[IpAddr], serializer: S) -> Result<S::Ok, S::Error> {
    match addresses {
        [one] => one.serialize(serializer),
        list => list.serialize(serializer),
    }
}

/// Where the lab's gateway keeps receipts and events.
pub fn state_dir(lab: &Lab) -> PathBuf {
    Path::join(&lab.dir(), "state")
}

/// Where the lab's gateway listens for its commands.
pub fn socket(lab: &Lab) -> PathBuf {
    Path::join(&lab.dir(), "control.sock")
}
