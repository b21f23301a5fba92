//! The XDP programs at both ends of a flood, and those that are its gateway.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    sync::Arc,
};

use anyhow::{Context as _, Result};
use aya::{
    Ebpf, TestRunAttrs, TestRunOptions,
    maps::{Array, DevMap, MapData, PerCpuArray},
    programs::{TestRun as _, Xdp, XdpMode},
};
use etherparse::PacketBuilder;
use nix::net::if_::if_nametoindex;

use super::{
    super::harness::{OBJECT, halves},
    network::{CABLE, FRONT_MAC, Network, PHONES_MAC, SERVER},
    processor::Priority,
};
use crate::{
    netns::Namespace,
    rtp,
    topology::{RTP_PORTS, SIP, VIP},
};

/// Flows that take turns in a flood of RTP.
pub(super) const FLOWS: u32 = 1000;
/// Where a flood of RTP goes to. No call uses it.
pub(super) const RTP_PORT: u16 = RTP_PORTS.0 + 2000;
/// Where a flood from one source comes from: no phone.
pub(super) const ATTACKER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 250), 5060);
/// What the payload of a flood begins with, and no other.
const MARK: [u8; 6] = *b"\x80\0load";

/// Frames that are made at once: what a driver polls.
const BATCH: u32 = 64;

/// Who a system expects a flood to be addressed to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Receiver {
    Vip,
    /// The system rewrites no addresses.
    Server,
}

const FLOOD: &str = "flood";

/// The program that makes and sends frames, and what it makes them of.
pub(super) struct Flood {
    object: Arc<Ebpf>,
    frame: Vec<u8>,
}

impl Flood {
    /// RTP of many flows.
    pub(super) fn of_rtp(network: &Network, receiver: Receiver) -> Result<Self> {
        let address = match receiver {
            Receiver::Vip => VIP,
            Receiver::Server => SERVER,
        };
        let phones: Vec<_> = network.lab.phone_addresses().collect();
        let flow = |port| SocketAddrV4::new(phones[usize::from(port) % phones.len()], 20_000 + port);
        let sources: Vec<_> = (0..FLOWS as u16).map(flow).collect();
        Self::new(network, &sources, SocketAddrV4::new(address, RTP_PORT))
    }

    /// Datagrams of the same size from one source to the SIP port.
    pub(super) fn of_sip_from_one(network: &Network) -> Result<Self> {
        Self::new(network, &[ATTACKER], SIP)
    }

    fn new(network: &Network, sources: &[SocketAddrV4], to: SocketAddrV4) -> Result<Self> {
        let frames: Vec<_> = sources.iter().map(|from| frame(*from, to)).collect();
        let first = frames.first().context("a flood needs a source")?.clone();
        let object = network.lab.phones().run(move || {
            let mut object = load(FLOOD)?;
            send_out(&mut object, "eth0")?;
            let mut flows: Array<_, [u64; 6]> = object.map_mut("FLOWS").context("no map FLOWS")?.try_into()?;
            for (number, frame) in (0..).zip(&frames) {
                flows.set(number, words(frame), 0)?;
            }
            let mut turn: Array<_, [u32; 2]> = object.map_mut("TURN").context("no map TURN")?.try_into()?;
            turn.set(0, [0, frames.len() as u32], 0)?;
            anyhow::Ok(object)
        })?;
        Ok(Self { object: Arc::new(object), frame: first })
    }

    /// Sends so many frames. Returns the nanoseconds that each took, with everything that was done about it.
    pub(super) fn send(&self, network: &Network, frames: u32) -> Result<f64> {
        let (object, frame, processor) = (Arc::clone(&self.object), self.frame.clone(), network.processor);
        network
            .lab
            .phones()
            .run(move || processor.run(Priority::Flood, || send(program(&object, FLOOD)?, &frame, frames)))
    }
}

/// The count of what comes out of the cable at the server.
pub(super) struct Arrivals {
    count: PerCpuArray<MapData, [u64; 2]>,
    _object: Ebpf,
}

