//! The tables as plain maps, and the program's part in carrying a verdict out.

use std::collections::HashMap;

use super::*;
use crate::abi::{Named, Ports};

/// The addresses of one family of everybody who takes part.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hosts {
    pub(super) family: Family,
    pub(super) vip: Address,
    pub(super) master: Address,
    pub(super) backup: Address,
    pub(super) phone: Address,
    /// Behind a route that the stack has to take.
    pub(super) stranger: Address,
    /// Behind a blackhole route.
    pub(super) banned: Address,
    /// Behind a route with a smaller MTU than any packet here.
    pub(super) narrow: Address,
    /// The gateway itself, as any other address, is no way out.
    pub(super) gateway: Address,
    /// On the way to the backup.
    pub(super) router: Address,
    /// Offset of the UDP header in a frame without VLAN tags, IP options and extension headers.
    pub(super) udp: usize,
}

pub(super) const FOUR: Hosts = Hosts {
    family: Family::V4,
    vip: Address::v4([192, 0, 2, 10]),
    master: Address::v4([10, 0, 0, 2]),
    backup: Address::v4([10, 8, 0, 2]),
    phone: Address::v4([198, 51, 100, 7]),
    stranger: Address::v4([198, 51, 100, 8]),
    banned: Address::v4([203, 0, 113, 1]),
    narrow: Address::v4([198, 51, 100, 9]),
    gateway: Address::v4([10, 0, 0, 1]),
    router: Address::v4([10, 0, 0, 254]),
    udp: ETHERNET_LEN + 20,
};

pub(super) const SIX: Hosts = Hosts {
    family: Family::V6,
    vip: six(1, 0x10),
    master: six(2, 2),
    backup: six(8, 2),
    phone: six(0x198, 7),
    stranger: six(0x198, 8),
    banned: six(0x203, 1),
    narrow: six(0x198, 9),
    gateway: six(2, 1),
    router: six(2, 0xfe),
    udp: ETHERNET_LEN + 40,
};

pub(super) const BOTH: [Hosts; 2] = [FOUR, SIX];

const fn six(network: u16, host: u8) -> Address {
    let [high, low] = network.to_be_bytes();
    Address::v6([0x20, 0x01, 0x0d, 0xb8, high, low, 0, 0, 0, 0, 0, 0, 0, 0, 0, host])
}

impl Hosts {
    /// Bytes that a packet in fragments has before the UDP header.
    pub(super) fn fragment_header(&self) -> usize {
        if self.family == Family::V4 { 0 } else { 8 }
    }

    pub(super) fn servers(&self) -> [(ServerNumber, Address); 2] {
        [(NUMBER_OF_MASTER, self.master), (NUMBER_OF_BACKUP, self.backup)]
    }
}

pub(super) const SIP: u16 = 5060;
pub(super) const RTP: u16 = 10_000;
pub(super) const PHONE_PORT: u16 = 40_000;

pub(super) const NUMBER_OF_MASTER: ServerNumber = ServerNumber(0);
pub(super) const NUMBER_OF_BACKUP: ServerNumber = ServerNumber(1);
pub(super) const NO_TAGS: [VlanTag; MAX_TAGS] = [VlanTag { protocol: 0, id: 0 }; MAX_TAGS];
pub(super) const TO_MASTER: Hop =
    Hop { exit: 3, ends: Ends::new([2, 0, 0, 0, 3, 2], [2, 0, 0, 0, 3, 1]), tags: NO_TAGS };
pub(super) const TO_PHONE: Hop =
    Hop { exit: 2, ends: Ends::new([2, 0, 0, 0, 2, 7], [2, 0, 0, 0, 2, 1]), tags: NO_TAGS };
/// Index of the device on the way to the servers, which is not its place among the devices.
pub(super) const BACK: u32 = 103;
pub(super) const FRONT: u32 = 102;

/// Of the device towards the master.
pub(super) const MTU: u32 = 1400;
pub(super) const NARROW_MTU: u32 = 40;

