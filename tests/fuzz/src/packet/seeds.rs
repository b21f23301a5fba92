//! Inputs to begin with: well-formed frames of every kind, each with tables of every kind.

use etherparse::{
    Ethernet2Header, Icmpv4Type, IpFragOffset, IpHeaders, IpNumber, Ipv4Header, PacketBuilder, PacketBuilderStep,
};
use voip_ha_ebpf::abi::Address;

use super::world::{BY_FRONT, CONTROL, GATEWAY, NARROW, OTHER_VIP, VIP};

const PHONE: Address = [198, 51, 100, 7];
const STRANGER: Address = [203, 0, 113, 9];
const MASTER: Address = [10, 0, 0, 2];
const BACKUP: Address = [10, 8, 0, 2];
const ONE: Address = [10, 0, 0, 3];
// Short, so that most of what libFuzzer changes is in the headers: of odd length, and too long for a narrow device.
const OPTIONS: &[u8] = b"OPTIONS";
const VOICE: &[u8] = &[0xd5; 60];

const FIRST: u16 = 0x2000;
const DONT_FRAGMENT: u16 = 0x4000;

/// Each frame with each of the tables.
pub fn seeds() -> Vec<Vec<u8>> {
    let frames = [to_services(), from_servers(), fragments(), errors(), unrelated()].concat();
    let inputs = frames.iter().flat_map(|frame| tables().map(|control| [&control[..], frame].concat()));
    inputs.collect()
}

/// Decision words by the number of the server in its service, the way out, and what was remembered.
fn tables() -> [[u8; CONTROL]; 17] {
    let word = |signalling: u8, media: u8, draining: u8| signalling | media << 2 | draining << 4;
    let both = |server| word(server, server, 0);
    let way = |way| [both(1), both(1), way, 0];
    [
        way(0),
        way(2),
        way(3),
        way(4),
        way(5),
        way(6),
        way(NARROW),
        way(BY_FRONT),
        [0, 0, 0, 0],
        [both(2), both(2), 0, 0],
        [both(3), both(3), 0, 0],
        [word(1, 2, 0), word(2, 1, 0), 0, 0],
        [word(2, 2, 1), word(2, 2, 1), 0, 0],
        // The other bank, and a census.
        [0xc0 | both(1), 0xc0 | both(1), 0, 0],
        [both(1), both(1), 0, 1],
        [word(1, 2, 0), both(1), 0, 2],
        [word(1, 2, 0), word(1, 2, 0), 0, 6],
    ]
}

fn to_services() -> Vec<Vec<u8>> {
    let header = || ip_header(PHONE, VIP);
    let mut padded = datagram(header(), (5062, 5060), b"\r\n\r\n");
    padded.resize(60, 0);
    let mut unsummed = datagram(header(), (4000, 10_000), VOICE);
    unsummed[40..42].fill(0);
    let mut too_long = datagram(header(), (4000, 10_000), VOICE);
    too_long[38] = 0x7f;
    vec![
        datagram(header(), (5062, 5060), OPTIONS),
        datagram(header(), (4000, 12_346), VOICE),
        datagram(header(), (4000, 53), OPTIONS),
        datagram(ip_header(PHONE, OTHER_VIP), (5062, 5060), OPTIONS),
        datagram(ip_header(PHONE, OTHER_VIP), (4000, 22_222), VOICE),
        datagram(ip_header(MASTER, VIP), (12_344, 12_346), VOICE),
        datagram(Ipv4Header { time_to_live: 1, ..header() }, (5062, 5060), OPTIONS),
        datagram(with_options(header()), (5062, 5060), OPTIONS),
        datagram(with_flags(header(), DONT_FRAGMENT), (5062, 5060), OPTIONS),
        datagram(with_options(with_flags(header(), DONT_FRAGMENT)), (4000, 10_000), VOICE),
        padded,
        unsummed,
        too_long,
    ]
}

fn from_servers() -> Vec<Vec<u8>> {
    let header = || ip_header(MASTER, PHONE);
    vec![
        datagram(header(), (5060, 5062), OPTIONS),
        datagram(header(), (12_346, 4000), VOICE),
        datagram(header(), (53, 4000), OPTIONS),
        datagram(ip_header(BACKUP, PHONE), (12_346, 4000), VOICE),
        datagram(ip_header(ONE, STRANGER), (22_222, 4000), VOICE),
        datagram(ip_header(MASTER, BACKUP), (5060, 5060), OPTIONS),
        datagram(ip_header(MASTER, GATEWAY), (5060, 33_000), OPTIONS),
        datagram(Ipv4Header { time_to_live: 1, ..header() }, (5060, 5062), OPTIONS),
        datagram(with_options(header()), (5060, 5062), OPTIONS),
        datagram(with_flags(header(), DONT_FRAGMENT), (12_346, 4000), VOICE),
    ]
}

fn fragments() -> Vec<Vec<u8>> {
    let ends = [(PHONE, VIP, (5062, 5060)), (PHONE, OTHER_VIP, (4000, 22_222)), (MASTER, PHONE, (5060, 5062))];
    let pieces = [FIRST, FIRST | 185, 185, DONT_FRAGMENT | 185];
    let of = |(from, to, ports)| pieces.map(|flags| datagram(with_flags(ip_header(from, to), flags), ports, OPTIONS));
    ends.into_iter().flat_map(of).collect()
}

