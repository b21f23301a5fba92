//! Reading a frame: Ethernet, IPv4, UDP.
//!
//! [`Frame::at`] is the only way to touch packet bytes, and it checks bounds in a form that the kernel's verifier
//! follows. All headers are byte arrays in network order, so they have no alignment and no endianness.

use core::{marker::PhantomData, mem::size_of};

use crate::abi::{Address, FragmentKey, Mac};

/// Bytes of an Ethernet header.
pub const ETHERNET_LEN: usize = size_of::<Ethernet>();
pub(crate) const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
pub(crate) const PROTOCOL_ICMP: u8 = 1;
const PROTOCOL_UDP: u8 = 17;
/// "Destination unreachable" (RFC 792).
pub(crate) const ICMP_UNREACHABLE: u8 = 3;
/// "Fragmentation needed and DF set", with the MTU of the next hop (RFC 1191, section 4).
pub(crate) const ICMP_TOO_BIG: u8 = 4;
const ICMP_TIME_EXCEEDED: u8 = 11;
const ICMP_PARAMETER_PROBLEM: u8 = 12;
/// Bits of the first byte of the fragment word (RFC 791, section 3.1).
const DONT_FRAGMENT: u8 = 0x40;
const MORE_FRAGMENTS: u8 = 0x20;
const OFFSET_HIGH: u8 = 0x1f;

/// The bytes of one frame, from the Ethernet header on.
pub struct Frame<'a> {
    start: usize,
    end: usize,
    bytes: PhantomData<&'a mut [u8]>,
}

/// Types that any bytes are a valid value of, with alignment 1.
///
/// # Safety
///
/// The type must be made of `u8` and arrays of `u8` only.
pub unsafe trait Bytes {}

/// An Ethernet header.
#[repr(C)]
pub struct Ethernet {
    /// Receiver.
    pub destination: Mac,
    /// Sender.
    pub source: Mac,
    /// EtherType.
    pub ethertype: [u8; 2],
}

/// An IPv4 header without its options.
#[repr(C)]
pub struct Ipv4 {
    pub(crate) version_ihl: u8,
    pub(crate) tos: u8,
    pub(crate) total_length: [u8; 2],
    pub(crate) identification: [u8; 2],
    pub(crate) fragment: [u8; 2],
    /// Time to live, and the protocol beside it: the pair of bytes that the checksum covers together.
    pub ttl_protocol: [u8; 2],
    /// Header checksum.
    pub checksum: [u8; 2],
    /// Sender.
    pub source: Address,
    /// Receiver.
    pub destination: Address,
}

/// A UDP header.
#[repr(C)]
pub struct Udp {
    source: [u8; 2],
    destination: [u8; 2],
    length: [u8; 2],
    /// Checksum over pseudo header, header and payload; 0 means none.
    pub checksum: [u8; 2],
}

/// An ICMP header with the word behind it.
#[repr(C)]
pub struct Icmp {
    pub(crate) kind: u8,
    pub(crate) code: u8,
    pub(crate) checksum: [u8; 2],
    pub(crate) rest: [u8; 4],
}

// SAFETY: u8 only.
unsafe impl<const N: usize> Bytes for [u8; N] {}
// SAFETY: arrays of u8 only.
unsafe impl Bytes for Ethernet {}
// SAFETY: u8 and arrays of u8 only.
unsafe impl Bytes for Icmp {}
// SAFETY: u8 and arrays of u8 only.
unsafe impl Bytes for Ipv4 {}
// SAFETY: arrays of u8 only.
unsafe impl Bytes for Udp {}

impl Ipv4 {
    /// The header as its bytes.
    #[inline(always)]
    pub(crate) fn bytes(&self) -> &[u8; size_of::<Self>()] {
        // SAFETY: made of u8 and arrays of u8, so it has no padding and the alignment of 1.
        unsafe { &*core::ptr::from_ref(self).cast() }
    }

    /// Bytes of the header with its options; nothing if it is none of IPv4.
    #[inline(always)]
    fn header_length(&self) -> Option<u8> {
        let length = (self.version_ihl & 0x0f) * 4;
        (self.version_ihl >> 4 == 4 && usize::from(length) >= size_of::<Self>()).then_some(length)
    }
}

