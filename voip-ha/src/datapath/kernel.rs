//! The real datapath: the XDP program on its interfaces, and the controller's hand on its maps.
//!
//! Order of every write: everything new first, then the word or the key that makes packets look at it.

use std::{os::fd::BorrowedFd, time::Duration};

use anyhow::{Context as _, Result};
use aya::Ebpf;
use voip_ha_ebpf::abi::{
    self, Address, Endpoint, Ends, FAMILIES, MAX_SIP_PORTS, NO_EXIT, Named, Notes, Ports, ServerEntry, ServerNumber,
    ServiceEntry, SignalRecord, Slot, server_index,
};

use super::{
    Attachment, Datapath, Heard, KernelLog, Link, Memory, NextHop, PinDirectory, Signal, Steering, Tables, link,
    mapped::{Signs, Words},
    masks, object,
    places::{self, Place, Places},
    signals::Signals,
    tables::protection_bits,
};
use crate::{
    config::{Addresses, Config, Gateway, Server, Service},
    decision::Choice,
    ids::{Family, ServerId, ServiceId},
};

/// The XDP program and its maps, held by the running controller. Dropping it detaches nothing.
pub struct KernelDatapath {
    /// Kept for the program's file descriptor and, if it logs, its ring buffer.
    object: Ebpf,
    tables: Tables,
    words: Words,
    signs: Signs,
    signals: Signals,
    places: Places,
    /// Also keeps other controllers away.
    directory: PinDirectory,
    /// The kernel has the program that remembers calls.
    has_calls: bool,
}

impl KernelDatapath {
    /// Loads the program. What an earlier controller left in the tables is read, and nothing is changed: packets see
    /// neither the new program nor the new configuration yet.
    ///
    /// # Errors
    ///
    /// The pinned maps have another layout, or the kernel refuses something.
    pub fn load(config: &Config, directory: PinDirectory, kernel_log: KernelLog) -> Result<Self> {
        let object = object::load(directory.pins(), kernel_log)?;
        let tables = Tables::open(directory.pins())?;
        let words = Words::open(directory.pins())?;
        let signs = Signs::open(directory.pins())?;
        let signals = Signals::open(directory.pins())?;
        let places = Places::assign(config, &tables, &words)?;
        Ok(Self { object, tables, words, signs, signals, places, directory, has_calls: false })
    }

    /// Puts the program on the interfaces of the configuration, then makes the tables those of the configuration, taking
    /// over what an earlier controller left there: a service that stays keeps its active server, a server that stays
    /// keeps its counters. In this order, because an interface may refuse and the new program is right with the old
    /// tables too. Packets leave by none but these `links`.
    ///
    /// # Errors
    ///
    /// An interface refuses: the tables are then as they were, and no interface has a program that had none before. Or
    /// the kernel does not take an entry of the tables.
    pub fn attach(&mut self, config: &Config, links: &[Link]) -> Result<Vec<Attachment>> {
        let interfaces = config.gateway.interfaces();
        let pins = self.directory.pins();
        if masks::are_wanted(config, &self.tables) {
            object::load_masks(&mut self.object, pins)?;
        }
        self.has_calls = object::link_programs(&self.object, pins)?;
        let program = object::program(&mut self.object)?;
        let attachments = link::attach_all(program, pins, &config.gateway)?;
        for link in links {
            self.tables.put_link(link)?;
        }
        // A controller that died in the middle of a count.
        self.tables.clear_flows()?;
        self.tables.mappings.remove_locks();
        self.places.remove_others(config, &mut self.tables, &self.words)?;
        self.fill(config)?;
        if !masks::are_wanted(config, &self.tables) {
            object::unlink_unmask(self.directory.pins())?;
        }
        link::detach_others(self.directory.pins(), &interfaces)?;
        self.tables.remove_other_links(links)?;
        Ok(attachments)
    }

    /// The loaded object, for its log.
    pub fn object(&mut self) -> &mut Ebpf {
        &mut self.object
    }

    /// The maps, for reading.
    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    /// The server's number in the counters.
    pub fn number(&self, server: ServerId) -> ServerNumber {
        self.places.servers[server.0].slot.server()
    }

