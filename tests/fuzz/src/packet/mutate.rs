//! Changes to an input that take several branches at once, which changes of single bytes hardly ever do.

use voip_ha_ebpf::abi::Address;

use super::world::{CONTROL, GATEWAY, OTHER_VIP, VIP};

const IP: usize = CONTROL + 14;
const ICMP: usize = 8;

/// Addresses that the tables know, and some of clients.
const ADDRESSES: [Address; 9] = [
    VIP,
    OTHER_VIP,
    GATEWAY,
    [10, 0, 0, 2],
    [10, 8, 0, 2],
    [10, 0, 0, 3],
    [10, 0, 0, 6],
    [198, 51, 100, 7],
    [203, 0, 113, 9],
];
const PORTS: [u16; 8] = [5060, 5080, 10_000, 19_999, 20_000, 29_999, 53, 0];
const FRAGMENTS: [u16; 7] = [0, 0x2000, 0x2001, 1, 0x4000, 0x4001, 0x6000];

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
    let at = if which & 1 == 0 { IP } else { behind(input, IP) + ICMP };
    let transport = behind(input, at);
    let of = |length: usize| usize::from(value) % length;
    match field % 16 {
        0 => put(input, of(CONTROL), &[other]),
        1 => put(input, at, &[0x40 | [5, 5, 6, 15, other & 15][of(5)]]),
        2 => put(input, at + 2, &[other & 5, value]),
        3 => put(input, at + 6, &FRAGMENTS[of(FRAGMENTS.len())].to_be_bytes()),
        4 => put(input, at + 8, &[[0, 1, 2, 64][of(4)]]),
        5 => put(input, at + 9, &[[1, 17, 17, 6][of(4)]]),
        6 | 7 => put(input, at + 12, &ADDRESSES[of(ADDRESSES.len())]),
        8 | 9 => put(input, at + 16, &ADDRESSES[of(ADDRESSES.len())]),
        10 => put(input, transport, &PORTS[of(PORTS.len())].to_be_bytes()),
        11 => put(input, transport + 2, &PORTS[of(PORTS.len())].to_be_bytes()),
        12 => put(input, transport + 4, &[0, value]),
        13 => put(input, transport + 6, &[[0, 0], [0xff, 0xff], [value, other]][of(3)]),
        14 => put(input, transport, &[[3, 3, 11, 12][of(4)], other & 15]),
        // A quotation of the packet itself makes it an ICMP error about one of its kind.
        _ => quote(input),
    }
}

/// Where what an IP header at this place carries begins.
fn behind(input: &[u8], at: usize) -> usize {
    at + usize::from(input.get(at).copied().unwrap_or(0x45) & 15) * 4
}

fn put(input: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(place) = input.get_mut(at..at + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}

fn quote(input: &mut [u8]) {
    let (from, to) = (IP, behind(input, IP) + ICMP);
    let length = 28.min(input.len().saturating_sub(to));
    if to < input.len() {
        input.copy_within(from..from + length, to);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::packet::seeds;

    #[test]
    fn every_field_is_changed_and_no_input_is_too_short() {
        let seed = seeds().remove(0);
        let mut changed = BTreeSet::new();
        for random in (0..=u32::MAX).step_by(9_973) {
            let mut input = seed.clone();
            mutate(&mut input, random);
            changed.extend((0..seed.len()).filter(|at| input[*at] != seed[*at]));
            mutate(&mut input[..random as usize % seed.len()], random);
        }
        let fields = [0..4, IP..IP + 1, IP + 2..IP + 4, IP + 6..IP + 10, IP + 12..IP + 24, IP + 25..IP + 28]
            .into_iter()
            .flatten();
        let left_out: Vec<_> = fields.filter(|at| !changed.contains(at)).collect();
        assert!(left_out.is_empty(), "{left_out:?}");
    }
}