impl<'a> Frame<'a> {
    /// A frame from the address of its first byte to the address past its last one, as XDP gives them.
    ///
    /// # Safety
    ///
    /// The bytes in between must be readable and writable for `'a`, and nobody else may use them meanwhile.
    #[inline(always)]
    pub unsafe fn new(start: usize, end: usize) -> Self {
        Self { start, end, bytes: PhantomData }
    }

    /// A frame in host memory.
    pub fn from_slice(bytes: &'a mut [u8]) -> Self {
        let range = bytes.as_mut_ptr_range();
        Self { start: range.start as usize, end: range.end as usize, bytes: PhantomData }
    }

    /// Bytes of the frame.
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// Whether the frame has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The header at `offset`, or `None` if it does not lie wholly inside the frame.
    #[inline(always)]
    pub fn at<T: Bytes>(&mut self, offset: usize) -> Option<&mut T> {
        if self.start + offset + size_of::<T>() > self.end {
            return None;
        }
        // SAFETY: inside the frame as just checked, any bytes are a valid T with alignment 1, and the mutable borrow of
        // self keeps the reference unique.
        Some(unsafe { &mut *((self.start + offset) as *mut T) })
    }
}

/// The addresses of an IPv4 packet and what is needed to read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// Sender.
    pub source: Address,
    /// Receiver.
    pub destination: Address,
    /// Time to live.
    pub ttl: u8,
    /// Bytes of header and payload, as the header claims.
    pub total_length: u16,
    protocol: u8,
    identification: [u8; 2],
    fragment: [u8; 2],
    header_length: u8,
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

/// The ports of a UDP datagram, in host order, and where its header is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// Sender's port.
    pub source_port: u16,
    /// Receiver's port.
    pub destination_port: u16,
    /// Offset of the UDP header from the start of the frame.
    pub offset: usize,
}

/// An ICMP error about a UDP datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IcmpError {
    /// Code of a destination unreachable, such as 3 for a port; nothing if it is another error.
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

impl ErrorOffsets {
    /// Offset of the quoted IP header.
    #[inline(always)]
    pub fn quoted(&self) -> usize {
        self.icmp + size_of::<Icmp>()
    }
}

/// Why a frame is no IPv4 packet that could be a service's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotNetwork {
    /// An Ethernet broadcast or multicast.
    NotUnicast,
    /// Another protocol, or no complete IPv4 header.
    NotIpv4,
}

/// Why an IPv4 packet is no UDP datagram with readable ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotDatagram {
    /// Another protocol.
    NotUdp,
    /// A fragment but the first.
    LaterFragment,
    /// The lengths of frame, packet and datagram contradict each other.
    Malformed,
}

impl Network {
    /// Whether the packet carries ICMP.
    #[inline(always)]
    pub fn is_icmp(&self) -> bool {
        self.protocol == PROTOCOL_ICMP
    }

    /// What part of a packet this is.
    #[inline(always)]
    pub fn piece(&self) -> Piece {
        let [high, low] = self.fragment;
        match (high & OFFSET_HIGH, low, high & MORE_FRAGMENTS) {
            (0, 0, 0) => Piece::Whole,
            (0, 0, _) => Piece::First,
            _ => Piece::Later,
        }
    }

    /// Whether its sender forbids to fragment it.
    #[inline(always)]
    pub fn dont_fragment(&self) -> bool {
        self.fragment[0] & DONT_FRAGMENT != 0
    }

    /// Whether its sender may be told by ICMP what became of it: not about ICMP, not about a fragment but the first, and only
    /// to a single host (RFC 1122, section 3.2.2). What has IP options is left out, because the answer has a fixed length.
    #[inline(always)]
    pub fn may_be_told(&self) -> bool {
        let [first, ..] = self.source;
        let is_host = first != 0 && first != 127 && first < 224 && self.source != self.destination;
        let has_options = usize::from(self.header_length) != size_of::<Ipv4>();
        is_host && !has_options && !self.is_icmp() && self.piece() != Piece::Later
    }

    /// What the fragments of one UDP datagram have in common.
    #[inline(always)]
    pub fn fragment_key(&self) -> FragmentKey {
        FragmentKey { source: self.source, destination: self.destination, identification: self.identification }
    }
}

