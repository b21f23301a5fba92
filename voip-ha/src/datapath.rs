//! The kernel side as the controller sees it: a place to put decisions and next hops, and a source of signs of life and
//! death.
//!
//! [`Datapath`] is the seam: [`KernelDatapath`] writes the maps that the XDP program reads, tests use a fake.

mod endpoints;
mod kernel;
mod ledger;
mod link;
mod mapped;
mod mappings;
mod masks;
mod object;
mod pins;
mod places;
mod rehearsal;
mod replica;
mod signals;
mod tables;
mod tunnels;

use std::{net::IpAddr, os::fd::BorrowedFd, time::Duration};

use anyhow::Result;

pub use self::{
    endpoints::Endpoints,
    kernel::KernelDatapath,
    ledger::{FlipStamps, Ledger, SentSinceHeard, Stamps},
    link::{Attachment, XdpMode},
    mappings::{Mapping, Mappings},
    object::KernelLog,
    pins::{PinDirectory, Pins, unload},
    rehearsal::{Ran, XdpAction, context, rehearse},
    replica::{Replica, Seen},
    tables::{KernelServer, KernelService, Link, MapFacts, Source, Tables, Traffic},
    tunnels::{TunnelHook, Tunnels},
};
use crate::{
    decision::Choice,
    ids::{Family, ServerId, ServiceId},
};
use voip_ha_ebpf::abi::{self, Mac, ServerEntry};

/// Which servers a service uses: what the decision word of the service says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Steering {
    /// The server that SIP goes to. `None` drops it.
    pub signalling: Option<ServerId>,
    /// The server that RTP goes to. `None` drops it.
    pub media: Option<ServerId>,
    /// A server that gets nothing new, but may still send to clients.
    pub draining: Option<ServerId>,
    /// What the kernel remembers of calls, so that those of the draining server stay with it.
    pub memory: Memory,
    /// What an operator has chosen. Nothing to the kernel: a memory for the next controller.
    pub choice: Choice,
}

/// What the kernel remembers of calls. What it counts for a receipt in the first moments of a flip is not in here, and changes the
/// way of no packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Memory {
    /// Nothing. A draining server is only not fenced.
    #[default]
    Nothing,
    /// Whose calls are whose. Nobody foresaw the flip: what RTP shows in its first moments is of running calls of the server before.
    Calls,
    /// The same. The active server will be left: what RTP shows is of its running calls. All goes to it still.
    Census,
    /// Whose calls are whose, after a census: what RTP shows after the flip is new.
    AfterCensus,
}

impl Memory {
    /// Whether calls are remembered.
    pub fn is_affine(self) -> bool {
        self != Self::Nothing
    }
}

impl Steering {
    /// Signalling and media to the same server, nobody draining, no operator's choice.
    pub fn to(server: ServerId) -> Self {
        Self { signalling: Some(server), media: Some(server), ..Self::default() }
    }
}

/// Signs of life and death of a server that its packets left in the kernel, as `CLOCK_MONOTONIC` since its zero. `None`:
/// never.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Heard {
    /// It last sent to a client; up to 0.5 ms too early, up to a tick of the kernel where traffic has just slowed down.
    pub heard: Option<Duration>,
    /// An ICMP destination unreachable about a datagram to it was last seen; up to 5 ms too early.
    pub refused: Option<Duration>,
}

/// The kernel's word, at once, that somebody said a server or its port is unreachable. At most one for each server and
/// five milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signal {
    /// When, as `CLOCK_MONOTONIC` since its zero.
    pub at: Duration,
    /// The server that the refused datagram was for.
    pub server: ServerId,
    /// The code of the ICMP message (RFC 792), such as 3 for a port that nobody listens at, 1 for a host.
    pub code: u8,
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
    /// What tags the frames have when they leave, outer first; untagged where there are less.
    pub vlans: [VlanTag; 2],
    /// Only the kernel's stack can send by the device, which is a tunnel. There are no Ethernet addresses then.
    #[serde(default)]
    pub by_stack: bool,
    /// In whose name packets go to a server that masquerades; `None` for every other.
    pub mask: Option<Mask>,
}

/// What stands for clients towards a server that masquerades.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Mask {
    /// The gateway's own address towards the server.
    pub address: IpAddr,
    /// First and last port: the first one even, the last one odd.
    pub ports: [u16; 2],
}

impl std::fmt::Display for Mask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [first, last] = self.ports;
        write!(f, "as {} ports {first}-{last}", self.address)
    }
}

/// A VLAN tag.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct VlanTag {
    /// EtherType of the tag in host order: 0x8100 (802.1Q) or 0x88a8 (802.1ad); 0: there is no tag.
    pub protocol: u16,
    /// Number of the VLAN, 1 to 4094; 0: there is no tag.
    pub id: u16,
}

impl NextHop {
    /// A way by a tunnel.
    pub fn by_stack(ifindex: u32, mtu: u32) -> Self {
        let (source, destination, vlans) = Default::default();
        Self { ifindex, mtu, source, destination, vlans, by_stack: true, mask: None }
    }

    /// The way in a server's entry; nothing if it has none yet.
    pub fn of(entry: &ServerEntry) -> Option<Self> {
        let ServerEntry { ifindex, mtu, ends, tags, by_stack, mask, mask_ports: ports, .. } = *entry;
        let (source, destination, vlans) = (ends.source(), ends.destination(), tags.map(VlanTag::from));
        let mask = (!mask.is_none()).then(|| Mask { address: mask.into(), ports });
        let hop = Self { ifindex, mtu, source, destination, vlans, by_stack: by_stack != 0, mask };
        (hop.ifindex != 0).then_some(hop)
    }
}

impl From<abi::VlanTag> for VlanTag {
    fn from(abi::VlanTag { protocol, id }: abi::VlanTag) -> Self {
        Self { protocol, id }
    }
}

impl From<VlanTag> for abi::VlanTag {
    fn from(VlanTag { protocol, id }: VlanTag) -> Self {
        Self { protocol, id }
    }
}

/// What the controller writes, and what it is told. All calls take effect before they return.
pub trait Datapath {
    /// Flips a service: one store into the kernel's decision word. It cannot fail.
    ///
    /// Returns the word's epoch, which is a new one if a server of signalling or media is another than
    /// before. Where a server takes another one's place, the kernel begins to count the flows that it takes over, unless a
    /// census has been there before.
    fn steer(&mut self, service: ServiceId, steering: Steering) -> u16;

    /// Ends the count of flows that a flip began. Epoch and servers stay.
    fn end_census(&mut self, service: ServiceId);

    /// What the kernel's decision word says now. [`Memory::AfterCensus`] is not told from [`Memory::Calls`].
    fn steering(&self, service: ServiceId) -> Steering;

    /// Makes a new way to a server's address of one family known. Packets see the old one or the new one, never half of each.
    ///
    /// # Errors
    ///
    /// Says why the kernel did not take it. The old way is then still in use.
    fn set_next_hop(&mut self, server: ServerId, family: Family, hop: NextHop) -> Result<()>;

    /// The way to a server's address of one family that is known to the kernel, if there is one: an earlier controller may have written it.
    fn next_hop(&self, server: ServerId, family: Family) -> Option<NextHop>;

    /// When a server was last heard and refused. Costs no system call.
    fn traffic(&self, server: ServerId) -> Heard;

    /// Takes what the kernel has signalled since the last call, oldest first.
    fn signals(&mut self) -> Vec<Signal>;

    /// Becomes readable, for epoll, when there are signals to take.
    fn signal_fd(&self) -> Option<BorrowedFd<'_>>;
}
