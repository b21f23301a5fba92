//! The decision on the host: each verdict for a packet that deserves it, and the bytes that carrying it out leaves.

use std::collections::{BTreeSet, HashMap};

use super::*;
use crate::{
    abi::{Named, Ports},
    packet::{ETHERNET_LEN, ErrorOffsets, Udp},
    rewrite::{self, Inside, Quotation, Rewrite},
};
use etherparse::{
    Icmpv4Type, IpFragOffset, IpHeaders, IpNumber, Ipv4Header, PacketBuilder, SlicedPacket, TransportSlice, VlanId,
};

mod any;
mod errors;
mod fragments;
mod notes;

const VIP: Address = [192, 0, 2, 10];
const MASTER: Address = [10, 0, 0, 2];
const BACKUP: Address = [10, 8, 0, 2];
const PHONE: Address = [198, 51, 100, 7];
/// Behind a route that the stack has to take.
const STRANGER: Address = [198, 51, 100, 8];
/// Behind a blackhole route.
const BANNED: Address = [203, 0, 113, 1];
/// Behind a route with a smaller MTU than any packet here.
const NARROW: Address = [198, 51, 100, 9];
const NARROW_MTU: u16 = 40;
/// The gateway itself, as any other address, is no way out.
const GATEWAY: Address = [10, 0, 0, 1];
/// On the way to the backup.
const ROUTER: Address = [10, 0, 0, 254];

const SIP: u16 = 5060;
const RTP: u16 = 10_000;
const PHONE_PORT: u16 = 40_000;

const NUMBER_OF_MASTER: ServerNumber = ServerNumber(0);
const NUMBER_OF_BACKUP: ServerNumber = ServerNumber(1);
const TO_MASTER: Hop = Hop { ifindex: 3, source: [2, 0, 0, 0, 3, 1], destination: [2, 0, 0, 0, 3, 2] };
const TO_PHONE: Hop = Hop { ifindex: 2, source: [2, 0, 0, 0, 2, 1], destination: [2, 0, 0, 0, 2, 7] };

/// Of the device towards the master.
const MTU: u16 = 1400;
const UDP_OFFSET: usize = ETHERNET_LEN + 20;

/// The tables as plain maps.
#[derive(Clone)]
struct World {
    services: HashMap<Address, ServiceEntry>,
    origins: HashMap<Address, OriginEntry>,
    words: Vec<SteeringWord>,
    servers: HashMap<u32, ServerEntry>,
    routes: HashMap<Address, Route>,
    fragments: HashMap<FragmentKey, FirstFragment>,
    ingress: u32,
}

impl Tables for World {
    fn service(&self, vip: &Address) -> Option<&ServiceEntry> {
        self.services.get(vip)
    }
    fn origin(&self, address: &Address) -> Option<&OriginEntry> {
        self.origins.get(address)
    }
    fn steering(&self, service: u32) -> Option<SteeringWord> {
        self.words.get(service as usize).copied()
    }
    fn server(&self, slot: Slot) -> Option<&ServerEntry> {
        self.servers.get(&slot.0)
    }
    fn ingress(&self) -> u32 {
        self.ingress
    }
    fn first_fragment(&self, key: &FragmentKey) -> Option<FirstFragment> {
        self.fragments.get(key).copied()
    }
    fn route(&self, query: &RouteQuery) -> Route {
        let is_server = [MASTER, BACKUP].contains(&query.source);
        assert!(!is_server, "the routing table is asked about the packet as the client will see it");
        self.routes.get(&query.destination).copied().unwrap_or(Route::NotForwarded)
    }
}

impl World {
    /// One service, its master active, its backup without a next hop.
    fn new() -> Self {
        let ports = Ports { sip: [SIP, 5080, 0, 0], rtp_first: RTP, rtp_last: 19_999 };
        let origin = |number: ServerNumber| OriginEntry { slot: number.slot(0).0, service: 0, vip: VIP, ports };
        let master = ServerEntry {
            address: MASTER,
            ifindex: TO_MASTER.ifindex,
            mtu: u32::from(MTU),
            next_hop: TO_MASTER.destination,
            source: TO_MASTER.source,
        };
        let backup = ServerEntry { address: BACKUP, ..ServerEntry::default() };
        Self {
            services: HashMap::from([(VIP, ServiceEntry { service: 0, ports })]),
            origins: HashMap::from([(MASTER, origin(NUMBER_OF_MASTER)), (BACKUP, origin(NUMBER_OF_BACKUP))]),
            words: vec![SteeringWord::new(Named::both(NUMBER_OF_MASTER.slot(0)), 1)],
            servers: HashMap::from([(NUMBER_OF_MASTER.slot(0).0, master), (NUMBER_OF_BACKUP.slot(0).0, backup)]),
            routes: HashMap::from([
                (PHONE, Route::Hop(TO_PHONE)),
                (STRANGER, Route::Stack),
                (BANNED, Route::Refused),
                (VIP, Route::NotForwarded),
                (NARROW, Route::TooLarge(NARROW_MTU)),
            ]),
            fragments: HashMap::new(),
            ingress: TO_MASTER.ifindex,
        }
    }

