//! Random frames from a seed: to the services, from the servers, about something else, and each of them garbled.

pub(crate) mod six;

use std::env;

use anyhow::{Context as _, Result};
use etherparse::{Icmpv4Type, IpFragOffset, IpHeaders, IpNumber, PacketBuilder};
use fastrand::Rng;

use super::{
    frame::{ETHERNET, datagram_with, ip_header},
    net::{BACK, FAR_PHONE, FRONT, GATEWAY, Ipv4, NEW_PHONE, NOWHERE, OTHER_VIP, PHONE, REFUSED, SIDE_PHONE, VIP},
};

const SERVERS: [Ipv4; 6] = [[10, 0, 0, 2], [10, 8, 0, 2], [10, 0, 0, 4], [10, 0, 0, 5], [10, 0, 0, 3], [10, 0, 0, 6]];
const CLIENTS: [Ipv4; 15] = [
    PHONE,
    PHONE,
    PHONE,
    PHONE,
    FAR_PHONE,
    NEW_PHONE,
    SIDE_PHONE,
    REFUSED[0],
    REFUSED[1],
    REFUSED[2],
    NOWHERE,
    GATEWAY,
    VIP,
    OTHER_VIP,
    [10, 0, 0, 2],
];
/// On the way to the cloud.
const ROUTER: Ipv4 = [10, 0, 0, 254];
/// Ports of a service or just beside them, and two that are nobody's.
const PORTS: [u16; 16] =
    [5060, 5060, 5060, 5080, 10_000, 12_345, 15_000, 19_999, 20_000, 22_222, 25_000, 29_999, 5061, 9_999, 0, 53];

/// The seed of a run: `VOIP_HA_SEED`, or a new one.
pub(crate) fn seed() -> Result<u64> {
    match env::var("VOIP_HA_SEED") {
        Ok(text) => text.parse().with_context(|| format!("VOIP_HA_SEED is {text}, which is no number")),
        Err(_) => Ok(fastrand::u64(..)),
    }
}

/// A frame, and the interface it comes in by. The kernel runs no program on less than an Ethernet header.
pub(crate) fn frame(rng: &mut Rng) -> (u32, Vec<u8>) {
    let mut frame = match rng.u8(..14) {
        0..=4 => to_service(rng),
        5..=9 => from_server(rng),
        10..=11 => unreachable(rng),
        12 => unrelated(rng),
        _ => (0..rng.usize(ETHERNET..200)).map(|_| rng.u8(..)).collect(),
    };
    if rng.u8(..3) == 0 {
        frame = six::twin(rng, &frame).unwrap_or(frame);
    }
    if rng.u8(..8) == 0 {
        frame.splice(12..12, [0x81, 0x00, rng.u8(..), rng.u8(..)]);
        if rng.bool() {
            frame.splice(12..12, [0x88, 0xa8, rng.u8(..), rng.u8(..)]);
        }
    }
    // Half of the frames stay as they are, a quarter is garbled once, and so on.
    while rng.bool() {
        garble(rng, &mut frame);
    }
    (if rng.bool() { FRONT } else { BACK }, frame)
}

fn pick<T: Copy>(rng: &mut Rng, from: &[T]) -> T {
    from[rng.usize(..from.len())]
}

fn to_service(rng: &mut Rng) -> Vec<u8> {
    let from = if rng.u8(..5) == 0 { pick(rng, &SERVERS) } else { pick(rng, &CLIENTS) };
    let (vip, ports) = (pick(rng, &[VIP, OTHER_VIP]), (rng.u16(..), pick(rng, &PORTS)));
    datagram(rng, from, vip, ports)
}

fn from_server(rng: &mut Rng) -> Vec<u8> {
    let (from, to, ports) = (pick(rng, &SERVERS), pick(rng, &CLIENTS), (pick(rng, &PORTS), rng.u16(..)));
    datagram(rng, from, to, ports)
}

