//! RTP as the lab sends it: one G.711 stream's packets, whose payload tells sender, time and what the server has seen.
//!
//! ```text
//!     0  RTP header (RFC 3550, 5.1)                    written by the phone
//!    12  "VHL1", stream, send time                     written by the phone
//!    28  stamp: all zero, or what the server knows     written by the server
//!    85  a pattern made of stream and sequence number  written by the phone
//! ```
//!
//! A server that echoes packets unchanged leaves the stamp empty; then only round trips can be judged.

mod history;

use std::fmt;

use bytes::{Buf, BufMut};

pub use history::{Arrival, History};

/// UDP payload of one packet in bytes: an RTP header and 20 ms of G.711.
pub const PACKET: usize = 172;
/// The Ethernet frame around it in bytes, without preamble and checksum.
pub const FRAME: usize = PACKET + 8 + 20 + 14;
/// Time between two packets of a stream in ms.
pub const INTERVAL_MS: u64 = 20;

const HEADER: usize = 12;
const MAGIC: &[u8; 4] = b"VHL1";
const STAMP: usize = HEADER + 4 + 4 + 8;
const NAME: usize = 15;
const PATTERN: usize = STAMP + 1 + NAME + 4 + 2 + 1 + 2 + History::WINDOW as usize / 8;

/// What the phone puts into a packet. The same values always make the same bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet {
    /// Number of the stream; also its SSRC.
    pub stream: u32,
    /// RTP sequence number.
    pub sequence: u16,
    /// Send time in ns on the meter's clock.
    pub sent: u64,
}

/// What a server writes into the packet that it sends back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// The server's name.
    pub server: ServerName,
    /// A random number of its process: a restarted server is another one.
    pub instance: u32,
    /// How many packets of this stream it has received, this one included, modulo 65536.
    pub count: u16,
    /// It had received a later packet before this one.
    pub late: bool,
    /// Which packets of this stream it has received.
    pub history: History,
}

/// The name of a server, cut to 15 bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServerName([u8; NAME]);

impl ServerName {
    /// Keeps the first 15 bytes.
    pub fn new(name: &str) -> Self {
        let mut bytes = [0; NAME];
        let length = name.len().min(NAME);
        bytes[..length].copy_from_slice(&name.as_bytes()[..length]);
        Self(bytes)
    }
}

impl fmt::Display for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(String::from_utf8_lossy(&self.0).trim_end_matches('\0'))
    }
}

impl fmt::Debug for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_string())
    }
}

impl Packet {
    /// The packet as a phone sends it.
    pub fn encode(&self) -> [u8; PACKET] {
        let mut bytes = [0; PACKET];
        let mut out = &mut bytes[..];
        // Version 2, no padding, extension or contributing sources; payload type 0 is G.711 µ-law.
        out.put_u16(0x8000);
        out.put_u16(self.sequence);
        out.put_u32(u32::from(self.sequence).wrapping_mul(160));
        out.put_u32(self.stream);
        out.put_slice(MAGIC);
        out.put_u32(self.stream);
        out.put_u64(self.sent);
        let seed = self.stream.wrapping_mul(31).wrapping_add(u32::from(self.sequence).wrapping_mul(7));
        for (at, byte) in bytes.iter_mut().enumerate().skip(PATTERN) {
            *byte = seed.wrapping_add(at as u32) as u8;
        }
        bytes
    }

    /// Whether `bytes` are this packet, apart from the stamp.
    pub fn is_echoed_by(&self, bytes: &[u8]) -> bool {
        let sent = self.encode();
        bytes.len() == PACKET && bytes[..STAMP] == sent[..STAMP] && bytes[PATTERN..] == sent[PATTERN..]
    }
}

/// Sequence number and SSRC of an RTP version 2 packet, or None if it is no such packet.
pub fn sequence_and_source(mut bytes: &[u8]) -> Option<(u16, u32)> {
    if bytes.len() < HEADER || bytes.get_u16() >> 14 != 2 {
        return None;
    }
    let sequence = bytes.get_u16();
    bytes.advance(4);
    Some((sequence, bytes.get_u32()))
}

/// Whether the packet was made by the lab's meter and has room for a stamp.
pub fn can_be_stamped(bytes: &[u8]) -> bool {
    bytes.len() == PACKET && bytes[HEADER..].starts_with(MAGIC)
}

/// Writes the server's stamp into a packet of which [`can_be_stamped`] holds.
pub fn write_stamp(bytes: &mut [u8], stamp: &Stamp) {
    let mut out = &mut bytes[STAMP..PATTERN];
    out.put_u8(1);
    out.put_slice(&stamp.server.0);
    out.put_u32(stamp.instance);
    out.put_u16(stamp.count);
    out.put_u8(stamp.late.into());
    out.put_u16(stamp.history.highest());
    stamp.history.bits().into_iter().for_each(|word| out.put_u64(word));
}

/// The stamp of an echo, or None if the server wrote none.
pub fn read_stamp(bytes: &[u8]) -> Option<Stamp> {
    let mut stamp = bytes.get(STAMP..PATTERN)?;
    if stamp.get_u8() != 1 {
        return None;
    }
    let mut name = [0; NAME];
    stamp.copy_to_slice(&mut name);
    let (instance, count, late, highest) = (stamp.get_u32(), stamp.get_u16(), stamp.get_u8() == 1, stamp.get_u16());
    let history = History::new(highest, std::array::from_fn(|_| stamp.get_u64()));
    Some(Stamp { server: ServerName(name), instance, count, late, history })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SENT: Packet = Packet { stream: 7, sequence: 65535, sent: 123_456_789 };

    #[test]
    fn a_packet_is_g711_rtp_with_its_sequence_number_and_source() {
        let bytes = SENT.encode();
        assert_eq!(bytes[..2], [0x80, 0]);
        assert_eq!(sequence_and_source(&bytes), Some((65535, 7)));
        assert_eq!(FRAME, 214);
    }

    #[test]
    fn an_echo_may_differ_from_the_packet_in_the_stamp_only() {
        for at in 0..PACKET {
            let mut bytes = SENT.encode();
            bytes[at] ^= 0x10;
            assert_eq!(SENT.is_echoed_by(&bytes), (STAMP..PATTERN).contains(&at), "byte {at}");
        }
        assert!(!SENT.is_echoed_by(&SENT.encode()[..PACKET - 1]));
    }

    #[test]
    fn a_stamp_is_read_as_it_was_written_and_none_where_none_was() {
        let mut bytes = SENT.encode();
        assert_eq!(read_stamp(&bytes), None);
        let mut history = History::default();
        history.insert(9);
        history.insert(8);
        let server = ServerName::new("a name longer than fits");
        let stamp = Stamp { server, instance: 5, count: 99, late: true, history };
        assert!(can_be_stamped(&bytes));
        write_stamp(&mut bytes, &stamp);
        assert_eq!(read_stamp(&bytes), Some(stamp));
        assert_eq!(server.to_string(), "a name longer t");
        assert!(SENT.is_echoed_by(&bytes));
    }

    #[test]
    fn what_is_not_rtp_is_neither_read_nor_stamped() {
        assert_eq!(sequence_and_source(&[0x80; HEADER - 1]), None);
        assert_eq!(sequence_and_source(&[0x40; HEADER]), None);
        assert!(!can_be_stamped(&[0x80; PACKET]));
    }
}
