//! A second instance of the XDP program with maps of its own, filled from the pinned ones.
//!
//! BPF_PROG_TEST_RUN of the running program itself would count its frames, stamp flips, call a dead server heard, note flows
//! and wake the controller by a signal. The replica is the same code over copies of all that a decision looks up (endpoints,
//! services, servers, steering, links and devices), and what it notes goes with it. Routes and neighbours are no copies: the program asks
//! the kernel of this network namespace for them, which changes nothing.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, bail, ensure};
use aya::{
    Ebpf,
    maps::MapInfo,
    programs::{ProgramInfo, loaded_programs},
};
use voip_ha_ebpf::abi::{
    Address, Class, Endpoint, MAX_PLACES, MAX_SERVICES, MAX_WAYS, Outcome, ServerEntry, ServerNumber, ServiceEntry,
    ServicePlace, Slot, SteeringWord,
};

use super::{
    KernelLog, Link, Pins, Ran, Tables, XdpAction, object,
    pins::PrivatePins,
    rehearsal::rehearse,
    tables::{CountedAs, STEERING},
};

/// How often the maps are read anew because a controller wrote to them meanwhile.
const READINGS: usize = 20;

/// The second instance.
pub struct Replica {
    object: Ebpf,
    tables: Tables,
    links: Vec<Link>,
    servers: Vec<ServerNumber>,
    is_live_program: bool,
    _pins: PrivatePins,
}

/// What the program does to a frame, and how it would count it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The verdict, and the frame as it is then.
    pub ran: Ran,
    /// The server that the frame is counted for.
    pub server: Option<ServerNumber>,
    /// What it is counted as.
    pub class: Class,
    /// What becomes of it.
    pub outcome: Outcome,
    /// Index of the device that it leaves by, if it is redirected.
    pub leaves_by: Option<u32>,
}

/// All that a decision looks up.
#[derive(PartialEq)]
struct Contents {
    words: Vec<SteeringWord>,
    servers: Vec<ServerEntry>,
    services: Vec<ServiceEntry>,
    endpoints: Vec<(Address, Endpoint)>,
    links: Vec<Link>,
}

impl Replica {
    /// Loads the program once more, over copies of the pinned maps.
    ///
    /// # Errors
    ///
    /// No gateway is loaded, its maps have another layout, or the kernel refuses something.
    pub fn of(live: &Pins) -> Result<Self> {
        let live_tables = Tables::open(live)?;
        let contents = Contents::of(&live_tables)?;
        let pins = PrivatePins::new().context("cannot make a BPF file system for the copies: this needs root")?;
        let mut object = object::load(pins.pins(), KernelLog::Off)?;
        if contents.endpoints.iter().any(|(_, endpoint)| endpoint.is_mask()) {
            object::load_masks(&mut object, pins.pins())?;
        }
        object::link_programs(&object, pins.pins())?;
        let mut tables = Tables::open(pins.pins())?;
        contents.write(&mut tables)?;
        tables.copy_memory(&live_tables);
        tables.copy_protection(&live_tables)?;
        let is_live_program = runs_over(live, object::loaded_program(&object)?.info()?.tag())?;
        let servers = contents.numbers();
        Ok(Self { object, tables, links: contents.links, servers, is_live_program, _pins: pins })
    }

    /// The copies.
    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    /// Whether a program with the same instructions is loaded over the pinned maps. It is not where the gateway was started by
    /// another version.
    pub fn is_live_program(&self) -> bool {
        self.is_live_program
    }

    /// Gives the program a frame as if it came in by `ifindex`.
    ///
    /// # Errors
    ///
    /// The kernel does not run the program on it.
    pub fn observe(&mut self, ifindex: u32, frame: &[u8]) -> Result<Seen> {
        let ran = self.rehearse(ifindex, frame)?;
        let counted = self.tables.take_counts(&self.servers)?;
        let [CountedAs { server, class, outcome }] = counted[..] else {
            bail!("the program counts one frame as {} things", counted.len());
        };
        let leaves_by = if ran.act == XdpAction::Redirect { Some(self.leaves_by(ifindex, frame)?) } else { None };
        Ok(Seen { ran, server, class, outcome, leaves_by })
    }