pub(crate) fn datagram(rng: &mut Rng, from: Ipv4, to: Ipv4, ports: (u16, u16)) -> Vec<u8> {
    let mut header = ip_header(from, to);
    header.time_to_live = pick(rng, &[64, 64, 64, 64, 64, 64, 255, 3, 2, 1, 0]);
    header.identification = rng.u16(..);
    header.dont_fragment = rng.bool();
    if rng.u8(..4) == 0 {
        // A few datagrams, so that fragments of one meet.
        header.identification = rng.u16(..4);
        header.more_fragments = rng.bool();
        header.fragment_offset = IpFragOffset::try_new(rng.u16(..3)).expect("0 to 2");
    }
    if rng.u8(..4) == 0 {
        let options: Vec<u8> = (0..4 * rng.usize(1..=10)).map(|_| rng.u8(..)).collect();
        header.options = options.as_slice().try_into().expect("whole words, ten at most");
    }
    // Now and then around the MTU of 1500 bytes.
    let length = if rng.u8(..8) == 0 { rng.usize(1400..1600) } else { rng.usize(..200) };
    let payload = if rng.bool() { message(rng) } else { (0..length).map(|_| rng.u8(..)).collect() };
    datagram_with(header, ports, &payload)
}

/// A SIP message of one of a few calls, so that messages of one meet.
fn message(rng: &mut Rng) -> Vec<u8> {
    const STARTS: [&str; 7] = ["INVITE", "REGISTER", "ACK", "BYE", "CANCEL", "SIP/2.0 180 Ringing", "SIP/2.0 200 OK"];
    let (start, tag) = (pick(rng, &STARTS), pick(rng, &["", ";tag=b"]));
    let (name, call) = (pick(rng, &["Call-ID", "i", "CALL-ID ", "Subject"]), rng.u8(..100));
    let start = if start.contains(' ') { start.to_owned() } else { format!("{start} sip:b@x SIP/2.0") };
    format!("{start}\r\nVia: SIP/2.0/UDP y\r\nTo: <sip:b@x>{tag}\r\n{name}: {call}@x\r\n\r\n").into_bytes()
}

/// An ICMP message, mostly an error, of a server or a router about a datagram to a server, or of anybody to a VIP about a datagram
/// of that. What it quotes may be cut off anywhere, and it may itself be a fragment.
fn unreachable(rng: &mut Rng) -> Vec<u8> {
    let reporter = if rng.bool() { pick(rng, &SERVERS) } else { pick(rng, &[ROUTER, PHONE, NOWHERE]) };
    let about = if rng.u8(..5) == 0 { pick(rng, &CLIENTS) } else { pick(rng, &SERVERS) };
    let ports = (rng.u16(..), pick(rng, &PORTS));
    let to_vip = rng.u8(..3) == 0;
    let (from, about, ports) = match to_vip {
        true => (pick(rng, &[VIP, OTHER_VIP]), pick(rng, &CLIENTS), (ports.1, ports.0)),
        false => (pick(rng, &CLIENTS), about, ports),
    };
    error(rng, reporter, from, about, ports)
}

/// The same, of the server or a router, about a datagram from `from` to this server.
pub(crate) fn error_about(rng: &mut Rng, server: Ipv4, from: Ipv4, ports: (u16, u16)) -> Vec<u8> {
    let reporter = if rng.bool() { server } else { ROUTER };
    error(rng, reporter, from, server, ports)
}

