//! Inputs to begin with: well-formed frames of every kind, each with tables of every kind.

mod build;

use std::net::IpAddr;

use voip_ha_ebpf::abi::Family;

use self::build::{
    DONT_FRAGMENT, FIRST, datagram, error, ip, message, packet_of, tagged, tcp, with_flags, with_options, with_ttl,
};
use super::world::{BANK, BY_FRONT, CENSUS, CONTROL, GATEWAY, KNOWN, NAME_BITS, NARROW, OTHER_VIP, Pair, SERVERS, VIP};

const PHONE: Pair = KNOWN;
const STRANGER: Pair = Pair::of([203, 0, 113, 9], 9);
// Short, so that most of what libFuzzer changes is in the headers: of odd length, and too long for a narrow device.
const OPTIONS: &[u8] = b"OPTIONS";
const VOICE: &[u8] = &[0xd5; 60];

/// Each frame with each of the tables.
pub fn seeds() -> Vec<Vec<u8>> {
    let plain = Family::ALL.map(|family| Ends::of(family).frames()).concat();
    let tags: [&[[u8; 4]]; 3] = [
        &[[0x81, 0, 0xb0, 0x64]],
        &[[0x88, 0xa8, 0x70, 5], [0x81, 0, 0, 7]],
        &[[0x88, 0xa8, 0, 5], [0x81, 0, 0, 7], [0x81, 0, 0, 8]],
    ];
    let tagged = plain.iter().step_by(4).zip(tags.iter().cycle()).map(|(frame, tags)| tagged(frame, tags));
    let frames: Vec<_> = tagged.chain(plain.iter().cloned()).collect();
    frames.iter().flat_map(|frame| tables().map(|control| [&control[..], frame].concat())).collect()
}

/// Decision words by the number of the server in its service, the way out, and what was remembered.
fn tables() -> [[u8; CONTROL]; 26] {
    let word =
        |signalling: u16, media: u16, draining: u16| signalling | media << NAME_BITS | draining << (2 * NAME_BITS);
    let of = |pbx: u16, trunk: u16, way, remembered| {
        let ([a, b], [c, d]) = (pbx.to_le_bytes(), trunk.to_le_bytes());
        [a, b, c, d, way, remembered]
    };
    let both = |server| word(server, server, 0);
    let to = |server| of(both(server), both(server), 0, 0);
    let way = |way| of(both(1), both(1), way, 0);
    let again = CENSUS | BANK;
    [
        way(0),
        way(1),
        way(2),
        way(3),
        way(4),
        way(5),
        way(6),
        way(7),
        way(NARROW),
        way(BY_FRONT),
        of(0, 0, 0, 0),
        to(2),
        to(3),
        to(4),
        to(5),
        to(6),
        of(both(3), both(4), NARROW, 0),
        of(word(1, 2, 0), word(2, 1, 0), 0, 0),
        of(word(2, 2, 1), word(2, 2, 1), 1, 0),
        of(again | both(1), again | both(1), 7, 0),
        of(word(3, 2, 0), both(1), 0, 1),
        of(word(1, 2, 0), word(1, 2, 0), 0, 0x43),
        to(7),
        of(both(7), both(7), NARROW, 0),
        of(both(7), both(7), 6, 0),
        of(both(7), both(7), 0, 12),
    ]
}

/// Who talks to whom, by one family.
struct Ends {
    phone: IpAddr,
    stranger: IpAddr,
    vip: IpAddr,
    other_vip: IpAddr,
    gateway: IpAddr,
    master: IpAddr,
    backup: IpAddr,
    dsr: IpAddr,
    of_trunk: IpAddr,
    masquerades: IpAddr,
}

impl Ends {
    fn of(family: Family) -> Self {
        let server = |number: usize| SERVERS[number].address(family);
        let known = |number| server(number).expect("it has addresses of both families");
        Self {
            phone: PHONE.by(family),
            stranger: STRANGER.by(family),
            vip: VIP.by(family),
            other_vip: OTHER_VIP.by(family),
            gateway: GATEWAY.by(family),
            master: known(0),
            backup: known(1),
            dsr: known(3),
            of_trunk: server(5).unwrap_or(known(6)),
            masquerades: known(10),
        }
    }