/// ICMP errors about datagrams either way, of either end and of a router.
fn errors() -> Vec<Vec<u8>> {
    let to_master = datagram(ip_header(PHONE, MASTER), (5062, 5060), OPTIONS);
    let to_other_port = datagram(ip_header(PHONE, MASTER), (4000, 53), OPTIONS);
    let of_gateway = datagram(ip_header(GATEWAY, MASTER), (33_000, 5060), OPTIONS);
    let to_phone = datagram(ip_header(VIP, PHONE), (12_346, 4000), VOICE);
    let optional = datagram(with_options(ip_header(PHONE, MASTER)), (5062, 5060), OPTIONS);
    // Larger than a narrow device takes, and must not be fragmented.
    let long = |from, to, about: &[u8]| {
        message(with_flags(ip_header(from, to), DONT_FRAGMENT), (3, 3), &about[Ethernet2Header::LEN..])
    };
    let long_to_master = datagram(ip_header(PHONE, MASTER), (4000, 12_346), VOICE);
    let mut errors = vec![
        long(PHONE, VIP, &to_phone),
        long(MASTER, PHONE, &long_to_master),
        error(MASTER, GATEWAY, (3, 3), &of_gateway),
        error(MASTER, PHONE, (3, 3), &to_other_port),
    ];
    for kind in [(3, 3), (3, 4), (11, 0), (0, 0)] {
        errors.extend([
            error(MASTER, PHONE, kind, &to_master),
            error(STRANGER, PHONE, kind, &to_master),
            error(MASTER, PHONE, kind, &optional),
            error(PHONE, VIP, kind, &to_phone),
            error(STRANGER, VIP, kind, &to_phone),
        ]);
    }
    errors
}

fn unrelated() -> Vec<Vec<u8>> {
    let written = |step: PacketBuilderStep<IpHeaders>| {
        let mut frame = Vec::new();
        step.tcp(5060, 5060, 1, 1000).write(&mut frame, OPTIONS).expect("memory takes every frame");
        frame
    };
    let mut broadcast = datagram(ip_header(PHONE, VIP), (5062, 5060), OPTIONS);
    broadcast[..6].fill(0xff);
    let mut tagged = datagram(ip_header(PHONE, VIP), (5062, 5060), OPTIONS);
    tagged.splice(12..12, [0x81, 0, 0, 5]);
    vec![
        written(ethernet().ipv4(PHONE, VIP, 64)),
        written(ethernet().ipv4(MASTER, PHONE, 64)),
        written(ethernet().ipv6([0x20; 16], [0xfd; 16], 64)),
        error(PHONE, VIP, (8, 0), OPTIONS),
        error(MASTER, PHONE, (0, 0), OPTIONS),
        error(MASTER, BACKUP, (8, 0), OPTIONS),
        datagram(ip_header(PHONE, STRANGER), (5060, 5060), OPTIONS),
        broadcast,
        tagged,
    ]
}

fn ip_header(from: Address, to: Address) -> Ipv4Header {
    let header = Ipv4Header::new(0, 64, IpNumber::UDP, from, to).expect("nothing is not too large");
    Ipv4Header { dont_fragment: false, ..header }
}

fn with_options(header: Ipv4Header) -> Ipv4Header {
    Ipv4Header { options: [1; 8].into(), ..header }
}

/// With the fragment word of RFC 791, section 3.1.
fn with_flags(header: Ipv4Header, word: u16) -> Ipv4Header {
    let fragment_offset = IpFragOffset::try_new(word & 0x1fff).expect("13 bits");
    let [dont_fragment, more_fragments] = [DONT_FRAGMENT, FIRST].map(|bit| word & bit != 0);
    Ipv4Header { dont_fragment, more_fragments, fragment_offset, ..header }
}

fn ethernet() -> PacketBuilderStep<Ethernet2Header> {
    PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2])
}

/// A frame with a datagram and right checksums.
fn datagram(header: Ipv4Header, ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    let step = ethernet().ip(IpHeaders::Ipv4(header, Default::default())).udp(ports.0, ports.1);
    step.write(&mut frame, payload).expect("memory takes every frame");
    frame
}

/// An ICMP message of this type and code, with the packet of a frame in it up to its ports.
fn error(from: Address, to: Address, kind: (u8, u8), about: &[u8]) -> Vec<u8> {
    let packet = about.get(Ethernet2Header::LEN..).unwrap_or(about);
    let quoted = &packet[..packet.len().min(usize::from(packet[0] & 15) * 4 + 8)];
    message(ip_header(from, to), kind, quoted)
}

fn message(header: Ipv4Header, (type_u8, code_u8): (u8, u8), quoted: &[u8]) -> Vec<u8> {
    let kind = Icmpv4Type::Unknown { type_u8, code_u8, bytes5to8: [0, 0, 1, 200] };
    let mut frame = Vec::new();
    let step = ethernet().ip(IpHeaders::Ipv4(header, Default::default())).icmpv4(kind);
    step.write(&mut frame, quoted).expect("memory takes every frame");
    frame
}
