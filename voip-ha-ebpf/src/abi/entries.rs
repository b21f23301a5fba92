//! What the packet path knows of a service and of a server.

use super::{Address, Class, FAMILIES, Family, Mac, Slot};

/// Most SIP ports of one service.
pub const MAX_SIP_PORTS: usize = 4;

/// The UDP ports of a service, in host order.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Ports {
    /// SIP ports; unused places are 0.
    pub sip: [u16; MAX_SIP_PORTS],
    /// First port of the RTP range.
    pub rtp_first: u16,
    /// Last port of the RTP range, itself included.
    pub rtp_last: u16,
}

impl Ports {
    /// What kind of traffic uses `port` at the service; [`Class::Other`] for a port that is not the service's.
    #[inline(always)]
    pub fn class(&self, port: u16) -> Class {
        if port >= self.rtp_first && port <= self.rtp_last {
            return Class::Rtp;
        }
        // Written out, because a loop over the array would be one more thing for the verifier to walk.
        let [a, b, c, d] = self.sip;
        if port != 0 && (port == a || port == b || port == c || port == d) { Class::Sip } else { Class::Other }
    }
}

/// Value of the map `SERVICES`, whose index is a [`ServicePlace`](super::ServicePlace).
///
/// An entry is written while no row of `ENDPOINTS` names its place, and never changed after one does.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct ServiceEntry {
    /// The addresses that clients know, by [`Family`]; [`Address::NONE`] where there is none.
    pub vips: [Address; FAMILIES as usize],
    /// The service's ports.
    pub ports: Ports,
    /// What its senders are asked for: bits [`LIMITS_SIP`](super::LIMITS_SIP), [`EXEMPTS`](super::EXEMPTS) and
    /// [`DENIES`](super::DENIES).
    pub protection: u32,
}

impl ServiceEntry {
    /// The address of this family that clients know; [`Address::NONE`] if there is none.
    #[inline(always)]
    pub const fn vip(&self, family: Family) -> Address {
        // Each by its number, which needs no check of a bound.
        match family {
            Family::V4 => self.vips[0],
            Family::V6 => self.vips[1],
        }
    }
}

/// A VLAN tag (IEEE 802.1Q, 802.1ad); all zeros for none.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct VlanTag {
    /// EtherType that announces it, such as 0x8100, in host order.
    pub protocol: u16,
    /// Number of the VLAN, from 1 to 4094, in host order.
    pub id: u16,
}

/// Most VLAN tags of a frame.
pub const MAX_TAGS: usize = 2;

/// Value of the map `SERVERS`, whose index comes from [`server_index`]: the way to a server by one family.
///
/// An entry is written while no decision word names its slot, and never changed after one does.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct ServerEntry {
    /// The server's own address; [`Address::NONE`] if it has none of this family.
    pub address: Address,
    /// Index of the device towards the server; 0 while no next hop is known.
    pub ifindex: u32,
    /// Most bytes of an IP packet that the device takes.
    pub mtu: u32,
    /// Ethernet addresses of the next hop towards the server, and of that device.
    pub ends: Ends,
    /// Tags of frames towards the server, the outer one first.
    pub tags: [VlanTag; MAX_TAGS],
    /// [`Forwarding`] as a number.
    pub forwarding: u32,
    /// 1 if only the kernel's stack can send by the device.
    pub by_stack: u32,
    /// The device's index in the map `DEVICES`; [`NO_EXIT`] if it is not there.
    pub exit: u32,
    /// The gateway's own address, in whose name packets go to the server with [`Forwarding::Masquerade`]; [`Address::NONE`] otherwise.
    pub mask: Address,
    /// First and last port to be used with that: the first one even, the last one odd.
    pub mask_ports: [u16; 2],
    /// Seconds that a flow must be idle until its port may be another's.
    pub mask_idle_s: u32,
}

/// The two addresses at the beginning of an Ethernet frame, as they lie there. In words, because the packet path copies them.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Ends(pub [u32; 3]);

impl Ends {
    /// Of a frame from `source` to `destination`.
    pub const fn new(destination: Mac, source: Mac) -> Self {
        let ([a, b, c, d, e, f], [g, h, i, j, k, l]) = (destination, source);
        let (first, second) = (u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, g, h]));
        Self([first, second, u32::from_ne_bytes([i, j, k, l])])
    }

    /// The receiver.
    pub const fn destination(self) -> Mac {
        let ([a, b, c, d], [e, f, ..]) = (self.0[0].to_ne_bytes(), self.0[1].to_ne_bytes());
        [a, b, c, d, e, f]
    }

    /// The sender.
    pub const fn source(self) -> Mac {
        let ([.., a, b], [c, d, e, f]) = (self.0[1].to_ne_bytes(), self.0[2].to_ne_bytes());
        [a, b, c, d, e, f]
    }
}

/// An index that no entry of the map `DEVICES` has.
pub const NO_EXIT: u32 = u32::MAX;

/// Index in the map `SERVERS`.
#[inline(always)]
pub const fn server_index(slot: Slot, family: Family) -> u32 {
    slot.0 * FAMILIES + family as u32
}

named_enum! {
    /// How packets reach a server.
    Forwarding {
        /// The destination is rewritten to the server's address. Its answers come back by the gateway, which rewrites them.
        Nat = "nat",
        /// Nothing but Ethernet addresses is rewritten: the server has the VIP itself, on a loopback device, and answers clients
        /// directly.
        Dsr = "dsr",
        /// As [`Forwarding::Nat`], and the source becomes the gateway's own address with a port that stands for the client: the server
        /// needs no route to clients.
        Masquerade = "masquerade",
    }
}

/// Value of the map `LINKS`, a hash table in an array as `ENDPOINTS` is: what the routing table calls a device, and how frames leave
/// by it. The entry of the map `DEVICES` with the same index names the device that sends them.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct LinkEntry {
    /// Index of the device; 0 if the row was never used, [`NO_EXIT`] if it is not used any more.
    pub ifindex: u32,
    /// Tags of frames by it: those of a VLAN device, which are sent by the device below it.
    pub tags: [VlanTag; MAX_TAGS],
}

/// Entries of the maps `LINKS` and `DEVICES`: a power of two.
pub const LINK_ROWS: u32 = 256;
/// Rows that are looked at for one device.
pub const LINK_PROBES: u32 = 8;

/// The rows in which a device may be, in the order of the search.
pub fn link_rows(ifindex: u32) -> impl Iterator<Item = u32> {
    (0..LINK_PROBES).map(move |probe| ifindex.wrapping_add(probe) % LINK_ROWS)
}
