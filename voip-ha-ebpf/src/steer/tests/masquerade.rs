//! A server that gets packets in the gateway's own name.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
};

use proptest::prelude::*;

use super::*;
use crate::abi::{Forwarding, MaskKey, MaskedEntry, MaskedKey};

const PORTS: [u16; 2] = [5060, 5067];
const IDLE_S: u32 = 10;
const SECOND: u64 = 1_000_000_000;

/// A world whose master masquerades.
struct Masquerade {
    world: World,
    masks: RefCell<HashMap<MaskKey, u16>>,
    masked: RefCell<HashMap<MaskedKey, MaskedEntry>>,
    fragments: RefCell<HashMap<FragmentKey, Address>>,
    now: Cell<u64>,
    most: usize,
}

impl Masquerade {
    fn new() -> Self {
        let mut world = World::new().with_master(|entry| {
            let family = if entry.address.is_v4() { 0 } else { 1 };
            entry.forwarding = Forwarding::Masquerade as u32;
            (entry.mask, entry.mask_ports, entry.mask_idle_s) = (BOTH[family].gateway, PORTS, IDLE_S);
        });
        world.endpoints.extend(BOTH.map(|hosts| (hosts.gateway, Endpoint::MASK)));
        let (masks, masked, fragments) = Default::default();
        Self { world, masks, masked, fragments, now: Cell::new(100 * SECOND), most: usize::MAX }
    }

    /// As the programs do it, one after the other. Returns what the frame is counted as, and the frame.
    fn run(&self, mut frame: Vec<u8>) -> (Outcome, Vec<u8>) {
        let view = &mut Frame::from_slice(&mut frame);
        let network = packet::network(view).unwrap();
        let found = unmask(view, &network, self);
        if found.is_clients {
            rewrite::unmask(view, &network, &found).unwrap();
        }
        let network = packet::network(view).unwrap();
        let mut verdict = self.world.verdict(frame.clone());
        let view = &mut Frame::from_slice(&mut frame);
        if verdict.action.masked != 0 {
            let port = mask(view, &network, &mut verdict, self);
            rewrite::mask(view, &network, &verdict.action, &port).unwrap();
        }
        let outcome = verdict.action.outcome;
        (outcome, self.world.done(frame, &verdict.action))
    }

    fn to_server(&self, client: (Address, u16), service_port: u16) -> Option<u16> {
        let vip = if client.0.is_v4() { FOUR.vip } else { SIX.vip };
        let (outcome, frame) = self.run(datagram(client, (vip, service_port)));
        assert!([Outcome::ToServer, Outcome::NoPort].contains(&outcome), "{outcome:?}");
        (outcome == Outcome::ToServer).then(|| ports(&frame).0)
    }
}

fn ports(frame: &[u8]) -> (u16, u16) {
    let mut frame = frame.to_vec();
    let view = &mut Frame::from_slice(&mut frame);
    let network = packet::network(view).unwrap();
    let datagram = packet::datagram(view, &network).unwrap();
    (datagram.source_port, datagram.destination_port)
}

impl Tables for Masquerade {
    fn endpoint(&self, address: &Address) -> Endpoint {
        self.world.endpoint(address)
    }
    fn service(&self, place: ServicePlace) -> Option<&ServiceEntry> {
        self.world.service(place)
    }
    fn steering(&self, service: u32) -> Option<SteeringWord> {
        self.world.steering(service)
    }
    fn server(&self, slot: Slot, family: Family) -> Option<&ServerEntry> {
        self.world.server(slot, family)
    }
    fn ingress(&self) -> u32 {
        self.world.ingress()
    }
    fn first_fragment(&self, key: &FragmentKey) -> Option<FirstFragment> {
        self.world.first_fragment(key)
    }
    fn route(&self, query: &RouteQuery) -> Route {
        self.world.route(query)
    }
}

