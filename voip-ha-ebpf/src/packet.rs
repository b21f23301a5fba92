//! Reading a frame: Ethernet, IPv4, UDP.
//!
//! [`Frame::at`] is the only way to touch packet bytes, and it checks bounds in a form that the kernel's verifier
//! follows. All headers are byte arrays in network order, so they have no alignment and no endianness.

use core::{marker::PhantomData, mem::size_of};

use crate::abi::{Address, Mac};

/// Bytes of an Ethernet header.
pub const ETHERNET_LEN: usize = size_of::<Ethernet>();
const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
const PROTOCOL_ICMP: u8 = 1;
const PROTOCOL_UDP: u8 = 17;
/// "Destination unreachable" (RFC 792).
const ICMP_UNREACHABLE: u8 = 3;
/// The fragment offset alone.
const FRAGMENT_OFFSET_BITS: [u8; 2] = [0x1f, 0xff];
/// "More fragments" and the fragment offset, as against "don't fragment" and the reserved bit (RFC 791, section 3.1).
const FRAGMENT_BITS: [u8; 2] = [0x3f, 0xff];

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
    version_ihl: u8,
    tos: u8,
    total_length: [u8; 2],
    identification: [u8; 2],
    fragment: [u8; 2],
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
    kind: u8,
    code: u8,
    checksum: [u8; 2],
    rest: [u8; 4],
}

// SAFETY: arrays of u8 only.
unsafe impl Bytes for Ethernet {}
// SAFETY: u8 and arrays of u8 only.
unsafe impl Bytes for Icmp {}
// SAFETY: u8 and arrays of u8 only.
unsafe impl Bytes for Ipv4 {}
// SAFETY: arrays of u8 only.
unsafe impl Bytes for Udp {}

impl Ipv4 {
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
    fragment: [u8; 2],
    header_length: u8,
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

/// An ICMP destination unreachable about a UDP datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreachable {
    /// Code of the message, such as 3 for a port.
    pub code: u8,
    /// Receiver of the datagram that could not be delivered.
    pub about: Address,
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
    /// A fragment, first or later.
    Fragment,
    /// The lengths of frame, packet and datagram contradict each other.
    Malformed,
}

impl Network {
    /// Whether the packet carries ICMP.
    #[inline(always)]
    pub fn is_icmp(&self) -> bool {
        self.protocol == PROTOCOL_ICMP
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
        fragment: ip.fragment,
        header_length,
    })
}

/// Reads the UDP header of a packet, and checks that the lengths fit into each other: the frame may be longer than the
/// packet (Ethernet padding), and the packet longer than the datagram, never the other way round.
#[inline(always)]
pub fn datagram(frame: &mut Frame<'_>, network: &Network) -> Result<Datagram, NotDatagram> {
    if network.protocol != PROTOCOL_UDP {
        return Err(NotDatagram::NotUdp);
    }
    let [high, low] = network.fragment;
    if high & FRAGMENT_BITS[0] != 0 || low & FRAGMENT_BITS[1] != 0 {
        return Err(NotDatagram::Fragment);
    }
    let frame_length = frame.len();
    let offset = ETHERNET_LEN + usize::from(network.header_length);
    let udp: &mut Udp = frame.at(offset).ok_or(NotDatagram::Malformed)?;
    let udp_length = u16::from_be_bytes(udp.length);
    let packet_end = ETHERNET_LEN + usize::from(network.total_length);
    if usize::from(udp_length) < size_of::<Udp>()
        || offset + usize::from(udp_length) > packet_end
        || packet_end > frame_length
    {
        return Err(NotDatagram::Malformed);
    }
    Ok(Datagram {
        source_port: u16::from_be_bytes(udp.source),
        destination_port: u16::from_be_bytes(udp.destination),
        offset,
    })
}

/// Reads an ICMP destination unreachable about a UDP datagram: a first fragment, or the whole, with the quoted IPv4 header
/// inside the packet, and that inside the frame. `None` if the packet is anything else. No checksum is looked at: it is a claim of its sender
/// in any case.
#[inline(always)]
pub fn unreachable(frame: &mut Frame<'_>, network: &Network) -> Option<Unreachable> {
    let [high, low] = network.fragment;
    if !network.is_icmp() || high & FRAGMENT_OFFSET_BITS[0] != 0 || low & FRAGMENT_OFFSET_BITS[1] != 0 {
        return None;
    }
    let offset = ETHERNET_LEN + usize::from(network.header_length);
    let quoted = offset + size_of::<Icmp>();
    let frame_length = frame.len();
    let icmp: &mut Icmp = frame.at(offset)?;
    if icmp.kind != ICMP_UNREACHABLE {
        return None;
    }
    let code = icmp.code;
    let ip: &mut Ipv4 = frame.at(quoted)?;
    ip.header_length()?;
    // After the bounds of the frame, which the compiler would otherwise conclude from this where the verifier cannot.
    let packet_end = ETHERNET_LEN + usize::from(network.total_length);
    if quoted + size_of::<Ipv4>() > packet_end || packet_end > frame_length {
        return None;
    }
    (ip.ttl_protocol[1] == PROTOCOL_UDP).then_some(Unreachable { code, about: ip.destination })
}