    fn steered(active: Option<ServerNumber>, draining: Option<ServerNumber>) -> Self {
        Self::split(active, active, draining)
    }

    /// Signalling and media apart.
    fn split(signalling: Option<ServerNumber>, media: Option<ServerNumber>, draining: Option<ServerNumber>) -> Self {
        let slot = |number: Option<ServerNumber>| number.map(|number| number.slot(0));
        let named = Named { signalling: slot(signalling), media: slot(media), draining: slot(draining) };
        Self { words: vec![SteeringWord::new(named, 2)], ..Self::new() }
    }

    /// The backup can be reached too, by the same way.
    fn with_way_to_backup(mut self) -> Self {
        let way = ServerEntry { address: BACKUP, ..self.servers[&NUMBER_OF_MASTER.slot(0).0] };
        self.servers.insert(NUMBER_OF_BACKUP.slot(0).0, way);
        self
    }

    fn verdict(&self, mut frame: Vec<u8>) -> Verdict {
        let before = frame.clone();
        let verdict = steer(&mut Frame::from_slice(&mut frame), self);
        assert_eq!(frame, before, "the decision changes no byte");
        verdict
    }
}

fn ip_header(source: Address, destination: Address, options: &[u8]) -> Ipv4Header {
    let mut header = Ipv4Header::new(0, 64, IpNumber::UDP, source, destination).unwrap();
    header.options = options.try_into().unwrap();
    header
}

fn datagram_with(header: Ipv4Header, ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    PacketBuilder::ethernet2([2; 6], [4; 6])
        .ip(IpHeaders::Ipv4(header, Default::default()))
        .udp(ports.0, ports.1)
        .write(&mut frame, payload)
        .unwrap();
    frame
}

fn datagram(from: (Address, u16), to: (Address, u16)) -> Vec<u8> {
    datagram_with(ip_header(from.0, to.0, &[]), (from.1, to.1), b"twenty ms of a voice")
}

fn with_ttl(ttl: u8, from: (Address, u16), to: (Address, u16)) -> Vec<u8> {
    let header = Ipv4Header { time_to_live: ttl, ..ip_header(from.0, to.0, &[]) };
    datagram_with(header, (from.1, to.1), b"voice")
}

/// An ICMP destination unreachable from `from` to `to`, as a host or router sends it: with the IP header of `about` and
/// the eight bytes behind that.
fn unreachable(from: Address, to: Address, code: u8, about: &[u8]) -> Vec<u8> {
    let kind = Icmpv4Type::Unknown { type_u8: 3, code_u8: code, bytes5to8: [0; 4] };
    let header = usize::from(about[ETHERNET_LEN] & 15) * 4;
    let mut frame = Vec::new();
    PacketBuilder::ethernet2([2; 6], [4; 6])
        .ipv4(from, to, 64)
        .icmpv4(kind)
        .write(&mut frame, &about[ETHERNET_LEN..ETHERNET_LEN + header + 8])
        .unwrap();
    frame
}

/// The one's complement sum of an even number of bytes: all ones if a right checksum is among them (RFC 1071).
fn sum(bytes: &[u8]) -> u16 {
    let words = bytes.as_chunks::<2>().0.iter();
    let sum = words.map(|word| u32::from(u16::from_be_bytes(*word))).sum::<u32>();
    let sum = (sum & 0xffff) + (sum >> 16);
    (sum + (sum >> 16)) as u16
}

fn patched(mut frame: Vec<u8>, offset: usize, bytes: &[u8]) -> Vec<u8> {
    frame[offset..offset + bytes.len()].copy_from_slice(bytes);
    frame
}

