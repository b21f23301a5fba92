//! The second address of a server. Its health is that of the first one, which is probed by all means; here it is only seen
//! whether SIP is answered at the second one too, because a path of one family can die alone. It is told, and decides
//! nothing: to move the calls of both families away from a server that serves one of them is for people to choose.
//!
//! The questions also keep the neighbour resolved that packets of this family go to.

use std::{
    net::IpAddr,
    os::fd::BorrowedFd,
    time::{Duration, Instant},
};

use super::lines::{Lines, Received};
use crate::{config::Server, monitor::ProbeKind};

/// Questions in a row that must stay unanswered.
const MISSES: u32 = 3;

/// The second address of one server.
pub(super) struct Second {
    lines: Lines,
    interval: Duration,
    patience: Duration,
    next: Instant,
    asked: u64,
    /// When the oldest question was asked that nothing came back after, and how many were since.
    unanswered: Option<(Instant, u32)>,
    fault: Option<&'static str>,
}

impl Second {
    /// None for a server that has one address only.
    pub(super) fn of(server: &Server, now: Instant) -> Option<Self> {
        let probe = &server.probe;
        Some(Self {
            lines: Lines::new(server.addresses.iter().nth(1)?, probe.port),
            interval: probe.standby_interval,
            patience: probe.hang,
            next: now,
            asked: 0,
            unanswered: None,
            fault: None,
        })
    }

    pub(super) fn address(&self) -> IpAddr {
        self.lines.address()
    }

    /// What is wrong with the address, if something is.
    pub(super) fn fault(&self) -> Option<String> {
        self.fault.map(|fault| format!("{} {fault}", self.address()))
    }

    /// The way to it has changed.
    pub(super) fn reopen(&mut self) {
        self.lines.reopen();
        self.unanswered = None;
    }

    /// The gateway itself stood still.
    pub(super) fn forgive(&mut self) {
        self.unanswered = None;
    }

    /// Reads what came back. Returns whether [`Second::fault`] has changed.
    pub(super) fn read(&mut self) -> bool {
        let before = self.fault;
        for received in self.lines.receive() {
            match received {
                Received::Answer { .. } => (self.unanswered, self.fault) = (None, None),
                Received::Refused => {
                    self.lines.reopen_options();
                    self.fault = Some("refuses SIP");
                }
                Received::HostUnreachable | Received::Lost => {}
            }
        }
        self.fault != before
    }

    /// Judges, and asks if that is due. `up` is whether the server is: what is wrong with all of it is nothing of this
    /// address. Returns whether [`Second::fault`] has changed.
    pub(super) fn tick(&mut self, up: bool, now: Instant, poller: BorrowedFd<'_>, key: u64) -> bool {
        if !up {
            (self.unanswered, self.fault) = (None, None);
        }
        let before = self.fault;
        if let Some((since, misses)) = self.unanswered
            && misses >= MISSES
            && now.saturating_duration_since(since) >= self.patience
        {
            self.fault = self.fault.or(Some("leaves OPTIONS unanswered"));
        }
        if now >= self.next {
            self.next = now + self.interval;
            self.ask(up, now, poller, key);
        }
        self.fault != before
    }

    fn ask(&mut self, up: bool, now: Instant, poller: BorrowedFd<'_>, key: u64) {
        self.asked += 1;
        // Without a way, that is what is told.
        let is_sent = self.lines.send(ProbeKind::Options, self.asked, poller, key).is_ok();
        let (since, misses) = self.unanswered.unwrap_or((now, 0));
        self.unanswered = (is_sent && up).then_some((since, misses + 1));
    }
}
