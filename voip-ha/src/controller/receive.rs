//! Reading a socket with what the kernel knows about each datagram: when it arrived, and how many were lost.

use std::{
    io::{self, IoSliceMut},
    os::fd::{AsFd, AsRawFd},
    time::{Duration, Instant, SystemTime},
};

use nix::{
    cmsg_space,
    sys::{
        socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt},
        time::TimeSpec,
    },
};

/// A datagram that was read.
pub(super) struct Arrived {
    pub(super) length: usize,
    /// When the kernel had it.
    pub(super) at: Instant,
    /// Datagrams that the socket had no room for since it was opened, as far as known.
    pub(super) lost: Option<u32>,
}

/// Asks the kernel to say of each datagram when it arrived and what was lost before it.
pub(super) fn stamp_arrivals(socket: &impl AsFd) -> io::Result<()> {
    setsockopt(socket, sockopt::ReceiveTimestampns, &true)?;
    setsockopt(socket, sockopt::RxqOvfl, &1)?;
    Ok(())
}

/// Reads one datagram; what is longer than the buffer is cut.
///
/// # Errors
///
/// There is none (`WouldBlock`), or the kernel has noted an error on the socket.
pub(super) fn receive(socket: &(impl AsFd + AsRawFd), buffer: &mut [u8]) -> io::Result<Arrived> {
    let mut control = cmsg_space!(TimeSpec, u32);
    let mut parts = [IoSliceMut::new(buffer)];
    let message =
        recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::MSG_DONTWAIT)?;
    let (now, wall) = (Instant::now(), SystemTime::now());
    let mut arrived = Arrived { length: message.bytes, at: now, lost: None };
    for piece in message.cmsgs()? {
        match piece {
            ControlMessageOwned::ScmTimestampns(stamp) => arrived.at = now.checked_sub(age(stamp, wall)).unwrap_or(now),
            ControlMessageOwned::RxqOvfl(lost) => arrived.lost = Some(lost),
            _ => {}
        }
    }
    Ok(arrived)
}

/// The stamp is of the wall clock, which may be set at any time: an age that cannot be is none.
fn age(stamp: TimeSpec, wall: SystemTime) -> Duration {
    const LONGEST: Duration = Duration::from_secs(10);
    let stamp = SystemTime::UNIX_EPOCH + Duration::from(stamp);
    wall.duration_since(stamp).ok().filter(|age| *age < LONGEST).unwrap_or_default()
}
