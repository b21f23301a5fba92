//! The gateway's configuration file, with the values that fit a lab. A field that is `None` is left out of the file.

use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use serde::Serialize;

use crate::topology::{Lab, RTP_PORTS, SIP_PORT, VIP};

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
}

/// `[probe]` and `[service.server.probe]`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Probe {
    /// Time between probes in ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval_ms: Option<u32>,
    /// Time in ms after which an unanswered probe is a miss.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u32>,
    /// Misses in a row until a server is down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fall: Option<u32>,
    /// Answers in a row until it is up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rise: Option<u32>,
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
}

/// `[[service]]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// Its virtual address.
    pub vip: Ipv4Addr,
    /// Its SIP ports.
    pub sip_ports: Vec<u16>,
    /// Its RTP ports, `first-last`.
    pub rtp_ports: String,
    /// Its servers in order of priority.
    pub server: Vec<ServerSection>,
}

/// `[[service.server]]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ServerSection {
    /// Its name.
    pub name: String,
    /// Its own address.
    pub address: Ipv4Addr,
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
            address: host.address,
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
            },
            probe: Probe::default(),
            policy: Policy::default(),
            service: vec![Service {
                name: "pbx".to_owned(),
                vip: VIP,
                sip_ports: vec![SIP_PORT],
                rtp_ports: format!("{}-{}", RTP_PORTS.0, RTP_PORTS.1),
                server: lab.servers().iter().map(server).collect(),
            }],
        }
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