    fn rehearse(&self, ifindex: u32, frame: &[u8]) -> Result<Ran> {
        rehearse(object::loaded_program(&self.object)?, ifindex, frame)
    }

    /// The program does not say by which device a frame leaves. But it is the one without which it does not leave.
    fn leaves_by(&mut self, ifindex: u32, frame: &[u8]) -> Result<u32> {
        let mut found = None;
        let mut devices: Vec<_> = self.links.iter().map(|link| link.device).collect();
        devices.sort_unstable();
        devices.dedup();
        for device in devices {
            let through: Vec<_> = self.links.iter().filter(|link| link.device == device).copied().collect();
            self.tables.close(&through)?;
            let ran = self.rehearse(ifindex, frame);
            through.iter().try_for_each(|link| self.tables.put_link(link))?;
            if ran?.act != XdpAction::Redirect {
                found = Some(device);
                break;
            }
        }
        self.tables.take_counts(&self.servers)?;
        found.context("redirected, but by none of the devices")
    }
}

impl Contents {
    /// Two readings that are equal, because no reading of several maps is one of a moment.
    fn of(live: &Tables) -> Result<Self> {
        let mut last = Self::read(live)?;
        for _ in 0..READINGS {
            let next = Self::read(live)?;
            if next == last {
                return Ok(next);
            }
            last = next;
        }
        bail!("the maps changed while they were read, {READINGS} times in a row")
    }

    fn read(live: &Tables) -> Result<Self> {
        let place = |place| live.service(ServicePlace(place));
        let server = |index| live.servers.get(&index, 0).with_context(|| format!("cannot read SERVERS[{index}]"));
        Ok(Self {
            words: (0..MAX_SERVICES).map(|service| live.word(service)).collect::<Result<_>>()?,
            servers: (0..MAX_WAYS).map(server).collect::<Result<_>>()?,
            services: (0..MAX_PLACES).map(place).collect::<Result<_>>()?,
            endpoints: live.endpoints.all(),
            links: live.links()?,
        })
    }

    /// Every server that a packet can be counted for.
    fn numbers(&self) -> Vec<ServerNumber> {
        let named = self.words.iter().flat_map(|word| word.named().slots()).map(Slot::server);
        let servers = self.endpoints.iter().filter(|(_, endpoint)| endpoint.is_server());
        let known = servers.map(|(_, endpoint)| endpoint.number());
        BTreeSet::from_iter(known.chain(named)).into_iter().collect()
    }

    fn write(&self, copies: &mut Tables) -> Result<()> {
        for (index, word) in (0..).zip(&self.words) {
            copies.steering.set(index, word, 0).context("cannot write the copy of STEERING")?;
        }
        for (index, server) in (0..).zip(&self.servers) {
            copies.servers.set(index, server, 0).context("cannot write the copy of SERVERS")?;
        }
        for (index, service) in (0..).zip(&self.services) {
            copies.services.set(index, service, 0).context("cannot write the copy of SERVICES")?;
        }
        for (address, endpoint) in &self.endpoints {
            copies.endpoints.put(*address, *endpoint)?;
        }
        for link in &self.links {
            copies.put_link(link).with_context(|| {
                let device = link.device;
                format!(
                    "no device {device} here: run this in the network namespace of the gateway (ip netns exec NAME …)"
                )
            })?;
        }
        Ok(())
    }
}

/// Whether a program with this tag, the sum of its instructions, is loaded over these maps.
fn runs_over(live: &Pins, tag: u64) -> Result<bool> {
    let path = live.map(STEERING);
    let map = MapInfo::from_pin(&path).with_context(|| format!("cannot open {}", path.display()))?.id();
    let uses_map = |program: &ProgramInfo| program.map_ids().is_ok_and(|ids| ids.is_some_and(|ids| ids.contains(&map)));
    // One that is unloaded in the middle of the list is an error, and none that matters.
    let mut programs = loaded_programs().flatten().filter(|program| program.name() == object::PROGRAM.as_bytes());
    ensure!(tag != 0, "the kernel does not say what it has loaded");
    Ok(programs.any(|program| program.tag() == tag && uses_map(&program)))
}
