//! ICMP errors about UDP datagrams.

use core::mem::size_of;

use super::{
    Frame, Icmp, Ipv4, Ipv6, Network, PROTOCOL_UDP, Piece, Udp,
    network::{FRAGMENT, FragmentHeader},
};
use crate::abi::{Address, Family};

/// "Destination unreachable" (RFC 792).
pub(crate) const ICMP_UNREACHABLE: u8 = 3;
/// Its code "fragmentation needed and DF set", with the MTU of the next hop (RFC 1191, section 4).
pub(crate) const CODE_TOO_BIG: u8 = 4;
const CODE_NET: u8 = 0;
const CODE_HOST: u8 = 1;
const CODE_PORT: u8 = 3;
const CODE_PROHIBITED: u8 = 13;
const ICMP_TIME_EXCEEDED: u8 = 11;
const ICMP_PARAMETER_PROBLEM: u8 = 12;
/// The same of IPv6 (RFC 4443, section 3).
const V6_UNREACHABLE: u8 = 1;
pub(crate) const V6_TOO_BIG: u8 = 2;
const V6_TIME_EXCEEDED: u8 = 3;
const V6_PARAMETER_PROBLEM: u8 = 4;
const OFFSET_HIGH: u8 = 0x1f;

/// An ICMP error about a UDP datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IcmpError {
    /// Code of a destination unreachable, such as 3 for a port; nothing if it is another error. Those of IPv6 are given by the
    /// codes of IPv4 that say the same.
    pub unreachable: Option<u8>,
    /// Sender of the datagram that is quoted.
    pub source: Address,
    /// Its receiver.
    pub destination: Address,
    /// Sender's port in host order; 0 if the quotation ends before the UDP header does.
    pub source_port: u16,
    /// Receiver's port, likewise.
    pub destination_port: u16,
    /// Where the message is.
    pub offsets: ErrorOffsets,
}

/// Where the parts of an ICMP error are, from the start of the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorOffsets {
    /// The ICMP header. The quoted IP header is right behind it.
    pub icmp: usize,
    /// The quoted UDP header.
    pub udp: usize,
}

/// A quoted IP header.
struct Quoted {
    source: Address,
    destination: Address,
    /// Bytes of the header.
    length: usize,
    /// Bytes of the header at least.
    least: usize,
    is_udp: bool,
    /// Not a fragment but the first.
    has_ports: bool,
}

/// Reads an ICMP error about a UDP datagram: a first fragment, or the whole, with the quoted IP header inside the packet, and
/// that inside the frame. `None` if the packet is anything else. No checksum is looked at: it is a claim of its sender in any
/// case.
#[inline(always)]
pub fn icmp_error(frame: &mut Frame<'_>, network: &Network) -> Option<IcmpError> {
    if !network.is_icmp() || network.piece() == Piece::Later {
        return None;
    }
    let offset = network.upper;
    let frame_length = frame.len();
    let icmp: &mut Icmp = frame.at(offset)?;
    let unreachable = match network.family {
        Family::V4 => kind_4(icmp)?,
        Family::V6 => kind_6(icmp)?,
    };
    let at = offset + size_of::<Icmp>();
    let quoted = match network.family {
        Family::V4 => quoted_4(frame, at)?,
        Family::V6 => quoted_6(frame, at)?,
    };
    // After the bounds of the frame, which the compiler would otherwise conclude from this where the verifier cannot.
    let packet_end = network.end();
    if at + quoted.least > packet_end || packet_end > frame_length || !quoted.is_udp {
        return None;
    }
    let offsets = ErrorOffsets { icmp: offset, udp: at + quoted.length };
    let (mut source_port, mut destination_port) = (0, 0);
    if quoted.has_ports
        && let Some(udp) = frame.at::<Udp>(offsets.udp)
        && offsets.udp + size_of::<Udp>() <= packet_end
    {
        (source_port, destination_port) = udp.ports();
    }
    let (source, destination) = (quoted.source, quoted.destination);
    Some(IcmpError { unreachable, source, destination, source_port, destination_port, offsets })
}

#[inline(always)]
fn kind_4(icmp: &Icmp) -> Option<Option<u8>> {
    match icmp.kind {
        ICMP_UNREACHABLE => Some(Some(icmp.code)),
        ICMP_TIME_EXCEEDED | ICMP_PARAMETER_PROBLEM => Some(None),
        _ => None,
    }
}

#[inline(always)]
fn kind_6(icmp: &Icmp) -> Option<Option<u8>> {
    match (icmp.kind, icmp.code) {
        (V6_UNREACHABLE, 0) => Some(Some(CODE_NET)),
        (V6_UNREACHABLE, 1 | 5 | 6) => Some(Some(CODE_PROHIBITED)),
        (V6_UNREACHABLE, 4) => Some(Some(CODE_PORT)),
        (V6_UNREACHABLE, _) => Some(Some(CODE_HOST)),
        (V6_TOO_BIG, _) => Some(Some(CODE_TOO_BIG)),
        (V6_TIME_EXCEEDED | V6_PARAMETER_PROBLEM, _) => Some(None),
        _ => None,
    }
}

#[inline(always)]
fn quoted_4(frame: &mut Frame<'_>, at: usize) -> Option<Quoted> {
    let ip: &mut Ipv4 = frame.at(at)?;
    Some(Quoted {
        source: ip.source.address(),
        destination: ip.destination.address(),
        length: usize::from(ip.header_length()?),
        least: size_of::<Ipv4>(),
        is_udp: ip.ttl_protocol[1] == PROTOCOL_UDP,
        has_ports: ip.fragment[0] & OFFSET_HIGH == 0 && ip.fragment[1] == 0,
    })
}

/// With no extension header but that of a fragment: what the gateway forwards has others only in theory.
#[inline(always)]
fn quoted_6(frame: &mut Frame<'_>, at: usize) -> Option<Quoted> {
    let ip: &mut Ipv6 = frame.at(at)?;
    let (is_one, mut next, mut length) = (ip.is_one(), ip.next_header, size_of::<Ipv6>());
    let (source, destination) = (ip.source.address(), ip.destination.address());
    // As in the packet itself: an IPv4-mapped address would be taken for the IPv4 address.
    let is_one = is_one && !source.is_v4() && !destination.is_v4();
    let mut has_ports = true;
    if next == FRAGMENT {
        let header: &mut FragmentHeader = frame.at(at + length)?;
        next = header.next_header;
        has_ports = header.is_first();
        length += size_of::<FragmentHeader>();
    }
    Some(Quoted { source, destination, length, least: length, is_udp: is_one && next == PROTOCOL_UDP, has_ports })
}
