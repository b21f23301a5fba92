//! Changes to an input that take several branches at once, which changes of single bytes hardly ever do.

use std::net::IpAddr;

use voip_ha_ebpf::abi::Family;

use super::world::{CONTROL, GATEWAY, OTHER_VIP, Pair, SERVERS, VIP};

/// Where the first EtherType is.
const ETHERTYPE: usize = CONTROL + 12;
const ICMP: usize = 8;

/// Of a client, and of the gateway's services.
const ADDRESSES: [Pair; 4] = [VIP, OTHER_VIP, GATEWAY, Pair::of([198, 51, 100, 7], 7)];
const PORTS: [u16; 8] = [5060, 5080, 10_000, 19_999, 20_000, 29_999, 53, 0];
const FRAGMENTS: [u16; 7] = [0, 0x2000, 0x2001, 1, 0x4000, 0x4001, 0x6000];
const ETHERTYPES: [[u8; 2]; 4] = [[8, 0], [0x86, 0xdd], [0x81, 0], [0x88, 0xa8]];
const TAG: [u8; 4] = [0x81, 0, 0xe0, 100];
/// UDP, ICMP of both families, and extension headers.
const NEXT: [u8; 8] = [17, 17, 58, 1, 0, 43, 44, 60];

/// Gives one to four fields of the tables, of the packet or of the one that it quotes a value that means something. What the input
/// is too short for is left out.
pub fn mutate(input: &mut [u8], mut random: u32) {
    for _ in 0..=random >> 28 & 3 {
        set(input, random);
        random = random.wrapping_mul(0x9e37_79b1).rotate_left(13);
    }
}

fn set(input: &mut [u8], random: u32) {
    let [which, field, value, other] = random.to_le_bytes();
    let outer = packet_at(input);
    let at = if which & 1 == 0 { outer } else { behind(input, outer) + ICMP };
    let transport = behind(input, at);
    let of = |length: usize| usize::from(value) % length;
    match field % 20 {
        0 => put(input, of(CONTROL), &[other]),
        1 => put(input, transport, &PORTS[of(PORTS.len())].to_be_bytes()),
        2 => put(input, transport + 2, &PORTS[of(PORTS.len())].to_be_bytes()),
        3 => put(input, transport + 4, &[0, value]),
        4 => put(input, transport + 6, &[[0, 0], [0xff, 0xff], [value, other]][of(3)]),
        5 => put(input, transport, &[[3, 3, 11, 12, 1, 2, 4][of(7)], other & 15]),
        6 => put(input, ETHERTYPE, &ETHERTYPES[of(ETHERTYPES.len())]),
        7 => tag(input, value),
        // A quotation of the packet itself makes it an ICMP error about one of its kind.
        8 => quote(input, outer),
        field if is_six(input, at) => set_six(input, at, field, value, other),
        field => set_four(input, at, field, value, other),
    }
}

/// A field of an IPv4 header.
fn set_four(input: &mut [u8], at: usize, field: u8, value: u8, other: u8) {
    let of = |length: usize| usize::from(value) % length;
    match field {
        9 => put(input, at, &[0x40 | [5, 5, 6, 15, other & 15][of(5)]]),
        10 | 11 => put(input, at + 2, &[other & 5, value]),
        12 | 13 => put(input, at + 6, &FRAGMENTS[of(FRAGMENTS.len())].to_be_bytes()),
        14 => put(input, at + 8, &[[0, 1, 2, 64][of(4)]]),
        15 => put(input, at + 9, &[[1, 17, 17, 6][of(4)]]),
        16 | 17 => put(input, at + 12, &address(Family::V4, value)),
        _ => put(input, at + 16, &address(Family::V4, value)),
    }
}

