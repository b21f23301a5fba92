//! Frames from what an operator has: two ends and ports, or text in hex.

use std::net::{IpAddr, SocketAddr};

use etherparse::PacketBuilder;
use voip_ha_ebpf::{abi::Mac, packet::ETHERNET_LEN};

/// Payload of a datagram, in bytes, where nothing else is asked for: RTP of 20 ms of G.711.
pub const USUAL_PAYLOAD: u16 = 172;
/// Longest frame that XDP sees in one piece, in bytes: a page of 4 KiB without the room that the kernel keeps before and
/// behind it.
pub const LONGEST: usize = 3520;
/// Most bytes of payload that fit into the longest frame behind the headers of Ethernet, IPv6 and UDP.
pub const LONGEST_PAYLOAD: u16 = (LONGEST - ETHERNET_LEN - 40 - 8) as u16;

/// Two ends say nothing of Ethernet addresses. These belong to nobody.
const SENDER: Mac = [2, 0, 0, 0, 0, 1];
const GATEWAY: Mac = [2, 0, 0, 0, 0, 2];
const TIME_TO_LIVE: u8 = 64;

/// Where and why text is no frame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotHex {
    /// Something else than a digit.
    #[error("line {line}, column {column}: {found:?} is no hex digit")]
    NoDigit {
        /// From 1.
        line: usize,
        /// From 1, in characters.
        column: usize,
        /// What is there.
        found: char,
    },
    /// A byte of one digit.
    #[error("line {line}, column {column}: the byte that begins here has one digit only")]
    HalfByte {
        /// From 1.
        line: usize,
        /// From 1, in characters.
        column: usize,
    },
}

/// Two ends of different families.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{from} and {to} are of different families: no packet goes from one to the other")]
pub struct Unlike {
    /// Sender.
    pub from: SocketAddr,
    /// Receiver.
    pub to: SocketAddr,
}

/// A UDP datagram over IP and Ethernet with right checksums and a payload of so many zeros.
///
/// # Errors
///
/// The ends are of different families.
pub fn datagram(from: SocketAddr, to: SocketAddr, payload: u16) -> Result<Vec<u8>, Unlike> {
    let builder = PacketBuilder::ethernet2(SENDER, GATEWAY);
    let builder = match (from.ip(), to.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            builder.ipv4(source.octets(), destination.octets(), TIME_TO_LIVE)
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            builder.ipv6(source.octets(), destination.octets(), TIME_TO_LIVE)
        }
        _ => return Err(Unlike { from, to }),
    };
    let builder = builder.udp(from.port(), to.port());
    let payload = vec![0; usize::from(payload.min(LONGEST_PAYLOAD))];
    let mut frame = Vec::with_capacity(builder.size(payload.len()));
    builder.write(&mut frame, &payload).expect("memory takes every frame, and the payload fits into a datagram");
    Ok(frame)
}

/// Reads bytes in hex. Between bytes there may be white space, `:` and `-`; before them `0x`; and at the beginning of a line an
/// offset as `tcpdump -xx` writes it, such as `0x0010:`.
///
/// # Errors
///
/// Says where the text is something else.
pub fn from_hex(text: &str) -> Result<Vec<u8>, NotHex> {
    let mut bytes = Vec::new();
    for (index, line) in text.lines().enumerate() {
        read_line(index + 1, line, &mut bytes)?;
    }
    Ok(bytes)
}

fn read_line(line: usize, text: &str, bytes: &mut Vec<u8>) -> Result<(), NotHex> {
    let mut begun: Option<(usize, u32)> = None;
    for (index, found) in text.char_indices().skip(offset_length(text)) {
        let column = text[..index].chars().count() + 1;
        match (found.to_digit(16), begun.take()) {
            // `0x`.
            (None, Some((_, 0))) if found.eq_ignore_ascii_case(&'x') => {}
            (None, Some((column, _))) if is_between(found) => return Err(NotHex::HalfByte { line, column }),
            (None, None) if is_between(found) => {}
            (None, _) => return Err(NotHex::NoDigit { line, column, found }),
            (Some(digit), None) => begun = Some((column, digit)),
            (Some(digit), Some((_, high))) => bytes.push((high << 4 | digit) as u8),
        }
    }
    begun.map_or(Ok(()), |(column, _)| Err(NotHex::HalfByte { line, column }))
}

fn is_between(found: char) -> bool {
    found.is_whitespace() || matches!(found, ':' | '-')
}

/// Characters of a line up to the colon of an offset with which it begins; 0 if it begins with none.
fn offset_length(line: &str) -> usize {
    let word = line.split_whitespace().next().unwrap_or_default();
    let is_offset = word.strip_prefix("0x").and_then(|rest| rest.strip_suffix(':'));
    if is_offset.is_some_and(|digits| !digits.is_empty() && digits.chars().all(|digit| digit.is_ascii_hexdigit())) {
        line.find(':').map_or(0, |colon| line[..=colon].chars().count())
    } else {
        0
    }
}

/// Why XDP would never see a frame of this length; nothing if it may.
pub fn unfit(length: usize) -> Option<String> {
    match length {
        ..ETHERNET_LEN => Some(format!("{length} bytes are no frame: the Ethernet header alone has {ETHERNET_LEN}")),
        ETHERNET_LEN..=LONGEST => None,
        _ => Some(format!("{length} bytes are more than XDP sees in one piece ({LONGEST})")),
    }
}
