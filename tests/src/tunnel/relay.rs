//! The program of a VPN in user space, without its secrets.

use std::{
    ffi::c_int,
    fs::{File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::OFlags,
    ioctl::{Setter, ioctl, opcode},
};

use crate::netns::Namespace;

/// How soon it notices that it is to end.
const TURN: Timespec = Timespec { tv_sec: 0, tv_nsec: Duration::from_millis(50).as_nanos() as i64 };
/// `TUNSETIFF` of linux/if_tun.h.
const SET_INTERFACE: u32 = opcode::write::<c_int>(b'T', 202);
/// `IFF_TUN`: IP packets; `IFF_NO_PI`: nothing in front of them.
const IP_PACKETS: u16 = 0x0001 | 0x1000;
/// Bytes of `struct ifreq`, which begins with the name and the flags.
const REQUEST: usize = 40;
const NAME: usize = 16;

/// A thread that carries packets between two `tun` devices.
#[derive(Debug)]
pub(super) struct Relay {
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    /// Makes a device of this name in both namespaces.
    pub(super) fn between(one: &Namespace, other: &Namespace, name: &'static str) -> Result<Self> {
        let open = |namespace: &Namespace| namespace.run(move || open(name)).context("a tun device");
        let ends = [open(one)?, open(other)?];
        let end = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&end);
        let thread = thread::Builder::new().name("relay".to_owned()).spawn(move || carry(&ends, &is_over))?;
        Ok(Self { end, thread: Some(thread) })
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn open(name: &str) -> Result<File> {
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).custom_flags(OFlags::NONBLOCK.bits() as i32).open("/dev/net/tun")?;
    let mut request = [0u8; REQUEST];
    request[..name.len()].copy_from_slice(name.as_bytes());
    request[NAME..NAME + 2].copy_from_slice(&IP_PACKETS.to_ne_bytes());
    // SAFETY: the kernel reads a structure of this size, and writes nothing.
    unsafe { ioctl(&file, Setter::<SET_INTERFACE, _>::new(request)) }?;
    Ok(file)
}

/// Until it is to end, or a device is gone.
fn carry(ends: &[File; 2], is_over: &AtomicBool) {
    let mut packet = [0; 65_536];
    while !is_over.load(Ordering::Relaxed) {
        let [one, other] = ends;
        let mut ready = [PollFd::new(one, PollFlags::IN), PollFd::new(other, PollFlags::IN)];
        if poll(&mut ready, Some(&TURN)).is_err() {
            return;
        }
        if carry_from(one, other, &mut packet).and_then(|()| carry_from(other, one, &mut packet)).is_err() {
            return;
        }
    }
}

/// All that waits.
fn carry_from(mut from: &File, mut to: &File, packet: &mut [u8]) -> io::Result<()> {
    loop {
        match from.read(packet) {
            // A device that is down takes nothing.
            Ok(length) => _ = to.write(&packet[..length]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}