    fn frames(&self) -> Vec<Vec<u8>> {
        let mapped = if self.phone.is_ipv6() { self.mapped() } else { Vec::new() };
        let frames = [self.to_services(), self.of_servers(), self.fragments(), self.errors(), self.unrelated(), mapped];
        frames.into_iter().chain([self.masqueraded()]).flatten().collect()
    }

    fn to_services(&self) -> Vec<Vec<u8>> {
        let header = || ip(self.phone, self.vip);
        let mut padded = datagram(header(), (5062, 5060), b"\r\n\r\n");
        padded.resize(padded.len() + 14, 0);
        let voice = datagram(header(), (4000, 10_000), VOICE);
        let udp = voice.len() - VOICE.len() - 8;
        let mut unsummed = voice.clone();
        unsummed[udp + 6..udp + 8].fill(0);
        let mut too_long = voice.clone();
        too_long[udp + 4] = 0x7f;
        vec![
            datagram(header(), (5062, 5060), OPTIONS),
            voice,
            datagram(header(), (4000, 53), OPTIONS),
            datagram(ip(self.phone, self.other_vip), (5062, 5060), OPTIONS),
            datagram(ip(self.phone, self.other_vip), (4000, 22_222), VOICE),
            datagram(ip(self.master, self.vip), (12_344, 12_346), VOICE),
            datagram(ip(self.dsr, self.vip), (12_344, 12_346), VOICE),
            datagram(with_ttl(header(), 1), (5062, 5060), OPTIONS),
            datagram(with_options(header()), (5062, 5060), OPTIONS),
            datagram(with_flags(header(), DONT_FRAGMENT), (5062, 5060), OPTIONS),
            datagram(with_flags(header(), DONT_FRAGMENT), (4000, 10_000), VOICE),
            datagram(with_options(with_flags(header(), DONT_FRAGMENT)), (4000, 10_000), VOICE),
            padded,
            unsummed,
            too_long,
        ]
    }

    fn of_servers(&self) -> Vec<Vec<u8>> {
        let header = || ip(self.master, self.phone);
        vec![
            datagram(header(), (5060, 5062), OPTIONS),
            datagram(header(), (12_346, 4000), VOICE),
            datagram(header(), (53, 4000), OPTIONS),
            datagram(ip(self.backup, self.phone), (12_346, 4000), VOICE),
            datagram(ip(self.of_trunk, self.stranger), (22_222, 4000), VOICE),
            datagram(ip(self.master, self.backup), (5060, 5060), OPTIONS),
            datagram(ip(self.master, self.gateway), (5060, 33_000), OPTIONS),
            datagram(with_ttl(header(), 1), (5060, 5062), OPTIONS),
            datagram(with_options(header()), (5060, 5062), OPTIONS),
            datagram(with_flags(header(), DONT_FRAGMENT), (12_346, 4000), VOICE),
        ]
    }

    fn fragments(&self) -> Vec<Vec<u8>> {
        let ends = [
            (self.phone, self.vip, (5062, 5060)),
            (self.phone, self.other_vip, (4000, 22_222)),
            (self.master, self.phone, (5060, 5062)),
        ];
        let pieces = [FIRST, FIRST | 185, 185, DONT_FRAGMENT | 185];
        let of = |(from, to, ports)| pieces.map(|flags| datagram(with_flags(ip(from, to), flags), ports, OPTIONS));
        let behind_options = datagram(with_options(with_flags(ip(self.phone, self.vip), FIRST)), (5062, 5060), OPTIONS);
        ends.into_iter().flat_map(of).chain([behind_options]).collect()
    }

