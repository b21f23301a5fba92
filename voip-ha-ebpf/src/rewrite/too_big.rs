//! Turning a packet into the ICMP message that says it is too big.

use core::mem::size_of;

use crate::{
    abi::Address,
    checksum,
    packet::{
        ETHERNET_LEN, ETHERTYPE_IPV4, Ethernet, Frame, ICMP_TOO_BIG, ICMP_UNREACHABLE, Icmp, Ipv4, PROTOCOL_ICMP,
    },
};

/// Bytes that the frame must have gained at its start before [`too_big`]: the IP and ICMP headers of the message.
pub const TOO_BIG_GROWTH: usize = size_of::<Ipv4>() + size_of::<Icmp>();
/// Bytes of the packet that are quoted: the IP header and the first 8 behind it, which is what a sender must be able to do
/// with (RFC 792).
const QUOTED: usize = size_of::<Ipv4>() + 8;
/// Bytes of the finished frame; what is behind them is to be cut off.
pub const TOO_BIG_LEN: usize = ETHERNET_LEN + TOO_BIG_GROWTH + QUOTED;

const MESSAGE: usize = size_of::<Icmp>() + QUOTED;
const TIME_TO_LIVE: u8 = 64;

/// Writes the message into the [`TOO_BIG_GROWTH`] bytes that were put in front of the packet's frame: from the VIP to who sent the packet,
/// with the MTU that this one has to keep to. Returns `None`, with nothing changed, if the frame is shorter than [`TOO_BIG_LEN`].
#[inline(always)]
pub fn too_big(frame: &mut Frame<'_>, vip: Address, mtu: u16) -> Option<()> {
    let _: &mut [u8; TOO_BIG_LEN] = frame.at(0)?;
    let sender = frame.at::<Ipv4>(TOO_BIG_GROWTH + ETHERNET_LEN)?.source;
    let old: &mut Ethernet = frame.at(TOO_BIG_GROWTH)?;
    let ethernet = Ethernet { destination: old.source, source: old.destination, ethertype: ETHERTYPE_IPV4 };
    *frame.at(0)? = ethernet;
    let mut ip = Ipv4 {
        version_ihl: 0x45,
        tos: 0,
        total_length: ((size_of::<Ipv4>() + MESSAGE) as u16).to_be_bytes(),
        identification: [0; 2],
        fragment: [0; 2],
        ttl_protocol: [TIME_TO_LIVE, PROTOCOL_ICMP],
        checksum: [0; 2],
        source: vip,
        destination: sender,
    };
    ip.checksum = checksum::of(ip.bytes());
    *frame.at(ETHERNET_LEN)? = ip;
    let [high, low] = mtu.to_be_bytes();
    let icmp_offset = ETHERNET_LEN + size_of::<Ipv4>();
    *frame.at(icmp_offset)? =
        Icmp { kind: ICMP_UNREACHABLE, code: ICMP_TOO_BIG, checksum: [0; 2], rest: [0, 0, high, low] };
    let bytes: &mut [u8; MESSAGE] = frame.at(icmp_offset)?;
    let sum = checksum::of(bytes);
    let icmp: &mut Icmp = frame.at(icmp_offset)?;
    icmp.checksum = sum;
    Some(())
}