/// The service's places and slots are of the second bank, so that none of them is 0 by chance.
const PLACE: ServicePlace = ServicePlace::new(0, 1);

pub(super) const fn slot(number: ServerNumber) -> Slot {
    number.slot(1)
}

#[derive(Clone, Debug)]
pub(super) struct World {
    pub(super) endpoints: HashMap<Address, Endpoint>,
    pub(super) services: HashMap<ServicePlace, ServiceEntry>,
    pub(super) words: Vec<SteeringWord>,
    pub(super) servers: HashMap<(Slot, Family), ServerEntry>,
    pub(super) routes: HashMap<Address, Route>,
    pub(super) fragments: HashMap<FragmentKey, FirstFragment>,
    pub(super) ingress: u32,
}

impl Tables for World {
    const HAS_CALLS: bool = true;
    fn endpoint(&self, address: &Address) -> Endpoint {
        self.endpoints.get(address).copied().unwrap_or(Endpoint::NONE)
    }
    fn service(&self, place: ServicePlace) -> Option<&ServiceEntry> {
        self.services.get(&place)
    }
    fn steering(&self, service: u32) -> Option<SteeringWord> {
        self.words.get(service as usize).copied()
    }
    fn server(&self, slot: Slot, family: Family) -> Option<&ServerEntry> {
        self.servers.get(&(slot, family))
    }
    fn ingress(&self) -> u32 {
        self.ingress
    }
    fn first_fragment(&self, key: &FragmentKey) -> Option<FirstFragment> {
        self.fragments.get(key).copied()
    }
    fn route(&self, query: &RouteQuery) -> Route {
        assert!(
            !self.endpoint(&query.source).is_server(),
            "the routing table is asked about the packet as the client will see it"
        );
        for address in [query.source, query.destination] {
            assert_eq!(address.is_v4(), query.family == Family::V4, "{query:?}");
        }
        self.routes.get(&query.destination).copied().unwrap_or(Route::NotForwarded)
    }
}

impl World {
    /// One service of both families, its master active, its backup without a next hop.
    pub(super) fn new() -> Self {
        let ports = Ports { sip: [SIP, 5080, 0, 0], rtp_first: RTP, rtp_last: 19_999 };
        let service = ServiceEntry { vips: BOTH.map(|hosts| hosts.vip), ports, protection: 0 };
        let mut world = Self {
            endpoints: HashMap::new(),
            services: HashMap::from([(PLACE, service)]),
            words: vec![SteeringWord::new(Named::both(slot(NUMBER_OF_MASTER)), 1)],
            servers: HashMap::new(),
            routes: HashMap::new(),
            fragments: HashMap::new(),
            ingress: BACK,
        };
        for hosts in BOTH {
            world.endpoints.insert(hosts.vip, Endpoint::vip(PLACE));
            for (number, address) in hosts.servers() {
                world.endpoints.insert(address, Endpoint::server(PLACE, slot(number)));
            }
            let backup = ServerEntry { address: hosts.backup, ..ServerEntry::default() };
            world.servers.insert((slot(NUMBER_OF_MASTER), hosts.family), way_to(hosts.master));
            world.servers.insert((slot(NUMBER_OF_BACKUP), hosts.family), backup);
            world.routes.extend([
                (hosts.phone, Route::Hop(TO_PHONE)),
                (hosts.stranger, Route::Stack),
                (hosts.banned, Route::Refused),
                (hosts.vip, Route::NotForwarded),
                (hosts.narrow, Route::TooLarge(NARROW_MTU)),
            ]);
        }
        world
    }

    pub(super) fn steered(active: Option<ServerNumber>, draining: Option<ServerNumber>) -> Self {
        Self::split(active, active, draining)
    }

    /// Signalling and media apart.
    pub(super) fn split(
        signalling: Option<ServerNumber>,
        media: Option<ServerNumber>,
        draining: Option<ServerNumber>,
    ) -> Self {
        let named = Named { signalling: signalling.map(slot), media: media.map(slot), draining: draining.map(slot) };
        Self { words: vec![SteeringWord::new(named, 2)], ..Self::new() }
    }