/// The frame after the verdict, as the XDP program carries it out.
fn carried_out(world: &World, mut frame: Vec<u8>) -> Vec<u8> {
    let verdict = world.verdict(frame.clone());
    let mut view = Frame::from_slice(&mut frame);
    match verdict.action {
        Action::ToServer(rewrite, hop) | Action::ToClient(rewrite, hop) => {
            rewrite::addresses(&mut view, &rewrite).unwrap();
            rewrite::forward(&mut view, &hop).unwrap();
        }
        Action::ToServerByStack(rewrite) | Action::ToClientByStack(rewrite) => {
            rewrite::addresses(&mut view, &rewrite).unwrap();
        }
        Action::TellTooBig(_) => panic!("it is another frame then"),
        Action::Pass(_) | Action::Drop(_) => {}
    }
    frame
}

/// Source, destination and time to live of a datagram whose checksums etherparse finds right.
fn sound(frame: &[u8]) -> (Address, Address, u8) {
    let packet = SlicedPacket::from_ethernet(frame).unwrap();
    let ip = packet.net.as_ref().unwrap().ipv4_ref().unwrap().header().to_header();
    assert_eq!(ip.header_checksum, ip.calc_header_checksum(), "checksum of the IP header");
    let Some(TransportSlice::Udp(udp)) = &packet.transport else { panic!("no UDP in {frame:02x?}") };
    if udp.checksum() != 0 {
        let wanted = udp.to_header().calc_checksum_ipv4(&ip, udp.payload()).unwrap();
        assert_eq!(udp.checksum(), wanted, "checksum of the datagram");
    }
    (ip.source, ip.destination, ip.time_to_live)
}

fn outcome(action: Action) -> Outcome {
    match action {
        Action::ToServer(..) => Outcome::ToServer,
        Action::ToServerByStack(_) => Outcome::ToServerByStack,
        Action::TellTooBig(_) => Outcome::ToldTooBig,
        Action::ToClient(..) => Outcome::ToClient,
        Action::ToClientByStack(_) => Outcome::ToClientByStack,
        Action::Pass(outcome) | Action::Drop(outcome) => outcome,
    }
}

/// A world, a frame and the verdict it deserves.
type Case = (World, Vec<u8>, Option<ServerNumber>, Class, Action);

