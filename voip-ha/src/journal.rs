//! The latest events, kept for those who ask and passed on to those who follow. The recorder follows too, and keeps them
//! on the disk.

use std::{collections::VecDeque, time::Duration};

use rustix::time::{ClockId, clock_gettime};
use tokio::sync::broadcast;

use crate::event::{Event, Happening};

/// Events that are kept.
pub const KEPT: usize = 1000;
/// Events that a slow follower may be behind before it misses some.
const BEHIND: usize = 256;

/// The latest events, of this run of the controller and of earlier ones.
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

    /// Goes on after the events of earlier controllers: theirs come first, and the numbers count on from theirs. To be
    /// called before anybody follows.
    pub fn recall(&mut self, mut earlier: Vec<Event>) {
        // Not that of the last one: older versions began anew when a disk had failed.
        let last = earlier.iter().map(|event| event.number).max().unwrap_or(0);
        for event in &mut self.latest {
            event.number += last;
        }
        self.next_number += last;
        earlier.extend(self.latest.drain(..));
        self.latest = earlier.split_off(earlier.len().saturating_sub(KEPT)).into();
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

#[cfg(test)]
mod tests {
    use super::*;

    fn noted(numbers: usize) -> Journal {
        let mut journal = Journal::new();
        for _ in 0..numbers {
            journal.note(Happening::OutageEnded { service: "pbx".to_owned() });
        }
        journal
    }

    #[test]
    fn numbers_count_on_over_restarts() {
        let (earlier, _) = noted(7).read();
        let mut journal = noted(1);
        journal.recall(earlier);
        journal.note(Happening::Started { adopted: true });
        let numbers: Vec<_> = journal.read().0.iter().map(|event| event.number).collect();
        assert_eq!(numbers, (1..=9).collect::<Vec<_>>());
    }

    #[test]
    fn no_number_of_an_earlier_event_is_given_again() {
        let (mut earlier, _) = noted(7).read();
        earlier[6].number = 2;
        let mut journal = noted(1);
        journal.recall(earlier);
        assert_eq!(journal.read().0.last().map(|event| event.number), Some(7));
    }

    #[test]
    fn the_oldest_of_too_many_are_forgotten() {
        let mut journal = noted(2);
        journal.recall(noted(KEPT).read().0);
        let (events, _) = journal.read();
        assert_eq!((events.len(), events[0].number), (KEPT, 3));
    }
}
