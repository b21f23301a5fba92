//! The tables that an input makes, and what the XDP program does with a verdict. What a change of [`Tables`] or [`Action`]
//! touches is in this file.

use voip_ha_ebpf::{
    abi::{
        Address, Class, FirstFragment, FragmentKey, Mac, Named, OriginEntry, Outcome, Ports, ServerEntry, ServerNumber,
        ServiceEntry, Slot, SteeringWord,
    },
    packet::{self, Frame},
    rewrite::{self, Rewrite, TOO_BIG_GROWTH, TOO_BIG_LEN},
    steer::{Action, Hop, Route, RouteQuery, Tables, Verdict},
};

use crate::room::Room;

/// Bytes of an input in front of the frame: the decision words of the two services (two bits each for signalling, media and
/// draining, then census and bank), the ways out and in ([`WAY`], [`NARROW`], [`BY_FRONT`]), and what is remembered of the first
/// fragment of any datagram ([`first`]).
pub(super) const CONTROL: usize = 4;
/// Bits of the way: what the routing table answers.
pub(super) const WAY: u8 = 7;
/// Bit of the way: all devices towards servers have a small MTU.
pub(super) const NARROW: u8 = 8;
/// Bit of the way: the frame came in by the front, not by the back.
pub(super) const BY_FRONT: u8 = 16;

pub(super) const VIP: Address = [192, 0, 2, 10];
pub(super) const OTHER_VIP: Address = [192, 0, 2, 20];
/// An address of the gateway itself.
pub(super) const GATEWAY: Address = [10, 0, 0, 1];

const FRONT: u32 = 11;
const BACK: u32 = 12;
/// A device that XDP cannot send to.
const SIDE: u32 = 13;
const NARROW_MTU: u16 = 68;
const PHONE_MAC: Mac = [2, 0, 198, 51, 100, 7];

/// Address of each server, its service, and the device towards it: none where there is no next hop.
const SERVERS: [(Address, usize, u32); 5] = [
    ([10, 0, 0, 2], 0, BACK),
    ([10, 8, 0, 2], 0, BACK),
    ([10, 0, 0, 4], 0, 0),
    ([10, 0, 0, 3], 1, BACK),
    ([10, 0, 0, 6], 1, SIDE),
];
/// The servers that a decision word may name, by number. The last one of the second service has no entry at all.
const NUMBERS: [[u32; 3]; 2] = [[0, 1, 2], [3, 4, 63]];
const PORTS: [Ports; 2] = [
    Ports { sip: [5060, 5080, 0, 0], rtp_first: 10_000, rtp_last: 19_999 },
    Ports { sip: [5060, 0, 0, 0], rtp_first: 20_000, rtp_last: 29_999 },
];

/// A service as the input steers it. An address of zeros stands for the server without an entry.
pub(super) struct Service {
    pub(super) vip: Address,
    pub(super) signalling: Option<Address>,
    pub(super) media: Option<Address>,
    pub(super) draining: Option<Address>,
    ports: Ports,
    entry: ServiceEntry,
    word: SteeringWord,
}

impl Service {
    fn of(index: usize, bits: u8) -> Self {
        let bank = u32::from(bits >> 7);
        let number = |shift: u8| NUMBERS[index].get(usize::from(bits >> shift & 3).wrapping_sub(1)).copied();
        let address =
            |shift| number(shift).map(|number| SERVERS.get(number as usize).map_or([0; 4], |server| server.0));
        let slot = |shift| number(shift).map(|number| ServerNumber(number).slot(bank));
        let named = Named { signalling: slot(0), media: slot(2), draining: slot(4) };
        Self {
            vip: [VIP, OTHER_VIP][index],
            signalling: address(0),
            media: address(2),
            draining: address(4),
            ports: PORTS[index],
            entry: ServiceEntry { service: index as u32, ports: PORTS[index] },
            word: SteeringWord::new(named, 7).with_census(bits & 0x40 != 0),
        }
    }

