//! The addresses and servers that all tables have in common: each way of reaching a server once.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use voip_ha_ebpf::{
    abi::{Address, Ends, Family, Forwarding, MAX_TAGS, Mac, NO_EXIT, Ports, ServerEntry, VlanTag},
    steer::Hop,
};

/// An address of each family.
#[derive(Clone, Copy)]
pub(in crate::packet) struct Pair {
    four: Ipv4Addr,
    six: Ipv6Addr,
}

impl Pair {
    pub(in crate::packet) const fn of(four: [u8; 4], last_of_six: u16) -> Self {
        let [a, b, c, d] = four;
        Self {
            four: Ipv4Addr::new(a, b, c, d),
            six: Ipv6Addr::new(0x2001, 0xdb8, a as u16, b as u16, c as u16, 0, 0, last_of_six),
        }
    }

    pub(in crate::packet) const fn by(self, family: Family) -> IpAddr {
        match family {
            Family::V4 => IpAddr::V4(self.four),
            Family::V6 => IpAddr::V6(self.six),
        }
    }

    pub(in crate::packet) fn has(self, address: IpAddr) -> bool {
        Family::ALL.iter().any(|family| self.by(*family) == address)
    }
}

pub(in crate::packet) const VIP: Pair = Pair::of([192, 0, 2, 10], 0x10);
pub(in crate::packet) const OTHER_VIP: Pair = Pair::of([192, 0, 2, 20], 0x20);
/// Addresses of the gateway itself.
pub(in crate::packet) const GATEWAY: Pair = Pair::of([10, 0, 0, 1], 1);
/// The client of whom there are flows to servers that masquerade.
pub(in crate::packet) const KNOWN: Pair = Pair::of([198, 51, 100, 7], 7);
/// Towards servers that masquerade.
pub(in crate::packet) const MASK_PORTS: [u16; 2] = [1024, 32_767];

pub(super) const VIPS: [Pair; 2] = [VIP, OTHER_VIP];
pub(super) const PORTS: [Ports; 2] = [
    Ports { sip: [5060, 5080, 0, 0], rtp_first: 10_000, rtp_last: 19_999 },
    Ports { sip: [5060, 0, 0, 0], rtp_first: 20_000, rtp_last: 29_999 },
];

pub(super) const FRONT: u32 = 11;
pub(super) const BACK: u32 = 12;
/// A device that XDP cannot send to.
pub(super) const SIDE: u32 = 13;

const NO_TAG: VlanTag = VlanTag { protocol: 0, id: 0 };
const UNTAGGED: [VlanTag; MAX_TAGS] = [NO_TAG; MAX_TAGS];
pub(super) const ONE_TAG: [VlanTag; MAX_TAGS] = [VlanTag { protocol: 0x8100, id: 100 }, NO_TAG];
pub(super) const TWO_TAGS: [VlanTag; MAX_TAGS] =
    [VlanTag { protocol: 0x88a8, id: 0xabc }, VlanTag { protocol: 0x8100, id: 300 }];

/// A server, and the device towards it: none where there is no next hop.
pub(in crate::packet) struct Server {
    addresses: Pair,
    pub(super) service: usize,
    device: u32,
    tags: [VlanTag; MAX_TAGS],
    pub(in crate::packet) forwarding: Forwarding,
    pub(in crate::packet) by_stack: bool,
    /// It has no IPv6 address.
    is_four_only: bool,
}

const PLAIN: Server = Server {
    addresses: Pair::of([10, 0, 0, 2], 2),
    service: 0,
    device: BACK,
    tags: UNTAGGED,
    forwarding: Forwarding::Nat,
    by_stack: false,
    is_four_only: false,
};

