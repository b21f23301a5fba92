//! The headers of a frame, field by field, before and after.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4};

use etherparse::{LaxLinkExtSlice, LaxNetSlice, LaxSlicedPacket, LinkSlice, TransportSlice};
use serde::Serialize;
use voip_ha_ebpf::packet::{self, Frame};

use crate::status::mac_text;

/// One field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Header {
    /// Its name.
    pub field: &'static str,
    /// What it is when the frame comes in.
    pub before: String,
    /// What it is then; nothing if there is no frame any more.
    pub after: Option<String>,
}

/// The ends of an IPv4 packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// Sender.
    pub source: Ipv4Addr,
    /// Receiver.
    pub destination: Ipv4Addr,
    /// Sender's and receiver's port, if it is UDP and they can be read.
    pub ports: Option<(u16, u16)>,
}

impl Header {
    /// Whether the program changes it.
    pub fn is_changed(&self) -> bool {
        self.after.as_ref().is_some_and(|after| *after != self.before)
    }
}

impl Ends {
    /// The sender, with its port if that is known.
    pub fn from(&self) -> String {
        text(self.source, self.ports.map(|ports| ports.0))
    }

    /// The receiver, with its port if that is known.
    pub fn to(&self) -> String {
        text(self.destination, self.ports.map(|ports| ports.1))
    }
}

fn text(address: Ipv4Addr, port: Option<u16>) -> String {
    port.map_or_else(|| address.to_string(), |port| SocketAddrV4::new(address, port).to_string())
}

/// The ends of the packet in a frame, read as the program reads them; nothing if it sees no IPv4 packet for one receiver.
pub fn ends(frame: &[u8]) -> Option<Ends> {
    // The program's own code, which wants a frame that it may change.
    let mut copy = frame.to_vec();
    let mut frame = Frame::from_slice(&mut copy);
    let network = packet::network(&mut frame).ok()?;
    let datagram = packet::datagram(&mut frame, &network).ok();
    let ports = datagram.map(|datagram| (datagram.source_port, datagram.destination_port));
    Some(Ends { source: network.source.into(), destination: network.destination.into(), ports })
}

/// The fields of a frame, each beside the same of what became of the frame. The program moves no header, so the fields of
/// both are the same ones.
pub(super) fn compare(before: &[u8], after: Option<&[u8]>) -> Vec<Header> {
    let mut later = after.map(fields).unwrap_or_default().into_iter();
    let rows = fields(before).into_iter();
    rows.map(|(field, before)| Header { field, before, after: later.next().map(|(_, after)| after) }).collect()
}

type Fields = Vec<(&'static str, String)>;

fn fields(frame: &[u8]) -> Fields {
    let mut fields = Fields::new();
    let Ok(packet) = LaxSlicedPacket::from_ethernet(frame) else { return fields };
    if let Some(LinkSlice::Ethernet2(ethernet)) = &packet.link {
        fields.push(("Ethernet destination", mac_text(ethernet.destination())));
        fields.push(("Ethernet source", mac_text(ethernet.source())));
        fields.push(("EtherType", format!("0x{:04x}", ethernet.ether_type().0)));
    }
    for tag in &packet.link_exts {
        if let LaxLinkExtSlice::Vlan(tag) = tag {
            fields.push(("VLAN", tag.vlan_identifier().value().to_string()));
        }
    }
    if let Some(net) = &packet.net {
        network(net, &mut fields);
    }
    if let Some(transport) = &packet.transport {
        transported(transport, &mut fields);
    }
    fields
}

fn network(net: &LaxNetSlice<'_>, fields: &mut Fields) {
    match net {
        LaxNetSlice::Ipv4(ip) => {
            let ip = ip.header();
            fields.push(("IP source", ip.source_addr().to_string()));
            fields.push(("IP destination", ip.destination_addr().to_string()));
            fields.push(("IP time to live", ip.ttl().to_string()));
            fields.push(("IP protocol", ip.protocol().0.to_string()));
            fields.push(("IP length", ip.total_len().to_string()));
            if ip.is_fragmenting_payload() {
                let more = if ip.more_fragments() { ", more follow" } else { ", the last" };
                fields.push(("IP fragment", format!("at byte {}{more}", ip.fragments_offset().byte_offset())));
            }
            fields.push(("IP checksum", format!("0x{:04x}", ip.header_checksum())));
        }
        LaxNetSlice::Ipv6(ip) => {
            let ip = ip.header();
            fields.push(("IP source", Ipv6Addr::from(ip.source()).to_string()));
            fields.push(("IP destination", Ipv6Addr::from(ip.destination()).to_string()));
            fields.push(("IP hop limit", ip.hop_limit().to_string()));
        }
        LaxNetSlice::Arp(_) => {}
    }
}

fn transported(transport: &TransportSlice<'_>, fields: &mut Fields) {
    match transport {
        TransportSlice::Udp(udp) => {
            fields.push(("UDP source port", udp.source_port().to_string()));
            fields.push(("UDP destination port", udp.destination_port().to_string()));
            fields.push(("UDP length", udp.length().to_string()));
            fields.push(("UDP checksum", format!("0x{:04x}", udp.checksum())));
        }
        TransportSlice::Tcp(tcp) => {
            fields.push(("TCP source port", tcp.source_port().to_string()));
            fields.push(("TCP destination port", tcp.destination_port().to_string()));
        }
        TransportSlice::Icmpv4(icmp) => {
            fields.push(("ICMP type", icmp.type_u8().to_string()));
            fields.push(("ICMP code", icmp.code_u8().to_string()));
        }
        _ => {}
    }
}