    /// The server that packets to this port go to. All RTP ports are above all SIP ports.
    pub(super) fn target(&self, port: u16) -> Option<Address> {
        if !self.is_port(port) {
            return None;
        }
        if port >= 10_000 { self.media } else { self.signalling }
    }

    pub(super) fn is_port(&self, port: u16) -> bool {
        port != 0 && self.ports.sip.contains(&port) || (self.ports.rtp_first..=self.ports.rtp_last).contains(&port)
    }

    pub(super) fn may_send(&self, server: Address) -> bool {
        [self.signalling, self.media, self.draining].contains(&Some(server))
    }
}

/// All tables.
pub(super) struct World {
    services: [Service; 2],
    origins: [(Address, OriginEntry); 5],
    slots: [ServerEntry; 10],
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
    pub(super) fn of(&[pbx, trunk, way, remembered]: &[u8; CONTROL]) -> Self {
        let services = [Service::of(0, pbx), Service::of(1, trunk)];
        let origins = std::array::from_fn(|number| {
            let (address, service, _) = SERVERS[number];
            let slot = ServerNumber(number as u32).slot(0).0;
            let vip = services[service].vip;
            (address, OriginEntry { slot, service: service as u32, vip, ports: PORTS[service] })
        });
        let slots = std::array::from_fn(|slot| {
            let (address, _, ifindex) = SERVERS[slot / 2];
            let [a, b, c, d] = address;
            let mtu = mtu(way).into();
            ServerEntry { address, ifindex, mtu, next_hop: [2, 0, a, b, c, d], source: mac(ifindex) }
        });
        Self { services, origins, slots, way, first: first(remembered) }
    }

    /// The service that owns this VIP.
    pub(super) fn service(&self, vip: Address) -> Option<&Service> {
        self.services.iter().find(|service| service.vip == vip)
    }

    /// The service of this server.
    pub(super) fn owner(&self, server: Address) -> Option<&Service> {
        SERVERS.iter().find(|known| known.0 == server).map(|known| &self.services[known.1])
    }

    /// The server that the first fragment is said to have gone to.
    pub(super) fn first_server(&self) -> Option<Address> {
        match self.first {
            Some(FirstFragment::OfServer { server, .. }) => Some(server),
            _ => None,
        }
    }

    /// The way to a server.
    pub(super) fn next_hop(&self, server: Address) -> Option<Hop> {
        let entry = self.slots.iter().find(|entry| entry.address == server && entry.ifindex != 0)?;
        Some(Hop { ifindex: entry.ifindex, source: entry.source, destination: entry.next_hop })
    }

    /// Most bytes of a packet to a server.
    pub(super) fn mtu(&self) -> u16 {
        mtu(self.way)
    }

    /// The way to clients, if there is one that XDP can take.
    pub(super) fn client_hop(&self) -> Option<Hop> {
        let ifindex = match self.way & WAY {
            0 | 1 | 6.. => FRONT,
            2 => SIDE,
            _ => return None,
        };
        Some(Hop { ifindex, source: mac(ifindex), destination: PHONE_MAC })
    }

    /// Does to the frame in the room what the XDP program does.
    pub(super) fn carry_out(&self, room: &mut Room, verdict: &Verdict) -> Done {
        let frame = &mut Frame::from_slice(room.frame());
        let remembered = verdict.to_remember(frame);
        let (outcome, fate) = match verdict.action {
            Action::ToServer(rewrite, hop) if redirect(frame, &rewrite, &hop) => {
                (Outcome::ToServer, Fate::ToServer(Some(hop)))
            }
            Action::ToServer(..) => (Outcome::NoDevice, Fate::Kept),
            Action::ToServerByStack(rewrite) => {
                by_stack(frame, &rewrite);
                (Outcome::ToServerByStack, Fate::ToServer(None))
            }
            Action::ToClient(rewrite, hop) if redirect(frame, &rewrite, &hop) => {
                (Outcome::ToClient, Fate::ToClient(Some(hop)))
            }
            Action::ToClient(rewrite, _) | Action::ToClientByStack(rewrite) => {
                by_stack(frame, &rewrite);
                (Outcome::ToClientByStack, Fate::ToClient(None))
            }
            Action::TellTooBig(mtu) => self.tell_too_big(room, mtu),
            Action::Pass(outcome) | Action::Drop(outcome) => (outcome, Fate::Kept),
        };
        Done { outcome, fate, remembered }
    }

