//! The program as it should be: the packet logic of the library on the host, with the kernel's tables copied into maps.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    net::IpAddr,
    rc::Rc,
};

use anyhow::Result;
use voip_ha::{
    config::{Prefix, Protection},
    datapath::{Pins, Tables as KernelTables},
};
use voip_ha_ebpf::{
    abi::{
        Address, CallKey, Class, Endpoint, Family, FirstFragment, FlowKey, FragmentEntry, FragmentKey, Listing,
        MAX_PLACES, MAX_SERVICES, MAX_WAYS, MaskKey, MaskedEntry, MaskedKey, Outcome, ServerEntry, ServiceEntry,
        ServicePlace, Slot, SteeringWord, server_index,
    },
    packet::{self, Datagram, Frame, Network},
    rewrite,
    sip::{Scan, Text, scan},
    steer::{self, Action, Hop, Kind, News, Note, Owner, Route, RouteQuery, Tables, Verdict},
};

mod masks;

use super::{
    net::{self, BACK, FRONT},
    noted::Noted,
    rig::{Act, Place, Ran, Rig},
};

const UDP_HEADER: usize = 8;
/// Nothing is idle or forgotten within a test.
const NOW: u64 = 1;

/// The tables of one moment.
pub(crate) struct Model {
    endpoints: HashMap<Address, Endpoint>,
    services: Vec<ServiceEntry>,
    words: Vec<SteeringWord>,
    servers: Vec<ServerEntry>,
    lists: HashMap<ServicePlace, Protection>,
    memory: Memory,
    ingress: Cell<u32>,
    frame: RefCell<Vec<u8>>,
}

/// What is remembered of packets before.
#[derive(Clone, Default)]
pub(crate) struct Memory(Rc<RefCell<Remembered>>);

#[derive(Default)]
struct Remembered {
    fragments: HashMap<FragmentKey, FragmentEntry>,
    masks: HashMap<MaskKey, u16>,
    masked: HashMap<MaskedKey, MaskedEntry>,
    flows: HashMap<FlowKey, u32>,
    calls: HashMap<CallKey, u32>,
}

impl Memory {
    /// The owners of all flows and calls: number plus one, or 0.
    pub(crate) fn owners(&self) -> (HashMap<FlowKey, u32>, HashMap<CallKey, u32>) {
        let Remembered { flows, calls, .. } = &*self.0.borrow();
        (flows.clone(), calls.clone())
    }

    /// Forgets first fragments, here and in the kernel, which does so by itself after half a minute: on a busy machine a test takes longer.
    pub(crate) fn forget_fragments(&self, rig: &Rig) -> Result<()> {
        self.0.borrow_mut().fragments.clear();
        let fragments = &mut KernelTables::open(&Pins::new(rig.pin_dir()))?.fragments;
        for key in fragments.keys().collect::<Result<Vec<_>, _>>()? {
            fragments.remove(&key)?;
        }
        Ok(())
    }

    /// Takes in what a packet from or to this client says that was sent on.
    fn note(&self, note: &Note, client: Address) {
        let Note { owner, client_port, service_port, call, .. } = *note;
        let (service, mut remembered) = (note.flip.service, self.0.borrow_mut());
        let key = FlowKey { client, service, client_port, service_port };
        match remembered.flows.get_mut(&key) {
            _ if !note.is_flow => {}
            Some(known) if owner != 0 => *known = owner,
            Some(_) => {}
            None if note.news == News::Sent || note.is_new_flow => drop(remembered.flows.insert(key, owner)),
            None => {}
        }
        if call != 0 {
            remembered.calls.insert(CallKey { service, reserved: 0, call }, owner);
        }
    }
}

fn owner(noted: Option<&u32>) -> Owner {
    noted.map_or(Owner::UNKNOWN, |server| Owner { is_known: true, server: *server })
}