/// The servers by number.
pub(in crate::packet) const SERVERS: [Server; 12] = [
    PLAIN,
    Server { addresses: Pair::of([10, 8, 0, 2], 3), tags: ONE_TAG, ..PLAIN },
    Server { addresses: Pair::of([10, 0, 0, 3], 4), tags: TWO_TAGS, ..PLAIN },
    Server { addresses: Pair::of([10, 0, 0, 4], 5), forwarding: Forwarding::Dsr, ..PLAIN },
    Server { addresses: Pair::of([10, 0, 0, 5], 6), device: 0, ..PLAIN },
    Server { addresses: Pair::of([10, 0, 1, 2], 7), service: 1, is_four_only: true, ..PLAIN },
    Server { addresses: Pair::of([10, 0, 1, 3], 8), service: 1, device: SIDE, ..PLAIN },
    Server { addresses: Pair::of([10, 0, 1, 4], 9), service: 1, by_stack: true, ..PLAIN },
    Server { addresses: Pair::of([10, 0, 1, 5], 10), service: 1, tags: ONE_TAG, forwarding: Forwarding::Dsr, ..PLAIN },
    Server { addresses: Pair::of([10, 0, 1, 6], 11), service: 1, ..PLAIN },
    Server { addresses: Pair::of([10, 9, 0, 2], 12), forwarding: Forwarding::Masquerade, ..PLAIN },
    Server {
        addresses: Pair::of([10, 9, 1, 2], 13),
        service: 1,
        by_stack: true,
        forwarding: Forwarding::Masquerade,
        ..PLAIN
    },
];
/// A number without an entry.
const NOBODY: usize = 63;
/// The servers that the decision word of each service may name.
pub(super) const NAMED: [[usize; 7]; 2] = [[0, 1, 2, 3, 4, NOBODY, 10], [5, 6, 7, 8, 9, NOBODY, 11]];

impl Server {
    pub(in crate::packet) fn address(&self, family: Family) -> Option<IpAddr> {
        (family == Family::V4 || !self.is_four_only).then(|| self.addresses.by(family))
    }

    pub(in crate::packet) fn masquerades(&self) -> bool {
        self.forwarding == Forwarding::Masquerade
    }

    pub(super) fn has(&self, address: IpAddr) -> bool {
        Family::ALL.iter().any(|family| self.address(*family) == Some(address))
    }

    /// The device towards it; 0 if it cannot be reached by this family.
    pub(super) fn device(&self, family: Family) -> u32 {
        self.address(family).map_or(0, |_| self.device)
    }

    /// The way to it.
    pub(in crate::packet) fn hop(&self, family: Family) -> Option<Hop> {
        let device = self.device(family);
        let destination = self.mac(family);
        (device != 0).then(|| Hop { exit: exit(device), ends: Ends::new(destination, mac(device)), tags: self.tags })
    }

    pub(super) fn entry(&self, family: Family, mtu: u32) -> ServerEntry {
        let Some(address) = self.address(family) else { return ServerEntry::default() };
        let ifindex = self.device(family);
        ServerEntry {
            address: address.into(),
            ifindex,
            mtu,
            ends: Ends::new(self.mac(family), mac(ifindex)),
            tags: self.tags,
            forwarding: self.forwarding as u32,
            by_stack: self.by_stack.into(),
            exit: exit(ifindex),
            mask: if self.masquerades() { GATEWAY.by(family).into() } else { Address::NONE },
            mask_ports: MASK_PORTS,
            mask_idle_s: 1,
        }
    }

    fn mac(&self, family: Family) -> Mac {
        let [a, b, c, d] = self.addresses.four.octets();
        [2, family as u8, a, b, c, d]
    }
}

/// The row of a device in `DEVICES`.
pub(super) fn exit(device: u32) -> u32 {
    if [FRONT, BACK].contains(&device) { device + 100 } else { NO_EXIT }
}

/// The way to a client by this device.
pub(super) fn client_hop(device: u32, tags: [VlanTag; MAX_TAGS]) -> Hop {
    Hop { exit: exit(device), ends: Ends::new([2, 0, 198, 51, 100, 7], mac(device)), tags }
}

pub(super) fn untagged(device: u32) -> Hop {
    client_hop(device, UNTAGGED)
}

/// The Ethernet address of a device.
fn mac(device: u32) -> Mac {
    [2, 0, 0, 0, 0, device as u8]
}
