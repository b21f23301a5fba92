//! The ways that a packet can take through the program.

use anyhow::{Context as _, Result};
use etherparse::{IpFragOffset, Ipv4Header, PacketBuilder};
use voip_ha_ebpf::abi::{MAX_FLOWS, Outcome};

use super::{
    gateway::Gateway,
    harness::{DROP, Layout, MOST_FLOWS, PASS, REDIRECT, Stream},
    network::six,
    scan::MESSAGES,
    setting::{Setting, TAG},
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

/// What a frame of a path is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// A whole datagram. Family and tag are those of the gateway.
    Whole,
    /// The first fragment of one.
    First,
    /// The second, of one whose first was not seen.
    Later,
}

/// One way through the program.
#[derive(Debug)]
pub struct Path {
    /// Its name in tables and data.
    pub name: &'static str,
    from: (Host, u16),
    to: (Host, u16),
    payload: Payload,
    form: Form,
    /// What the gateway is set to.
    pub(super) setting: Setting,
    /// With more flows it is another way.
    pub(super) most_flows: u32,
    /// Packets that may take another way before the others take this one.
    pub(super) strays: u64,
    /// What the program says.
    pub(super) act: u32,
    /// What the program counts.
    pub(super) outcome: Outcome,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Payload {
    Bytes(usize),
    /// An INVITE of 1 kB.
    Invite,
}

/// The lowest 4 bits are those of the flow.
const PHONE_PORT: u16 = 16_384;
const SIP_PORT: u16 = 5060;
const RTP_PORT: u16 = 12_000;
/// Bytes of an INVITE with a few codecs, and of 20 ms of G.711 with its RTP header.
const SIP: usize = 800;
const RTP: usize = 172;

const PHONE: (Host, u16) = (Host::Phone, PHONE_PORT);

const SIP_IN: Path = Path {
    name: "sip-in-nat",
    from: PHONE,
    to: (Host::Vip, SIP_PORT),
    payload: Payload::Bytes(SIP),
    form: Form::Whole,
    setting: Setting::Plain,
    most_flows: MOST_FLOWS,
    strays: 0,
    act: REDIRECT,
    outcome: Outcome::ToServer,
};
const RTP_IN: Path = Path { name: "rtp-in-nat", to: (Host::Vip, RTP_PORT), payload: Payload::Bytes(RTP), ..SIP_IN };
const RTP_OUT: Path =
    Path { name: "rtp-out-nat", from: (Host::Master, RTP_PORT), to: PHONE, outcome: Outcome::ToClient, ..RTP_IN };
const DROP_RTP: Path = Path { act: DROP, outcome: Outcome::Denied, setting: Setting::Denied, ..RTP_IN };

/// All of them.
pub static PATHS: [Path; 23] = [
    SIP_IN,
    RTP_IN,
    RTP_OUT,
    Path { name: "sip-out-nat", from: (Host::Master, SIP_PORT), to: PHONE, outcome: Outcome::ToClient, ..SIP_IN },
    Path { name: "rtp-in-nat-ipv6", setting: Setting::Six, ..RTP_IN },
    Path { name: "rtp-out-nat-ipv6", setting: Setting::Six, ..RTP_OUT },
    Path { name: "rtp-in-nat-vlan", setting: Setting::Tagged, ..RTP_IN },
    Path { name: "rtp-out-nat-vlan", setting: Setting::Tagged, ..RTP_OUT },
    Path { name: "rtp-in-dsr", setting: Setting::Dsr, ..RTP_IN },
    // All phones have the same port, so each but the first gets another one. Of one parity there are four times as many.
    Path { name: "rtp-in-masquerade", setting: Setting::Masquerade, most_flows: 4096, ..RTP_IN },
    Path { name: "sip-in-nat-fragment-first", form: Form::First, ..SIP_IN },
    Path { name: "sip-in-nat-fragment-later", form: Form::Later, ..SIP_IN },
    Path { name: "rtp-in-drain-known", setting: Setting::Noting, most_flows: MAX_FLOWS, ..RTP_IN },
    Path { name: "rtp-in-drain-unknown", setting: Setting::Drains, ..RTP_IN },
    Path { name: "rtp-out-drain", setting: Setting::Noting, most_flows: MAX_FLOWS, ..RTP_OUT },
    Path { name: "sip-in-drain", setting: Setting::Drains, payload: Payload::Invite, ..SIP_IN },
    Path { name: "sip-in-limited", setting: Setting::Limited, ..SIP_IN },
    Path { name: "sip-in-listed", setting: Setting::Listed, ..SIP_IN },
    Path { name: "rtp-in-listed", setting: Setting::Listed, ..RTP_IN },
    Path { name: "drop-denied", ..DROP_RTP },
    // A flood of one source.
    Path {
        name: "drop-rate-limited",
        setting: Setting::Flooded,
        most_flows: 1,
        strays: 3,
        act: DROP,
        outcome: Outcome::RateLimited,
        ..SIP_IN
    },
    Path { name: "drop-fenced", from: (Host::Backup, RTP_PORT), act: DROP, outcome: Outcome::Fenced, ..RTP_OUT },
    Path { name: "pass-not-service", to: (Host::Gateway, SIP_PORT), act: PASS, outcome: Outcome::NotService, ..RTP_IN },
];

/// The path of this name.
pub(super) fn named(name: &str) -> Result<&'static Path> {
    PATHS.iter().find(|path| path.name == name).with_context(|| format!("no path {name}"))
}

