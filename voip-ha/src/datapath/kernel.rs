//! The real datapath: the XDP program on its interfaces, and the controller's hand on its maps.
//!
//! Order of every write: everything new first, then the word or the key that makes packets look at it.

use std::{os::fd::BorrowedFd, time::Duration};

use anyhow::{Context as _, Result, ensure};
use aya::{Ebpf, maps::MapError};
use voip_ha_ebpf::abi::{
    self, Address, MAX_SIP_PORTS, Named, OriginEntry, Ports, ServerEntry, ServerNumber, ServiceEntry, SignalRecord,
    Slot,
};

use super::{
    Attachment, Datapath, Heard, KernelLog, NextHop, PinDirectory, Signal, Steering, Tables, VlanTag, link,
    mapped::{Signs, Words},
    object,
    places::{self, Place, Places},
    signals::Signals,
};
use crate::{
    config::{Config, Service},
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
}

impl KernelDatapath {
    /// Loads the program. What an earlier controller left in the tables is read, and nothing is changed: packets see
    /// neither the new program nor the new configuration yet.
    ///
    /// # Errors
    ///
    /// The pinned maps have another layout, or the kernel refuses something.
    pub fn load(config: &Config, directory: PinDirectory, kernel_log: KernelLog) -> Result<Self> {
        let has_v4 = config.services.iter().all(|service| service.vips.v4.is_some());
        ensure!(has_v4, "the kernel side knows no service without an IPv4 address yet");
        let object = object::load(directory.pins(), kernel_log)?;
        let tables = Tables::open(directory.pins())?;
        let words = Words::open(directory.pins())?;
        let signs = Signs::open(directory.pins())?;
        let signals = Signals::open(directory.pins())?;
        let places = Places::assign(config, &tables, &words)?;
        Ok(Self { object, tables, words, signs, signals, places, directory })
    }

    /// Puts the program on the interfaces of the configuration, then makes the tables those of the configuration, taking
    /// over what an earlier controller left there: a service that stays keeps its active server, a server that stays
    /// keeps its counters. In this order, because an interface may refuse and the new program is right with the old
    /// tables too.
    ///
    /// # Errors
    ///
    /// An interface refuses: the tables are then as they were, and no interface has a program that had none before. Or
    /// the kernel does not take an entry of the tables.
    pub fn attach(&mut self, config: &Config, ifindexes: &[u32]) -> Result<Vec<Attachment>> {
        let interfaces = config.gateway.interfaces();
        let pins = self.directory.pins();
        let program = object::program(&mut self.object)?;
        let attachments = link::attach_all(program, pins, &config.gateway)?;
        for &ifindex in ifindexes {
            self.tables.devices.insert(ifindex, ifindex, None, 0).context("cannot write DEVICES")?;
        }
        // A controller that died in the middle of a count.
        self.tables.clear_flows()?;
        Places::remove_others(config, &mut self.tables, &self.words)?;
        self.fill(config)?;
        link::detach_others(self.directory.pins(), &interfaces)?;
        self.tables.remove_other_devices(ifindexes)?;
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
            let Place { service, slot } = self.places.servers[id.0];
            let address = places::key(&server.addresses);
            if let Err(MapError::KeyNotFound) = self.tables.origins.get(&address, 0) {
                // It may have been here before: what its number counted and where it was is history.
                newcomers.push(id);
                self.tables.forget(slot.server())?;
                self.write_slot(slot, ServerEntry { address, ..ServerEntry::default() })?;
            }
            let of = &config.services[service.0];
            self.write_origin(
                address,
                OriginEntry {
                    slot: slot.0,
                    service: self.places.services[service.0],
                    vip: places::key(&of.vips),
                    ports: ports(of),
                },
            )?;
        }
        self.places.set_words_right(&self.words, |server| !newcomers.contains(&server));
        for (index, service) in config.services.iter().enumerate() {
            let entry = ServiceEntry { service: self.places.services[index], ports: ports(service) };
            self.tables.services.insert(places::key(&service.vips), entry, 0).context("cannot write SERVICES")?;
        }
        Ok(())
    }

    fn write_slot(&mut self, slot: Slot, entry: ServerEntry) -> Result<()> {
        self.tables.servers.set(slot.0, entry, 0).with_context(|| format!("cannot write SERVERS[{}]", slot.0))
    }

    fn write_origin(&mut self, address: Address, entry: OriginEntry) -> Result<()> {
        self.tables.origins.insert(address, entry, 0).context("cannot write ORIGINS")
    }

    fn word_index(&self, service: ServiceId) -> u32 {
        self.places.services[service.0]
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
        let Steering { signalling, media, draining, affinity, choice } = steering;
        let named = Named { signalling: slot(signalling), media: slot(media), draining: slot(draining) };
        let index = self.word_index(service);
        let word = self.words.load(index).steered(named, noted(choice)).with_affinity(affinity);
        self.words.store(index, word);
        word.epoch()
    }

    fn end_census(&mut self, service: ServiceId) {
        let index = self.word_index(service);
        self.words.store(index, self.words.load(index).with_census(false));
    }

    fn steering(&self, service: ServiceId) -> Steering {
        let word = self.words.load(self.word_index(service));
        let server = |slot| self.places.server_in(service, slot);
        let Named { signalling, media, draining } = word.named();
        Steering {
            signalling: server(signalling),
            media: server(media),
            draining: server(draining),
            affinity: word.is_affine(),
            choice: known(word.choice()),
        }
    }

    fn set_next_hop(&mut self, server: ServerId, family: Family, hop: NextHop) -> Result<()> {
        ensure!(
            family == Family::V4 && hop.vlans == [VlanTag::default(); 2],
            "the kernel side knows no {family} or VLAN yet"
        );
        let Place { service, slot } = self.places.servers[server.0];
        let old = self.tables.slot(slot)?;
        let NextHop { ifindex, mtu, source, destination, .. } = hop;
        let new = ServerEntry { address: old.address, ifindex, mtu, next_hop: destination, source };
        if new == old {
            return Ok(());
        }
        let fresh = slot.other_bank();
        let origin = self.tables.origins.get(&old.address, 0).context("cannot read ORIGINS")?;
        self.write_slot(fresh, new)?;
        self.write_origin(old.address, OriginEntry { slot: fresh.0, ..origin })?;
        self.places.servers[server.0].slot = fresh;
        let index = self.word_index(service);
        let word = self.words.load(index);
        // The same servers, so the same epoch.
        let named = word.named().map(|named| Some(if named == slot { fresh } else { named }));
        self.words.store(index, word.with(named));
        Ok(())
    }

    fn next_hop(&self, server: ServerId, family: Family) -> Option<NextHop> {
        if family != Family::V4 {
            return None;
        }
        let entry = self.tables.slot(self.places.servers[server.0].slot).ok()?;
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

fn ports(service: &Service) -> Ports {
    let mut sip = [0; MAX_SIP_PORTS];
    for (place, &port) in sip.iter_mut().zip(&service.sip_ports) {
        *place = port;
    }
    Ports { sip, rtp_first: *service.rtp_ports.start(), rtp_last: *service.rtp_ports.end() }
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