impl Masks for Masquerade {
    fn now(&self) -> u64 {
        self.now.get()
    }
    fn mask(&self, key: &MaskKey) -> u16 {
        self.masks.borrow().get(key).copied().unwrap_or(0)
    }
    fn masked(&self, key: &MaskedKey) -> MaskedEntry {
        self.masked.borrow().get(key).copied().unwrap_or(MaskedEntry::NOBODY)
    }
    fn see(&self, key: &MaskedKey, now: u64) {
        self.masked.borrow_mut().get_mut(key).unwrap().seen_at = now;
    }
    fn claim(&self, key: &MaskedKey, entry: &MaskedEntry) -> bool {
        let mut masked = self.masked.borrow_mut();
        let is_free = !masked.contains_key(key) && masked.len() < self.most;
        if is_free {
            masked.insert(*key, *entry);
        }
        is_free
    }
    fn release(&self, key: &MaskedKey) {
        self.masked.borrow_mut().remove(key);
    }
    fn put_mask(&self, key: &MaskKey, port: u16) -> bool {
        self.masks.borrow_mut().insert(*key, port);
        true
    }
    fn remove_mask(&self, key: &MaskKey) {
        self.masks.borrow_mut().remove(key);
    }
    fn lock(&self, key: &MaskKey) -> bool {
        self.masks.borrow_mut().insert(*key, 0).is_none()
    }
    fn masked_fragment(&self, key: &FragmentKey) -> Address {
        self.fragments.borrow().get(key).copied().unwrap_or(Address::NONE)
    }
    fn put_masked_fragment(&self, key: &FragmentKey, client: Address) {
        self.fragments.borrow_mut().insert(*key, client);
    }
}

#[test]
fn a_server_sees_the_gateway_and_the_phone_sees_the_vip() {
    for Hosts { vip, master, phone, gateway, .. } in BOTH {
        let gate = Masquerade::new();
        let (_, there) = gate.run(datagram((phone, PHONE_PORT), (vip, SIP)));
        let (from, to, _) = sound(&there);
        let (port, service_port) = ports(&there);
        assert_eq!((from, to, service_port), (gateway, master, SIP));
        assert!((PORTS[0]..=PORTS[1]).contains(&port) && port % 2 == PHONE_PORT % 2, "{port}");
        let (outcome, back) = gate.run(datagram((master, SIP), (gateway, port)));
        let (from, to, _) = sound(&back);
        assert_eq!((outcome, from, to, ports(&back)), (Outcome::ToClient, vip, phone, (SIP, PHONE_PORT)));
    }
}

#[test]
fn later_fragments_follow_the_first_one_either_way() {
    for Hosts { vip, master, phone, gateway, .. } in BOTH {
        let gate = Masquerade::new();
        let piece = |from, to, ports, offset, more| {
            datagram_with(part(ip(from, to), 7, offset, more), ports, b"INVITE.....12345")
        };
        let ends = |frame: &[u8]| {
            let network = packet::network(&mut Frame::from_slice(&mut frame.to_vec())).unwrap();
            (network.source, network.destination)
        };
        let (_, first) = gate.run(piece(phone, vip, (PHONE_PORT, SIP), 0, true));
        let (_, later) = gate.run(piece(phone, vip, (0, 0), 3, false));
        assert_eq!((ends(&first), ends(&later)), ((gateway, master), (gateway, master)));
        let (_, before) = gate.run(piece(master, gateway, (0, 0), 3, false));
        assert_eq!(ends(&before), (master, gateway), "whose it is, only the first one says");
        let port = ports(&first).0;
        let (_, first) = gate.run(piece(master, gateway, (SIP, port), 0, true));
        let (_, later) = gate.run(piece(master, gateway, (0, 0), 3, false));
        assert_eq!((ends(&first), ends(&later), ports(&first)), ((vip, phone), (vip, phone), (SIP, PHONE_PORT)));
        let (_, strange) = gate.run(piece(master, gateway, (SIP, port + 2), 0, true));
        let (_, later) = gate.run(piece(master, gateway, (0, 0), 3, false));
        assert_eq!((ends(&strange), ends(&later)), ((master, gateway), (master, gateway)), "of another datagram");
    }
}

#[test]
fn an_error_is_about_a_packet_that_its_receiver_knows() {
    for Hosts { vip, master, phone, gateway, router, .. } in BOTH {
        let gate = Masquerade::new();
        let lost = unreachable(phone, vip, &datagram((vip, RTP), (phone, PHONE_PORT)));
        assert_eq!(gate.run(lost.clone()).0, Outcome::NoPort, "there is no such flow yet");
        let port = gate.to_server((phone, PHONE_PORT), RTP).unwrap();
        let (_, there) = gate.run(lost);
        let (from, to, quoted) = sound_icmp(&there);
        assert_eq!((from, to), (gateway, master));
        assert!(quotes(&quoted, &datagram((master, RTP), (gateway, port))));
        for reporter in [master, router] {
            let about = datagram((gateway, port), (master, RTP));
            let (outcome, back) = gate.run(unreachable(reporter, gateway, &about));
            let (from, to, quoted) = sound_icmp(&back);
            assert_eq!((outcome, from, to), (Outcome::ToClient, if reporter == master { vip } else { router }, phone));
            assert!(quotes(&quoted, &datagram((phone, PHONE_PORT), (vip, RTP))));
        }
    }
}

