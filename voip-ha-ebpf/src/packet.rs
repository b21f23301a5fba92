//! Reading a frame: Ethernet with up to two VLAN tags, IPv4 or IPv6, UDP or an ICMP error about UDP.
//!
//! [`Frame::at`] is the only way to touch packet bytes, and it checks bounds in a form that the kernel's verifier
//! follows. All headers have an alignment of 1 and are kept as they lie in the packet, so no endianness can be got wrong.

mod frame;
mod icmp;
mod network;

use core::mem::size_of;

pub(crate) use self::icmp::{CODE_TOO_BIG, ICMP_UNREACHABLE, V6_TOO_BIG};
pub use self::{
    frame::{Bytes, Frame, Half, Wide, Word},
    icmp::{ErrorOffsets, IcmpError, icmp_error},
    network::{Network, NotNetwork, Piece, bare, network, plain},
};
use crate::{abi::Mac, checksum::Change};

/// Bytes of an Ethernet header.
pub const ETHERNET_LEN: usize = size_of::<Ethernet>();
pub(crate) const ETHERTYPE_IPV4: u16 = u16::from_ne_bytes([0x08, 0x00]);
pub(crate) const ETHERTYPE_IPV6: u16 = u16::from_ne_bytes([0x86, 0xdd]);
pub(crate) const PROTOCOL_ICMP: u8 = 1;
pub(crate) const PROTOCOL_ICMPV6: u8 = 58;
const PROTOCOL_UDP: u8 = 17;

/// An Ethernet header.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Ethernet {
    /// Receiver.
    pub destination: Mac,
    /// Sender.
    pub source: Mac,
    /// EtherType.
    pub ethertype: Half,
}

/// What follows the EtherType of a VLAN tag.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Vlan {
    /// Priority and number.
    pub control: Half,
    /// EtherType of what is tagged.
    pub ethertype: Half,
}

/// An IPv4 header without its options.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Ipv4 {
    pub(crate) version_ihl: u8,
    pub(crate) tos: u8,
    pub(crate) total_length: [u8; 2],
    pub(crate) identification: Half,
    pub(crate) fragment: [u8; 2],
    /// Time to live, and the protocol beside it: the pair of bytes that the checksum covers together.
    pub ttl_protocol: [u8; 2],
    /// Header checksum.
    pub checksum: Half,
    /// Sender.
    pub source: Word,
    /// Receiver.
    pub destination: Word,
}

/// An IPv6 header.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Ipv6 {
    pub(crate) version_class: u8,
    pub(crate) class_label: [u8; 3],
    pub(crate) payload_length: [u8; 2],
    pub(crate) next_header: u8,
    /// Hop limit.
    pub hop_limit: u8,
    /// Sender.
    pub source: Wide,
    /// Receiver.
    pub destination: Wide,
}

/// A UDP header.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Udp {
    source: Half,
    destination: Half,
    length: Half,
    /// Checksum over pseudo header, header and payload; 0 means none.
    pub checksum: Half,
}

/// An ICMP header, of either family, with the word behind it.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Icmp {
    pub(crate) kind: u8,
    pub(crate) code: u8,
    pub(crate) checksum: Half,
    pub(crate) rest: [u8; 4],
}

// SAFETY: u8, arrays of u8 and types made of such only.
unsafe impl Bytes for Ethernet {}
// SAFETY: as above.
unsafe impl Bytes for Vlan {}
// SAFETY: as above.
unsafe impl Bytes for Ipv4 {}
// SAFETY: as above.
unsafe impl Bytes for Ipv6 {}
// SAFETY: as above.
unsafe impl Bytes for Udp {}
// SAFETY: as above.
unsafe impl Bytes for Icmp {}

impl Ipv4 {
    /// Bytes of the header with its options; nothing if it is none of IPv4.
    #[inline(always)]
    fn header_length(&self) -> Option<u8> {
        let length = (self.version_ihl & 0x0f) * 4;
        (self.version_ihl >> 4 == 4 && usize::from(length) >= size_of::<Self>()).then_some(length)
    }
}

