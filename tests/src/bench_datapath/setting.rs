//! What a gateway of the bench is set to, beside what it always is.

use std::net::Ipv4Addr;

use voip_ha::{
    datapath::{Datapath as _, KernelDatapath, Link, Mask, Memory, Steering, VlanTag},
    ids::{ServerId, ServiceId},
};

use super::network::{Devices, Ipv4, six};

/// The tag of frames, in and out.
pub(super) const TAG: VlanTag = VlanTag { protocol: 0x8100, id: 7 };

/// What may be different from one gateway to the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Setting {
    /// Nothing.
    Plain,
    /// All addresses are of IPv6.
    Six,
    /// Frames have a VLAN tag.
    Tagged,
    /// The servers have the VIP themselves.
    Dsr,
    /// The servers get packets in the gateway's own name.
    Masquerade,
    /// The first server drains, and flows that are seen are noted as its own.
    Noting,
    /// It drains, and what is not known is new.
    Drains,
    /// There is a limit that nobody reaches.
    Limited,
    /// There is one that a flood reaches with its second packet.
    Flooded,
    /// There are lists, and no phone is on them.
    Listed,
    /// All phones are denied.
    Denied,
}

impl Setting {
    /// More keys of a service.
    pub(super) fn keys(self) -> &'static str {
        match self {
            Self::Limited => "protection = { sip_packets_per_s = 1_000_000, sip_burst = 1_000_000 }\n",
            Self::Flooded => "protection = { sip_packets_per_s = 1, sip_burst = 1 }\n",
            Self::Listed => "protection = { deny = ['203.0.113.0/24', '198.51.100.7'] }\n",
            Self::Denied => "protection = { deny = ['100.64.0.0/10'] }\n",
            _ => "",
        }
    }

    /// More keys of a server.
    pub(super) fn server_keys(self) -> &'static str {
        match self {
            Self::Dsr => ", forwarding = 'dsr'",
            Self::Masquerade => ", forwarding = 'masquerade'",
            _ => "",
        }
    }

    /// An address as it is written in the configuration.
    pub(super) fn text(self, address: Ipv4) -> String {
        match self {
            Self::Six => six(address).to_string(),
            _ => Ipv4Addr::from(address).to_string(),
        }
    }

    /// Tags of frames, outer first.
    pub(super) fn tags(self) -> [VlanTag; 2] {
        if self == Self::Tagged { [TAG, VlanTag::default()] } else { Default::default() }
    }

    /// The gateway's own name.
    pub(super) fn mask(self, devices: &Devices) -> Option<Mask> {
        let mask = || Mask { address: Ipv4Addr::from(devices.address()).into(), ports: [1024, 32_767] };
        (self == Self::Masquerade).then(mask)
    }

    /// The devices that packets leave by. This kernel may have no VLAN interfaces: the device towards phones stands for one.
    pub(super) fn links(self, devices: &Devices) -> [Link; 2] {
        let [front, back] = [devices.front_index(), devices.back_index()].map(Link::plain);
        [Link { tags: self.tags(), ..front }, back]
    }

    /// Steers a service with these servers. What leads to a drain happens as it does at a gateway.
    pub(super) fn steer(self, datapath: &mut KernelDatapath, service: ServiceId, servers: [ServerId; 2]) {
        let [first, second] = servers;
        datapath.steer(service, Steering::to(first));
        let memory = match self {
            Self::Noting => Memory::Calls,
            Self::Drains => Memory::AfterCensus,
            _ => return,
        };
        datapath.steer(service, Steering { draining: Some(first), memory, ..Steering::to(second) });
    }
}
