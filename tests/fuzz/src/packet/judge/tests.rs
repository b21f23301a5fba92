use std::{collections::BTreeSet, mem};

use voip_ha_ebpf::packet::{Frame, network};

use super::*;
use crate::{
    packet::{decide, seeds},
    room::Room,
};

/// What becomes of a seed: the frame before it was done, what was decided, and the frame behind it, which is in the room. Nothing if it
/// has no packet.
fn done(seed: &[u8], room: &mut Room) -> Option<(World, Vec<u8>, Verdict, Done)> {
    let (control, frame) = seed.split_first_chunk()?;
    let world = World::of(control);
    room.put(frame);
    let network = network(&mut Frame::from_slice(room.frame())).ok()?;
    let (network, verdict) = decide(room, &world, network, frame).unwrap();
    let before = room.frame().to_vec();
    let done = world.carry_out(room, &network, &verdict);
    Some((world, before, verdict, done))
}

#[test]
fn no_bit_of_what_becomes_of_a_seed_could_be_another_one() {
    let mut room = Room::new().unwrap();
    let mut fates = BTreeSet::new();
    for seed in seeds() {
        let Some((world, before, verdict, done)) = done(&seed, &mut room) else { continue };
        let after = room.frame();
        judge(&world, &before, after, &verdict, &done).unwrap();
        for bit in 0..after.len() * 8 {
            after[bit / 8] ^= 1 << (bit % 8);
            let judged = judge(&world, &before, after, &verdict, &done);
            assert!(judged.is_err(), "bit {bit} of {after:02x?}, which was {before:02x?}: {verdict:?}");
            after[bit / 8] ^= 1 << (bit % 8);
        }
        fates.insert(format!("{:?}", mem::discriminant(&done.fate)));
    }
    assert_eq!(fates.len(), 4, "what is tested?");
}

#[test]
fn a_packet_to_a_fenced_server_or_from_one_is_no_good() {
    let (first, second) = (0b001_001, 0b010_010);
    let mut room = Room::new().unwrap();
    let mut moved = 0;
    for seed in seeds().iter().filter(|seed| seed[..4] == [first, 0, first, 0]) {
        let Some((_, before, verdict, done)) = done(seed, &mut room) else { continue };
        // Judged by other decision words than those that it was steered by.
        let other = World::of(&[second, 0, second, 0, seed[4], seed[5]]);
        let is_kept = matches!(done.fate, Fate::Kept | Fate::Answered);
        let judged = judge(&other, &before, room.frame(), &verdict, &done);
        assert_eq!(is_kept, judged.is_ok(), "{seed:02x?}");
        moved += usize::from(!is_kept);
    }
    assert!(moved > 100, "what is tested?");
}