fn cases() -> Vec<Case> {
    use Class::{Other, Rtp, Sip};
    use Outcome as O;
    let (master, backup) = (Some(NUMBER_OF_MASTER), Some(NUMBER_OF_BACKUP));
    let ip = |from, to| ip_header(from, to, &[]);
    let to_vip = |port| datagram((PHONE, PHONE_PORT), (VIP, port));
    let from = |server, port, to| datagram((server, port), (to, PHONE_PORT));
    let tcp = patched(to_vip(SIP), 23, &[6]);
    let fragment = |from, to| datagram_with(Ipv4Header { more_fragments: true, ..ip(from, to) }, (SIP, 1), b"INVITE");
    let mut vlan = Vec::new();
    let tagged = PacketBuilder::ethernet2([2; 6], [4; 6]).single_vlan(VlanId::try_new(7).unwrap());
    tagged.ipv4(PHONE, VIP, 64).udp(PHONE_PORT, SIP).write(&mut vlan, b"").unwrap();
    let inside = Inside::Datagram(UDP_OFFSET);
    let to_server = Rewrite { source: PHONE, destination: MASTER, inside };
    let to_client = |client| Rewrite { source: VIP, destination: client, inside };
    let later = |from, to| Ipv4Header { fragment_offset: IpFragOffset::try_new(185).unwrap(), ..ip(from, to) };
    let later_fragment = |from, to| datagram_with(later(from, to), (0, 0), b"the rest");
    let sized = |length: u16| datagram_with(ip(PHONE, VIP), (PHONE_PORT, SIP), &vec![b'.'; usize::from(length) - 28]);
    let in_parts = |frame| patched(frame, ETHERNET_LEN + 6, &[0]);
    let whole_with_options = datagram_with(ip_header(PHONE, VIP, &[1; 4]), (PHONE_PORT, SIP), &[b'.'; 1400]);
    let apart = || World::split(master, backup, None);
    let refusal_to_phone = unreachable(MASTER, PHONE, 3, &datagram((PHONE, PHONE_PORT), (MASTER, RTP)));
    let refusal_to_gateway = unreachable(ROUTER, GATEWAY, 1, &datagram((GATEWAY, 33_000), (BACKUP, SIP)));
    let offsets = ErrorOffsets { icmp: UDP_OFFSET, udp: UDP_OFFSET + 28 };
    let quotation = Quotation { offsets, source: PHONE, destination: VIP };
    let refused = Rewrite { source: VIP, destination: PHONE, inside: Inside::Error(quotation) };
    let (world, nobody) = (World::new, || World::steered(None, None));
    vec![
        (world(), to_vip(SIP), master, Sip, Action::ToServer(to_server, TO_MASTER)),
        (world(), to_vip(RTP), master, Rtp, Action::ToServer(to_server, TO_MASTER)),
        (world(), from(MASTER, SIP, PHONE), master, Sip, Action::ToClient(to_client(PHONE), TO_PHONE)),
        (world(), from(MASTER, RTP, STRANGER), master, Rtp, Action::ToClientByStack(to_client(STRANGER))),
        (world(), patched(to_vip(SIP), 0, &[1]), None, Other, Action::Pass(O::NotUnicast)),
        (world(), vlan, None, Other, Action::Pass(O::NotIpv4)),
        (world(), patched(to_vip(SIP), 14, &[0x44]), None, Other, Action::Pass(O::NotIpv4)),
        (world(), datagram((PHONE, SIP), (STRANGER, SIP)), None, Other, Action::Pass(O::NotService)),
        (world(), tcp, None, Other, Action::Pass(O::NotUdp)),
        (world(), fragment(MASTER, PHONE), master, Sip, Action::ToClient(to_client(PHONE), TO_PHONE)),
        (world(), fragment(PHONE, VIP), None, Other, Action::Pass(O::NotServicePort)),
        (world(), fragment(BACKUP, GATEWAY), backup, Sip, Action::Pass(O::NotForwarded)),
        (apart(), later_fragment(PHONE, VIP), None, Other, Action::Drop(O::Fragment)),
        (world(), fragment(BACKUP, MASTER), backup, Other, Action::Pass(O::BetweenServers)),
        (world(), to_vip(22), None, Other, Action::Pass(O::NotServicePort)),
        (world(), from(BACKUP, 53, PHONE), backup, Other, Action::Pass(O::NotServicePort)),
        (world(), from(MASTER, SIP, GATEWAY), master, Sip, Action::Pass(O::NotForwarded)),
        (world(), patched(to_vip(SIP), 38, &[0xff]), None, Other, Action::Drop(O::Malformed)),
        (world(), patched(from(BACKUP, SIP, PHONE), 16, &[0xff]), backup, Other, Action::Drop(O::Malformed)),
        (nobody(), to_vip(RTP), None, Rtp, Action::Drop(O::NoActiveServer)),
        (World::steered(backup, None), to_vip(SIP), backup, Sip, Action::Drop(O::NoNextHop)),
        (world(), with_ttl(1, (PHONE, 1), (VIP, SIP)), master, Sip, Action::Drop(O::TtlExpired)),
        (world(), with_ttl(1, (MASTER, RTP), (PHONE, 1)), master, Rtp, Action::Drop(O::TtlExpired)),
        (world(), from(BACKUP, RTP, PHONE), backup, Rtp, Action::Drop(O::Fenced)),
        (nobody(), from(MASTER, SIP, PHONE), master, Sip, Action::Drop(O::Fenced)),
        (world(), from(MASTER, SIP, BANNED), master, Sip, Action::Drop(O::Unroutable)),
        (world(), sized(MTU), master, Sip, Action::ToServer(to_server, TO_MASTER)),
        (world(), in_parts(sized(MTU + 1)), master, Sip, Action::ToServerByStack(to_server)),
        (world(), sized(MTU + 1), master, Sip, Action::TellTooBig(MTU)),
        (world(), whole_with_options, master, Sip, Action::Drop(O::TooLarge)),
        (world(), from(MASTER, RTP, NARROW), master, Rtp, Action::TellTooBig(NARROW_MTU)),
        (world(), in_parts(from(MASTER, RTP, NARROW)), master, Rtp, Action::ToClientByStack(to_client(NARROW))),
        (world(), from(MASTER, SIP, BACKUP), master, Other, Action::Pass(O::BetweenServers)),
        (world(), refusal_to_phone, master, Other, Action::ToClient(refused, TO_PHONE)),
        (nobody(), refusal_to_gateway, backup, Other, Action::Pass(O::ServerUnreachable)),
    ]
}

