//! The kernel side as the controller sees it: a place to put decisions, next hops and nothing else.
//!
//! [`Datapath`] is the seam: [`KernelDatapath`] writes the maps that the XDP program reads, tests use a fake.

mod kernel;
mod link;
mod mapped;
mod object;
mod pins;
mod places;
mod tables;

use std::time::Duration;

use anyhow::Result;

pub use self::{
    kernel::KernelDatapath,
    link::{Attachment, XdpMode},
    object::KernelLog,
    pins::{PinDirectory, Pins, unload},
    tables::{MapFacts, Tables, Traffic},
};
use crate::ids::{ServerId, ServiceId};
use voip_ha_ebpf::abi::{Mac, ServerEntry};

/// Which servers a service uses: what the decision word of the service says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Steering {
    /// The server that new packets go to. `None` drops them.
    pub active: Option<ServerId>,
    /// A server that is no longer active, but may still send to clients.
    pub draining: Option<ServerId>,
    /// Whether the active server is an operator's choice. Nothing to the kernel: a memory for the next controller.
    pub held: bool,
}

/// The way from the gateway to a server: what the kernel needs to address a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct NextHop {
    /// Index of the device that frames to the server leave by.
    pub ifindex: u32,
    /// Most bytes of an IP packet that this device takes.
    pub mtu: u32,
    /// Ethernet address of that device.
    pub source: Mac,
    /// Ethernet address of the server, or of the router on the way to it.
    pub destination: Mac,
}

impl NextHop {
    /// The way in a server's entry; nothing if it has none yet.
    pub fn of(entry: &ServerEntry) -> Option<Self> {
        let hop = Self { ifindex: entry.ifindex, mtu: entry.mtu, source: entry.source, destination: entry.next_hop };
        (hop.ifindex != 0).then_some(hop)
    }
}

/// What the controller writes. All calls take effect before they return.
pub trait Datapath {
    /// Flips a service: one store into the kernel's decision word. It cannot fail.
    fn steer(&mut self, service: ServiceId, steering: Steering);

    /// What the kernel's decision word says now.
    fn steering(&self, service: ServiceId) -> Steering;

    /// Makes a new way to a server known. Packets see the old one or the new one, never half of each.
    ///
    /// # Errors
    ///
    /// Says why the kernel did not take it. The old way is then still in use.
    fn set_next_hop(&mut self, server: ServerId, hop: NextHop) -> Result<()>;

    /// The way to a server that is known to the kernel, if there is one: an earlier controller may have written it.
    fn next_hop(&self, server: ServerId) -> Option<NextHop>;

    /// When a server last sent to a client, as `CLOCK_MONOTONIC` since its zero; up to 0.5 ms too early. `None`: never.
    fn last_heard(&self, server: ServerId) -> Option<Duration>;
}
