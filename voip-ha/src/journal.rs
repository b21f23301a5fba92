//! The latest events, kept for those who ask and passed on to those who follow.

use std::{collections::VecDeque, time::Duration};

use rustix::time::{ClockId, clock_gettime};
use tokio::sync::broadcast;

use crate::event::{Event, Happening};

/// Events that are kept.
const KEPT: usize = 1000;
/// Events that a slow follower may be behind before it misses some.
const BEHIND: usize = 256;

/// The events of this run of the controller.
pub struct Journal {
    latest: VecDeque<Event>,
    next_number: u64,
    followers: broadcast::Sender<Event>,
}

impl Journal {
    /// An empty journal.
    pub fn new() -> Self {
        Self { latest: VecDeque::with_capacity(KEPT), next_number: 1, followers: broadcast::channel(BEHIND).0 }
    }

    /// Notes what has just happened, and logs it.
    pub fn note(&mut self, happening: Happening) {
        if happening.is_alarming() {
            tracing::warn!("{happening}");
        } else {
            tracing::info!("{happening}");
        }
        let event = Event {
            number: self.next_number,
            at: jiff::Timestamp::now(),
            monotonic_us: monotonic().as_micros() as u64,
            happening,
        };
        self.next_number += 1;
        if self.latest.len() == KEPT {
            self.latest.pop_front();
        }
        self.latest.push_back(event.clone());
        // Nobody following is no error.
        let _ = self.followers.send(event);
    }

    /// What is kept, oldest first, and what comes next.
    pub fn read(&self) -> (Vec<Event>, broadcast::Receiver<Event>) {
        (self.latest.iter().cloned().collect(), self.followers.subscribe())
    }
}

impl Default for Journal {
    fn default() -> Self {
        Self::new()
    }
}

/// `CLOCK_MONOTONIC`, which the kernel side's time stamps are of as well.
pub fn monotonic() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs() as u32)
}