impl Arrivals {
    /// Counts and drops from now on what is of a flood and addressed to the server.
    pub(super) fn count(network: &Network) -> Result<Self> {
        let mut object = network.server()?.run(|| {
            let mut object = load("arrive")?;
            seek(&mut object, SERVER)?;
            attach(&mut object, "arrive", CABLE)?;
            anyhow::Ok(object)
        })?;
        let count = object.take_map("COUNT").context("no map COUNT")?.try_into()?;
        Ok(Self { count, _object: object })
    }

    pub(super) fn packets(&self) -> Result<u64> {
        Ok(self.count.get(&0, 0)?.iter().map(|[packets, _]| packets).sum())
    }
}

/// Redirects everything that comes to the gateway's front into the cable, for as long as the value lives.
pub(super) fn redirect_all(gateway: &Namespace) -> Result<Ebpf> {
    gateway.run(|| {
        let mut object = load("bare_redirect")?;
        send_out(&mut object, CABLE)?;
        attach(&mut object, "bare_redirect", "front")?;
        Ok(object)
    })
}

/// Drops the flood from one source at the gateway's front, for as long as the value lives.
pub(super) fn drop_attacker(gateway: &Namespace) -> Result<Ebpf> {
    gateway.run(|| {
        let mut object = load("drop_source")?;
        seek(&mut object, *ATTACKER.ip())?;
        attach(&mut object, "drop_source", "front")?;
        Ok(object)
    })
}

fn load(name: &str) -> Result<Ebpf> {
    let mut object = Ebpf::load(OBJECT).context("cannot load the programs of the bench")?;
    let program: &mut Xdp = object.program_mut(name).with_context(|| format!("no program {name}"))?.try_into()?;
    program.load().with_context(|| format!("the kernel refuses the program {name}"))?;
    Ok(object)
}

fn program<'object>(object: &'object Ebpf, name: &str) -> Result<&'object Xdp> {
    Ok(object.program(name).with_context(|| format!("no program {name}"))?.try_into()?)
}

/// Puts a program on a device of this thread's namespace.
fn attach(object: &mut Ebpf, name: &str, device: &str) -> Result<()> {
    let program: &mut Xdp = object.program_mut(name).with_context(|| format!("no program {name}"))?.try_into()?;
    program.attach(device, XdpMode::Driver).with_context(|| format!("{name} on {device}"))?;
    Ok(())
}

fn send_out(object: &mut Ebpf, device: &str) -> Result<()> {
    let mut out: DevMap<_> = object.map_mut("OUT").context("no map OUT")?.try_into()?;
    out.set(0, if_nametoindex(device).with_context(|| device.to_owned())?, None, 0)?;
    Ok(())
}

fn seek(object: &mut Ebpf, address: Ipv4Addr) -> Result<()> {
    let mut sought: Array<_, [u16; 5]> = object.map_mut("SOUGHT").context("no map SOUGHT")?.try_into()?;
    sought.set(0, halves(&[&address.octets()[..], &MARK].concat())?, 0)?;
    Ok(())
}

fn frame(from: SocketAddrV4, to: SocketAddrV4) -> Vec<u8> {
    let mut payload = [0xd5; rtp::PACKET];
    payload[..MARK.len()].copy_from_slice(&MARK);
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(PHONES_MAC, FRONT_MAC)
        .ipv4(from.ip().octets(), to.ip().octets(), 64)
        .udp(from.port(), to.port())
        .write(&mut frame, &payload)
        .expect("memory takes every frame");
    frame
}

/// The beginning of the frame, as it lies in memory.
fn words<const N: usize>(frame: &[u8]) -> [u64; N] {
    let mut words = [0; N];
    for (word, bytes) in words.iter_mut().zip(frame.as_chunks().0) {
        *word = u64::from_ne_bytes(*bytes);
    }
    words
}

/// Nanoseconds of each frame, by the kernel's clock. To begin and to end takes some tens of milliseconds, which are not in them,
/// nor is the time in which others had the processor.
fn send(program: &Xdp, frame: &[u8], frames: u32) -> Result<f64> {
    let attrs = TestRunAttrs::new().xdp_live_frames(BATCH);
    let options = TestRunOptions { data_in: Some(frame), repeat: frames, attrs, ..TestRunOptions::default() };
    let result = program.test_run(options).context("sending by BPF_PROG_TEST_RUN needs Linux 5.18")?;
    Ok(result.duration.as_nanos() as f64)
}