    /// Turns the frame in the room into the message about it.
    fn tell_too_big(&self, room: &mut Room, mtu: u16) -> (Outcome, Fate) {
        let key = packet::fragment_key(&mut Frame::from_slice(room.frame())).expect("the decision has read the header");
        let vip = Tables::origin(self, &key.source).map_or(key.destination, |origin| origin.vip);
        let before = room.frame().to_vec();
        room.put(&[&[0; TOO_BIG_GROWTH], &before[..]].concat());
        if rewrite::too_big(&mut Frame::from_slice(room.frame()), vip, mtu).is_none() {
            room.put(&before);
            return (Outcome::TooLarge, Fate::Kept);
        }
        let message = room.frame()[..TOO_BIG_LEN].to_vec();
        room.put(&message);
        (Outcome::ToldTooBig, Fate::Answered)
    }
}

/// Whether it was sent. If not, nothing has changed.
fn redirect(frame: &mut Frame<'_>, rewrite: &Rewrite, hop: &Hop) -> bool {
    let sent = [FRONT, BACK].contains(&hop.ifindex);
    if sent {
        rewrite::addresses(frame, rewrite).expect("the decision has looked at the headers");
        rewrite::forward(frame, hop).expect("the decision has looked at the headers");
    }
    sent
}

fn by_stack(frame: &mut Frame<'_>, rewrite: &Rewrite) {
    rewrite::addresses(frame, rewrite).expect("the decision has looked at the headers");
}

/// What a byte of an input says of first fragments.
fn first(remembered: u8) -> Option<FirstFragment> {
    let class = if remembered & 0x80 == 0 { Class::Sip } else { Class::Rtp };
    let by_stack = remembered & 0x40 != 0;
    match remembered & 0x3f {
        0 => None,
        1 => Some(FirstFragment::Passed),
        more => {
            let server = SERVERS[usize::from(more - 2) % SERVERS.len()].0;
            Some(FirstFragment::OfServer { server, class, by_stack })
        }
    }
}

fn mtu(way: u8) -> u16 {
    if way & NARROW == 0 { 1500 } else { NARROW_MTU }
}

/// The Ethernet address of a device.
fn mac(ifindex: u32) -> Mac {
    [2, 0, 0, 0, 0, ifindex as u8]
}

impl Tables for World {
    fn service(&self, vip: &Address) -> Option<&ServiceEntry> {
        self.services.iter().find(|service| service.vip == *vip).map(|service| &service.entry)
    }
    fn origin(&self, address: &Address) -> Option<&OriginEntry> {
        self.origins.iter().find(|origin| origin.0 == *address).map(|origin| &origin.1)
    }
    fn steering(&self, service: u32) -> Option<SteeringWord> {
        self.services.get(service as usize).map(|service| service.word)
    }
    fn server(&self, slot: Slot) -> Option<&ServerEntry> {
        self.slots.get(slot.0 as usize)
    }
    fn ingress(&self) -> u32 {
        if self.way & BY_FRONT == 0 { BACK } else { FRONT }
    }
    fn first_fragment(&self, _: &FragmentKey) -> Option<FirstFragment> {
        self.first
    }
    fn route(&self, query: &RouteQuery) -> Route {
        match (query.destination, self.way & WAY) {
            (VIP | OTHER_VIP | GATEWAY, _) | (_, 4) => Route::NotForwarded,
            (_, 3) => Route::Stack,
            (_, 5) => Route::Refused,
            (_, 6..) if query.total_length > NARROW_MTU => Route::TooLarge(NARROW_MTU),
            _ => self.client_hop().map_or(Route::Stack, Route::Hop),
        }
    }
}