#[test]
fn every_outcome_that_the_decision_can_reach_is_reached_with_the_exact_verdict() {
    let mut seen = BTreeSet::new();
    for (number, (world, frame, server, class, action)) in cases().into_iter().enumerate() {
        let verdict = world.verdict(frame);
        assert_eq!((verdict.server, verdict.class, verdict.action), (server, class, action), "case {number}");
        seen.insert(outcome(action));
    }
    // Only the program learns from the map of devices that a hop leads nowhere.
    let all: BTreeSet<_> = Outcome::ALL.iter().copied().filter(|outcome| *outcome != Outcome::NoDevice).collect();
    assert_eq!(seen, all);
}

#[test]
fn a_packet_that_is_not_redirected_keeps_every_byte() {
    for (world, frame, _, _, action) in cases() {
        if matches!(action, Action::Pass(_) | Action::Drop(_)) {
            assert_eq!(carried_out(&world, frame.clone()), frame, "{action:?}");
        }
    }
}

#[test]
fn a_draining_server_may_send_to_clients_and_gets_nothing_new() {
    let world = World::steered(Some(NUMBER_OF_MASTER), Some(NUMBER_OF_BACKUP));
    let reply = world.verdict(datagram((BACKUP, RTP), (PHONE, PHONE_PORT)));
    assert_eq!((reply.server, outcome(reply.action)), (Some(NUMBER_OF_BACKUP), Outcome::ToClient));
    let request = world.verdict(datagram((PHONE, PHONE_PORT), (VIP, RTP)));
    assert_eq!((request.server, outcome(request.action)), (Some(NUMBER_OF_MASTER), Outcome::ToServer));
}

#[test]
fn the_answer_of_a_fenced_server_to_a_probe_reaches_the_gateway() {
    let answer = World::new().verdict(datagram((BACKUP, SIP), (GATEWAY, 33_000)));
    assert_eq!((answer.server, answer.action), (Some(NUMBER_OF_BACKUP), Action::Pass(Outcome::NotForwarded)));
}

#[test]
fn servers_hear_each_other_untouched_whoever_is_active() {
    for active in [Some(NUMBER_OF_MASTER), Some(NUMBER_OF_BACKUP), None] {
        for (from, to) in [(MASTER, BACKUP), (BACKUP, MASTER)] {
            let frame = datagram((from, SIP), (to, SIP));
            assert_eq!(outcome(World::steered(active, None).verdict(frame).action), Outcome::BetweenServers);
        }
    }
}

#[test]
fn a_server_that_calls_its_own_vip_sees_the_vip_as_its_peer() {
    let frame = carried_out(&World::new(), datagram((MASTER, RTP), (VIP, RTP + 2)));
    assert_eq!(sound(&frame), (VIP, MASTER, 63));
    assert_eq!((&frame[..6], &frame[6..12]), (&TO_MASTER.destination[..], &TO_MASTER.source[..]));
}

#[test]
fn a_reply_by_the_stack_keeps_its_time_to_live_and_ethernet_addresses() {
    let before = datagram((MASTER, SIP), (STRANGER, PHONE_PORT));
    let after = carried_out(&World::new(), before.clone());
    assert_eq!(sound(&after), (VIP, STRANGER, 64));
    assert_eq!(after[..ETHERNET_LEN], before[..ETHERNET_LEN]);
}

#[test]
fn a_datagram_without_a_checksum_is_forwarded_without_one() {
    let before = patched(datagram((PHONE, PHONE_PORT), (VIP, RTP)), UDP_OFFSET + 6, &[0, 0]);
    let after = carried_out(&World::new(), before);
    assert_eq!(sound(&after), (PHONE, MASTER, 63));
    assert_eq!(after[UDP_OFFSET + 6..UDP_OFFSET + 8], [0, 0]);
}

#[test]
fn ethernet_padding_and_bytes_after_the_datagram_are_no_reason_to_drop() {
    let mut padded = datagram_with(ip_header(PHONE, VIP, &[]), (PHONE_PORT, SIP), b"\r\n\r\n");
    padded.resize(60, 0);
    assert_eq!(outcome(World::new().verdict(padded).action), Outcome::ToServer);
}

#[test]
fn a_frame_cut_anywhere_is_never_redirected() {
    for (world, frame, ..) in cases() {
        for length in 0..frame.len() {
            let action = world.verdict(frame[..length].to_vec()).action;
            assert!(matches!(action, Action::Pass(_) | Action::Drop(_)), "cut at {length}: {action:?}");
        }
    }
}
