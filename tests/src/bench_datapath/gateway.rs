//! The gateway's own program, loaded and attached by the real datapath, and steered to the first server of each service.

use std::{
    collections::BTreeMap,
    fs,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use aya::{
    maps::MapInfo,
    programs::{Program, ProgramFd, Xdp},
};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};
use voip_ha::{
    config::Config,
    datapath::{Datapath as _, KernelDatapath, KernelLog, NextHop, PinDirectory, Pins, Tables},
    ids::{Family, ServiceId},
    sysctl,
};
use voip_ha_ebpf::abi::Mac;

use super::{
    network::{Devices, Ipv4, MTU},
    path::Host,
    setting::Setting,
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
    pub(super) setting: Setting,
}

impl Gateway {
    /// Loads the program for so many services with so many servers each, on devices of its own.
    pub(super) fn load(root: &PinRoot, number: u8, (services, servers): (u8, u8), setting: Setting) -> Result<Self> {
        let devices = Devices::build(number)?;
        let family = if setting == Setting::Six { Family::V6 } else { Family::V4 };
        if family == Family::V6 {
            devices.add_ipv6()?;
        }
        let directory = root.directory(number);
        let text = text(&devices, &directory, (services, servers), setting);
        let config = Config::parse("the bench's configuration", &text)?;
        sysctl::prepare(&sysctl::Needs::of(&config))?;
        let pins = Pins::new(&directory);
        let mut datapath = KernelDatapath::load(&config, PinDirectory::open(&directory)?, KernelLog::Off)?;
        datapath.attach(&config, &setting.links(&devices))?;
        for service in 0..services {
            let of_service = config.servers().filter(|(_, of, _)| *of == ServiceId(service.into()));
            let ids: Vec<_> = of_service.map(|(id, ..)| id).collect();
            for (place, id) in (0..).zip(&ids) {
                let hop = next_hop(&devices, server(&devices, service, place));
                datapath.set_next_hop(
                    *id,
                    family,
                    NextHop { vlans: setting.tags(), mask: setting.mask(&devices), ..hop },
                )?;
            }
            let [first, second, ..] = ids[..] else { bail!("a service without two servers") };
            setting.steer(&mut datapath, ServiceId(service.into()), [first, second]);
        }
        Ok(Self { datapath, config, pins, devices, setting })
    }

    /// How many services it has.
    pub(super) fn services(&self) -> u8 {
        self.config.services.len() as u8
    }

    /// The address of one of the hosts that packets of a service go between.
    pub(super) fn address(&self, host: Host, service: u8) -> Ipv4 {
        match host {
            Host::Phone => self.devices.phones(),
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
        for (name, program) in self.datapath.object().programs_mut() {
            // Those for tunnels and masquerading are loaded only where there is such a server.
            match program {
                Program::SchedClassifier(program) if program.fd().is_err() => program.load()?,
                Program::Xdp(program) if program.fd().is_err() => program.load()?,
                _ => {}
            }
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

fn text(devices: &Devices, pin_dir: &Path, (services, servers): (u8, u8), setting: Setting) -> String {
    let (front, back, pin_dir) = (devices.front(), devices.back(), pin_dir.display());
    let mut text = format!("gateway = {{ front = '{front}', back = '{back}', pin_dir = '{pin_dir}' }}\n");
    for service in 0..services {
        let vip = setting.text(vip(devices, service));
        text += &format!("[[service]]\nname = 'service-{service}'\nvip = '{vip}'\nsip_ports = [5060]\n");
        text += &format!("rtp_ports = '10000-19999'\n{}server = [\n", setting.keys());
        for place in 0..servers {
            let (address, keys) = (setting.text(server(devices, service, place)), setting.server_keys());
            text += &format!("    {{ name = 'server-{service}-{place}', address = '{address}'{keys} }},\n");
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
    let (source, vlans) = (devices.mac(ifindex), Default::default());
    NextHop { ifindex, mtu: MTU, source, destination, vlans, by_stack: false, mask: None }
}
