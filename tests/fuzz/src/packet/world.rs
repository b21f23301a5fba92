//! The tables that an input makes, and what the XDP program does with a verdict. What a change of [`Tables`] or [`Action`]
//! touches is in this file.

mod masks;
mod servers;

use std::net::IpAddr;

use voip_ha_ebpf::{
    abi::{
        Address, Class, Endpoint, Family, FirstFragment, FragmentKey, NO_EXIT, Named, Notes, Outcome, Ports,
        ServerEntry, ServerNumber, ServiceEntry, ServicePlace, Slot, SteeringWord,
    },
    packet::{Frame, Network},
    rewrite,
    steer::{self, Action, Hop, Kind, Route, RouteQuery, Tables, Verdict},
};

use self::servers::{BACK, FRONT, NAMED, ONE_TAG, PORTS, SIDE, TWO_TAGS, VIPS};
use crate::room::Room;

pub(super) use self::servers::{GATEWAY, KNOWN, MASK_PORTS, OTHER_VIP, Pair, SERVERS, Server, VIP};

/// Bytes of an input in front of the frame: the decision words of the two services (two bytes each, see [`Service`]), the ways
/// out and in ([`WAY`], [`NARROW`], [`BY_FRONT`]), and what is remembered of the first fragment of any datagram ([`first`]).
pub(super) const CONTROL: usize = 6;
/// Bits of a decision word: which server of the service, counted from 1, signalling goes to. Those of media and of who is draining
/// follow.
pub(super) const NAME_BITS: u16 = 3;
/// Bit of a decision word.
pub(super) const CENSUS: u16 = 1 << 14;
/// Bit of a decision word: slots and place are the second ones.
pub(super) const BANK: u16 = 1 << 15;
/// Bits of the way: what the routing table answers.
pub(super) const WAY: u8 = 7;
/// Bit of the way: all devices towards servers have a small MTU.
pub(super) const NARROW: u8 = 8;
/// Bit of the way: the frame came in by the front, not by the back.
pub(super) const BY_FRONT: u8 = 16;

/// Less than IPv6 allows: an input has to be short.
pub(super) const NARROW_MTU: u32 = 68;

/// A service as the input steers it. Servers are told by number.
pub(super) struct Service {
    pub(super) vip: Pair,
    pub(super) signalling: Option<usize>,
    pub(super) media: Option<usize>,
    pub(super) draining: Option<usize>,
    ports: Ports,
    place: ServicePlace,
    entry: ServiceEntry,
    word: SteeringWord,
}

impl Service {
    fn of(index: usize, bits: [u8; 2]) -> Self {
        let bits = u16::from_le_bytes(bits);
        let bank = u32::from(bits & BANK != 0);
        let number = |part: u16| NAMED[index].get(usize::from(bits >> (part * NAME_BITS) & 7).wrapping_sub(1)).copied();
        let slot = |part| number(part).map(|number| ServerNumber(number as u32).slot(bank));
        let named = Named { signalling: slot(0), media: slot(1), draining: slot(2) };
        let vip = VIPS[index];
        let vips = Family::ALL.map(|family| vip.by(family).into());
        Self {
            vip,
            signalling: number(0),
            media: number(1),
            draining: number(2),
            ports: PORTS[index],
            place: ServicePlace::new(index as u32, bank),
            entry: ServiceEntry { vips, ports: PORTS[index], protection: 0 },
            word: SteeringWord::new(named, 7).with_notes(if bits & CENSUS != 0 {
                Notes::Count
            } else {
                Notes::Nothing
            }),
        }
    }

    /// The server that packets to this port go to. All RTP ports are above all SIP ports.
    pub(super) fn target(&self, port: u16) -> Option<usize> {
        if !self.is_port(port) {
            return None;
        }
        if port >= 10_000 { self.media } else { self.signalling }
    }

    pub(super) fn is_port(&self, port: u16) -> bool {
        port != 0 && self.ports.sip.contains(&port) || (self.ports.rtp_first..=self.ports.rtp_last).contains(&port)
    }

    pub(super) fn may_send(&self, server: usize) -> bool {
        [self.signalling, self.media, self.draining].contains(&Some(server))
    }
}

/// All tables.
pub(super) struct World {
    services: [Service; 2],
    slots: [[ServerEntry; 2]; 2 * SERVERS.len()],
    way: u8,
    first: Option<FirstFragment>,
}

