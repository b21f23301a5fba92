//! A replica does to every frame what the program does, says what that is counted as, and leaves the gateway's maps alone.

use std::{collections::BTreeSet, fs};

use anyhow::{Context as _, Result, ensure};
use fastrand::Rng;
use lab::wait;
use voip_ha::datapath::{Pins, Replica};
use voip_ha_ebpf::abi::Outcome;

use super::{
    frame::datagram,
    generate,
    model::{Memory, Model},
    net::{self, FRONT, PHONE, VIP},
    noted::Expected,
    rig::{Act, PBX, PinDir, Rig, SOON, apart, with_rig},
};

/// Twice as many as it takes to reach nearly every outcome.
const FRAMES: usize = 4000;

fn replica(rig: &Rig) -> Result<Replica> {
    Replica::of(&Pins::new(rig.pin_dir()))
}

#[test]
fn a_replica_agrees_with_the_host_about_every_random_frame_and_leaves_the_maps_alone() -> Result<()> {
    with_rig(|rig| {
        let seed = generate::seed()?;
        let mut rng = Rng::with_seed(seed);
        // Signalling and media apart, somebody draining, and a census: all that could be noted would be.
        rig.steer_apart(PBX, [Some("master"), Some("cloud")], Some("astray"))?;
        let model = Model::of(rig.datapath.tables(), &Memory::default())?;
        let mut replica = replica(rig)?;
        ensure!(replica.is_live_program(), "it is another program");
        let before = rig.tally()?;
        let mut reached = BTreeSet::new();
        for number in 0..FRAMES {
            let (from, frame) = generate::frame(&mut rng);
            let about = || format!("VOIP_HA_SEED={seed}, frame {number} on {from}: {frame:02x?}");
            let seen = replica.observe(from, &frame).with_context(about)?;
            let (wanted, place, _) = model.run(from, &frame);
            let found = (seen.server, seen.class.name(), seen.outcome.name());
            ensure!(
                (&seen.ran, found) == (&wanted, place),
                "{seen:02x?}, should be {wanted:02x?}, {place:?}; {}",
                about()
            );
            ensure!(seen.leaves_by.is_some() == (seen.ran.act == Act::Redirect), "{}", about());
            if let Some(device) = seen.leaves_by {
                ensure!(seen.ran.frame[6..12] == net::mac(device), "leaves by {device}? {}", about());
            }
            reached.insert(seen.outcome);
        }
        ensure!(reached.len() > Outcome::ALL.len() / 2, "only {reached:?}: what is tested?");
        ensure!(rig.tally()? == before, "the gateway's counters changed");
        Expected::default().check(rig)
    })
}

#[test]
fn a_replica_is_of_the_moment_when_it_was_made() -> Result<()> {
    with_rig(|rig| {
        let frame = datagram((PHONE, 4000), (VIP, 5060));
        let (mut old, master) = (replica(rig)?, rig.number("master")?);
        rig.steer(PBX, Some("cloud"), None)?;
        let servers = [old.observe(FRONT, &frame)?.server, replica(rig)?.observe(FRONT, &frame)?.server];
        ensure!(servers == [Some(master), Some(rig.number("cloud")?)], "{servers:?}");
        ensure!(rig.tally()?.is_empty(), "a frame was counted");
        Ok(())
    })
}

#[test]
fn a_replica_knows_that_the_maps_are_left_and_the_program_is_not() -> Result<()> {
    apart(|| {
        let Rig { datapath, config, pins, .. } = Rig::ready_at(PinDir::claim()?)?;
        let live = Pins::new(&pins.0);
        ensure!(Replica::of(&live)?.is_live_program(), "it is another program");
        drop(datapath);
        for interface in config.gateway.interfaces() {
            fs::remove_file(live.link(interface))?;
        }
        // The kernel lets go of a program a moment after its last link.
        wait::until(SOON, "the program to go", || Ok((!Replica::of(&live)?.is_live_program()).then_some(())))
    })
}
