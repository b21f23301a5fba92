//! The ways that a packet can take through the program.

use anyhow::{Context as _, Result};
use etherparse::PacketBuilder;
use voip_ha_ebpf::abi::Outcome;

use super::{
    gateway::Gateway,
    harness::{DROP, PASS, REDIRECT, Stream},
};

/// Who sends or receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Host {
    /// Every flow is another one's: the wrapper puts the number of the flow into its address and port.
    Phone,
    Vip,
    Master,
    Backup,
    /// The gateway's own address.
    Gateway,
}

/// One way through the program.
#[derive(Debug)]
pub struct Path {
    /// Its name in tables and data.
    pub name: &'static str,
    from: (Host, u16),
    to: (Host, u16),
    payload: usize,
    /// What the program says.
    pub(super) act: u32,
    /// What the program counts.
    pub(super) outcome: Outcome,
}

/// The lowest 4 bits are those of the flow.
const PHONE_PORT: u16 = 16_384;
const SIP_PORT: u16 = 5060;
const RTP_PORT: u16 = 12_000;
/// Bytes of an INVITE with a few codecs, and of 20 ms of G.711 with its RTP header.
const SIP: usize = 800;
const RTP: usize = 172;

const PHONE: (Host, u16) = (Host::Phone, PHONE_PORT);

/// All of them.
pub static PATHS: [Path; 6] = [
    Path {
        name: "sip-in-nat",
        from: PHONE,
        to: (Host::Vip, SIP_PORT),
        payload: SIP,
        act: REDIRECT,
        outcome: Outcome::ToServer,
    },
    Path {
        name: "rtp-in-nat",
        from: PHONE,
        to: (Host::Vip, RTP_PORT),
        payload: RTP,
        act: REDIRECT,
        outcome: Outcome::ToServer,
    },
    Path {
        name: "rtp-out-nat",
        from: (Host::Master, RTP_PORT),
        to: PHONE,
        payload: RTP,
        act: REDIRECT,
        outcome: Outcome::ToClient,
    },
    Path {
        name: "sip-out-nat",
        from: (Host::Master, SIP_PORT),
        to: PHONE,
        payload: SIP,
        act: REDIRECT,
        outcome: Outcome::ToClient,
    },
    Path {
        name: "drop-fenced",
        from: (Host::Backup, RTP_PORT),
        to: PHONE,
        payload: RTP,
        act: DROP,
        outcome: Outcome::Fenced,
    },
    Path {
        name: "pass-not-service",
        from: PHONE,
        to: (Host::Gateway, SIP_PORT),
        payload: RTP,
        act: PASS,
        outcome: Outcome::NotService,
    },
];

/// The path of this name.
pub(super) fn named(name: &str) -> Result<&'static Path> {
    PATHS.iter().find(|path| path.name == name).with_context(|| format!("no path {name}"))
}

impl Path {
    /// The frames of this path, as they arrive at a gateway for one of its services.
    pub(super) fn stream(&self, gateway: &Gateway, service: u8) -> Stream {
        let mut frame = Vec::new();
        let (from, to) = (gateway.address(self.from.0, service), gateway.address(self.to.0, service));
        PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2])
            .ipv4(from, to, 64)
            .udp(self.from.1, self.to.1)
            .write(&mut frame, &vec![0xd5; self.payload])
            .expect("memory takes every frame");
        let front = self.from.0 == Host::Phone;
        let devices = gateway.devices;
        let ifindex = if front { devices.front_index() } else { devices.back_index() };
        Stream { frame, ifindex, phone_receives: !front }
    }
}