/// What became of a frame.
pub(super) struct Done {
    pub(super) outcome: Outcome,
    pub(super) fate: Fate,
    pub(super) remembered: Option<(FragmentKey, FirstFragment)>,
}

/// How much of it is left as it was. A hop is where it was sent to; without one the stack has it.
pub(super) enum Fate {
    /// All of it.
    Kept,
    /// Rewritten, for a server.
    ToServer(Option<Hop>),
    /// Rewritten, for a client.
    ToClient(Option<Hop>),
    /// None of it: the frame is now an ICMP message to its sender.
    Answered,
}

impl World {
    pub(super) fn of(&[p, b, t, r, way, remembered]: &[u8; CONTROL]) -> Self {
        let services = [Service::of(0, [p, b]), Service::of(1, [t, r])];
        let slots = std::array::from_fn(|slot| Family::ALL.map(|family| SERVERS[slot / 2].entry(family, mtu(way))));
        Self { services, slots, way, first: first(remembered) }
    }

    /// The service that owns this VIP.
    pub(super) fn service(&self, vip: IpAddr) -> Option<&Service> {
        self.services.iter().find(|service| service.vip.has(vip))
    }

    /// The service of this server, and its number.
    pub(super) fn owner(&self, server: IpAddr) -> Option<(&Service, usize)> {
        let number = SERVERS.iter().position(|known| known.has(server))?;
        Some((&self.services[SERVERS[number].service], number))
    }

    /// The server that the first fragment is said to have gone to.
    pub(super) fn first_server(&self) -> Option<usize> {
        match self.first {
            Some(FirstFragment::OfServer { slot, .. }) => Some(slot.server().0 as usize),
            _ => None,
        }
    }

    /// Whether frames from a server with this address come in as this one did.
    pub(super) fn is_way_to(&self, server: IpAddr) -> bool {
        let family = Family::of(server);
        SERVERS.iter().any(|known| known.has(server) && known.device(family) == self.ingress())
    }

    /// Most bytes of a packet to a server.
    pub(super) fn mtu(&self) -> u32 {
        mtu(self.way)
    }

    /// The way to clients, if there is one that XDP can take.
    pub(super) fn client_hop(&self) -> Option<Hop> {
        match self.way & WAY {
            0 | 6 => Some(servers::untagged(FRONT)),
            1 => Some(servers::client_hop(FRONT, ONE_TAG)),
            2 => Some(servers::untagged(SIDE)),
            7.. => Some(servers::client_hop(FRONT, TWO_TAGS)),
            _ => None,
        }
    }

    /// Does to the frame in the room what the XDP program does.
    pub(super) fn carry_out(&self, room: &mut Room, network: &Network, verdict: &Verdict) -> Done {
        let remembered = verdict.to_remember().map(|first| (network.fragment_key(), first));
        let action = &verdict.action;
        let (outcome, fate) = match action.kind {
            Kind::Redirect if action.hop.exit != NO_EXIT => {
                redirect(room, network, action);
                (action.outcome, rewritten(action.outcome, Some(action.hop)))
            }
            Kind::Redirect if action.outcome == Outcome::ToClient => {
                by_stack(room, network, action, Outcome::ToClientByStack)
            }
            Kind::Redirect => (Outcome::NoDevice, Fate::Kept),
            Kind::ByStack => by_stack(room, network, action, action.outcome),
            Kind::TellTooBig => self.tell_too_big(room, network, action),
            Kind::Pass | Kind::Drop => (action.outcome, Fate::Kept),
            Kind::AskCalls => unreachable!("the tables have calls"),
        };
        Done { outcome, fate, remembered }
    }

    /// Turns the frame in the room into the message about it.
    fn tell_too_big(&self, room: &mut Room, network: &Network, action: &Action) -> (Outcome, Fate) {
        let teller = steer::teller(network, action, self);
        let before = room.frame().to_vec();
        grow(room, rewrite::too_big_growth(network.family) as i32);
        if rewrite::too_big(&mut Frame::from_slice(room.frame()), network, teller, action.mtu).is_none() {
            replace(room, &before);
            return (Outcome::TooLarge, Fate::Kept);
        }
        let message = room.frame()[..rewrite::too_big_length(network)].to_vec();
        replace(room, &message);
        (Outcome::ToldTooBig, Fate::Answered)
    }
}

fn rewritten(outcome: Outcome, hop: Option<Hop>) -> Fate {
    match outcome {
        Outcome::ToServer | Outcome::ToServerByStack => Fate::ToServer(hop),
        Outcome::ToClient | Outcome::ToClientByStack => Fate::ToClient(hop),
        other => panic!("sent on, and counted as {}", other.name()),
    }
}

