//! The pin directory: whose it is, what may be in it, and how it goes.

use std::{collections::BTreeSet, fs, os::unix::fs::DirBuilderExt as _, path::Path, sync::Barrier, thread};

use anyhow::{Context as _, Result, ensure};
use aya::maps::MapData;
use lab::wait;
use rustix::{
    mount::{MountPropagationFlags, UnmountFlags, mount_change, unmount},
    thread::{Uid, UnshareFlags, set_thread_res_uid, unshare_unsafe},
};
use voip_ha::datapath::{Datapath as _, KernelDatapath, KernelLog, PinDirectory, Pins, Steering, Tables, unload};

use super::{
    frame::datagram,
    net::{self, FRONT, PHONE, VIP},
    rig::{Act, PBX, PinDir, Rig, SERVICES, SOON, apart, config, with_lock, with_rig},
};

/// The names of all maps, as the datapath knows them.
fn maps(pins: &Pins) -> Result<Vec<&'static str>> {
    Ok(Tables::facts(pins)?.iter().map(|facts| facts.name).collect())
}

/// The error of something that must not succeed, with all its causes in one line.
fn refusal<T>(result: Result<T>) -> Result<String> {
    Ok(format!("{:#}", result.err().context("it was not refused")?))
}

fn has_program(interface: &str) -> Result<bool> {
    Ok(net::ip(&format!("link show dev {interface}"))?.contains("xdp"))
}

#[test]
fn a_pinned_map_of_another_layout_is_refused_by_name_and_left_alone() -> Result<()> {
    with_rig(|rig| {
        let own = Pins::new(rig.pin_dir());
        for name in maps(&own)? {
            let strange = PinDir::claim()?;
            let directory = PinDirectory::open(&strange.0)?;
            let other = if name == "SERVICES" { "SERVERS" } else { "SERVICES" };
            MapData::from_pin(own.map(other))?.pin(directory.pins().map(name))?;
            let pins = directory.pins().directory();
            let config = config(SERVICES, &strange.0)?;
            let message = refusal(KernelDatapath::load(&config, directory, KernelLog::Off))?;
            ensure!(message.contains(&format!("/{name} has another layout")), "{message}");
            ensure!(message.contains("voip-ha unload"), "{message} does not say what to do");
            let left: Vec<_> = fs::read_dir(pins)?.collect::<Result<_, _>>()?;
            ensure!(left.len() == 1 && left[0].file_name() == name, "{left:?}");
        }
        Ok(())
    })
}

#[test]
fn pins_of_another_version_are_refused_by_name() -> Result<()> {
    apart(|| {
        let pins = PinDir::claim()?;
        drop(PinDirectory::open(&pins.0)?);
        let strange = pins.0.join("abi-0");
        fs::create_dir(&strange)?;
        let message = refusal(with_lock(|| PinDirectory::open(&pins.0)));
        fs::remove_dir(&strange)?;
        let message = message?;
        ensure!(message.contains("abi-0") && message.contains("unload"), "{message}");
        Ok(())
    })
}

#[test]
fn a_pin_directory_in_use_is_refused_and_goes_on_working() -> Result<()> {
    with_rig(|rig| {
        for message in [refusal(PinDirectory::open(rig.pin_dir()))?, refusal(unload(rig.pin_dir()))?] {
            ensure!(message.contains("another voip-ha is running"), "{message}");
            ensure!(message.contains(&rig.pin_dir().display().to_string()), "{message} does not name the directory");
        }
        let ran = rig.run(FRONT, &datagram((PHONE, 4000), (VIP, 5060)))?;
        ensure!(ran.act == Act::Redirect && has_program("front")?, "{:?}", ran.act);
        Ok(())
    })
}

#[test]
fn a_pin_directory_outside_of_a_bpf_file_system_is_refused() -> Result<()> {
    apart(|| {
        let message = refusal(PinDirectory::open(Path::new("/proc/voip-ha-test")))?;
        ensure!(message.contains("/proc/voip-ha-test is not on a BPF file system"), "{message}");
        Ok(())
    })
}

#[test]
fn the_bpf_file_system_is_mounted_once_however_many_gateways_start_together() -> Result<()> {
    apart(|| {
        // SAFETY: only the mounts that this thread sees change, and no file descriptor.
        unsafe { unshare_unsafe(UnshareFlags::NEWNS) }?;
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
        (0..10).try_for_each(|_| start_eight_without_a_bpf_file_system())
    })
}

