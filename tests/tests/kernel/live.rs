//! Frames that really leave, and packets that run while the controller writes.

use std::{
    mem,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use aya::{
    TestRunAttrs, TestRunOptions,
    programs::{TestRun as _, Xdp},
};
use lab::wait;
use voip_ha::{
    datapath::{Datapath as _, KernelDatapath, KernelLog, PinDirectory, Steering},
    ids::Family,
};
use voip_ha_ebpf::abi::Mac;

use super::{
    frame::datagram,
    net::{self, BACK, FRONT, Ipv4, PHONE, VIP},
    rig::{Act, PBX, PinDir, Rig, SOON, by_back, context, run, with_rig},
};

/// As many flips as fit into this time, and never fewer than these.
const FLIPPING: Duration = Duration::from_secs(2);
const FEWEST_FLIPS: usize = 500;

/// Packets and bytes that an interface has received.
fn received(interface: &str) -> Result<(u64, u64)> {
    let shown: serde_json::Value = serde_json::from_str(&net::ip(&format!("link show dev {interface}"))?)?;
    let rx = &shown[0]["stats64"]["rx"];
    Ok((rx["packets"].as_u64().context("no packets")?, rx["bytes"].as_u64().context("no bytes")?))
}

/// Sends a frame through the program for good until `other_end` has received that, and nobody anything else: the kernel itself has
/// something to say now and then.
fn send(rig: &mut Rig, ifindex: u32, frame: &[u8], other_end: &str) -> Result<()> {
    wait::until(SOON, other_end, || Ok(arrives_alone(rig, ifindex, frame, other_end)?.then_some(())))
}

fn arrives_alone(rig: &mut Rig, ifindex: u32, frame: &[u8], other_end: &str) -> Result<bool> {
    let ends = ["phones", "servers", "strangers"];
    let before = ends.map(received);
    let context = context(ifindex, frame.len());
    let options = TestRunOptions {
        data_in: Some(frame),
        ctx_in: Some(&context),
        attrs: TestRunAttrs::new().xdp_live_frames(1),
        ..TestRunOptions::default()
    };
    rig.program()?.test_run(options).context("BPF_PROG_TEST_RUN with live frames")?;
    let mut alone = true;
    for (end, before) in ends.into_iter().zip(before) {
        let (packets, bytes) = before?;
        if end == other_end {
            let now = wait::until(SOON, end, || Ok(Some(received(end)?).filter(|now| now.0 > packets)))?;
            alone &= now == (packets + 1, bytes + frame.len() as u64);
        } else {
            alone &= received(end)? == (packets, bytes);
        }
    }
    Ok(alone)
}

#[test]
fn a_redirected_frame_leaves_by_the_device_of_its_next_hop() -> Result<()> {
    with_rig(|rig| {
        for end in ["phones", "servers", "strangers"] {
            net::take_redirected(end)?;
        }
        for _ in 0..3 {
            send(rig, FRONT, &datagram((PHONE, 4000), (VIP, 5060)), "servers")?;
            send(rig, BACK, &datagram(([10, 0, 0, 2], 10_000), (PHONE, 4000)), "phones")?;
        }
        // One-arm: back out of the device that it came in by.
        send(rig, BACK, &datagram((PHONE, 4000), (VIP, 5060)), "servers")
    })
}

/// Flips, and gives the active server another next hop after each flip.
fn write_all_the_time(rig: &mut Rig, runs: &AtomicU64, stop: &AtomicBool) -> Result<()> {
    let servers = [rig.server("master")?, rig.server("cloud")?];
    let end = Instant::now() + FLIPPING;
    for flip in 0.. {
        if stop.load(Ordering::Relaxed) || flip >= FEWEST_FLIPS && Instant::now() > end {
            break;
        }
        let active = servers[flip % 2];
        rig.datapath.steer(PBX, Steering::to(active));
        let destination = hop_of(flip % 2, (flip / 2 % 256) as u8);
        rig.datapath.set_next_hop(active, Family::V4, by_back(destination))?;
        // A slot is written again only when no packet can still be reading it; elsewhere netlink's pace sees to that.
        let seen = runs.load(Ordering::Relaxed);
        while runs.load(Ordering::Relaxed) < seen + 2 && !stop.load(Ordering::Relaxed) {
            thread::yield_now();
        }
    }
    Ok(())
}

/// An address that shows in every byte whose it is.
fn hop_of(server: usize, generation: u8) -> Mac {
    [2, server as u8, generation, generation, generation, generation]
}

#[test]
fn no_packet_sees_half_of_a_flip_or_of_a_next_hop() -> Result<()> {
    with_rig(|rig| {
        // One thread runs the program that the other one writes for. The datapath has the only handle of it, so that
        // moves into a second datapath, which is good for nothing else.
        let pins = PinDir::claim()?;
        let mut holder = KernelDatapath::load(&rig.config, PinDirectory::open(&pins.0)?, KernelLog::Off)?;
        mem::swap(rig.datapath.object(), holder.object());
        let program: &Xdp = holder.object().program("voip_ha").context("no program")?.try_into()?;
        let (stop, runs) = (AtomicBool::new(false), AtomicU64::new(0));
        // Both start with an address of this kind.
        for (number, name) in ["master", "cloud"].into_iter().enumerate() {
            let hop = by_back(hop_of(number, 0));
            let server = rig.server(name)?;
            rig.datapath.set_next_hop(server, Family::V4, hop)?;
        }
        thread::scope(|scope| {
            let writer = scope.spawn(|| write_all_the_time(rig, &runs, &stop));
            let watched = watch(program, &runs, || writer.is_finished());
            stop.store(true, Ordering::Relaxed);
            writer.join().expect("no panic").and(watched)
        })
    })
}

fn watch(program: &Xdp, runs: &AtomicU64, done: impl Fn() -> bool) -> Result<()> {
    const SERVERS: [Ipv4; 2] = [[10, 0, 0, 2], [10, 8, 0, 2]];
    let frame = datagram((PHONE, 4000), (VIP, 10_000));
    while !done() {
        let ran = run(program, FRONT, &frame)?;
        runs.fetch_add(1, Ordering::Relaxed);
        ensure!(ran.act == Act::Redirect, "{:?} in the middle of a flip", ran.act);
        let server = SERVERS.iter().position(|address| ran.frame[30..34] == *address).context("to whom?")?;
        ensure!(ran.frame[..6] == hop_of(server, ran.frame[2]), "{:02x?} is torn", &ran.frame[..34]);
    }
    Ok(())
}