impl Path {
    /// The frames of this path, as they arrive at a gateway for one of its services.
    pub(super) fn stream(&self, gateway: &Gateway, service: u8) -> Stream {
        let front = self.from.0 == Host::Phone;
        let devices = gateway.devices;
        let ifindex = if front { devices.front_index() } else { devices.back_index() };
        let layout = match self.setting {
            Setting::Six => Layout::Six,
            Setting::Tagged => Layout::Tagged,
            _ => Layout::Plain,
        };
        Stream { frame: self.frame(gateway, service), layout, ifindex, phone_receives: !front }
    }

    fn frame(&self, gateway: &Gateway, service: u8) -> Vec<u8> {
        let (from, to) = (gateway.address(self.from.0, service), gateway.address(self.to.0, service));
        let ethernet = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
        let ip = match self.setting {
            Setting::Six => ethernet.ipv6(six(from).octets(), six(to).octets(), 64),
            _ => ethernet.ipv4(from, to, 64),
        };
        let payload = match self.payload {
            Payload::Bytes(length) => vec![0xd5; length],
            Payload::Invite => MESSAGES[1].bytes(),
        };
        let mut frame = Vec::new();
        ip.udp(self.from.1, self.to.1).write(&mut frame, &payload).expect("memory takes every frame");
        match self.form {
            Form::Whole => {}
            Form::First => fragment(&mut frame, 1, true, 0),
            Form::Later => fragment(&mut frame, 2, false, 100),
        }
        if self.setting == Setting::Tagged {
            let tag = [TAG.protocol.to_be_bytes(), TAG.id.to_be_bytes()].concat();
            frame.splice(12..12, tag);
        }
        frame
    }
}

/// Makes a part of a datagram out of a whole one; `offset` in units of 8 bytes.
fn fragment(frame: &mut [u8], identification: u16, more_fragments: bool, offset: u16) {
    let ip = &mut frame[14..34];
    let (mut header, _) = Ipv4Header::from_slice(ip).expect("it was just written");
    header.identification = identification;
    (header.more_fragments, header.dont_fragment) = (more_fragments, false);
    header.fragment_offset = IpFragOffset::try_new(offset).expect("a small one");
    header.header_checksum = header.calc_header_checksum();
    ip.copy_from_slice(&header.to_bytes());
}
