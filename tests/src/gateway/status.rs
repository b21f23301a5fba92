//! What the lab reads of `voip-ha status --json`. Fields that it does not need are ignored.

use std::net::Ipv4Addr;

use serde::Deserialize;

/// The gateway at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Status {
    /// Those with the XDP program.
    pub interfaces: Vec<InterfaceStatus>,
    /// In the order of the configuration.
    pub services: Vec<ServiceStatus>,
}

/// One interface.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct InterfaceStatus {
    /// Its name.
    pub name: String,
    /// The XDP program on it.
    pub program_id: Option<u32>,
}

/// One service.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ServiceStatus {
    /// Its name.
    pub name: String,
    /// The server that new packets go to.
    pub active: String,
    /// No server is up.
    pub outage: bool,
    /// In order of priority.
    pub servers: Vec<ServerStatus>,
}

/// One server.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ServerStatus {
    /// Its name.
    pub name: String,
    /// Its own address.
    pub address: Ipv4Addr,
    /// `up`, `down` or `unknown`.
    pub health: String,
}

impl Status {
    /// The active server of the only service of a lab's gateway.
    pub fn active(&self) -> &str {
        self.services.first().map_or("", |service| &service.active)
    }

    /// The XDP programs on the gateway's interfaces.
    pub fn program_ids(&self) -> Vec<u32> {
        self.interfaces.iter().filter_map(|interface| interface.program_id).collect()
    }

    /// The health of a server: `up`, `down`, `unknown`, or empty if there is none of that name.
    pub fn health(&self, server: &str) -> &str {
        let mut servers = self.services.iter().flat_map(|service| &service.servers);
        servers.find(|candidate| candidate.name == server).map_or("", |server| &server.health)
    }
}
