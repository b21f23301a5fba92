//! Ethernet, VLAN tags and IP.

use core::mem::size_of;

use super::{
    Bytes, ETHERNET_LEN, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ethernet, Frame, Ipv4, Ipv6, PROTOCOL_ICMP, PROTOCOL_ICMPV6,
    PROTOCOL_UDP, Vlan, Word,
};
use crate::abi::{Address, Family, FragmentKey, MAX_TAGS};

/// EtherTypes of VLAN tags: IEEE 802.1Q and 802.1ad.
const ETHERTYPES_VLAN: [u16; 2] = [u16::from_ne_bytes([0x81, 0x00]), u16::from_ne_bytes([0x88, 0xa8])];
/// Bits of the fragment word (RFC 791, section 3.1), in host order.
const DONT_FRAGMENT: u16 = 0x4000;
const MORE_FRAGMENTS: u16 = 0x2000;
const OFFSET: u16 = 0x1fff;
/// Version and length of an IPv4 header without options.
const VERSION_4_PLAIN: u8 = 0x45;
/// Extension headers (RFC 8200, section 4).
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
pub(super) const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;
/// Extension headers that are read. Nobody sends SIP or RTP behind more.
const MAX_EXTENSIONS: u32 = 4;

/// The addresses of an IP packet and what is needed to read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// Family of both addresses.
    pub family: Family,
    /// Sender.
    pub source: Address,
    /// Receiver.
    pub destination: Address,
    /// Time to live, or hop limit.
    pub ttl: u8,
    /// Bytes of header and payload, as the header claims.
    pub total_length: u32,
    /// Offset of the IP header from the start of the frame.
    pub offset: usize,
    /// VLAN tags of the frame.
    pub tags: usize,
    /// What follows the IP header and its extensions.
    pub(super) protocol: u8,
    /// Offset of that from the start of the frame.
    pub(super) upper: usize,
    identification: u32,
    /// As the word of an IPv4 header; of IPv6 with the bits at the same places.
    fragment: u16,
}

/// What part of a packet this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// All of it.
    Whole,
    /// Its first fragment, which has the ports.
    First,
    /// Another fragment.
    Later,
}

/// Why a frame is no IP packet that could be a service's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotNetwork {
    /// An Ethernet broadcast or multicast.
    NotUnicast,
    /// Another protocol, or no complete header of IPv4 or IPv6.
    NotIp,
}

impl Network {
    /// Whether the packet carries ICMP.
    #[inline(always)]
    pub fn is_icmp(&self) -> bool {
        match self.family {
            Family::V4 => self.protocol == PROTOCOL_ICMP,
            Family::V6 => self.protocol == PROTOCOL_ICMPV6,
        }
    }

    /// What part of a packet this is.
    #[inline(always)]
    pub fn piece(&self) -> Piece {
        match self.fragment & (OFFSET | MORE_FRAGMENTS) {
            0 => Piece::Whole,
            MORE_FRAGMENTS => Piece::First,
            _ => Piece::Later,
        }
    }

    /// Whether nobody on its way may fragment it.
    #[inline(always)]
    pub fn dont_fragment(&self) -> bool {
        self.fragment & DONT_FRAGMENT != 0
    }

    /// Whether its sender may be told by ICMP what became of it: not about ICMP, not about a fragment but the first, and only
    /// to a single host (RFC 1122, section 3.2.2; RFC 4443, section 2.4). What has IP options is left out, because the answer has a
    /// fixed length, which is too short for them. With extension headers it is not, and a fragment of IPv6 has one.
    #[inline(always)]
    pub fn may_be_told(&self) -> bool {
        let (is_host, is_plain) = match self.family {
            Family::V4 => {
                let [first, ..] = self.source.last_word().to_ne_bytes();
                (first != 0 && first != 127 && first < 224, self.upper - self.offset == size_of::<Ipv4>())
            }
            Family::V6 => {
                let [first, ..] = self.source.high.to_ne_bytes();
                (self.source.high != 0 && first != 0xff, true)
            }
        };
        is_host && self.source != self.destination && is_plain && !self.is_icmp() && self.piece() != Piece::Later
    }

    /// What the fragments of one UDP datagram have in common.
    #[inline(always)]
    pub fn fragment_key(&self) -> FragmentKey {
        FragmentKey {
            source: self.source,
            destination: self.destination,
            identification: self.identification,
            reserved: 0,
        }
    }

    /// The same, with bounds of its offsets that the kernel's verifier sees wherever this comes from. All frames are within them.
    #[inline(always)]
    pub fn bounded(&self) -> Self {
        Self { offset: self.offset & 0x3f, upper: self.upper & 0x3fff, tags: self.tags & 3, ..*self }
    }

    /// Offset of what follows the IP header and its extensions.
    #[inline(always)]
    pub(crate) fn upper(&self) -> usize {
        self.upper
    }

    /// Offset past the last byte of the packet.
    #[inline(always)]
    pub(super) fn end(&self) -> usize {
        self.offset + self.total_length as usize
    }
}

