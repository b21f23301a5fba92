//! The real program, loaded through the real datapath, in a network namespace of its own.
//!
//! ```text
//! phones ──── front [gateway] back ──── servers        side: a device that the gateway does not serve
//! ```
//!
//! Frames are given to the program by BPF_PROG_TEST_RUN as if they came in by an interface, so its lookups in the
//! routing table are answered by the namespace.

use std::{
    collections::BTreeMap,
    fs,
    panic::resume_unwind,
    path::{Path, PathBuf},
    process,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use aya::programs::Xdp;
use lab::wait;
use rustix::thread::{UnshareFlags, unshare_unsafe};
use voip_ha::{
    config::Config,
    datapath::{
        Attachment, Datapath as _, KernelDatapath, KernelLog, Link, Memory, NextHop, PinDirectory, Steering, unload,
    },
    ids::{Family, ServerId, ServiceId},
    sysctl::{self, Needs},
};
use voip_ha_ebpf::abi::{MAX_SERVERS, Mac, ServerNumber};

use super::net::{self, BACK, FRONT, SIDE};

pub(crate) use voip_ha::datapath::{Ran, XdpAction as Act, context, rehearse as run};

/// Two services. Of the first one's servers, `lost` has no next hop and the next hop of `astray` is on a device that
/// the gateway does not serve.
pub(crate) const SERVICES: &str = "
    [[service]]
    name = 'pbx'
    vip = ['192.0.2.10', '2001:db8::c000:20a']
    sip_ports = [5060, 5080]
    rtp_ports = '10000-19999'
    server = [
        { name = 'master', address = ['10.0.0.2', '2001:db8::a00:2'] },
        { name = 'cloud', address = ['10.8.0.2', '2001:db8::a08:2'] },
        { name = 'lost', address = ['10.0.0.4', '2001:db8::a00:4'] },
        { name = 'astray', address = ['10.0.0.5', '2001:db8::a00:5'] },
    ]

    [[service]]
    name = 'trunk'
    vip = ['192.0.2.20', '2001:db8::c000:214']
    sip_ports = [5060]
    rtp_ports = '20000-29999'
    server = [{ name = 'one', address = ['10.0.0.3', '2001:db8::a00:3'] }, { name = 'two', address = ['10.0.0.6', '2001:db8::a00:6'] }]";

pub(crate) const PBX: ServiceId = ServiceId(0);
pub(crate) const TRUNK: ServiceId = ServiceId(1);

/// How long to wait for what takes the kernel a moment.
pub(crate) const SOON: Duration = Duration::from_secs(5);

/// A loaded program. Dropping it takes everything off again.
pub(crate) struct Rig {
    // Before the pins, which only a datapath that is gone lets go.
    pub(crate) datapath: KernelDatapath,
    pub(crate) config: Config,
    pub(crate) attachments: Vec<Attachment>,
    pub(crate) pins: PinDir,
}

/// A counter: whose, of which class, for which outcome.
pub(crate) type Place = (Option<ServerNumber>, &'static str, &'static str);
/// Packets and bytes of every counter that is not zero.
pub(crate) type Tally = BTreeMap<Place, (u64, u64)>;

/// Runs a test in a thread with a fresh network namespace, which goes with the thread.
pub(crate) fn apart(test: impl FnOnce() -> Result<()> + Send + 'static) -> Result<()> {
    lab::require_root()?;
    let body = || {
        // SAFETY: only the network namespace of this thread changes, and no file descriptor.
        unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.context("no network namespace")?;
        net::build()?;
        test()
    };
    thread::spawn(body).join().unwrap_or_else(|panic| resume_unwind(panic))
}

/// Runs a test on a rig with all next hops set, master and trunk `one` active, and the program on the interfaces.
pub(crate) fn with_rig(test: impl FnOnce(&mut Rig) -> Result<()> + Send + 'static) -> Result<()> {
    apart(|| test(&mut Rig::ready()?))
}

/// A configuration for these services, with the interfaces of the namespace.
pub(crate) fn config(services: &str, pin_dir: &Path) -> Result<Config> {
    let text = format!("gateway = {{ front = 'front', back = 'back', pin_dir = '{}' }}\n{services}", pin_dir.display());
    Ok(Config::parse("the test's configuration", &text)?)
}

/// Where frames to the rig's servers go; nothing for `lost`.
pub(crate) fn next_hop(server: &str) -> Option<NextHop> {
    let (ifindex, destination): (u32, Mac) = match server {
        "master" => (BACK, [2, 0, 10, 0, 0, 2]),
        "cloud" => (BACK, net::CLOUD_ROUTER),
        "astray" => (SIDE, [2, 0, 10, 0, 0, 5]),
        "one" => (BACK, [2, 0, 10, 0, 0, 3]),
        "two" => (BACK, [2, 0, 10, 0, 0, 6]),
        _ => return None,
    };
    Some(NextHop { ifindex, source: net::mac(ifindex), ..by_back(destination) })
}

/// A way by the back device, without tags.
pub(crate) fn by_back(destination: Mac) -> NextHop {
    let (source, vlans) = (net::mac(BACK), Default::default());
    NextHop { ifindex: BACK, mtu: net::MTU, source, destination, vlans, by_stack: false, mask: None }
}

impl Rig {
    /// Loads the program with nothing steered yet.
    pub(crate) fn load(services: &str, log: KernelLog) -> Result<Self> {
        Self::load_at(PinDir::claim()?, services, log)
    }

    /// Loads the program, sets all next hops, and makes `master` and `one` active.
    pub(crate) fn ready() -> Result<Self> {
        Self::ready_at(PinDir::claim()?)
    }

    /// Like [`Rig::ready`], with pins at a place of the caller's choice.
    pub(crate) fn ready_at(pins: PinDir) -> Result<Self> {
        let mut rig = Self::load_at(pins, SERVICES, KernelLog::Off)?;
        rig.set_next_hops()?;
        rig.steer(PBX, Some("master"), None)?;
        rig.steer(TRUNK, Some("one"), None)?;
        Ok(rig)
    }

    /// What a controller does that ends and is started again, perhaps with other services.
    pub(crate) fn restarted(self, services: &str) -> Result<Self> {
        let Self { datapath, pins, .. } = self;
        drop(datapath);
        Self::load_at(pins, services, KernelLog::Off)
    }

    fn load_at(pins: PinDir, services: &str, log: KernelLog) -> Result<Self> {
        let config = config(services, &pins.0)?;
        sysctl::prepare(&Needs::of(&config))?;
        let directory = with_lock(|| PinDirectory::open(&pins.0))?;
        let mut datapath = KernelDatapath::load(&config, directory, log)?;
        let attachments = datapath.attach(&config, &[FRONT, BACK].map(Link::plain))?;
        Ok(Self { datapath, config, attachments, pins })
    }

    /// The pin directory.
    pub(crate) fn pin_dir(&self) -> &Path {
        &self.pins.0
    }

    fn set_next_hops(&mut self) -> Result<()> {
        let servers: Vec<_> = self.config.servers().map(|(id, _, server)| (id, next_hop(&server.name))).collect();
        for (id, hop) in servers {
            for family in Family::ALL {
                hop.map_or(Ok(()), |hop| self.datapath.set_next_hop(id, family, hop))?;
            }
        }
        Ok(())
    }

    pub(crate) fn server(&self, name: &str) -> Result<ServerId> {
        Ok(self.config.server_named(name).with_context(|| format!("no server {name}"))?.0)
    }

    pub(crate) fn number(&self, name: &str) -> Result<ServerNumber> {
        Ok(self.datapath.number(self.server(name)?))
    }

    /// Steers signalling and media to the same server. Returns the epoch.
    pub(crate) fn steer(&mut self, service: ServiceId, active: Option<&str>, draining: Option<&str>) -> Result<u16> {
        self.steer_apart(service, [active, active], draining)
    }

    /// Steers signalling and media, in this order, to a server each. Returns the epoch.
    pub(crate) fn steer_apart(
        &mut self,
        service: ServiceId,
        [signalling, media]: [Option<&str>; 2],
        draining: Option<&str>,
    ) -> Result<u16> {
        self.steer_as(service, [signalling, media, draining], Memory::Nothing)
    }

    /// Like [`Rig::steer`], with the order to remember whose calls are whose.
    pub(crate) fn steer_remembering(
        &mut self,
        service: ServiceId,
        active: &str,
        draining: Option<&str>,
    ) -> Result<u16> {
        self.steer_as(service, [Some(active), Some(active), draining], Memory::Calls)
    }

    /// Steers signalling, media and who drains, in this order.
    pub(crate) fn steer_as(&mut self, service: ServiceId, servers: [Option<&str>; 3], memory: Memory) -> Result<u16> {
        let id = |name: Option<&str>| name.map(|name| self.server(name)).transpose();
        let [signalling, media, draining] = [id(servers[0])?, id(servers[1])?, id(servers[2])?];
        let steering = Steering { signalling, media, draining, memory, ..Steering::default() };
        let epoch = self.datapath.steer(service, steering);
        // How a drain began is not in the word.
        let memory = if memory == Memory::AfterCensus { Memory::Calls } else { memory };
        let found = self.datapath.steering(service);
        ensure!(found == Steering { memory, ..steering }, "the kernel's word is not what was written: {found:?}");
        Ok(epoch)
    }

    pub(crate) fn program(&mut self) -> Result<&Xdp> {
        let program = self.datapath.object().program("voip_ha").context("no program")?;
        Ok(program.try_into()?)
    }

    /// Gives the program a frame as if it came in by `ifindex`.
    pub(crate) fn run(&mut self, ifindex: u32, frame: &[u8]) -> Result<Ran> {
        run(self.program()?, ifindex, frame)
    }

    /// Like [`Rig::run`], and says which counter counted the frame. Fails unless exactly one did, once and whole.
    pub(crate) fn observe(&mut self, ifindex: u32, frame: &[u8]) -> Result<(Ran, Place)> {
        let before = self.tally()?;
        let ran = self.run(ifindex, frame)?;
        let mut after = self.tally()?;
        after.retain(|place, count| before.get(place) != Some(count));
        let Some((&place, &count)) = after.first_key_value().filter(|_| after.len() == 1) else {
            bail!("these counters changed: {after:?}");
        };
        let (packets, bytes) = before.get(&place).copied().unwrap_or_default();
        ensure!(
            count == (packets + 1, bytes + frame.len() as u64),
            "{place:?} went from {packets}, {bytes} to {count:?}"
        );
        Ok((ran, place))
    }

    /// All counters that are not zero.
    pub(crate) fn tally(&self) -> Result<Tally> {
        let mut tally = Tally::new();
        for server in (0..MAX_SERVERS).map(|number| Some(ServerNumber(number))).chain([None]) {
            for traffic in self.datapath.tables().traffic(server)? {
                tally.insert((server, traffic.class, traffic.outcome), (traffic.packets, traffic.bytes));
            }
        }
        Ok(tally)
    }
}

/// Does again what is refused because somebody has the lock of the pin directory. A child that another thread starts
/// holds a copy of every file of this process, and with that a lock just let go, until it has become another program.
pub(crate) fn with_lock<T>(mut work: impl FnMut() -> Result<T>) -> Result<T> {
    wait::until(SOON, "the lock of a pin directory", || match work() {
        Err(error) if format!("{error:#}").contains("another voip-ha is running") => Ok(None),
        result => result.map(Some),
    })
}

/// A pin directory of one test, taken off again whatever becomes of the test.
pub(crate) struct PinDir(pub(crate) PathBuf);

impl PinDir {
    const PARENT: &str = "/sys/fs/bpf";
    const PREFIX: &str = "voip-ha-test-";

    /// A name that nobody uses. Nothing is there yet.
    pub(crate) fn claim() -> Result<Self> {
        static TURN: Mutex<()> = Mutex::new(());
        static COUNT: AtomicU32 = AtomicU32::new(1);
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        if COUNT.load(Ordering::Relaxed) == 1 {
            Self::remove_those_of_the_dead();
        }
        let name = format!("{}{}-{}", Self::PREFIX, process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        Ok(Self(Path::new(Self::PARENT).join(name)))
    }

    /// What tests left that were killed and could not tidy up. Dropping it is all there is to do.
    fn remove_those_of_the_dead() {
        for entry in fs::read_dir(Self::PARENT).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let process = name.strip_prefix(Self::PREFIX).and_then(|rest| rest.split('-').next());
            if process.is_some_and(|process| !Path::new("/proc").join(process).exists()) {
                drop(Self(entry.path()));
            }
        }
    }
}

impl Drop for PinDir {
    fn drop(&mut self) {
        if let Err(error) = with_lock(|| unload(&self.0)) {
            eprintln!("{} is not removed: {error:#}", self.0.display());
        }
    }
}
