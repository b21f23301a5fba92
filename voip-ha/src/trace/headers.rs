//! The headers of a frame, field by field, before and after.

use std::net::{IpAddr, SocketAddr};

use etherparse::{
    IpNumber, Ipv6ExtensionSlice, LaxLinkExtSlice, LaxNetSlice, LaxSlicedPacket, LinkSlice, NetSlice, SlicedPacket,
    TransportSlice, UdpHeaderSlice,
};
use serde::Serialize;

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

/// The ends of an IP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// Sender.
    pub source: IpAddr,
    /// Receiver.
    pub destination: IpAddr,
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

fn text(address: IpAddr, port: Option<u16>) -> String {
    port.map_or_else(|| address.to_string(), |port| SocketAddr::new(address, port).to_string())
}

/// The ends of the packet in a frame; nothing if it is no IP packet.
pub fn ends(frame: &[u8]) -> Option<Ends> {
    let (source, destination): (IpAddr, IpAddr) = match LaxSlicedPacket::from_ethernet(frame).ok()?.net? {
        LaxNetSlice::Ipv4(ip) => (ip.header().source_addr().into(), ip.header().destination_addr().into()),
        LaxNetSlice::Ipv6(ip) => (ip.header().source_addr().into(), ip.header().destination_addr().into()),
        LaxNetSlice::Arp(_) => return None,
    };
    Some(Ends { source, destination, ports: ports(frame) })
}

/// The ports of a datagram whose lengths are right, or of its first fragment.
fn ports(frame: &[u8]) -> Option<(u16, u16)> {
    let packet = SlicedPacket::from_ethernet(frame).ok()?;
    if let Some(TransportSlice::Udp(udp)) = &packet.transport {
        return Some((udp.source_port(), udp.destination_port()));
    }
    let payload = packet.ip_payload()?;
    let is_first = match packet.net.as_ref()? {
        NetSlice::Ipv4(ip) => ip.header().fragments_offset().value() == 0,
        NetSlice::Ipv6(ip) => ip.extensions().clone().into_iter().all(|extension| match extension {
            Ipv6ExtensionSlice::Fragment(fragment) => fragment.fragment_offset().value() == 0,
            _ => true,
        }),
        NetSlice::Arp(_) => false,
    };
    if !is_first || payload.ip_number != IpNumber::UDP {
        return None;
    }
    let udp = UdpHeaderSlice::from_slice(payload.payload).ok()?;
    Some((udp.source_port(), udp.destination_port()))
}

/// The fields of a frame, each beside the same of what became of the frame. The program moves no header but VLAN tags, so
/// the fields of both are the same ones where both have as many tags, or `none` in the place of one.
pub(super) fn compare(before: &[u8], after: Option<&[u8]>) -> Vec<Header> {
    let mut later = after.map(fields).unwrap_or_default();
    let mut earlier = fields(before);
    if after.is_some() {
        let most = tags(&earlier).max(tags(&later));
        pad(&mut earlier, most);
        pad(&mut later, most);
    }
    let mut later = later.into_iter();
    let rows = earlier.into_iter();
    rows.map(|(field, before)| Header { field, before, after: later.next().map(|(_, after)| after) }).collect()
}

type Fields = Vec<(&'static str, String)>;

const VLAN: &str = "VLAN";

fn tags(fields: &Fields) -> usize {
    fields.iter().filter(|(field, _)| *field == VLAN).count()
}

/// Makes the tags of a frame as many as this.
fn pad(fields: &mut Fields, tags_wanted: usize) {
    // Behind the EtherType, which is the third field of every frame that can be read at all.
    let place = (3 + tags(fields)).min(fields.len());
    let lacking = tags_wanted.saturating_sub(tags(fields));
    fields.splice(place..place, std::iter::repeat_n((VLAN, "none".to_owned()), lacking));
}

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
            fields.push((VLAN, tag.vlan_identifier().value().to_string()));
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
            fields.push(("IP source", ip.source_addr().to_string()));
            fields.push(("IP destination", ip.destination_addr().to_string()));
            fields.push(("IP hop limit", ip.hop_limit().to_string()));
            fields.push(("IP next header", ip.next_header().0.to_string()));
            fields.push(("IP length", ip.payload_length().to_string()));
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
        TransportSlice::Icmpv6(icmp) => {
            fields.push(("ICMPv6 type", icmp.type_u8().to_string()));
            fields.push(("ICMPv6 code", icmp.code_u8().to_string()));
            fields.push(("ICMPv6 checksum", format!("0x{:04x}", icmp.checksum())));
        }
        _ => {}
    }
}
