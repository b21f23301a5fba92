//! Numbers of services and servers inside one run of the controller.

use serde::{Deserialize, Serialize};

pub use voip_ha_ebpf::abi::Family;

use crate::config::{Config, Server};

/// A service: its place in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ServiceId(pub usize);

/// A server: its place among the servers of all services, in the order of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ServerId(pub usize);

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