/// Whether an ICMP message quotes the packet in a frame.
fn quotes(message: &[u8], frame: &[u8]) -> bool {
    message.len() >= 36 && frame[ETHERNET_LEN..].starts_with(&message[8..])
}

#[test]
fn who_sends_too_much_to_the_gateways_own_name_is_told_of_that() {
    for Hosts { master, phone, gateway, .. } in BOTH {
        let mut gate = Masquerade::new();
        let port = gate.to_server((phone, PHONE_PORT), SIP).unwrap();
        gate.world = gate.world.with_route_to_phone(Route::TooLarge(100));
        let large = datagram_with(ip(master, gateway), (SIP, port), &[b'.'; 300]);
        let (outcome, told) = gate.run(large.clone());
        let (from, to, quoted) = sound_icmp(&told);
        assert_eq!((outcome, from, to), (Outcome::ToldTooBig, gateway, master));
        assert!(quotes(&quoted, &large));
    }
}

#[test]
fn an_idle_flow_loses_its_port_to_who_needs_it_and_gets_another_one() {
    let gate = Masquerade::new();
    let client = |host: u8| (Address::v4([198, 51, 100, host]), SIP);
    assert_eq!(gate.to_server(client(1), SIP), Some(SIP), "its own, which is free");
    gate.now.set(gate.now.get() + u64::from(IDLE_S) * SECOND);
    assert_ne!(gate.to_server(client(2), SIP), Some(SIP), "not idle for long enough");
    gate.now.set(gate.now.get() + SECOND);
    assert_eq!(gate.to_server(client(3), SIP), Some(SIP));
    assert!(gate.to_server(client(1), SIP).is_some_and(|port| port != SIP));
}

#[test]
fn a_full_table_takes_no_flow_and_keeps_nothing_of_it() {
    let gate = Masquerade { most: 1, ..Masquerade::new() };
    assert!(gate.to_server((FOUR.phone, SIP), SIP).is_some());
    assert_eq!(gate.to_server((FOUR.stranger, SIP), SIP), None);
    assert_eq!((gate.masks.borrow().len(), gate.masked.borrow().len()), (1, 1));
    assert!(gate.to_server((FOUR.phone, SIP), SIP).is_some(), "who is in it goes on");
}

#[test]
fn while_somebody_else_has_the_lock_nobody_loses_a_port() {
    let gate = Masquerade::new();
    assert_eq!(gate.to_server((FOUR.phone, SIP), SIP), Some(SIP));
    gate.now.set(gate.now.get() + 2 * u64::from(IDLE_S) * SECOND);
    let key = MaskedKey::new(NUMBER_OF_MASTER, Family::V4, SIP, SIP);
    assert!(gate.lock(&MaskKey::lock(&key)));
    assert_ne!(gate.to_server((FOUR.stranger, SIP), SIP), Some(SIP));
    gate.remove_mask(&MaskKey::lock(&key));
    assert_eq!(gate.to_server((FOUR.banned, SIP), SIP), Some(SIP));
}

proptest! {
    #[test]
    fn an_answer_reaches_who_was_masked_last_and_nobody_else_however_few_ports_there_are(
        steps in proptest::collection::vec((0u8..12, 0u16..3, 0u64..12), 1..120),
    ) {
        let mut gate = Masquerade::new();
        gate.world.routes.extend((0..12).map(|host| (Address::v4([198, 51, 100, host]), Route::Hop(TO_PHONE))));
        for (host, port, seconds) in steps {
            gate.now.set(gate.now.get() + seconds * SECOND / 2);
            let client = (Address::v4([198, 51, 100, host]), 5060 + port);
            let Some(port) = gate.to_server(client, SIP) else { continue };
            let (outcome, back) = gate.run(datagram((FOUR.master, SIP), (FOUR.gateway, port)));
            prop_assert_eq!((outcome, sound(&back).1, ports(&back).1), (Outcome::ToClient, client.0, client.1));
            for (key, entry) in gate.masked.borrow().iter() {
                let flow = MaskKey::of(key, entry);
                prop_assert_eq!(gate.mask(&flow), key.port, "both maps say the same of {:?}", flow);
            }
        }
    }
}