impl Tables for Model {
    const HAS_CALLS: bool = true;
    fn endpoint(&self, address: &Address) -> Endpoint {
        self.endpoints.get(address).copied().unwrap_or(Endpoint::NONE)
    }
    fn service(&self, place: ServicePlace) -> Option<&ServiceEntry> {
        self.services.get(place.0 as usize)
    }
    fn steering(&self, service: u32) -> Option<SteeringWord> {
        self.words.get(service as usize).copied()
    }
    fn server(&self, slot: Slot, family: Family) -> Option<&ServerEntry> {
        self.servers.get(server_index(slot, family) as usize)
    }
    fn ingress(&self) -> u32 {
        self.ingress.get()
    }
    fn first_fragment(&self, key: &FragmentKey) -> Option<FirstFragment> {
        self.memory.0.borrow().fragments.get(key).and_then(|entry| entry.at_time(NOW))
    }
    fn flow(&self, key: &FlowKey) -> Owner {
        owner(self.memory.0.borrow().flows.get(key))
    }
    fn call(&self, key: &CallKey) -> Owner {
        owner(self.memory.0.borrow().calls.get(key))
    }
    fn scan(&self, datagram: &Datagram) -> Scan {
        let payload = &self.frame.borrow()[datagram.offset + UDP_HEADER..][..datagram.payload];
        scan(&Text::of(payload))
    }
    fn route(&self, query: &RouteQuery) -> Route {
        net::route(query)
    }
    fn listing(&self, place: ServicePlace, source: &Address) -> Listing {
        let Protection { allow, deny, .. } = &self.lists[&place];
        let longest = |list: &[Prefix]| {
            let lengths = list.iter().filter(|prefix| holds(prefix, (*source).into())).map(|prefix| prefix.length);
            lengths.max().map(i32::from).unwrap_or(-1)
        };
        match (longest(allow), longest(deny)) {
            (-1, -1) => Listing::Unlisted,
            (allowed, denied) if allowed > denied => Listing::Allowed,
            _ => Listing::Denied,
        }
    }
}

impl Model {
    /// Copies what the kernel holds now, but for what packets leave there, which it has to learn by itself, and for what senders have
    /// spent: no limit is reached.
    pub(crate) fn of(tables: &KernelTables, memory: &Memory) -> Result<Self> {
        Ok(Self {
            endpoints: tables.endpoints.all().into_iter().collect(),
            services: (0..MAX_PLACES).map(|place| tables.service(ServicePlace(place))).collect::<Result<_>>()?,
            words: (0..MAX_SERVICES).map(|service| tables.word(service)).collect::<Result<_>>()?,
            servers: (0..MAX_WAYS).map(|index| Ok(tables.servers.get(&index, 0)?)).collect::<Result<_>>()?,
            lists: tables
                .services()?
                .iter()
                .map(|of| Ok((of.place, tables.protection(of.place)?)))
                .collect::<Result<_>>()?,
            memory: memory.clone(),
            ingress: Cell::new(0),
            frame: RefCell::default(),
        })
    }

    /// What the program should make of a frame, where it should count it, and what it should note.
    pub(crate) fn run(&self, from: u32, frame: &[u8]) -> (Ran, Place, Option<Noted>) {
        self.run_by(from, frame, |bytes, network, action| self.carry_out(bytes, network, action))
    }

    /// The same for a program that carries out verdicts otherwise.
    pub(crate) fn run_by(
        &self,
        from: u32,
        frame: &[u8],
        carry_out: impl FnOnce(&mut Vec<u8>, &Network, &Action) -> (Act, Outcome),
    ) -> (Ran, Place, Option<Noted>) {
        let mut bytes = frame.to_vec();
        self.ingress.set(from);
        self.unmask(&mut bytes);
        self.frame.replace(bytes.clone());
        let network = match packet::network(&mut Frame::from_slice(&mut bytes)) {
            Ok(network) => network,
            Err(reason) => {
                let outcome = steer::pass_by(reason).action.outcome;
                return (Ran { act: Act::Pass, frame: bytes }, place(None, Class::Other, outcome), None);
            }
        };
        let mut verdict = steer::steer(&mut Frame::from_slice(&mut bytes), &network, self);
        if verdict.action.masked != 0 {
            let frame = &mut Frame::from_slice(&mut bytes);
            let port = steer::mask(frame, &network, &mut verdict, self);
            rewrite::mask(frame, &network, &verdict.action, &port).expect("steer looked at the headers");
        }
        if let Some(first) = verdict.to_remember() {
            self.memory.0.borrow_mut().fragments.insert(network.fragment_key(), first.entry(NOW));
        }
        let Verdict { server, class, ref action, note, .. } = verdict;
        let (act, outcome) = carry_out(&mut bytes, &network, action);
        let is_due = match note.news {
            News::Nothing => false,
            News::Sent => matches!(outcome, Outcome::ToServer | Outcome::ToServerByStack),
            News::Heard => matches!(outcome, Outcome::ToClient | Outcome::ToClientByStack),
            News::Refused => true,
        };
        let noted = server.filter(|_| is_due).map(|server| Noted { server, class, note });
        if noted.is_some() && note.news != News::Refused {
            let client = if note.news == News::Sent { network.source } else { network.destination };
            self.memory.note(&note, client);
        }
        (Ran { act, frame: bytes }, place(server, class, outcome), noted)
    }