/// A field of an IPv6 header or of the extension header behind it.
fn set_six(input: &mut [u8], at: usize, field: u8, value: u8, other: u8) {
    let of = |length: usize| usize::from(value) % length;
    match field {
        9 => put(input, at, &[[0x60, 0x60, 0x6b, other][of(4)]]),
        10 => put(input, at + 4, &[other & 5, value]),
        11 => put(input, at + 6, &[NEXT[of(NEXT.len())]]),
        12 => put(input, at + 40, &[NEXT[of(NEXT.len())], other & 3]),
        13 => put(input, at + 42, &[[0, 0], [0, 1], [0, 8], [0, 9], [other, value]][of(5)]),
        14 => put(input, at + 7, &[[0, 1, 2, 64][of(4)]]),
        15 | 16 => put(input, at + 8, &address(Family::V6, value)),
        // A mapped address is none of a packet, whoever has the IPv4 address in it.
        17 => put(input, at + [8, 24][of(2)], &mapped(&address(Family::V4, other))),
        _ => put(input, at + 24, &address(Family::V6, value)),
    }
}

/// An address that the tables know, or a client's.
fn address(family: Family, value: u8) -> Vec<u8> {
    let known = ADDRESSES.iter().map(|pair| pair.by(family));
    let all: Vec<_> = SERVERS.iter().filter_map(|server| server.address(family)).chain(known).collect();
    match all[usize::from(value) % all.len()] {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn mapped(four: &[u8]) -> Vec<u8> {
    [&[0; 10][..], &[0xff; 2], four].concat()
}

/// Where the IP header begins.
fn packet_at(input: &[u8]) -> usize {
    let is_tag = |at: &usize| [0x81, 0x88].contains(input.get(*at).unwrap_or(&0));
    let ethertype = (ETHERTYPE..).step_by(TAG.len()).find(|at| !is_tag(at));
    ethertype.unwrap_or(ETHERTYPE) + 2
}

fn is_six(input: &[u8], at: usize) -> bool {
    input.get(at).is_some_and(|first| first >> 4 == 6)
}

/// Where what an IP header at this place carries begins, behind at most one extension header.
fn behind(input: &[u8], at: usize) -> usize {
    let byte = |at: usize| usize::from(input.get(at).copied().unwrap_or(0x45));
    if !is_six(input, at) {
        return at + (byte(at) & 15) * 4;
    }
    match byte(at + 6) {
        0 | 43 | 60 => at + 48 + byte(at + 41) * 8,
        44 => at + 48,
        _ => at + 40,
    }
}

fn put(input: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(place) = input.get_mut(at..at + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}

/// Puts a VLAN tag in, or takes one away, at the cost of the last bytes.
fn tag(input: &mut [u8], value: u8) {
    if input.len() < ETHERTYPE + 2 * TAG.len() {
        return;
    }
    let (behind, end) = (ETHERTYPE + TAG.len(), input.len());
    if value & 3 == 0 {
        input.copy_within(behind.., ETHERTYPE);
    } else {
        input.copy_within(ETHERTYPE..end - TAG.len(), behind);
        put(input, ETHERTYPE, &TAG);
    }
}

fn quote(input: &mut [u8], from: usize) {
    let (to, length) = (behind(input, from) + ICMP, if is_six(input, from) { 48 } else { 28 });
    if to < input.len() {
        input.copy_within(from..from + length.min(input.len() - to), to);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::packet::seeds;

    #[test]
    fn every_field_is_changed_and_no_input_is_too_short() {
        let of = |six: bool| {
            let is_one = |seed: &Vec<u8>| packet_at(seed) == ETHERTYPE + 2 && is_six(seed, ETHERTYPE + 2) == six;
            seeds().into_iter().find(is_one).unwrap()
        };
        let at = ETHERTYPE + 2;
        let four = [0..1, 2..4, 6..10, 12..24, 25..28].map(|range| range.start + at..range.end + at);
        let six = [0..1, 4..48].map(|range| range.start + at..range.end + at);
        for (seed, fields) in [(of(false), four.to_vec()), (of(true), six.to_vec())] {
            let mut changed = BTreeSet::new();
            for random in (0..=u32::MAX).step_by(9_973) {
                let mut input = seed.clone();
                mutate(&mut input, random);
                changed.extend((0..seed.len()).filter(|at| input[*at] != seed[*at]));
                mutate(&mut input[..random as usize % seed.len()], random);
            }
            let fields = fields.into_iter().flatten().chain(0..CONTROL).chain(ETHERTYPE..at);
            let left_out: Vec<_> = fields.filter(|at| !changed.contains(at)).collect();
            assert!(left_out.is_empty(), "{left_out:?}");
        }
    }
}
