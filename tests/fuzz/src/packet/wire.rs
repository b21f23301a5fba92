//! IP as etherparse reads and sums it: nothing here is of the code under test.

use std::{iter, net::IpAddr, ops::Range};

use etherparse::{
    IpNumber, Ipv4HeaderSlice, Ipv6FragmentHeaderSlice, Ipv6HeaderSlice, Ipv6RawExtHeaderSlice, checksum::Sum16BitWords,
};

/// Offset of the first EtherType.
const ETHERTYPE: usize = 12;
const VLAN: usize = 4;
const TAGS: [[u8; 2]; 2] = [[0x81, 0], [0x88, 0xa8]];
const IPV4: [u8; 2] = [8, 0];
const IPV6: [u8; 2] = [0x86, 0xdd];
const ICMP: usize = 8;
const UDP: usize = 8;
/// Destination unreachable, time exceeded, parameter problem.
const ERRORS_4: [u8; 3] = [3, 11, 12];
/// The same, and "packet too big".
const ERRORS_6: [u8; 4] = [1, 2, 3, 4];

/// An IP packet, in a frame or quoted by another one.
pub(super) struct Packet<'a> {
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) ttl: u8,
    /// As it lies in the packet.
    pub(super) identification: u32,
    pub(super) dont_fragment: bool,
    /// Offset of the IP header: of a packet in a frame from its start, of a quoted one from the start of the packet around it.
    pub(super) at: usize,
    pub(super) payload: &'a [u8],
    /// With all extension headers.
    pub(super) header: &'a [u8],
    protocol: IpNumber,
    is_start: bool,
    is_more: bool,
}

impl<'a> Packet<'a> {
    /// The packet in a frame; nothing if there is no whole one.
    pub(super) fn of_frame(frame: &'a [u8]) -> Option<Self> {
        let mut at = ETHERTYPE;
        while TAGS.iter().any(|tag| frame.get(at..).is_some_and(|frame| frame.starts_with(tag))) {
            at += VLAN;
        }
        let (ethertype, bytes) = frame.get(at..)?.split_first_chunk()?;
        at += ethertype.len();
        match *ethertype {
            IPV4 => Self::four(bytes, at, false),
            IPV6 => Self::six(bytes, at, false),
            _ => None,
        }
    }

    fn four(bytes: &'a [u8], at: usize, is_cut: bool) -> Option<Self> {
        let ip = Ipv4HeaderSlice::from_slice(bytes).ok()?;
        let end = if is_cut { bytes.len() } else { ip.total_len().into() };
        let (header, payload) = bytes.get(..end)?.split_at_checked(ip.slice().len())?;
        Some(Self {
            source: ip.source().into(),
            destination: ip.destination().into(),
            ttl: ip.ttl(),
            identification: ip.identification().to_be().into(),
            dont_fragment: ip.dont_fragment(),
            at,
            payload,
            header,
            protocol: ip.protocol(),
            is_start: ip.fragments_offset().value() == 0,
            is_more: ip.more_fragments(),
        })
    }

    fn six(bytes: &'a [u8], at: usize, is_cut: bool) -> Option<Self> {
        let ip = Ipv6HeaderSlice::from_slice(bytes).ok()?;
        let length = ip.slice().len();
        let end = if is_cut { bytes.len() } else { length + usize::from(ip.payload_length()) };
        let bytes = bytes.get(..end)?;
        let mut packet = Self {
            source: ip.source().into(),
            destination: ip.destination().into(),
            ttl: ip.hop_limit(),
            identification: 0,
            dont_fragment: true,
            at,
            payload: &bytes[length..],
            header: &bytes[..length],
            protocol: ip.next_header(),
            is_start: true,
            is_more: false,
        };
        while let Some(length) = packet.step()? {
            (packet.header, packet.payload) = bytes.split_at(packet.header.len() + length);
        }
        Some(packet)
    }

    /// Reads the extension header that the payload begins with, and tells its length; nothing if it is cut off, and `Some(None)` if
    /// it is no extension header.
    fn step(&mut self) -> Option<Option<usize>> {
        Some(match self.protocol {
            _ if !self.is_start => None,
            IpNumber::IPV6_HEADER_HOP_BY_HOP | IpNumber::IPV6_ROUTE_HEADER | IpNumber::IPV6_DESTINATION_OPTIONS => {
                let extension = Ipv6RawExtHeaderSlice::from_slice(self.payload).ok()?;
                self.protocol = extension.next_header();
                Some(extension.slice().len())
            }
            IpNumber::IPV6_FRAGMENTATION_HEADER => {
                let fragment = Ipv6FragmentHeaderSlice::from_slice(self.payload).ok()?;
                self.protocol = fragment.next_header();
                self.identification = fragment.identification().to_be();
                self.is_start = fragment.fragment_offset().value() == 0;
                self.is_more |= fragment.more_fragments();
                Some(fragment.slice().len())
            }
            _ => None,
        })
    }