impl Ipv6 {
    /// Whether it is one at all.
    #[inline(always)]
    fn is_one(&self) -> bool {
        self.version_class >> 4 == 6
    }
}

/// The ports of a UDP datagram, in host order, and where its header is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// Sender's port.
    pub source_port: u16,
    /// Receiver's port.
    pub destination_port: u16,
    /// Offset of the UDP header from the start of the frame.
    pub offset: usize,
    /// Bytes of its payload that are in this packet.
    pub payload: usize,
}

impl Udp {
    /// Sender's and receiver's port, in host order.
    #[inline(always)]
    pub(crate) fn ports(&self) -> (u16, u16) {
        (u16::from_be(self.source.get()), u16::from_be(self.destination.get()))
    }

    /// Replaces a port, and updates the checksum. Returns the change of the header.
    #[inline(always)]
    pub(crate) fn replace_port(&mut self, is_source: bool, port: u16) -> Change {
        let place = if is_source { &mut self.source } else { &mut self.destination };
        let change = Change::of_pair(place.get(), port.to_be());
        place.set(port.to_be());
        let before = self.checksum.get();
        let after = change.apply_udp(before);
        self.checksum.set(after);
        change.and(Change::of_pair(before, after))
    }
}

/// Replaces the receiver's port in the UDP header at an offset that was kept, and not the checksum. Both ports, the one before too, are
/// as they lie in the packet.
#[inline(always)]
pub fn replace_receivers_port(frame: &mut Frame<'_>, udp: usize, port: u16) -> Option<u16> {
    let udp: &mut Udp = frame.at(kept(udp))?;
    let before = udp.destination.get();
    udp.destination.set(port);
    Some(before)
}

/// The ports in the UDP header at an offset that was kept: sender's and receiver's, in host order.
#[inline(always)]
pub fn ports(frame: &mut Frame<'_>, udp: usize) -> Option<(u16, u16)> {
    let udp: &mut Udp = frame.at(kept(udp))?;
    Some(udp.ports())
}

/// An offset that was kept is inside any frame: the kernel's verifier may have lost sight of what it was computed from.
#[inline(always)]
pub(crate) fn kept(offset: usize) -> usize {
    offset & 0x3fff
}

/// Why an IP packet is no UDP datagram with readable ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotDatagram {
    /// Another protocol.
    NotUdp,
    /// A fragment but the first.
    LaterFragment,
    /// The lengths of frame, packet and datagram contradict each other.
    Malformed,
}

/// Reads the UDP header of a packet or first fragment, and checks that the lengths fit into each other: the frame may be
/// longer than the packet (Ethernet padding), and the packet longer than the datagram, never the other way round. A first
/// fragment has a part of the datagram only.
#[inline(always)]
pub fn datagram(frame: &mut Frame<'_>, network: &Network) -> Result<Datagram, NotDatagram> {
    if network.protocol != PROTOCOL_UDP {
        return Err(NotDatagram::NotUdp);
    }
    let piece = network.piece();
    let frame_length = frame.len();
    let offset = network.upper;
    if piece == Piece::Later {
        let packet_end = network.end();
        let is_whole = offset < packet_end && packet_end <= frame_length;
        return Err(if is_whole { NotDatagram::LaterFragment } else { NotDatagram::Malformed });
    }
    let udp: &mut Udp = frame.at(offset).ok_or(NotDatagram::Malformed)?;
    let udp_length = usize::from(u16::from_be(udp.length.get()));
    let packet_end = network.end();
    let here = if piece == Piece::First { size_of::<Udp>() } else { udp_length };
    if udp_length < size_of::<Udp>() || offset + here > packet_end || packet_end > frame_length {
        return Err(NotDatagram::Malformed);
    }
    let (source_port, destination_port) = udp.ports();
    let payload = (packet_end - offset).min(udp_length) - size_of::<Udp>();
    Ok(Datagram { source_port, destination_port, offset, payload })
}