    fn fill(&mut self, config: &Config) -> Result<()> {
        let mut newcomers = Vec::new();
        for (id, _, server) in config.servers() {
            if self.is_known(&server.addresses) {
                self.readdress(id, server, &config.gateway)?;
            } else {
                // It may have been here before: what its number counted and where it was is history.
                newcomers.push(id);
                let slot = self.places.servers[id.0].slot;
                self.tables.forget(slot.server())?;
                self.write_slot(slot, own_entries(server, &config.gateway))?;
            }
        }
        self.places.set_words_right(&self.words, |server| !newcomers.contains(&server));
        for (index, service) in config.services.iter().enumerate() {
            self.write_service(ServiceId(index), service)?;
        }
        for (id, service, server) in config.servers() {
            self.name_server(id, service, &server.addresses)?;
        }
        for (index, service) in config.services.iter().enumerate() {
            let vip = Endpoint::vip(self.places.services[index]);
            places::keys(&service.vips).into_iter().try_for_each(|address| self.tables.endpoints.put(address, vip))?;
        }
        masks::remove_others(&self.places, &self.tables)?;
        self.tables.keep_protection(&self.places.services)
    }

    /// Whether the tables know one of these addresses as a server's.
    fn is_known(&self, addresses: &Addresses) -> bool {
        places::keys(addresses).into_iter().any(|address| self.tables.endpoints.get(address).is_server())
    }

    /// A server that stays may have got another address beside the one that it is known by, or lost one, or be reached otherwise.
    fn readdress(&mut self, id: ServerId, server: &Server, gateway: &Gateway) -> Result<()> {
        let slot = self.places.servers[id.0].slot;
        let (old, mut new) = (self.entries(slot)?, own_entries(server, gateway));
        for (old, new) in old.iter().zip(&mut new).filter(|(old, new)| old.address == new.address) {
            *new = masks::reached_as(new, old);
        }
        if new != old {
            self.write_slot(slot.other_bank(), new)?;
            self.places.servers[id.0].slot = slot.other_bank();
        }
        Ok(())
    }

    fn write_service(&mut self, id: ServiceId, service: &Service) -> Result<()> {
        let place = self.places.services[id.0];
        let vips = Family::ALL.map(|family| service.vips.of(family).map_or(Address::NONE, Address::from));
        let protection = protection_bits(&service.protection);
        let entry = ServiceEntry { vips, ports: ports(service), protection };
        let held = self.tables.protection(place)?;
        if self.tables.service(place)? == entry && held == service.protection {
            return Ok(());
        }
        let fresh = place.other_bank();
        if held.sip != service.protection.sip {
            self.tables.forget_sources(|service| service == place.service());
        }
        self.tables.put_protection(fresh, &service.protection)?;
        self.tables.services.set(fresh.0, entry, 0).with_context(|| format!("cannot write SERVICES[{}]", fresh.0))?;
        self.places.services[id.0] = fresh;
        Ok(())
    }

    /// Makes packets find the present slot of a server by its addresses.
    fn name_server(&self, id: ServerId, service: ServiceId, addresses: &Addresses) -> Result<()> {
        let endpoint = Endpoint::server(self.places.services[service.0], self.places.servers[id.0].slot);
        places::keys(addresses).into_iter().try_for_each(|address| self.tables.endpoints.put(address, endpoint))
    }

    fn entries(&self, slot: Slot) -> Result<Entries> {
        let [four, six] = Family::ALL.map(|family| self.tables.slot(slot, family));
        Ok([four?, six?])
    }

    fn write_slot(&mut self, slot: Slot, entries: Entries) -> Result<()> {
        for (family, entry) in Family::ALL.into_iter().zip(entries) {
            let index = server_index(slot, family);
            self.tables.servers.set(index, entry, 0).with_context(|| format!("cannot write SERVERS[{index}]"))?;
        }
        Ok(())
    }

    fn word_index(&self, service: ServiceId) -> u32 {
        self.places.services[service.0].service()
    }

    /// Nothing about a server that has left the configuration.
    fn signal(&self, record: &SignalRecord) -> Option<Signal> {
        let server = self.places.server_numbered(ServerNumber(record.server))?;
        Some(Signal { at: Duration::from_nanos(record.at), server, code: record.code as u8 })
    }
}

impl Datapath for KernelDatapath {
    fn steer(&mut self, service: ServiceId, steering: Steering) -> u16 {
        let slot = |server: Option<ServerId>| server.map(|server| self.places.servers[server.0].slot);
        let Steering { signalling, media, draining, memory, choice } = steering;
        let named = Named { signalling: slot(signalling), media: slot(media), draining: slot(draining) };
        let index = self.word_index(service);
        let old = self.words.load(index);
        let is_fresh = old.is_take_over(named) || old.notes() != old.notes().settled();
        let memory = if self.has_calls { memory } else { Memory::Nothing };
        let word = old.steered(named, noted(choice)).with_notes(notes(memory, is_fresh));
        self.words.store(index, word);
        word.epoch()
    }