    /// The packet that this one quotes, if it is an ICMP error. It may be cut off anywhere behind its IP header.
    pub(super) fn quoted(&self) -> Option<Self> {
        let (kind, at) = (self.payload.first()?, self.header.len() + ICMP);
        let bytes = self.payload.get(ICMP..).filter(|_| self.is_icmp() && self.is_start)?;
        match self.source {
            IpAddr::V4(_) => ERRORS_4.contains(kind).then(|| Self::four(bytes, at, true))?,
            IpAddr::V6(_) => ERRORS_6.contains(kind).then(|| Self::six(bytes, at, true))?,
        }
    }

    /// Whom the UDP datagram was for that this packet quotes, if it is an ICMP error. Of an IPv4 header the options may be cut off.
    pub(super) fn quoted_receiver(&self) -> Option<IpAddr> {
        if self.source.is_ipv6() {
            return self.quoted().filter(Self::is_udp).map(|quoted| quoted.destination);
        }
        let is_error = self.is_icmp() && self.is_start && ERRORS_4.contains(self.payload.first()?);
        let ip = self.payload.get(ICMP..)?.first_chunk::<20>()?;
        (is_error && ip[0] >> 4 == 4 && ip[9] == IpNumber::UDP.0).then(|| [ip[16], ip[17], ip[18], ip[19]].into())
    }

    /// Bytes of header and payload.
    pub(super) fn len(&self) -> u32 {
        (self.header.len() + self.payload.len()) as u32
    }

    pub(super) fn is_udp(&self) -> bool {
        self.protocol == IpNumber::UDP
    }

    fn is_icmp(&self) -> bool {
        self.protocol == if self.source.is_ipv4() { IpNumber::ICMP } else { IpNumber::IPV6_ICMP }
    }

    /// Whether it is no fragment.
    pub(super) fn is_whole(&self) -> bool {
        self.is_start && !self.is_more
    }

    /// Whether it is no fragment, or the first one.
    pub(super) fn is_start(&self) -> bool {
        self.is_start
    }

    /// Its ports, source first, if it has a UDP header.
    pub(super) fn ports(&self) -> Option<(u16, u16)> {
        let [a, b, c, d, ..] = *self.udp()? else { return None };
        Some((u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])))
    }

    /// Whether it has a UDP header that says that no checksum was computed.
    pub(super) fn has_no_checksum(&self) -> bool {
        self.udp().is_some_and(|udp| udp[6..8] == [0, 0])
    }

    /// UDP header and what is there of the rest.
    fn udp(&self) -> Option<&'a [u8]> {
        (self.is_udp() && self.is_start && self.payload.len() >= UDP).then_some(self.payload)
    }

    /// The sums over all that a checksum covers and is there, the checksum itself included: of the IPv4 header, and of UDP or
    /// ICMP. Zero where the checksum is right and all is there. What may change in a packet changes none of them, whether the
    /// checksum was right or not.
    pub(super) fn sums(&self) -> (u16, Option<u16>) {
        let transport = match self.udp() {
            Some(_) if self.has_no_checksum() => None,
            Some(udp) => {
                let length = usize::from(u16::from_be_bytes([udp[4], udp[5]])).max(UDP);
                Some(self.sum_with_addresses(u16::from_be_bytes([udp[4], udp[5]]), udp.get(..length).unwrap_or(udp)))
            }
            None if !self.is_icmp() => None,
            None if self.source.is_ipv4() => Some(sum(&[self.payload])),
            None => Some(self.sum_with_addresses(self.payload.len() as u16, self.payload)),
        };
        (if self.source.is_ipv4() { sum(&[self.header]) } else { 0 }, transport)
    }

    /// With the pseudo header of RFC 768, or of RFC 8200, section 8.1, which have the same sum.
    fn sum_with_addresses(&self, length: u16, bytes: &[u8]) -> u16 {
        let octets = |address| match address {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        let more = [&[0, self.protocol.0][..], &length.to_be_bytes()].concat();
        sum(&[&octets(self.source), &octets(self.destination), &more, bytes])
    }

    /// Where a packet may change with the addresses of this one.
    pub(super) fn changes(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let transport = self.header.len();
        let (at, ends) = (if self.source.is_ipv4() { 10..20 } else { 8..40 }, transport + 6..transport + 8);
        let udp = self.udp().map(|_| ends);
        iter::once(at).chain(udp)
    }

    /// Where its ports are.
    pub(super) fn ports_at(&self) -> Option<Range<usize>> {
        self.udp().map(|_| self.header.len()..self.header.len() + 4)
    }

    /// Where this packet may change with the one that it quotes.
    pub(super) fn changes_around_quoted(&self) -> Range<usize> {
        let transport = self.header.len();
        transport + 2..transport + 4
    }

    /// Where the time to live is.
    pub(super) fn ttl_at(&self) -> Range<usize> {
        if self.source.is_ipv4() { 8..9 } else { 7..8 }
    }
}

/// The one's complement of the one's complement sum (RFC 1071), with one zero instead of two.
fn sum(parts: &[&[u8]]) -> u16 {
    let sum = parts.iter().fold(Sum16BitWords::new(), |sum, part| sum.add_slice(part));
    sum.ones_complement() % 0xffff
}