fn redirect(room: &mut Room, network: &Network, Action { rewrite, hop, .. }: &Action) {
    const LOOKED_AT: &str = "the decision has looked at the headers";
    let frame = &mut Frame::from_slice(room.frame());
    rewrite::addresses(frame, network, rewrite).expect(LOOKED_AT);
    rewrite::count_down(frame, network).expect(LOOKED_AT);
    if network.tags == 0 && hop.tags[0].id == 0 {
        rewrite::address_frame(frame, hop).expect(LOOKED_AT);
        return;
    }
    let priority = rewrite::priority(frame, network);
    grow(room, rewrite::growth(network, hop));
    rewrite::tag_frame(&mut Frame::from_slice(room.frame()), hop, network.family, priority).expect(LOOKED_AT);
}

fn by_stack(room: &mut Room, network: &Network, action: &Action, outcome: Outcome) -> (Outcome, Fate) {
    let frame = &mut Frame::from_slice(room.frame());
    rewrite::addresses(frame, network, &action.rewrite).expect("the decision has looked at the headers");
    (outcome, rewritten(outcome, None))
}

/// Moves the start of the frame, as `bpf_xdp_adjust_head` does, which leaves what it finds in the new bytes.
fn grow(room: &mut Room, growth: i32) {
    let frame = room.frame();
    let grown = match usize::try_from(growth) {
        Ok(more) => [&vec![0xee; more], &*frame].concat(),
        Err(_) => frame[growth.unsigned_abs() as usize..].to_vec(),
    };
    replace(room, &grown);
}

fn replace(room: &mut Room, frame: &[u8]) {
    assert!(room.is_whole(), "written in front of the frame");
    room.put(frame);
}

/// What a byte of an input says of first fragments.
fn first(remembered: u8) -> Option<FirstFragment> {
    let class = if remembered & 0x80 == 0 { Class::Sip } else { Class::Rtp };
    let by_stack = remembered & 0x40 != 0;
    match remembered & 0x3f {
        0 => None,
        1 => Some(FirstFragment::Passed),
        more => {
            let slot = ServerNumber(u32::from(more - 2) % SERVERS.len() as u32).slot(0);
            Some(FirstFragment::OfServer { slot, class, by_stack })
        }
    }
}

fn mtu(way: u8) -> u32 {
    if way & NARROW == 0 { 1500 } else { NARROW_MTU }
}

impl Tables for World {
    const HAS_CALLS: bool = true;
    fn endpoint(&self, address: &Address) -> Endpoint {
        let address = (*address).into();
        if let Some(service) = World::service(self, address) {
            return Endpoint::vip(service.place);
        }
        if GATEWAY.has(address) {
            return Endpoint::MASK;
        }
        let server = self.owner(address);
        server.map_or(Endpoint::NONE, |(service, number)| {
            Endpoint::server(service.place, ServerNumber(number as u32).slot(0))
        })
    }
    fn service(&self, place: ServicePlace) -> Option<&ServiceEntry> {
        self.services.iter().find(|service| service.place == place).map(|service| &service.entry)
    }
    fn steering(&self, service: u32) -> Option<SteeringWord> {
        self.services.get(service as usize).map(|service| service.word)
    }
    fn server(&self, slot: Slot, family: Family) -> Option<&ServerEntry> {
        self.slots.get(slot.0 as usize).map(|entries| &entries[family as usize])
    }
    fn ingress(&self) -> u32 {
        if self.way & BY_FRONT == 0 { BACK } else { FRONT }
    }
    fn first_fragment(&self, _: &FragmentKey) -> Option<FirstFragment> {
        self.first
    }
    fn route(&self, query: &RouteQuery) -> Route {
        let families = [query.source, query.destination].map(|address| address.is_v4());
        assert_eq!(families, [query.family == Family::V4; 2], "the families of {query:?}");
        let destination = query.destination.into();
        if [VIP, OTHER_VIP, GATEWAY].iter().any(|own| own.has(destination)) {
            return Route::NotForwarded;
        }
        match self.way & WAY {
            3 => Route::Stack,
            4 => Route::NotForwarded,
            5 => Route::Refused,
            6 if query.total_length > NARROW_MTU => Route::TooLarge(NARROW_MTU),
            _ => self.client_hop().map_or(Route::Stack, Route::Hop),
        }
    }
}
