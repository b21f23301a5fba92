//! The probes of all servers, behind one file descriptor.

use std::{
    collections::VecDeque,
    io,
    os::fd::{AsFd as _, OwnedFd},
    task::{Context, Poll, ready},
    time::Instant,
};

use rustix::{
    buffer::spare_capacity,
    event::{Timespec, epoll},
};
use tokio::io::{Interest, unix::AsyncFd};

use super::prober::Prober;
use crate::{config::Config, detector::Evidence, ids::ServerId};

/// All probers, and an epoll instance with their sockets.
///
/// tokio's own sockets do not serve: an ICMP error makes a socket neither readable nor writable, it only raises `EPOLLERR`,
/// for which tokio does not wake a reader. A refusal would be noticed with the next probe, an interval too late.
pub(super) struct Probers {
    probers: Vec<Prober>,
    poller: AsyncFd<OwnedFd>,
    received: VecDeque<(ServerId, Evidence)>,
}

impl Probers {
    /// Probers for all servers, whose first probes are due now.
    pub(super) fn new(config: &Config, now: Instant) -> io::Result<Self> {
        let poller = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let probers = config.servers().map(|(id, _, server)| Prober::new(id, server, now)).collect();
        // SAFETY: an OwnedFd is open and the same until it is dropped, together with the AsyncFd.
        let poller = unsafe { AsyncFd::register_with_interest(poller, Interest::READABLE) }?;
        Ok(Self { probers, poller, received: VecDeque::new() })
    }

    /// When [`Probers::tick`] is due.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.probers.iter().map(Prober::next_deadline).min()
    }

    /// The gateway itself came late: probes that wait get their time anew.
    pub(super) fn forgive(&mut self, now: Instant) {
        for prober in &mut self.probers {
            prober.forgive(now);
        }
    }

    /// The kernel's way to a server has changed.
    pub(super) fn reopen(&mut self, server: ServerId) {
        self.probers[server.0].reopen();
    }

    /// Counts misses and sends the probes that are due. `heard` says when a server last sent to a client.
    pub(super) fn tick(
        &mut self,
        heard: impl Fn(ServerId) -> Option<Instant>,
        now: Instant,
    ) -> Vec<(ServerId, Evidence)> {
        let poller = self.poller.get_ref().as_fd();
        let mut evidence = Vec::new();
        for prober in &mut self.probers {
            let server = prober.server();
            evidence.extend(prober.tick(poller, heard(server), now).into_iter().map(|piece| (server, piece)));
        }
        evidence
    }

    /// Gives what came back from the servers, one piece at a time.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<io::Result<(ServerId, Evidence)>> {
        loop {
            if let Some(received) = self.received.pop_front() {
                return Poll::Ready(Ok(received));
            }
            let mut ready = ready!(self.poller.poll_read_ready(context))?;
            let mut events = Vec::with_capacity(self.probers.len());
            epoll::wait(self.poller.get_ref(), spare_capacity(&mut events), Some(&Timespec::default()))?;
            if events.is_empty() {
                ready.clear_ready();
            }
            for event in &events {
                let server = ServerId(event.data.u64() as usize);
                let evidence = self.probers[server.0].receive();
                self.received.extend(evidence.into_iter().map(|piece| (server, piece)));
            }
            if !events.is_empty() && self.received.is_empty() {
                // Somebody sends what is no answer. The timers must have their turn before more of that is read.
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
    }
}
