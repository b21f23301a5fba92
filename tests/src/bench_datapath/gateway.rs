//! The gateway's own program, loaded and attached by the real datapath, and steered to the first server of each service.

use std::{
    collections::BTreeMap,
    fs,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use aya::{
    maps::MapInfo,
    programs::{ProgramFd, Xdp},
};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};
use voip_ha::{
    config::Config,
    datapath::{Datapath as _, KernelDatapath, KernelLog, Link, NextHop, PinDirectory, Pins, Steering, Tables},
    ids::{Family, ServiceId},
    sysctl,
};
use voip_ha_ebpf::abi::Mac;

use super::{
    network::{Devices, Ipv4, MTU, PHONES},
    path::Host,
};

/// A BPF file system that is mounted nowhere: what is pinned in it goes with this value, however the process ends.
pub(super) struct PinRoot(OwnedFd);

impl PinRoot {
    pub(super) fn new() -> Result<Self> {
        let context = fsopen("bpf", FsOpenFlags::FSOPEN_CLOEXEC).context("a BPF file system: this needs root")?;
        fsconfig_create(&context)?;
        let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
        Ok(Self(fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?))
    }

    /// Good in this process only.
    fn directory(&self, gateway: u8) -> PathBuf {
        Path::new("/proc/self/fd").join(self.0.as_raw_fd().to_string()).join(gateway.to_string())
    }
}

/// One loaded gateway.
pub(super) struct Gateway {
    datapath: KernelDatapath,
    config: Config,
    pins: Pins,
    pub(super) devices: Devices,
}

impl Gateway {
    /// Loads the program for so many services with so many servers each, on devices of its own.
    pub(super) fn load(root: &PinRoot, number: u8, services: u8, servers: u8) -> Result<Self> {
        let devices = Devices::build(number)?;
        let directory = root.directory(number);
        let config = Config::parse("the bench's configuration", &text(&devices, &directory, services, servers))?;
        sysctl::prepare(&sysctl::Needs::of(&config))?;
        let pins = Pins::new(&directory);
        let mut datapath = KernelDatapath::load(&config, PinDirectory::open(&directory)?, KernelLog::Off)?;
        datapath.attach(&config, &[devices.front_index(), devices.back_index()].map(Link::plain))?;
        for (id, _, server) in config.servers() {
            let address = server.addresses.v4.context("a server without an IPv4 address")?;
            datapath.set_next_hop(id, Family::V4, next_hop(&devices, address.octets()))?;
        }
        for service in 0..services {
            let first = config.servers().find(|(_, of, _)| *of == ServiceId(service.into()));
            let (id, service, _) = first.context("a service without servers")?;
            datapath.steer(service, Steering::to(id));
        }
        Ok(Self { datapath, config, pins, devices })
    }

    /// How many services it has.
    pub(super) fn services(&self) -> u8 {
        self.config.services.len() as u8
    }

    /// The address of one of the hosts that packets of a service go between.
    pub(super) fn address(&self, host: Host, service: u8) -> Ipv4 {
        match host {
            Host::Phone => PHONES,
            Host::Vip => vip(&self.devices, service),
            Host::Master => server(&self.devices, service, 0),
            Host::Backup => server(&self.devices, service, 1),
            Host::Gateway => self.devices.address(),
        }
    }

    /// Where frames to the active server of the first service go.
    pub(super) fn next_hop(&self) -> NextHop {
        next_hop(&self.devices, self.address(Host::Master, 0))
    }

    /// The program, to be called.
    pub(super) fn program(&mut self) -> Result<ProgramFd> {
        Ok(self.xdp()?.fd()?.try_clone()?)
    }

    /// Packets that were counted under an outcome.
    pub(super) fn counted(&self, outcome: &str) -> Result<u64> {
        let servers = self.config.servers().map(|(id, ..)| Some(self.datapath.number(id)));
        let mut packets = 0;
        for server in servers.chain([None]) {
            let counted = self.datapath.tables().traffic(server)?;
            packets += counted.iter().filter(|of| of.outcome == outcome).map(|of| of.packets).sum::<u64>();
        }
        Ok(packets)
    }

    /// Instructions of each program that the verifier walked through. Linux 5.16.
    pub(super) fn verified_insns(&mut self) -> Result<BTreeMap<String, u32>> {
        let mut counts = BTreeMap::new();
        for (name, program) in self.datapath.object().programs() {
            let program: &Xdp = program.try_into()?;
            let count = program.info()?.verified_instruction_count();
            let count = count.context("this kernel (before 5.16) does not count verified instructions")?;
            counts.insert(name.to_owned(), count);
        }
        Ok(counts)
    }

    /// Memory of each map in bytes, as the kernel reports it.
    pub(super) fn map_bytes(&self) -> Result<BTreeMap<String, u64>> {
        let facts = Tables::facts(&self.pins)?;
        facts.iter().map(|map| Ok((map.name.to_owned(), memory(&self.pins.map(map.name))?))).collect()
    }

    fn xdp(&mut self) -> Result<&Xdp> {
        Ok(self.datapath.object().program("voip_ha").context("no program voip_ha")?.try_into()?)
    }
}

fn memory(pin: &Path) -> Result<u64> {
    let map = MapInfo::from_pin(pin)?.fd()?;
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", map.as_fd().as_raw_fd()))?;
    let bytes = info.lines().find_map(|line| line.strip_prefix("memlock:"));
    Ok(bytes.with_context(|| format!("no memlock in the fdinfo of {}", pin.display()))?.trim().parse()?)
}

fn text(devices: &Devices, pin_dir: &Path, services: u8, servers: u8) -> String {
    let (front, back, pin_dir) = (devices.front(), devices.back(), pin_dir.display());
    let mut text = format!("gateway = {{ front = '{front}', back = '{back}', pin_dir = '{pin_dir}' }}\n");
    for service in 0..services {
        let vip = dotted(vip(devices, service));
        text += &format!("[[service]]\nname = 'service-{service}'\nvip = '{vip}'\nsip_ports = [5060]\n");
        text += "rtp_ports = '10000-19999'\nserver = [\n";
        for place in 0..servers {
            let address = dotted(server(devices, service, place));
            text += &format!("    {{ name = 'server-{service}-{place}', address = '{address}' }},\n");
        }
        text += "]\n";
    }
    text
}

fn vip(devices: &Devices, service: u8) -> Ipv4 {
    [192, 0, devices.gateway + 1, 10 + service]
}

fn server(devices: &Devices, service: u8, place: u8) -> Ipv4 {
    [10, devices.gateway, service, 2 + place]
}

fn next_hop(devices: &Devices, [a, b, c, d]: Ipv4) -> NextHop {
    let (ifindex, destination): (u32, Mac) = (devices.back_index(), [2, 0, a, b, c, d]);
    NextHop { ifindex, mtu: MTU, source: devices.mac(ifindex), destination, vlans: Default::default(), mask: None }
}

fn dotted(address: Ipv4) -> String {
    std::net::Ipv4Addr::from(address).to_string()
}