fn start_eight_without_a_bpf_file_system() -> Result<()> {
    let mounts =
        || fs::read_to_string("/proc/thread-self/mounts").map(|text| text.matches(" /sys/fs/bpf bpf ").count());
    while mounts()? > 0 {
        unmount("/sys/fs/bpf", UnmountFlags::DETACH)?;
    }
    let pins: Vec<_> = (0..8).map(|_| PinDir::claim()).collect::<Result<_>>()?;
    let together = Barrier::new(pins.len());
    let start = |pins: &PinDir| {
        together.wait();
        PinDirectory::open(&pins.0).map(drop)
    };
    thread::scope(|scope| {
        let started: Vec<_> = pins.iter().map(|pins| scope.spawn(|| start(pins))).collect();
        started.into_iter().try_for_each(|thread| thread.join().expect("no panic"))
    })?;
    ensure!(mounts()? == 1, "mounted {} times", mounts()?);
    ensure!(pins.iter().all(|pins| pins.0.is_dir()), "a later mount hides a pin directory");
    Ok(())
}

#[test]
fn unload_removes_everything_and_a_new_start_finds_nothing() -> Result<()> {
    apart(|| {
        let pins = PinDir::claim()?;
        for round in 0..2 {
            let mut rig = Rig::ready_at(PinDir(pins.0.clone()))?;
            let fresh = rig.tally()?;
            ensure!(fresh.is_empty(), "{fresh:?}");
            ensure!(rig.run(FRONT, &datagram((PHONE, 4000), (VIP, 5060)))?.act == Act::Redirect, "not redirected");
            let Rig { datapath, .. } = rig;
            drop(datapath);
            // Younger than the links, so that the order of removal is not that of the directory by luck.
            let own = Pins::new(&pins.0);
            MapData::from_pin(own.map("SERVICES"))?.pin(own.map("LATE"))?;
            let earlier = pins.0.join("abi-0");
            fs::create_dir(&earlier)?;
            MapData::from_pin(own.map("SERVICES"))?.pin(earlier.join("EARLIER"))?;
            let wanted = BTreeSet::from_iter(maps(&own)?.into_iter().chain(["LATE", "EARLIER"]));
            ensure!(has_program("front")? && has_program("back")?, "the end of a controller takes nothing off");

            let removed = with_lock(|| unload(&pins.0))?;
            let (links, maps) = removed.split_at(2);
            ensure!(links.iter().all(|name| name.starts_with("link-")), "{removed:?}: links go first");
            let maps = maps.iter().map(String::as_str).collect::<BTreeSet<_>>();
            ensure!(maps == wanted, "{maps:?}, not {wanted:?}");
            ensure!(!pins.0.exists(), "the directory is still there");
            // The kernel frees a link a moment after its last file is gone. The next round does not wait for that.
            if round > 0 {
                let gone = || Ok((!has_program("front")? && !has_program("back")?).then_some(()));
                wait::until(SOON, "the program to leave the interfaces", gone)?;
            }
        }
        ensure!(unload(&pins.0)?.is_empty(), "nothing was there to be removed");
        Ok(())
    })
}

#[test]
fn who_may_not_look_is_told_so_and_not_that_nothing_is_loaded() -> Result<()> {
    apart(|| {
        let hidden = std::env::temp_dir().join(format!("voip-ha-test-{}", std::process::id()));
        fs::DirBuilder::new().mode(0o700).create(&hidden)?;
        let nobody = Uid::from_raw(65_534);
        // Of this thread alone, which ends with the test.
        set_thread_res_uid(nobody, nobody, Uid::ROOT)?;
        let pins = hidden.join("voip-ha");
        let messages = [refusal(unload(&pins)), refusal(Tables::open(&Pins::new(&pins)))];
        set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT)?;
        fs::remove_dir(&hidden)?;
        for message in messages {
            let message = message?;
            ensure!(message.contains("needs root"), "{message}");
        }
        Ok(())
    })
}

#[test]
fn a_new_gateway_has_no_active_server() -> Result<()> {
    apart(|| {
        let rig = Rig::load(SERVICES, KernelLog::Off)?;
        ensure!(rig.datapath.steering(PBX) == Steering::default(), "{:?}", rig.datapath.steering(PBX));
        Ok(())
    })
}
