//! Tunnels and VPNs: devices that only the kernel's stack can send by.

use anyhow::Result;
use rtnetlink::{
    Handle,
    packet_route::link::{InfoKind, LinkAttribute, LinkInfo, LinkLayerType, LinkMessage},
};

use super::{has_carrier, link_at};

/// A tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// Index.
    pub index: u32,
    /// Name.
    pub name: String,
    /// Most bytes of an IP packet that it takes.
    pub mtu: u32,
    /// Whether its packets have Ethernet headers.
    pub has_ethernet: bool,
    /// Whether it is up and has a carrier: of a `tun` device, whether a program serves it.
    pub carrier: bool,
}

/// The tunnel with this index, `None` if there is none.
///
/// # Errors
///
/// The kernel does not answer.
pub async fn tunnel_at(handle: &Handle, index: u32) -> Result<Option<Tunnel>> {
    Ok(link_at(handle, index).await?.as_ref().and_then(read_tunnel))
}

/// What a message says of a tunnel; nothing if it tells of another device.
pub(super) fn read_tunnel(link: &LinkMessage) -> Option<Tunnel> {
    let has_ethernet = match link.header.link_layer_type {
        // WireGuard, `tun`, xfrm, and others without an address of their own.
        LinkLayerType::None | LinkLayerType::Rawip | LinkLayerType::Ppp => false,
        LinkLayerType::Tunnel | LinkLayerType::Tunnel6 | LinkLayerType::Sit => false,
        LinkLayerType::Ipgre | LinkLayerType::Ip6gre => false,
        LinkLayerType::Ether if is_ethernet_tunnel(link) => true,
        _ => return None,
    };
    let (mut name, mut mtu) = (String::new(), None);
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::IfName(text) => name.clone_from(text),
            LinkAttribute::Mtu(bytes) => mtu = Some(*bytes),
            _ => {}
        }
    }
    Some(Tunnel { index: link.header.index, name, mtu: mtu?, has_ethernet, carrier: has_carrier(link) })
}

/// By its kind, because the kernel does not tell what a driver can do: it says at the first packet that XDP cannot send by a device
/// (`ndo_xdp_xmit`), and a network card that is neither front nor back may be able to. None of these drivers can but that of `tap`
/// devices, which are the ends of VPNs too.
fn is_ethernet_tunnel(link: &LinkMessage) -> bool {
    let facts = link.attributes.iter().filter_map(|attribute| match attribute {
        LinkAttribute::LinkInfo(facts) => Some(facts),
        _ => None,
    });
    facts.flatten().any(|fact| match fact {
        LinkInfo::Kind(InfoKind::Other(kind)) => matches!(&**kind, "l2tpeth" | "ip6gretap"),
        LinkInfo::Kind(kind) => matches!(
            kind,
            InfoKind::Vxlan
                | InfoKind::Geneve
                | InfoKind::GreTap
                | InfoKind::GreTap6
                | InfoKind::ErSpan
                | InfoKind::Ip6ErSpan
                | InfoKind::BatAdv
                | InfoKind::MacSec
                | InfoKind::Tun
        ),
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use rtnetlink::packet_route::link::LinkFlags;

    use super::*;

    fn link(layer: LinkLayerType, kind: Option<InfoKind>) -> LinkMessage {
        let mut message = LinkMessage::default();
        message.header.index = 9;
        message.header.link_layer_type = layer;
        message.header.flags = LinkFlags::Up | LinkFlags::LowerUp;
        message.attributes = vec![LinkAttribute::IfName("wg0".to_owned()), LinkAttribute::Mtu(1420)];
        message.attributes.extend(kind.map(|kind| LinkAttribute::LinkInfo(vec![LinkInfo::Kind(kind)])));
        message
    }

    #[test]
    fn what_has_no_ethernet_headers_is_a_tunnel_whatever_its_kind() {
        let tunnel = Tunnel { index: 9, name: "wg0".to_owned(), mtu: 1420, has_ethernet: false, carrier: true };
        for layer in [LinkLayerType::None, LinkLayerType::Tunnel, LinkLayerType::Ipgre, LinkLayerType::Ppp] {
            assert_eq!(read_tunnel(&link(layer, None)), Some(tunnel.clone()), "{layer:?}");
        }
        assert_eq!(read_tunnel(&link(LinkLayerType::Loopback, None)), None);
    }

    #[test]
    fn what_has_them_is_one_by_its_kind() {
        let read = |kind| read_tunnel(&link(LinkLayerType::Ether, kind)).map(|tunnel| tunnel.has_ethernet);
        for kind in [InfoKind::Vxlan, InfoKind::GreTap, InfoKind::Tun, InfoKind::Other("ip6gretap".to_owned())] {
            assert_eq!(read(Some(kind.clone())), Some(true), "{kind}");
        }
        for kind in [None, Some(InfoKind::Veth), Some(InfoKind::Bridge), Some(InfoKind::Vlan)] {
            assert_eq!(read(kind), None);
        }
    }
}
