//! VLAN tags: those of the frame that came in give way to those of the next hop.

use core::mem::size_of;

use crate::{
    abi::{Family, MAX_TAGS, VlanTag},
    packet::{ETHERNET_LEN, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ethernet, Frame, Half, Network, Vlan},
    steer::Hop,
};

/// Priority and drop eligibility in the control word of a tag (IEEE 802.1Q, section 9.6), in host order.
const PRIORITY: u16 = 0xf000;

/// How many bytes a frame grows by, at its start, when it gets the next hop's tags in place of its own; negative if it shrinks.
#[inline(always)]
pub fn growth(network: &Network, hop: &Hop) -> i32 {
    (count(&hop.tags) as i32 - network.tags as i32) * size_of::<Vlan>() as i32
}

/// The priority of a frame, for the tags that it gets; 0 if it has no tag.
#[inline(always)]
pub fn priority(frame: &mut Frame<'_>, network: &Network) -> u16 {
    if network.tags == 0 {
        return 0;
    }
    frame.at::<Vlan>(ETHERNET_LEN).map_or(0, |vlan| u16::from_be(vlan.control.get()) & PRIORITY)
}

/// Writes the Ethernet header and the tags, of this priority, of a frame to the next hop. The frame has grown by [`growth`], so the
/// packet begins where these headers end. Returns `None` if they do not lie inside the frame.
#[inline(always)]
pub fn tag_frame(frame: &mut Frame<'_>, hop: &Hop, family: Family, priority: u16) -> Option<()> {
    let packet = match family {
        Family::V4 => ETHERTYPE_IPV4,
        Family::V6 => ETHERTYPE_IPV6,
    };
    let [outer, inner] = hop.tags;
    let announced = |tag: VlanTag| if tag.id == 0 { packet } else { tag.protocol.to_be() };
    let tag = |of: VlanTag, ethertype| Vlan {
        control: Half::new((of.id | priority).to_be()),
        ethertype: Half::new(ethertype),
    };
    let (destination, source) = (hop.ends.destination(), hop.ends.source());
    *frame.at(0)? = Ethernet { destination, source, ethertype: Half::new(announced(outer)) };
    if outer.id != 0 {
        *frame.at(ETHERNET_LEN)? = tag(outer, announced(inner));
        if inner.id != 0 {
            *frame.at(ETHERNET_LEN + size_of::<Vlan>())? = tag(inner, packet);
        }
    }
    Some(())
}

#[inline(always)]
fn count(tags: &[VlanTag; MAX_TAGS]) -> usize {
    let [outer, inner] = tags;
    usize::from(outer.id != 0) + usize::from(outer.id != 0 && inner.id != 0)
}
