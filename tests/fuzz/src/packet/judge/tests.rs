use std::{collections::BTreeSet, mem};

use voip_ha_ebpf::{packet::Frame, steer::steer};

use super::*;
use crate::{packet::seeds, room::Room};

#[test]
fn no_bit_of_what_becomes_of_a_seed_could_be_another_one() {
    let mut room = Room::new().unwrap();
    let mut fates = BTreeSet::new();
    for seed in seeds() {
        let (control, before) = seed.split_first_chunk().unwrap();
        let world = World::of(control);
        room.put(before);
        let verdict = steer(&mut Frame::from_slice(room.frame()), &world);
        let done = world.carry_out(&mut room, &verdict);
        let after = room.frame();
        judge(&world, before, after, &verdict, &done).unwrap();
        for bit in 0..after.len() * 8 {
            after[bit / 8] ^= 1 << (bit % 8);
            let judged = judge(&world, before, after, &verdict, &done);
            assert!(judged.is_err(), "bit {bit} of {after:02x?}, which was {before:02x?}: {verdict:?}");
            after[bit / 8] ^= 1 << (bit % 8);
        }
        fates.insert(format!("{:?}", mem::discriminant(&done.fate)));
    }
    assert_eq!(fates.len(), 4, "what is tested?");
}

#[test]
fn a_packet_to_a_fenced_server_or_from_one_is_no_good() {
    let seeds = seeds();
    let judged = |seed: &[u8], other: [u8; 2]| {
        let (control, before) = seed.split_first_chunk().unwrap();
        let world = World::of(control);
        let mut room = Room::new().unwrap();
        room.put(before);
        let verdict = steer(&mut Frame::from_slice(room.frame()), &world);
        let done = world.carry_out(&mut room, &verdict);
        // Judged by other decision words than those that it was steered by.
        let other = World::of(&[other[0], other[1], control[2], control[3]]);
        let kept = matches!(done.fate, Fate::Kept | Fate::Answered);
        (kept, judge(&other, before, room.frame(), &verdict, &done).is_ok())
    };
    for seed in seeds.iter().filter(|seed| seed[..2] == [0b0101, 0b0101]) {
        let (kept, good) = judged(seed, [0b1010, 0b1010]);
        assert_eq!(kept, good, "{seed:02x?}");
    }
}
