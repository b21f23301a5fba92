//! The two threads of a meter: one sends by the clock, one receives.

use std::{
    io::{self, IoSliceMut},
    net::SocketAddr,
    num::NonZeroU64,
    os::fd::{AsRawFd, OwnedFd},
    sync::{Arc, atomic::Ordering},
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result};
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt::ReceiveTimestampns,
};
use rustix::{buffer::spare_capacity, event::epoll, thread::set_current_timer_slack, time::Timespec};

use super::Shared;
use crate::rtp::INTERVAL_MS;

/// How often the receiver looks whether it should stop.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };

/// Sends until told to stop. Packet n of all streams is due at a fixed time, so a late packet does not delay the next.
pub(super) fn send(shared: &Shared) -> Result<()> {
    // The usual slack of 50 µs would send in bursts when there are many streams.
    set_current_timer_slack(NonZeroU64::new(1))?;
    let step = INTERVAL_MS * 1_000_000 / shared.streams.len() as u64;
    let first = shared.nanos();
    for number in 0.. {
        let due = first + number * step;
        let early = due.saturating_sub(shared.nanos());
        if early > 0 {
            std::thread::sleep(Duration::from_nanos(early));
        }
        if shared.stop_sending.load(Ordering::Relaxed) {
            break;
        }
        let index = (number % shared.streams.len() as u64) as usize;
        let (stream, _) = &shared.streams[index];
        // Filed before it is sent, as its echo may come before the system call returns.
        let packet = shared.track(index).send(shared.nanos());
        if stream.socket.send_to(&packet.encode(), stream.remote).is_err() {
            shared.track(index).send_failed();
        }
    }
    Ok(())
}

/// Reads the echoes of all streams.
#[derive(Debug)]
pub(super) struct Receiver {
    shared: Arc<Shared>,
    epoll: OwnedFd,
}

impl Receiver {
    pub(super) fn new(shared: Arc<Shared>) -> Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        for (index, (stream, _)) in shared.streams.iter().enumerate() {
            setsockopt(&stream.socket, ReceiveTimestampns, &true)?;
            epoll::add(&epoll, &stream.socket, epoll::EventData::new_u64(index as u64), epoll::EventFlags::IN)?;
        }
        Ok(Self { shared, epoll })
    }

    pub(super) fn run(self) -> Result<()> {
        let mut events = Vec::with_capacity(64);
        let mut control = nix::cmsg_space!(nix::sys::time::TimeSpec);
        while !self.shared.stop_receiving.load(Ordering::Relaxed) {
            events.clear();
            match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&LOOK)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error).context("epoll_wait"),
            }
            for event in &events {
                self.receive(event.data.u64() as usize, &mut control)?;
            }
        }
        Ok(())
    }

    fn receive(&self, index: usize, control: &mut [u8]) -> Result<()> {
        let (stream, _) = &self.shared.streams[index];
        let mut bytes = [0; 2048];
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let fd = stream.socket.as_raw_fd();
        let message = match recvmsg::<SockaddrStorage>(fd, &mut parts, Some(control), MsgFlags::MSG_DONTWAIT) {
            Ok(message) => message,
            Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR) => return Ok(()),
            Err(error) => return Err(io::Error::from(error)).context("receive RTP"),
        };
        let now = self.arrival_time(message.cmsgs()?);
        let (from, length) = (message.address.as_ref().and_then(address_of), message.bytes);
        let mut track = self.shared.track(index);
        if from == Some(stream.remote) {
            track.receive(&bytes[..length], now);
        } else {
            track.stray(now);
        }
        Ok(())
    }

    /// The kernel's time stamp on the meter's clock. The kernel stamps by wall clock; only the age of the datagram is
    /// taken from it, so a wall clock that is set meanwhile does no harm.
    fn arrival_time(&self, messages: impl Iterator<Item = ControlMessageOwned>) -> u64 {
        let (now, wall) = (self.shared.nanos(), SystemTime::now());
        let mut stamps = messages.filter_map(|message| match message {
            ControlMessageOwned::ScmTimestampns(stamp) => {
                Some(SystemTime::UNIX_EPOCH + Duration::new(stamp.tv_sec() as u64, stamp.tv_nsec() as u32))
            }
            _ => None,
        });
        let age = stamps.next().and_then(|stamp| wall.duration_since(stamp).ok()).unwrap_or_default();
        now.saturating_sub(age.as_nanos() as u64)
    }
}

fn address_of(address: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| SocketAddr::V4((*v4).into()));
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| SocketAddr::V6((*v6).into())))
}
