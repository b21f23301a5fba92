//! Packets of calls in each way that they may travel, and what the kernel remembers of them.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TransportSlice};
use voip_ha_ebpf::{
    abi::FlowEntry,
    sip::{Text, scan},
};

use crate::{
    net::{BACK, FRONT, Ipv4, PHONE, beside, is_beside},
    rig::{Act, Rig},
};

pub(super) const MASTER: Ipv4 = [10, 0, 0, 2];
pub(super) const CLOUD: Ipv4 = [10, 8, 0, 2];

/// How a packet comes in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wire {
    is_v6: bool,
    tags: &'static [u8],
}

pub(super) const PLAIN: Wire = Wire { is_v6: false, tags: &[] };
/// Every way, with and without VLAN tags.
pub(super) const WIRES: [Wire; 5] = [
    PLAIN,
    Wire { tags: &[0x81, 0, 0, 7], ..PLAIN },
    Wire { is_v6: true, ..PLAIN },
    Wire { is_v6: true, tags: &[0x81, 0, 0, 7] },
    Wire { is_v6: true, tags: &[0x88, 0xa8, 0, 9, 0x81, 0, 0, 7] },
];

impl Wire {
    /// A frame with a datagram.
    pub(super) fn frame(self, from: (Ipv4, u16), to: (Ipv4, u16), payload: &[u8]) -> Vec<u8> {
        let ethernet = PacketBuilder::ethernet2([2; 6], [4; 6]);
        let ip = match self.is_v6 {
            true => ethernet.ipv6(beside(from.0), beside(to.0), 64),
            false => ethernet.ipv4(from.0, to.0, 64),
        };
        let mut frame = Vec::new();
        ip.udp(from.1, to.1).write(&mut frame, payload).expect("memory takes every frame");
        frame.splice(12..12, self.tags.iter().copied());
        frame
    }

    /// Sends to a VIP from this port of the phone. Says which server it went to.
    pub(super) fn send(self, rig: &mut Rig, client_port: u16, vip: (Ipv4, u16), payload: &[u8]) -> Result<Ipv4> {
        let ran = rig.run(FRONT, &self.frame((PHONE, client_port), vip, payload))?;
        ensure!(ran.act == Act::Redirect, "to the VIP: {:?}", ran.act);
        Ok(ends(&ran.frame)?.1)
    }

    /// Sends from a server to this port of the phone, which gets it from a VIP.
    pub(super) fn answer(self, rig: &mut Rig, from: (Ipv4, u16), client_port: u16, payload: &[u8]) -> Result<()> {
        self.answer_by(rig, BACK, from, client_port, payload)
    }

    /// The same by another device.
    pub(super) fn answer_by(
        self,
        rig: &mut Rig,
        ifindex: u32,
        from: (Ipv4, u16),
        client_port: u16,
        payload: &[u8],
    ) -> Result<()> {
        let ran = rig.run(ifindex, &self.frame(from, (PHONE, client_port), payload))?;
        ensure!(ran.act == Act::Redirect, "from {:?}: {:?}", from.0, ran.act);
        ensure!(ends(&ran.frame)?.1 == PHONE, "not to the phone");
        Ok(())
    }
}

/// Sender and receiver of a datagram without tags.
fn ends(frame: &[u8]) -> Result<(Ipv4, Ipv4)> {
    let packet = SlicedPacket::from_ethernet(frame)?;
    ensure!(packet.vlan().is_none(), "a server or the phone got a VLAN tag");
    ensure!(matches!(packet.transport, Some(TransportSlice::Udp(_))), "no datagram");
    let (from, to) = match packet.net.context("no IP")? {
        NetSlice::Ipv4(ip) => (ip.header().source_addr().into(), ip.header().destination_addr().into()),
        NetSlice::Ipv6(ip) => (ip.header().source_addr().into(), ip.header().destination_addr().into()),
        NetSlice::Arp(_) => anyhow::bail!("ARP"),
    };
    Ok((is_beside(from).context("from nobody")?, is_beside(to).context("to nobody")?))
}

/// A message with this line for its call; an empty one for none.
pub(super) fn sip(start: &str, to_tag: bool, call: &str) -> Vec<u8> {
    let (to_tag, call) = (if to_tag { ";tag=b" } else { "" }, if call.is_empty() { "Subject: none" } else { call });
    format!(
        "{start}\r\nVia: SIP/2.0/UDP 198.51.100.7;branch=z9hG4bK1\r\nMax-Forwards: 70\r\n\
         From: \"A; tag=no\" <sip:a@example.org>;tag=a\r\nTo: <sip:b@example.org;tag=no>{to_tag}\r\n{call}\r\n\
         CSeq: 1 INVITE\r\nContent-Length: 0\r\n\r\n"
    )
    .into_bytes()
}

/// A request of this method.
pub(super) fn request(method: &str, to_tag: bool, call: &str) -> Vec<u8> {
    sip(&format!("{method} sip:b@example.org SIP/2.0"), to_tag, &format!("Call-ID: {call}"))
}

/// The response to an INVITE.
pub(super) fn response(call: &str) -> Vec<u8> {
    sip("SIP/2.0 200 OK", true, &format!("Call-ID: {call}"))
}

/// Who is known to own a flow or call: `former`, or the name of a server.
fn owner(rig: &Rig, server: u32) -> Result<&'static str> {
    for name in ["master", "cloud", "one", "two"] {
        if rig.number(name)?.0 + 1 == server {
            return Ok(name);
        }
    }
    ensure!(server == 0, "an owner that is no server: {server}");
    Ok("former")
}

/// All flows of the phone: service, the phone's port, the service's port and the owner.
pub(super) fn flows(rig: &Rig) -> Result<Vec<(u32, u16, u16, &'static str)>> {
    let flows = rig.datapath.tables().flows.iter().collect::<Result<Vec<_>, _>>()?;
    let mut found = Vec::new();
    for (key, FlowEntry { server, .. }) in flows {
        ensure!(is_beside(key.client.into()) == Some(PHONE), "a flow of {:?}", key.client);
        found.push((key.service, key.client_port, key.service_port, owner(rig, server)?));
    }
    found.sort_unstable();
    Ok(found)
}

/// Fails unless these calls, and no others, are remembered: service, Call-ID and owner.
pub(super) fn expect_calls(rig: &Rig, wanted: &[(u32, &str, &'static str)]) -> Result<()> {
    let mut found = BTreeMap::new();
    for call in rig.datapath.tables().calls.iter() {
        let (key, entry) = call?;
        ensure!(entry.seen_at > 0, "a call without its time");
        found.insert((key.service, key.call), owner(rig, entry.server)?);
    }
    let mut missing = Vec::new();
    for (service, call, server) in wanted {
        let number = scan(&Text::of(&request("BYE", true, call))).call;
        let known = found.remove(&(*service, number));
        if known != Some(*server) {
            missing.push((service, call, server, known));
        }
    }
    ensure!(missing.is_empty() && found.is_empty(), "not as wanted: {missing:?}; too much: {found:?}");
    Ok(())
}