fn error(rng: &mut Rng, reporter: Ipv4, from: Ipv4, about: Ipv4, ports: (u16, u16)) -> Vec<u8> {
    let mut quoted = datagram(rng, from, about, ports).split_off(ETHERNET);
    if rng.u8(..6) == 0 {
        let protocol = pick(rng, &[IpNumber::TCP.0, IpNumber::ICMP.0]);
        put(&mut quoted, 9, &[protocol]);
    }
    let header = usize::from(quoted[0] & 15) * 4;
    quoted.truncate(if rng.u8(..4) == 0 { rng.usize(..=header) } else { header + 8 });
    let type_u8 = pick(rng, &[3, 3, 3, 3, 3, 3, 0, 5, 11, 12]);
    let kind = Icmpv4Type::Unknown { type_u8, code_u8: rng.u8(..16), bytes5to8: [0; 4] };
    // Mostly to whom it concerns.
    let to = if rng.u8(..4) == 0 { pick(rng, &CLIENTS) } else { from };
    let mut header = ip_header(reporter, to);
    if rng.u8(..8) == 0 {
        header.more_fragments = rng.bool();
        header.fragment_offset = IpFragOffset::try_new(rng.u16(..2)).expect("0 or 1");
    }
    let mut frame = Vec::new();
    let packet = PacketBuilder::ethernet2([2; 6], [4; 6]).ip(IpHeaders::Ipv4(header, Default::default())).icmpv4(kind);
    packet.write(&mut frame, &quoted).expect("memory takes every frame");
    frame
}

fn unrelated(rng: &mut Rng) -> Vec<u8> {
    let ethernet = PacketBuilder::ethernet2([2; 6], [4; 6]);
    let (from, to) = (pick(rng, &CLIENTS), pick(rng, &[VIP, NOWHERE, PHONE, [10, 0, 0, 2]]));
    let mut frame = Vec::new();
    let written = match rng.u8(..4) {
        0 => ethernet.ipv6([0x20; 16], [0xfd; 16], 64).udp(5060, 5060).write(&mut frame, b"over IPv6"),
        1 => ethernet.ipv4(from, to, 64).tcp(5060, 5060, 1, 1000).write(&mut frame, b"over TCP"),
        2 => ethernet.ipv4(from, to, 64).icmpv4_echo_request(1, 1).write(&mut frame, b"ping"),
        _ => ethernet.ipv4(from, NOWHERE, 64).udp(5060, 5060).write(&mut frame, b"to somebody else"),
    };
    written.expect("memory takes every frame");
    frame
}

/// Does one thing that a fault or an attacker may do to a frame.
pub(crate) fn garble(rng: &mut Rng, frame: &mut Vec<u8>) {
    const ETHERTYPE: usize = 12;
    const TOTAL_LENGTH: usize = ETHERNET + 2;
    const FRAGMENT: usize = ETHERNET + 6;
    const PROTOCOL: usize = ETHERNET + 9;
    const UDP: usize = ETHERNET + 20;
    let small = rng.u16(..300).to_be_bytes();
    match rng.u8(..13) {
        0 => frame.truncate(rng.usize(ETHERNET..=frame.len())),
        1 => frame.extend((0..rng.usize(1..50)).map(|_| rng.u8(..))),
        2 => put(frame, ETHERTYPE, &pick(rng, &[[0x86, 0xdd], [0x81, 0x00], [0x08, 0x06], [0x08, 0x00]])),
        3 => drop(frame.splice(ETHERTYPE..ETHERTYPE, [0x81, 0x00, 0x00, rng.u8(..)])),
        4 => put(frame, ETHERNET, &[0x40 | rng.u8(..16)]),
        5 => put(frame, TOTAL_LENGTH, &small),
        6 => put(frame, TOTAL_LENGTH, &rng.u16(..).to_be_bytes()),
        7 => put(frame, FRAGMENT, &rng.u16(..).to_be_bytes()),
        8 => put(frame, PROTOCOL, &[pick(rng, &[IpNumber::TCP.0, IpNumber::ICMP.0, IpNumber::UDP.0])]),
        9 => put(frame, UDP + 4, &small),
        10 => put(frame, UDP + 6, &pick(rng, &[[0, 0], [0xff, 0xff], small])),
        11 => put(frame, 0, &[rng.u8(..)]),
        _ => {
            let offset = rng.usize(..frame.len().min(60));
            put(frame, offset, &[rng.u8(..)]);
        }
    }
}

/// Writes as much of `bytes` as the frame has room for at `offset`.
fn put(frame: &mut [u8], offset: usize, bytes: &[u8]) {
    for (place, byte) in frame.iter_mut().skip(offset).zip(bytes) {
        *place = *byte;
    }
}
