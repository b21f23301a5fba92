//! What the lab reads of `voip-ha status --json`. Fields that it does not need are ignored.

use std::net::IpAddr;

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
    /// The server that media goes to.
    pub media: String,
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
    /// Its own addresses.
    pub addresses: Vec<IpAddr>,
    /// `up`, `maintenance`, `down` or `unknown`.
    pub health: String,
    /// What is wrong with it.
    pub fault: Option<String>,
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

    /// The health of a server: `up`, `maintenance`, `down`, `unknown`, or empty if there is none of that name.
    pub fn health(&self, server: &str) -> &str {
        self.server(server).map_or("", |server| &server.health)
    }

    /// What is wrong with a server; empty if nothing is.
    pub fn fault(&self, server: &str) -> &str {
        self.server(server).and_then(|server| server.fault.as_deref()).unwrap_or("")
    }

    fn server(&self, name: &str) -> Option<&ServerStatus> {
        self.services.iter().flat_map(|service| &service.servers).find(|server| server.name == name)
    }
}