    /// ICMP errors about datagrams either way, of either end and of a router.
    fn errors(&self) -> Vec<Vec<u8>> {
        let Self { phone, stranger, vip, gateway, master, .. } = *self;
        let to_master = datagram(ip(phone, master), (5062, 5060), OPTIONS);
        let to_other_port = datagram(ip(phone, master), (4000, 53), OPTIONS);
        let of_gateway = datagram(ip(gateway, master), (33_000, 5060), OPTIONS);
        let to_phone = datagram(ip(vip, phone), (12_346, 4000), VOICE);
        let optional = datagram(with_options(ip(phone, master)), (5062, 5060), OPTIONS);
        let first = datagram(with_flags(ip(phone, master), FIRST), (5062, 5060), OPTIONS);
        // Larger than a narrow device takes, and must not be fragmented.
        let long = |from, to, about: &[u8]| message(with_flags(ip(from, to), DONT_FRAGMENT), (3, 3), packet_of(about));
        let long_to_master = datagram(ip(phone, master), (4000, 12_346), VOICE);
        let mut errors = vec![
            long(phone, vip, &to_phone),
            long(master, phone, &long_to_master),
            error(master, gateway, (3, 3), &of_gateway),
            error(master, phone, (3, 3), &to_other_port),
        ];
        let kinds =
            if phone.is_ipv4() { [(3, 3), (3, 4), (11, 0), (0, 0)] } else { [(1, 4), (2, 0), (3, 0), (128, 0)] };
        for kind in kinds {
            errors.extend([
                error(master, phone, kind, &to_master),
                error(stranger, phone, kind, &to_master),
                error(master, phone, kind, &optional),
                error(master, phone, kind, &first),
                error(phone, vip, kind, &to_phone),
                error(stranger, vip, kind, &to_phone),
            ]);
        }
        errors
    }

    /// To and from the gateway's own name, whose odd ports are the phone's, and from a stranger who finds none.
    fn masqueraded(&self) -> Vec<Vec<u8>> {
        let Self { phone, stranger, vip, gateway, masquerades, .. } = *self;
        let header = || ip(masquerades, gateway);
        let about = datagram(ip(gateway, masquerades), (5061, 5060), OPTIONS);
        vec![
            datagram(ip(phone, vip), (5063, 5060), OPTIONS),
            datagram(ip(stranger, vip), (4001, 10_000), VOICE),
            datagram(header(), (5060, 5061), OPTIONS),
            datagram(header(), (5060, 5062), OPTIONS),
            datagram(with_flags(header(), DONT_FRAGMENT), (10_000, 4001), VOICE),
            datagram(with_flags(header(), FIRST), (5060, 5061), OPTIONS),
            datagram(with_flags(header(), 185), (5060, 5061), OPTIONS),
            error(masquerades, gateway, if phone.is_ipv4() { (3, 3) } else { (1, 4) }, &about),
            error(stranger, gateway, if phone.is_ipv4() { (3, 4) } else { (2, 0) }, &about),
            error(
                phone,
                vip,
                if phone.is_ipv4() { (3, 3) } else { (1, 4) },
                &datagram(ip(vip, phone), (5060, 5063), OPTIONS),
            ),
        ]
    }

    fn unrelated(&self) -> Vec<Vec<u8>> {
        let mut broadcast = datagram(ip(self.phone, self.vip), (5062, 5060), OPTIONS);
        broadcast[..6].fill(0xff);
        let mut of_nothing = broadcast.clone();
        of_nothing[..14].copy_from_slice(&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 6]);
        let [echo, reply] = if self.phone.is_ipv4() { [8, 0] } else { [128, 129] };
        vec![
            tcp(ip(self.phone, self.vip)),
            tcp(ip(self.master, self.phone)),
            message(ip(self.phone, self.vip), (echo, 0), OPTIONS),
            message(ip(self.master, self.phone), (reply, 0), OPTIONS),
            message(ip(self.master, self.backup), (echo, 0), OPTIONS),
            datagram(ip(self.phone, self.stranger), (5060, 5060), OPTIONS),
            broadcast,
            of_nothing,
        ]
    }

    /// To the IPv4 addresses of a VIP and a server in a form that no packet has, and about such a packet.
    fn mapped(&self) -> Vec<Vec<u8>> {
        let (IpAddr::V4(vip), Some(IpAddr::V4(server))) = (VIP.by(Family::V4), SERVERS[0].address(Family::V4)) else {
            return Vec::new();
        };
        let [vip, server] = [vip, server].map(|address| address.to_ipv6_mapped().into());
        let to_server = datagram(ip(self.phone, server), (5062, 5060), OPTIONS);
        vec![
            datagram(ip(self.phone, vip), (5062, 5060), OPTIONS),
            datagram(ip(server, self.phone), (5060, 5062), OPTIONS),
            error(self.stranger, self.phone, (1, 4), &to_server),
        ]
    }
}