    /// The backup can be reached too, by the same way.
    pub(super) fn with_way_to_backup(mut self) -> Self {
        for hosts in BOTH {
            let way = ServerEntry { address: hosts.backup, ..self.way(NUMBER_OF_MASTER, hosts.family) };
            self.servers.insert((slot(NUMBER_OF_BACKUP), hosts.family), way);
        }
        self
    }

    /// The ways to the master are others.
    pub(super) fn with_master(mut self, change: impl Fn(&mut ServerEntry)) -> Self {
        for family in Family::ALL {
            change(self.servers.get_mut(&(slot(NUMBER_OF_MASTER), family)).unwrap());
        }
        self
    }

    /// The routes to the phone are others.
    pub(super) fn with_route_to_phone(mut self, route: Route) -> Self {
        self.routes.extend(BOTH.map(|hosts| (hosts.phone, route)));
        self
    }

    pub(super) fn way(&self, number: ServerNumber, family: Family) -> ServerEntry {
        self.servers[&(slot(number), family)]
    }

    pub(super) fn verdict(&self, mut frame: Vec<u8>) -> Verdict {
        let before = frame.clone();
        let mut view = Frame::from_slice(&mut frame);
        let verdict = match packet::network(&mut view) {
            Ok(network) => steer(&mut view, &network, self),
            Err(reason) => pass_by(reason),
        };
        assert_eq!(frame, before, "the decision changes no byte");
        verdict
    }

    /// The frame after the verdict, as the XDP program carries it out.
    pub(super) fn carried_out(&self, frame: Vec<u8>) -> Vec<u8> {
        let action = self.verdict(frame.clone()).action;
        self.done(frame, &action)
    }

    /// The frame when this was done with it.
    pub(super) fn done(&self, mut frame: Vec<u8>, action: &Action) -> Vec<u8> {
        let Ok(network) = packet::network(&mut Frame::from_slice(&mut frame)) else { return frame };
        match action.kind {
            Kind::Redirect => {
                let mut view = Frame::from_slice(&mut frame);
                rewrite::addresses(&mut view, &network, &action.rewrite).unwrap();
                rewrite::count_down(&mut view, &network).unwrap();
                if network.tags == 0 && action.hop.tags == NO_TAGS {
                    rewrite::address_frame(&mut view, &action.hop).unwrap();
                    return frame;
                }
                let priority = rewrite::priority(&mut view, &network);
                adjust_head(&mut frame, rewrite::growth(&network, &action.hop));
                rewrite::tag_frame(&mut Frame::from_slice(&mut frame), &action.hop, network.family, priority).unwrap();
            }
            Kind::ByStack => rewrite::addresses(&mut Frame::from_slice(&mut frame), &network, &action.rewrite).unwrap(),
            Kind::TellTooBig => {
                let teller = teller(&network, action, self);
                adjust_head(&mut frame, rewrite::too_big_growth(network.family) as i32);
                rewrite::too_big(&mut Frame::from_slice(&mut frame), &network, teller, action.mtu).unwrap();
                frame.truncate(rewrite::too_big_length(&network));
            }
            Kind::Pass | Kind::Drop => {}
            Kind::AskCalls => unreachable!("the tables have calls"),
        }
        frame
    }
}

fn way_to(address: Address) -> ServerEntry {
    ServerEntry {
        address,
        ifindex: BACK,
        mtu: MTU,
        ends: TO_MASTER.ends,
        exit: TO_MASTER.exit,
        ..ServerEntry::default()
    }
}

/// As the kernel's helper: the new bytes have no value that could be relied on.
fn adjust_head(frame: &mut Vec<u8>, growth: i32) {
    match usize::try_from(growth) {
        Ok(more) => drop(frame.splice(0..0, vec![0xee; more])),
        Err(_) => drop(frame.drain(..growth.unsigned_abs() as usize)),
    }
}
