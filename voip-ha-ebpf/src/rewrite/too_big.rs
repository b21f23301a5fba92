//! Turning a packet into the ICMP message that says it is too big.

use core::mem::size_of;

use crate::{
    abi::{Address, Family, MAX_TAGS},
    checksum::{self, Change},
    packet::{
        CODE_TOO_BIG, ETHERNET_LEN, Ethernet, Frame, Half, ICMP_UNREACHABLE, Icmp, Ipv4, Ipv6, Network, PROTOCOL_ICMP,
        PROTOCOL_ICMPV6, V6_TOO_BIG, Vlan, Wide, Word,
    },
};

/// Bytes of the packet that are quoted: the IP header and the first 8 behind it, which is what a sender must be able to do
/// with (RFC 792).
const QUOTED_4: usize = size_of::<Ipv4>() + 8;
/// Of IPv6 it should be as much as fits into 1,280 bytes (RFC 4443, section 3.2). This is what a sender needs to know its socket,
/// and some of what it said.
const QUOTED_6: usize = size_of::<Ipv6>() + 56;
const MESSAGE_4: usize = size_of::<Icmp>() + QUOTED_4;
const MESSAGE_6: usize = size_of::<Icmp>() + QUOTED_6;
const TIME_TO_LIVE: u8 = 64;

/// Bytes that the frame must have gained at its start before [`too_big`]: the IP and ICMP headers of the message.
#[inline(always)]
pub const fn too_big_growth(family: Family) -> usize {
    match family {
        Family::V4 => size_of::<Ipv4>() + size_of::<Icmp>(),
        Family::V6 => size_of::<Ipv6>() + size_of::<Icmp>(),
    }
}

/// Bytes of the finished frame; what is behind them is to be cut off.
#[inline(always)]
pub const fn too_big_length(network: &Network) -> usize {
    match network.family {
        Family::V4 => network.offset + size_of::<Ipv4>() + MESSAGE_4,
        Family::V6 => network.offset + size_of::<Ipv6>() + MESSAGE_6,
    }
}

/// Writes the message into the [`too_big_growth`] bytes that were put in front of the frame, which `network` was read from before:
/// from the VIP to who sent the packet, with the MTU that this one has to keep to. Returns `None` if the frame is shorter than
/// [`too_big_length`]; it is then good for nothing.
#[inline(always)]
pub fn too_big(frame: &mut Frame<'_>, network: &Network, vip: Address, mtu: u32) -> Option<()> {
    let growth = too_big_growth(network.family);
    let old: &mut Ethernet = frame.at(growth)?;
    let ethernet = Ethernet { destination: old.source, source: old.destination, ethertype: old.ethertype };
    *frame.at(0)? = ethernet;
    for index in 0..MAX_TAGS {
        if index < network.tags {
            let offset = ETHERNET_LEN + index * size_of::<Vlan>();
            let tag = *frame.at::<Vlan>(growth + offset)?;
            *frame.at(offset)? = tag;
        }
    }
    match network.family {
        Family::V4 => version_4(frame, network, vip, mtu),
        Family::V6 => version_6(frame, network, vip, mtu),
    }
}

#[inline(always)]
fn version_4(frame: &mut Frame<'_>, network: &Network, vip: Address, mtu: u32) -> Option<()> {
    let mut source = Word::default();
    let mut destination = Word::default();
    source.set(vip.last_word());
    destination.set(network.source.last_word());
    *frame.at(network.offset)? = Ipv4 {
        version_ihl: 0x45,
        tos: 0,
        total_length: ((size_of::<Ipv4>() + MESSAGE_4) as u16).to_be_bytes(),
        identification: Half::new(0),
        fragment: [0; 2],
        ttl_protocol: [TIME_TO_LIVE, PROTOCOL_ICMP],
        checksum: Half::new(0),
        source,
        destination,
    };
    let header: &mut [u8; size_of::<Ipv4>()] = frame.at(network.offset)?;
    let sum = checksum::of(header, Change::default());
    frame.at::<Ipv4>(network.offset)?.checksum.set(sum);
    let [_, _, high, low] = mtu.to_be_bytes();
    let at = network.offset + size_of::<Ipv4>();
    *frame.at(at)? =
        Icmp { kind: ICMP_UNREACHABLE, code: CODE_TOO_BIG, checksum: Half::new(0), rest: [0, 0, high, low] };
    let message: &mut [u8; MESSAGE_4] = frame.at(at)?;
    let sum = checksum::of(message, Change::default());
    frame.at::<Icmp>(at)?.checksum.set(sum);
    Some(())
}

#[inline(always)]
fn version_6(frame: &mut Frame<'_>, network: &Network, vip: Address, mtu: u32) -> Option<()> {
    let mut source = Wide::default();
    let mut destination = Wide::default();
    source.set(vip);
    destination.set(network.source);
    *frame.at(network.offset)? = Ipv6 {
        version_class: 0x60,
        class_label: [0; 3],
        payload_length: (MESSAGE_6 as u16).to_be_bytes(),
        next_header: PROTOCOL_ICMPV6,
        hop_limit: TIME_TO_LIVE,
        source,
        destination,
    };
    let at = network.offset + size_of::<Ipv6>();
    *frame.at(at)? = Icmp { kind: V6_TOO_BIG, code: 0, checksum: Half::new(0), rest: mtu.to_be_bytes() };
    // The pseudo header (RFC 8200, section 8.1): as if its words had been zeros before.
    let addresses = Change::of_address(Address::NONE, vip).and(Change::of_address(Address::NONE, network.source));
    let length = Change::of_pair(0, (MESSAGE_6 as u16).to_be());
    let protocol = Change::of_pair(0, u16::from(PROTOCOL_ICMPV6).to_be());
    let message: &mut [u8; MESSAGE_6] = frame.at(at)?;
    let sum = checksum::of(message, addresses.and(length).and(protocol));
    frame.at::<Icmp>(at)?.checksum.set(sum);
    Some(())
}