/// Reads Ethernet, VLAN and IP headers.
#[inline(always)]
pub fn network(frame: &mut Frame<'_>) -> Result<Network, NotNetwork> {
    let ethernet: &mut Ethernet = frame.at(0).ok_or(NotNetwork::NotIp)?;
    if ethernet.destination[0] & 1 != 0 {
        return Err(NotNetwork::NotUnicast);
    }
    let mut ethertype = ethernet.ethertype.get();
    let (mut offset, mut tags) = (ETHERNET_LEN, 0);
    for _ in 0..MAX_TAGS {
        if ETHERTYPES_VLAN.contains(&ethertype) {
            let vlan: &mut Vlan = frame.at(offset).ok_or(NotNetwork::NotIp)?;
            ethertype = vlan.ethertype.get();
            offset += size_of::<Vlan>();
            tags += 1;
        }
    }
    let network = match ethertype {
        ETHERTYPE_IPV4 => version_4(frame, offset, tags),
        ETHERTYPE_IPV6 => version_6(frame, offset, tags),
        _ => None,
    };
    network.ok_or(NotNetwork::NotIp)
}

/// Reads the IP headers of a packet that came in by a device without Ethernet, which names its family by an EtherType.
#[inline(always)]
pub fn bare(frame: &mut Frame<'_>, ethertype: u16) -> Result<Network, NotNetwork> {
    let network = match ethertype {
        ETHERTYPE_IPV4 => version_4(frame, 0, 0),
        ETHERTYPE_IPV6 => version_6(frame, 0, 0),
        _ => None,
    };
    network.ok_or(NotNetwork::NotIp)
}

/// Reads the headers of what nearly all packets of a service are: UDP in IPv4, whole, without VLAN tags and IP options. `None` for
/// everything else. Much of the result is constant, so that what follows for it is a small part of what there is for all packets.
#[inline(always)]
pub fn plain(frame: &mut Frame<'_>) -> Option<Network> {
    let ethernet: &mut Ethernet = frame.at(0)?;
    if ethernet.destination[0] & 1 != 0 || ethernet.ethertype.get() != ETHERTYPE_IPV4 {
        return None;
    }
    let ip: &mut Ipv4 = frame.at(ETHERNET_LEN)?;
    let network = of_header(ip, ETHERNET_LEN, 0, size_of::<Ipv4>());
    let is_plain = ip.version_ihl == VERSION_4_PLAIN && network.protocol == PROTOCOL_UDP;
    if !is_plain || network.fragment & (OFFSET | MORE_FRAGMENTS) != 0 {
        return None;
    }
    Some(Network { protocol: PROTOCOL_UDP, fragment: network.fragment & !(OFFSET | MORE_FRAGMENTS), ..network })
}

#[inline(always)]
fn version_4(frame: &mut Frame<'_>, offset: usize, tags: usize) -> Option<Network> {
    let ip: &mut Ipv4 = frame.at(offset)?;
    let header_length = ip.header_length()?;
    Some(of_header(ip, offset, tags, usize::from(header_length)))
}

#[inline(always)]
fn of_header(ip: &Ipv4, offset: usize, tags: usize, header_length: usize) -> Network {
    let [ttl, protocol] = ip.ttl_protocol;
    Network {
        family: Family::V4,
        source: ip.source.address(),
        destination: ip.destination.address(),
        ttl,
        total_length: u32::from(u16::from_be_bytes(ip.total_length)),
        offset,
        tags,
        protocol,
        upper: offset + header_length,
        identification: u32::from(ip.identification.get()),
        fragment: u16::from_be_bytes(ip.fragment),
    }
}

/// The beginning of an extension header.
#[repr(C)]
struct Extension {
    next_header: u8,
    /// In units of 8 bytes, without the first ones.
    length: u8,
}

/// A fragment header (RFC 8200, section 4.5).
#[repr(C)]
pub(super) struct FragmentHeader {
    pub(super) next_header: u8,
    reserved: u8,
    offset_more: [u8; 2],
    identification: Word,
}

impl FragmentHeader {
    /// Whether the ports are behind it.
    #[inline(always)]
    pub(super) fn is_first(&self) -> bool {
        u16::from_be_bytes(self.offset_more) >> 3 == 0
    }
}

// SAFETY: u8 only.
unsafe impl Bytes for Extension {}
// SAFETY: u8 and types made of arrays of u8 only.
unsafe impl Bytes for FragmentHeader {}

#[inline(always)]
fn version_6(frame: &mut Frame<'_>, offset: usize, tags: usize) -> Option<Network> {
    let ip: &mut Ipv6 = frame.at(offset)?;
    // An IPv4-mapped address is no address of a packet (RFC 4291, section 2.5.5.2), and would be taken for the IPv4 address.
    let (source, destination) = (ip.source.address(), ip.destination.address());
    if !ip.is_one() || source.is_v4() || destination.is_v4() {
        return None;
    }
    let mut network = Network {
        family: Family::V6,
        source,
        destination,
        ttl: ip.hop_limit,
        total_length: size_of::<Ipv6>() as u32 + u32::from(u16::from_be_bytes(ip.payload_length)),
        offset,
        tags,
        protocol: ip.next_header,
        upper: offset + size_of::<Ipv6>(),
        identification: 0,
        fragment: DONT_FRAGMENT,
    };
    for _ in 0..MAX_EXTENSIONS {
        match network.protocol {
            HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS => {
                let extension: &mut Extension = frame.at(network.upper)?;
                network.protocol = extension.next_header;
                network.upper += (usize::from(extension.length) + 1) * 8;
            }
            FRAGMENT => {
                let header: &mut FragmentHeader = frame.at(network.upper)?;
                network.protocol = header.next_header;
                network.identification = header.identification.get();
                let word = u16::from_be_bytes(header.offset_more);
                network.fragment |= word >> 3 | (word & 1) << MORE_FRAGMENTS.ilog2();
                network.upper += size_of::<FragmentHeader>();
                // Behind a later one is no header.
                if !header.is_first() {
                    break;
                }
            }
            _ => break,
        }
    }
    Some(network)
}
