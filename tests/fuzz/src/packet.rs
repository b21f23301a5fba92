//! The packet path: parse, steer against tables, rewrite.
//!
//! An input is six bytes that make the tables, and a frame. Everything that the judgement of a frame needs is read
//! by etherparse or computed by it, so that a mistake of the code under test is not made twice.

mod addresses;
mod judge;
mod mutate;
mod seeds;
mod wire;
mod world;

use std::cell::RefCell;

use anyhow::{Context as _, Result, ensure};
use voip_ha_ebpf::{
    abi::Outcome,
    packet::{self, Frame, Network},
    rewrite,
    steer::{self, Verdict, pass_by, steer},
};

use self::{
    judge::{judge, noted, renamed},
    world::{CONTROL, World},
};
use crate::room::Room;

pub use self::{mutate::mutate, seeds::seeds};

/// More than any frame grows by.
const GROWTH: usize = 64;

thread_local! {
    static ROOM: RefCell<Room> = RefCell::new(Room::new().expect("there is memory for a frame"));
}

/// Runs the packet path over a frame as the XDP program does. An error says what did not hold.
pub fn check(input: &[u8]) -> Result<()> {
    run(input).map(drop)
}

/// Runs the packet path and says what it made of the frame; nothing if the input has none.
fn run(input: &[u8]) -> Result<Option<Outcome>> {
    let Some((control, frame)) = input.split_first_chunk::<CONTROL>() else { return Ok(None) };
    if frame.len() > Room::LARGEST - GROWTH {
        return Ok(None);
    }
    ROOM.with_borrow_mut(|room| in_room(room, &World::of(control), frame))
        .with_context(|| format!("tables {control:02x?}"))
        .map(Some)
}

fn in_room(room: &mut Room, world: &World, frame: &[u8]) -> Result<Outcome> {
    room.put(frame);
    let network = packet::network(&mut Frame::from_slice(room.frame()));
    // The program for plain packets reads some of these its own way, and hands over the others.
    if let Some(plain) = packet::plain(&mut Frame::from_slice(room.frame())) {
        ensure!(network == Ok(plain), "read as {plain:?} and as {network:?}");
    }
    let network = match network {
        Ok(network) => network,
        Err(reason) => {
            ensure!(room.frame() == frame && room.is_whole(), "changed by reading");
            return Ok(pass_by(reason).action.outcome);
        }
    };
    let (network, verdict) = decide(room, world, network, frame)?;
    let frame = &room.frame().to_vec();
    let done = world.carry_out(room, &network, &verdict);
    ensure!(room.is_whole(), "written in front of the frame: {verdict:?}");
    let after = room.frame();
    judge(world, frame, after, &verdict, &done)
        .with_context(|| format!("{verdict:?}\nbefore {frame:02x?}\nafter  {after:02x?}"))?;
    Ok(done.outcome)
}

/// Decides about the frame in the room, in which only what the gateway's own name stands for is another then.
fn decide(room: &mut Room, world: &World, network: Network, frame: &[u8]) -> Result<(Network, Verdict)> {
    ensure!(network.bounded() == network, "the bounds change {network:?}");
    let network = unmask(room, world, network, frame)?;
    let decided = room.frame().to_vec();
    let mut verdict = steer(&mut Frame::from_slice(room.frame()), &network, world);
    ensure!(room.frame() == decided, "the decision itself changed the frame: {verdict:?}");
    noted(world, &decided, &verdict)?;
    mask(room, world, &network, &mut verdict)?;
    Ok((network, verdict))
}

/// Puts the client into a frame to the gateway's own name.
fn unmask(room: &mut Room, world: &World, network: Network, frame: &[u8]) -> Result<Network> {
    let found = steer::unmask(&mut Frame::from_slice(room.frame()), &network, world);
    ensure!(room.frame() == frame, "looking changed the frame: {found:?}");
    if !found.is_clients {
        return Ok(network);
    }
    rewrite::unmask(&mut Frame::from_slice(room.frame()), &network, &found).context("it was found there")?;
    renamed(frame, room.frame(), false).with_context(|| format!("{found:?}"))?;
    packet::network(&mut Frame::from_slice(room.frame())).ok().context("no packet any more")
}

/// Gives a frame that was decided about the gateway's own name, as far as that is to be done before the verdict is.
fn mask(room: &mut Room, world: &World, network: &Network, verdict: &mut Verdict) -> Result<()> {
    if verdict.action.masked == 0 {
        return Ok(());
    }
    let before = room.frame().to_vec();
    let port = steer::mask(&mut Frame::from_slice(room.frame()), network, verdict, world);
    ensure!(room.frame() == before, "looking changed the frame: {port:?}");
    rewrite::mask(&mut Frame::from_slice(room.frame()), network, &verdict.action, &port)
        .context("the decision has looked at the headers")?;
    renamed(&before, room.frame(), true).with_context(|| format!("{port:?}"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_seeds_hold_and_reach_every_outcome() {
        let reached: BTreeSet<_> = seeds().iter().filter_map(|seed| run(seed).unwrap()).collect();
        // These services ask nothing of their senders.
        let is_reached = |outcome: &Outcome| ![Outcome::RateLimited, Outcome::Denied].contains(outcome);
        assert_eq!(reached, Outcome::ALL.iter().copied().filter(is_reached).collect());
    }

    #[test]
    fn a_seed_cut_anywhere_or_with_any_byte_changed_holds() {
        for seed in seeds().iter().step_by(7) {
            for at in 0..seed.len() {
                check(&seed[..at]).unwrap();
                let mut changed = seed.clone();
                changed[at] ^= 1 << (at % 8);
                check(&changed).unwrap();
            }
        }
    }
}
