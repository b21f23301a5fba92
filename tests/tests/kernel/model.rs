//! The program as it should be: the packet logic of the library on the host, with the kernel's tables copied into maps.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
};

use anyhow::Result;
use voip_ha::datapath::Tables as KernelTables;
use voip_ha_ebpf::{
    abi::{
        Address, Class, FirstFragment, FragmentKey, MAX_SERVICES, MAX_SLOTS, OriginEntry, Outcome, ServerEntry,
        ServiceEntry, Slot, SteeringWord,
    },
    packet::{self, Frame},
    rewrite::{self, Rewrite, TOO_BIG_GROWTH, TOO_BIG_LEN},
    steer::{Action, Hop, Note, Route, RouteQuery, Tables, Verdict, steer},
};

use super::{
    net::{self, BACK, FRONT},
    noted::Noted,
    rig::{Act, Place, Ran},
};

/// The tables of one moment.
pub(crate) struct Model {
    services: HashMap<Address, ServiceEntry>,
    origins: HashMap<Address, OriginEntry>,
    words: Vec<SteeringWord>,
    servers: Vec<ServerEntry>,
    fragments: Fragments,
    ingress: Cell<u32>,
}

/// What is remembered of first fragments. It is not forgotten within a test.
#[derive(Clone, Default)]
pub(crate) struct Fragments(Rc<RefCell<HashMap<FragmentKey, FirstFragment>>>);

impl Tables for Model {
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
        self.servers.get(slot.0 as usize)
    }
    fn ingress(&self) -> u32 {
        self.ingress.get()
    }
    fn first_fragment(&self, key: &FragmentKey) -> Option<FirstFragment> {
        self.fragments.0.borrow().get(key).copied()
    }
    fn route(&self, query: &RouteQuery) -> Route {
        net::route(query)
    }
}

impl Model {
    /// Copies what the kernel holds now, but for the fragments, which it has to learn by itself.
    pub(crate) fn of(tables: &KernelTables, fragments: &Fragments) -> Result<Self> {
        Ok(Self {
            services: tables.services()?.into_iter().map(|(vip, entry)| (vip.octets(), entry)).collect(),
            origins: tables.origins()?.into_iter().map(|(address, entry)| (address.octets(), entry)).collect(),
            words: (0..MAX_SERVICES).map(|service| tables.word(service)).collect::<Result<_>>()?,
            servers: (0..MAX_SLOTS).map(|slot| tables.slot(Slot(slot))).collect::<Result<_>>()?,
            fragments: fragments.clone(),
            ingress: Cell::new(0),
        })
    }

    /// What the program should make of a frame, where it should count it, and what it should note.
    pub(crate) fn run(&self, from: u32, frame: &[u8]) -> (Ran, Place, Option<Noted>) {
        let mut bytes = frame.to_vec();
        let mut view = Frame::from_slice(&mut bytes);
        self.ingress.set(from);
        let verdict = steer(&mut view, self);
        self.fragments.0.borrow_mut().extend(verdict.to_remember(&mut view));
        let Verdict { server, class, action, note, .. } = verdict;
        let (act, outcome) = match action {
            Action::TellTooBig(mtu) => {
                let key = packet::fragment_key(&mut view).expect("steer looked at the header");
                let vip = self.origin(&key.source).map_or(key.destination, |origin| origin.vip);
                bytes.splice(0..0, [0; TOO_BIG_GROWTH]);
                rewrite::too_big(&mut Frame::from_slice(&mut bytes), vip, mtu).expect("it is larger than that");
                bytes.truncate(TOO_BIG_LEN);
                (Act::Transmit, Outcome::ToldTooBig)
            }
            action => carry_out(&mut view, action),
        };
        let is_due = match note {
            Note::Nothing => false,
            Note::Sent { .. } => matches!(outcome, Outcome::ToServer | Outcome::ToServerByStack),
            Note::Heard { .. } => matches!(outcome, Outcome::ToClient | Outcome::ToClientByStack),
            Note::Refused { .. } => true,
        };
        let noted = server.filter(|_| is_due).map(|server| Noted { server, class, note });
        (Ran { act, frame: bytes }, place(server, class, outcome), noted)
    }
}

fn place(server: Option<voip_ha_ebpf::abi::ServerNumber>, class: Class, outcome: Outcome) -> Place {
    (server, class.name(), outcome.name())
}

fn carry_out(frame: &mut Frame<'_>, action: Action) -> (Act, Outcome) {
    match action {
        Action::ToServer(rewrite, hop) if has_program(&hop) => {
            redirect(frame, &rewrite, &hop);
            (Act::Redirect, Outcome::ToServer)
        }
        Action::ToServer(..) => (Act::Drop, Outcome::NoDevice),
        Action::ToClient(rewrite, hop) if has_program(&hop) => {
            redirect(frame, &rewrite, &hop);
            (Act::Redirect, Outcome::ToClient)
        }
        Action::ToClient(rewrite, _) | Action::ToClientByStack(rewrite) => {
            rewrite::addresses(frame, &rewrite).expect("steer looked at the headers");
            (Act::Pass, Outcome::ToClientByStack)
        }
        Action::ToServerByStack(rewrite) => {
            rewrite::addresses(frame, &rewrite).expect("steer looked at the headers");
            (Act::Pass, Outcome::ToServerByStack)
        }
        Action::TellTooBig(_) => unreachable!("it is another frame then"),
        Action::Pass(outcome) => (Act::Pass, outcome),
        Action::Drop(outcome) => (Act::Drop, outcome),
    }
}

fn has_program(hop: &Hop) -> bool {
    [FRONT, BACK].contains(&hop.ifindex)
}

fn redirect(frame: &mut Frame<'_>, rewrite: &Rewrite, hop: &Hop) {
    rewrite::addresses(frame, rewrite).expect("steer looked at the headers");
    rewrite::forward(frame, hop).expect("steer looked at the headers");
}
