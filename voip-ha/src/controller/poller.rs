//! Waiting for everything at once.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::Instant,
};

use rustix::{
    buffer::spare_capacity,
    event::epoll::{self, EventData, EventFlags},
    io::Errno,
    time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime},
};

use crate::{config::MAX_SERVERS, ids::ServerId};

const TIMER: u64 = u64::MAX;
const MAIL: u64 = u64::MAX - 1;
const SIGNALS: u64 = u64::MAX - 2;

/// An epoll instance with a timer, the mailbox's bell, the kernel side's signals, and the probes' sockets, each of these
/// under the number of its server.
pub(super) struct Poller {
    epoll: OwnedFd,
    timer: OwnedFd,
    armed: Option<Instant>,
}

/// What woke the thread, but for the timer: whether that is due, the clock says.
#[derive(Debug, Default)]
pub(super) struct Woken {
    /// Servers whose sockets have an error noted.
    pub(super) errors: Vec<ServerId>,
    pub(super) signals: bool,
    pub(super) mail: bool,
}

impl Poller {
    pub(super) fn new(signals: Option<BorrowedFd<'_>>) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        // The epoll's own time-outs are in whole milliseconds.
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
        epoll::add(&epoll, &timer, EventData::new_u64(TIMER), EventFlags::IN)?;
        if let Some(signals) = signals {
            epoll::add(&epoll, signals, EventData::new_u64(SIGNALS), EventFlags::IN)?;
        }
        Ok(Self { epoll, timer, armed: None })
    }

    pub(super) fn watch_mail(&self, bell: BorrowedFd<'_>) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, bell, EventData::new_u64(MAIL), EventFlags::IN)?)
    }

    /// For sockets to be added.
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }

    /// Waits until `deadline`, or for something before.
    pub(super) fn wait(&mut self, deadline: Option<Instant>) -> io::Result<Woken> {
        if self.armed != deadline {
            self.arm(deadline)?;
        }
        let mut events = Vec::with_capacity(MAX_SERVERS);
        match epoll::wait(&self.epoll, spare_capacity(&mut events), None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut woken = Woken::default();
        for event in &events {
            match event.data.u64() {
                // Set anew before it is waited for again, which silences it.
                TIMER => self.armed = None,
                MAIL => woken.mail = true,
                SIGNALS => woken.signals = true,
                server => woken.errors.push(ServerId(server as usize)),
            }
        }
        Ok(woken)
    }

    fn arm(&mut self, deadline: Option<Instant>) -> io::Result<()> {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        // Zero would disarm it.
        let left = left.map(|left| left.max(std::time::Duration::from_nanos(1)));
        let value = left.map_or(Timespec::default(), |left| Timespec {
            tv_sec: left.as_secs() as i64,
            tv_nsec: i64::from(left.subsec_nanos()),
        });
        let once = Itimerspec { it_interval: Timespec::default(), it_value: value };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once)?;
        self.armed = deadline;
        Ok(())
    }
}