/// Reads Ethernet and IPv4 headers.
#[inline(always)]
pub fn network(frame: &mut Frame<'_>) -> Result<Network, NotNetwork> {
    let ethernet: &mut Ethernet = frame.at(0).ok_or(NotNetwork::NotIpv4)?;
    if ethernet.destination[0] & 1 != 0 {
        return Err(NotNetwork::NotUnicast);
    }
    if ethernet.ethertype != ETHERTYPE_IPV4 {
        return Err(NotNetwork::NotIpv4);
    }
    let ip: &mut Ipv4 = frame.at(ETHERNET_LEN).ok_or(NotNetwork::NotIpv4)?;
    let header_length = ip.header_length().ok_or(NotNetwork::NotIpv4)?;
    Ok(Network {
        source: ip.source,
        destination: ip.destination,
        ttl: ip.ttl_protocol[0],
        total_length: u16::from_be_bytes(ip.total_length),
        protocol: ip.ttl_protocol[1],
        identification: ip.identification,
        fragment: ip.fragment,
        header_length,
    })
}

/// What the fragments of the UDP datagram in this frame have in common. The frame is one that [`network`] has read.
#[inline(always)]
pub fn fragment_key(frame: &mut Frame<'_>) -> Option<FragmentKey> {
    let ip: &mut Ipv4 = frame.at(ETHERNET_LEN)?;
    let (source, destination) = (ip.source, ip.destination);
    Some(FragmentKey { source, destination, identification: ip.identification })
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
    let offset = ETHERNET_LEN + usize::from(network.header_length);
    if piece == Piece::Later {
        let packet_end = ETHERNET_LEN + usize::from(network.total_length);
        let is_whole = offset < packet_end && packet_end <= frame_length;
        return Err(if is_whole { NotDatagram::LaterFragment } else { NotDatagram::Malformed });
    }
    let udp: &mut Udp = frame.at(offset).ok_or(NotDatagram::Malformed)?;
    let udp_length = u16::from_be_bytes(udp.length);
    let packet_end = ETHERNET_LEN + usize::from(network.total_length);
    let here = if piece == Piece::First { size_of::<Udp>() } else { usize::from(udp_length) };
    if usize::from(udp_length) < size_of::<Udp>() || offset + here > packet_end || packet_end > frame_length {
        return Err(NotDatagram::Malformed);
    }
    Ok(Datagram {
        source_port: u16::from_be_bytes(udp.source),
        destination_port: u16::from_be_bytes(udp.destination),
        offset,
    })
}

/// Reads an ICMP error about a UDP datagram: a first fragment, or the whole, with the quoted IPv4 header inside the packet, and
/// that inside the frame. `None` if the packet is anything else. No checksum is looked at: it is a claim of its sender in any
/// case.
#[inline(always)]
pub fn icmp_error(frame: &mut Frame<'_>, network: &Network) -> Option<IcmpError> {
    if !network.is_icmp() || network.piece() == Piece::Later {
        return None;
    }
    let offset = ETHERNET_LEN + usize::from(network.header_length);
    let frame_length = frame.len();
    let icmp: &mut Icmp = frame.at(offset)?;
    let unreachable = match icmp.kind {
        ICMP_UNREACHABLE => Some(icmp.code),
        ICMP_TIME_EXCEEDED | ICMP_PARAMETER_PROBLEM => None,
        _ => return None,
    };
    let quoted = offset + size_of::<Icmp>();
    let ip: &mut Ipv4 = frame.at(quoted)?;
    let header_length = ip.header_length()?;
    let (source, destination, protocol) = (ip.source, ip.destination, ip.ttl_protocol[1]);
    let has_ports = ip.fragment[0] & OFFSET_HIGH == 0 && ip.fragment[1] == 0;
    // After the bounds of the frame, which the compiler would otherwise conclude from this where the verifier cannot.
    let packet_end = ETHERNET_LEN + usize::from(network.total_length);
    if quoted + size_of::<Ipv4>() > packet_end || packet_end > frame_length || protocol != PROTOCOL_UDP {
        return None;
    }
    let offsets = ErrorOffsets { icmp: offset, udp: quoted + usize::from(header_length) };
    let (mut source_port, mut destination_port) = (0, 0);
    if has_ports
        && let Some(udp) = frame.at::<Udp>(offsets.udp)
        && offsets.udp + size_of::<Udp>() <= packet_end
    {
        (source_port, destination_port) = (u16::from_be_bytes(udp.source), u16::from_be_bytes(udp.destination));
    }
    Some(IcmpError { unreachable, source, destination, source_port, destination_port, offsets })
}