    fn end_census(&mut self, service: ServiceId) {
        let index = self.word_index(service);
        let word = self.words.load(index);
        self.words.store(index, word.with_notes(word.notes().settled()));
    }

    fn steering(&self, service: ServiceId) -> Steering {
        let word = self.words.load(self.word_index(service));
        let server = |slot| self.places.server_in(service, slot);
        let Named { signalling, media, draining } = word.named();
        Steering {
            signalling: server(signalling),
            media: server(media),
            draining: server(draining),
            memory: match word.notes() {
                Notes::Nothing | Notes::Count => Memory::Nothing,
                Notes::Calls | Notes::CallsOfFormer => Memory::Calls,
                Notes::CallsOfActive => Memory::Census,
            },
            choice: known(word.choice()),
        }
    }

    fn set_next_hop(&mut self, server: ServerId, family: Family, hop: NextHop) -> Result<()> {
        let Place { service, slot } = self.places.servers[server.0];
        let old = self.entries(slot)?;
        let exit = self.tables.exit(hop.ifindex)?;
        let mut new = old;
        let entry = &mut new[family as usize];
        let NextHop { ifindex, mtu, source, destination, vlans, by_stack, mask } = hop;
        let (ends, tags, by_stack) = (Ends::new(destination, source), vlans.map(Into::into), by_stack.into());
        *entry = ServerEntry { ifindex, mtu, ends, tags, by_stack, exit, ..*entry };
        if let Some(mask) = mask {
            masks::put(entry, mask, &self.tables)?;
        }
        if new == old {
            return Ok(());
        }
        let fresh = slot.other_bank();
        self.write_slot(fresh, new)?;
        self.places.servers[server.0].slot = fresh;
        for address in new.map(|entry| entry.address).into_iter().filter(|address| !address.is_none()) {
            let endpoint = Endpoint::server(self.places.services[service.0], fresh);
            self.tables.endpoints.put(address, endpoint)?;
        }
        let index = self.word_index(service);
        let word = self.words.load(index);
        // The same servers, so the same epoch.
        let named = word.named().map(|named| Some(if named == slot { fresh } else { named }));
        self.words.store(index, word.with(named));
        masks::remove_others(&self.places, &self.tables)
    }

    fn next_hop(&self, server: ServerId, family: Family) -> Option<NextHop> {
        let entry = self.tables.slot(self.places.servers[server.0].slot, family).ok()?;
        NextHop::of(&entry)
    }

    fn traffic(&self, server: ServerId) -> Heard {
        self.signs.of(self.number(server))
    }

    fn signals(&mut self) -> Vec<Signal> {
        let records = self.signals.take();
        records.iter().filter_map(|record| self.signal(record)).collect()
    }

    fn signal_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.signals.fd())
    }
}

/// The entries of one slot, by family.
type Entries = [ServerEntry; FAMILIES as usize];

/// The entries of a server that nothing is known of but what the configuration says.
fn own_entries(server: &Server, gateway: &Gateway) -> Entries {
    Family::ALL.map(|family| {
        let address = server.addresses.of(family).map_or(Address::NONE, Address::from);
        let forwarding = server.forwarding.in_kernel() as u32;
        let mask_idle_s = gateway.masquerade_idle.as_secs() as u32;
        ServerEntry { address, forwarding, exit: NO_EXIT, mask_idle_s, ..ServerEntry::default() }
    })
}

fn ports(service: &Service) -> Ports {
    let mut sip = [0; MAX_SIP_PORTS];
    for (place, &port) in sip.iter_mut().zip(&service.sip_ports) {
        *place = port;
    }
    Ports { sip, rtp_first: *service.rtp_ports.start(), rtp_last: *service.rtp_ports.end() }
}

/// `is_fresh`: in the first moments of a flip.
fn notes(memory: Memory, is_fresh: bool) -> Notes {
    match memory {
        Memory::Nothing if is_fresh => Notes::Count,
        Memory::Nothing => Notes::Nothing,
        Memory::Calls if is_fresh => Notes::CallsOfFormer,
        Memory::Calls | Memory::AfterCensus => Notes::Calls,
        Memory::Census => Notes::CallsOfActive,
    }
}

fn noted(choice: Choice) -> abi::Choice {
    match choice {
        Choice::None => abi::Choice::None,
        Choice::Chosen => abi::Choice::Chosen,
        Choice::Held => abi::Choice::Held,
    }
}

fn known(choice: abi::Choice) -> Choice {
    match choice {
        abi::Choice::None => Choice::None,
        abi::Choice::Chosen => Choice::Chosen,
        abi::Choice::Held => Choice::Held,
    }
}