    /// What the gateway's own name hides becomes the client.
    fn unmask(&self, bytes: &mut [u8]) {
        let frame = &mut Frame::from_slice(bytes);
        let Ok(network) = packet::network(frame) else { return };
        let found = steer::unmask(frame, &network, self);
        if found.is_clients {
            rewrite::unmask(frame, &network, &found).expect("it was found there");
        }
    }

    fn carry_out(&self, bytes: &mut Vec<u8>, network: &Network, action: &Action) -> (Act, Outcome) {
        let by_stack = |bytes: &mut Vec<u8>, outcome| {
            let frame = &mut Frame::from_slice(bytes);
            rewrite::addresses(frame, network, &action.rewrite).expect("steer looked at the headers");
            (Act::Pass, outcome)
        };
        match action.kind {
            Kind::Redirect if has_program(&action.hop) => {
                redirect(bytes, network, action);
                (Act::Redirect, action.outcome)
            }
            Kind::Redirect if action.outcome == Outcome::ToClient => by_stack(bytes, Outcome::ToClientByStack),
            Kind::Redirect => (Act::Drop, Outcome::NoDevice),
            Kind::ByStack => by_stack(bytes, action.outcome),
            Kind::TellTooBig => {
                let teller = steer::teller(network, action, self);
                bytes.splice(0..0, vec![0; rewrite::too_big_growth(network.family)]);
                rewrite::too_big(&mut Frame::from_slice(bytes), network, teller, action.mtu).expect("it is larger");
                bytes.truncate(rewrite::too_big_length(network));
                (Act::Transmit, Outcome::ToldTooBig)
            }
            Kind::Pass => (Act::Pass, action.outcome),
            Kind::Drop => (Act::Drop, action.outcome),
            Kind::AskCalls => unreachable!("the tables have calls"),
        }
    }
}

fn place(server: Option<voip_ha_ebpf::abi::ServerNumber>, class: Class, outcome: Outcome) -> Place {
    (server, class.name(), outcome.name())
}

fn holds(prefix: &Prefix, address: IpAddr) -> bool {
    let first_bits = |bits: &[u8]| -> Vec<bool> {
        let bit = |index: usize| bits[index / 8] & (0x80 >> (index % 8)) != 0;
        (0..usize::from(prefix.length)).map(bit).collect()
    };
    match (prefix.address, address) {
        (IpAddr::V4(of), IpAddr::V4(four)) => first_bits(&of.octets()) == first_bits(&four.octets()),
        (IpAddr::V6(of), IpAddr::V6(six)) => first_bits(&of.octets()) == first_bits(&six.octets()),
        _ => false,
    }
}

fn has_program(hop: &Hop) -> bool {
    [FRONT, BACK].map(net::exit).contains(&hop.exit)
}

fn redirect(bytes: &mut Vec<u8>, network: &Network, action: &Action) {
    let frame = &mut Frame::from_slice(bytes);
    rewrite::addresses(frame, network, &action.rewrite).expect("steer looked at the headers");
    rewrite::count_down(frame, network).expect("steer looked at the headers");
    let (priority, growth) = (rewrite::priority(frame, network), rewrite::growth(network, &action.hop));
    if growth < 0 {
        bytes.drain(..growth.unsigned_abs() as usize);
    } else {
        bytes.splice(0..0, vec![0; growth as usize]);
    }
    let frame = &mut Frame::from_slice(bytes);
    rewrite::tag_frame(frame, &action.hop, network.family, priority).expect("steer looked at the headers");
}
