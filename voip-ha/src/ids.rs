//! Numbers of services and servers inside one run of the controller.

use std::{fmt, net::IpAddr};

use serde::{Deserialize, Serialize};

use crate::config::{Config, Server};

/// A service: its place in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ServiceId(pub usize);

/// A server: its place among the servers of all services, in the order of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ServerId(pub usize);

/// A family of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// That of an address.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

impl Config {
    /// All servers with their numbers and the service of each, in the order of the numbers.
    pub fn servers(&self) -> impl Iterator<Item = (ServerId, ServiceId, &Server)> {
        self.services
            .iter()
            .enumerate()
            .flat_map(|(index, service)| service.servers.iter().map(move |server| (ServiceId(index), server)))
            .enumerate()
            .map(|(index, (service, server))| (ServerId(index), service, server))
    }

    /// The server with this name.
    pub fn server_named(&self, name: &str) -> Option<(ServerId, ServiceId)> {
        self.servers().find(|(_, _, server)| server.name == name).map(|(id, service, _)| (id, service))
    }
}
