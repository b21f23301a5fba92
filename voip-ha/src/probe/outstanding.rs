//! Which probes of one server still wait for an answer.
//!
//! Every probe that was sent ends once: as an answer in time, or as a miss. An answer may still come after that.
//!
//! ```text
//!                 answered before the deadline
//!   sent ──────────────────────────────────────▶ Reply::InTime
//!     │  answered after it, the miss not yet told
//!     ├────────────────────────────────────────▶ Reply::Late { missed: false }   instead of a miss
//!     │  expired(now), or pushed out by a newer one
//!     └────────────────────────────────────────▶ Miss ──── answered ──▶ Reply::Late { missed: true }
//! ```
//!
//! The table reads no clock and does no I/O.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Most probes that are remembered for one server, missed ones included. At the shortest interval of 5 ms this
/// is a third of a second; a longer timeout is cut to it.
pub const MAX_OUTSTANDING: usize = 64;

/// The probes of one server that wait for an answer, and missed ones whose answer may still come.
#[derive(Debug, Default)]
pub struct Outstanding {
    /// In the order of sending.
    probes: VecDeque<Sent>,
}

#[derive(Debug)]
struct Sent {
    branch: String,
    call_id: String,
    sent_at: Instant,
    deadline: Instant,
    missed: bool,
}

/// An answer that belongs to a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// It came before the deadline.
    InTime {
        /// Time from sending to the answer.
        rtt: Duration,
    },
    /// It came at the deadline or after it.
    Late {
        /// Time from sending to the answer.
        rtt: Duration,
        /// Whether the probe has already been given as a [`Miss`]. If not, it never will be: the gateway itself may
        /// have been late in reading the answer, so the caller decides what it is worth.
        missed: bool,
    },
}

/// A probe that was not answered in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Miss {
    /// When the probe was sent.
    pub sent_at: Instant,
    /// When its answer was due.
    pub deadline: Instant,
}

impl Outstanding {
    /// Notes a probe sent at `sent_at` whose answer is due before `deadline`.
    ///
    /// If [`MAX_OUTSTANDING`] probes are already there, the oldest is forgotten; it is the returned miss, unless it
    /// has been one before.
    #[must_use = "the probe that is pushed out may be a miss"]
    pub fn sent(&mut self, branch: String, call_id: String, sent_at: Instant, deadline: Instant) -> Option<Miss> {
        let oldest = if self.probes.len() < MAX_OUTSTANDING { None } else { self.probes.pop_front() };
        self.probes.push_back(Sent { branch, call_id, sent_at, deadline, missed: false });
        oldest.filter(|probe| !probe.missed).map(|probe| probe.miss())
    }

    /// Finds the probe that a final answer read at `now` belongs to, and forgets it.
    ///
    /// `None` means that the answer is no evidence: no probe has this branch and Call-ID, or it was answered before.
    pub fn answered(&mut self, branch: &str, call_id: &str, now: Instant) -> Option<Reply> {
        let index = self.probes.iter().position(|probe| probe.branch == branch && probe.call_id == call_id)?;
        let probe = self.probes.remove(index)?;
        let rtt = now.saturating_duration_since(probe.sent_at);
        let in_time = now < probe.deadline && !probe.missed;
        Some(if in_time { Reply::InTime { rtt } } else { Reply::Late { rtt, missed: probe.missed } })
    }

    /// The probes whose deadline is at or before `now`, in order of deadline; each is given once.
    pub fn expired(&mut self, now: Instant) -> impl Iterator<Item = Miss> + use<> {
        let due = self.probes.iter_mut().filter(|probe| !probe.missed && probe.deadline <= now);
        let mut misses: Vec<_> = due
            .map(|probe| {
                probe.missed = true;
                probe.miss()
            })
            .collect();
        misses.sort_by_key(|miss| miss.deadline);
        misses.into_iter()
    }

    /// Gives every probe that still waits time until `deadline`: the gateway itself stood still and may have missed the
    /// answers.
    pub fn postpone(&mut self, deadline: Instant) {
        for probe in self.probes.iter_mut().filter(|probe| !probe.missed) {
            probe.deadline = probe.deadline.max(deadline);
        }
    }

    /// When [`Outstanding::expired`] next has something to give; `None` if no probe waits.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.probes.iter().filter(|probe| !probe.missed).map(|probe| probe.deadline).min()
    }
}

impl Sent {
    fn miss(&self) -> Miss {
        Miss { sent_at: self.sent_at, deadline: self.deadline }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn sent(table: &mut Outstanding, name: &str, sent_at: Instant, timeout: Duration) -> Option<Miss> {
        table.sent(format!("branch-{name}"), format!("call-{name}"), sent_at, sent_at + timeout)
    }

    #[test]
    fn an_answer_before_the_deadline_is_in_time_and_counts_once() {
        let (mut table, start) = (Outstanding::default(), Instant::now());
        assert_eq!(sent(&mut table, "a", start, ms(15)), None);
        assert_eq!(table.next_deadline(), Some(start + ms(15)));
        assert_eq!(table.answered("branch-a", "call-a", start + ms(14)), Some(Reply::InTime { rtt: ms(14) }));
        assert_eq!(table.answered("branch-a", "call-a", start + ms(14)), None);
        assert_eq!(table.next_deadline(), None);
        assert_eq!(table.expired(start + ms(100)).count(), 0);
    }

    #[test]
    fn an_answer_needs_both_branch_and_call_id_of_the_same_probe() {
        let (mut table, start) = (Outstanding::default(), Instant::now());
        assert_eq!(sent(&mut table, "a", start, ms(15)), None);
        assert_eq!(sent(&mut table, "b", start, ms(15)), None);
        for (branch, call_id) in
            [("branch-a", "call-b"), ("branch-b", "call-a"), ("branch-a", ""), ("", "call-a"), ("BRANCH-A", "call-a")]
        {
            assert_eq!(table.answered(branch, call_id, start), None, "{branch} {call_id}");
        }
        assert_eq!(table.expired(start + ms(15)).count(), 2);
    }

    #[test]
    fn the_deadline_itself_is_too_late_and_already_a_miss() {
        let (mut table, start) = (Outstanding::default(), Instant::now());
        assert_eq!(sent(&mut table, "a", start, ms(15)), None);
        assert_eq!(table.expired(start + ms(15) - Duration::from_nanos(1)).count(), 0);
        let misses: Vec<_> = table.expired(start + ms(15)).collect();
        assert_eq!(misses, [Miss { sent_at: start, deadline: start + ms(15) }]);
        assert_eq!(table.expired(start + ms(15)).count(), 0, "a miss is given once");
        let late = Reply::Late { rtt: ms(15), missed: true };
        assert_eq!(table.answered("branch-a", "call-a", start + ms(15)), Some(late));
    }

    #[test]
    fn an_answer_that_the_gateway_read_too_late_takes_the_place_of_the_miss() {
        let (mut table, start) = (Outstanding::default(), Instant::now());
        assert_eq!(sent(&mut table, "a", start, ms(15)), None);
        let late = Reply::Late { rtt: ms(80), missed: false };
        assert_eq!(table.answered("branch-a", "call-a", start + ms(80)), Some(late));
        assert_eq!(table.expired(start + ms(80)).count(), 0);
    }

    #[test]
    fn a_probe_that_was_due_while_the_gateway_stood_still_gets_its_time_anew() {
        let (mut table, start) = (Outstanding::default(), Instant::now());
        assert_eq!(sent(&mut table, "a", start, ms(15)), None);
        let woke = start + ms(80);
        table.postpone(woke + ms(15));
        assert_eq!(table.expired(woke).count(), 0);
        assert_eq!(table.answered("branch-a", "call-a", woke + ms(14)), Some(Reply::InTime { rtt: ms(94) }));
    }

    #[test]
    fn misses_come_in_order_of_deadline_not_of_sending() {
        let (mut table, start) = (Outstanding::default(), Instant::now());
        for (name, timeout) in [("a", 30), ("b", 10), ("c", 20), ("d", 40)] {
            assert_eq!(sent(&mut table, name, start, ms(timeout)), None);
        }
        assert_eq!(table.next_deadline(), Some(start + ms(10)));
        let deadlines: Vec<_> = table.expired(start + ms(30)).map(|miss| miss.deadline - start).collect();
        assert_eq!(deadlines, [ms(10), ms(20), ms(30)]);
        assert_eq!(table.next_deadline(), Some(start + ms(40)));
    }

    #[test]
    fn a_full_table_gives_its_oldest_as_a_miss_unless_it_was_one() {
        let (mut table, start) = (Outstanding::default(), Instant::now());
        for n in 0..MAX_OUTSTANDING {
            assert_eq!(sent(&mut table, &n.to_string(), start + ms(n as u64), ms(1000)), None);
        }
        let oldest = Miss { sent_at: start, deadline: start + ms(1000) };
        assert_eq!(sent(&mut table, "more", start + ms(64), ms(1000)), Some(oldest));
        assert_eq!(table.answered("branch-0", "call-0", start + ms(64)), None);

        assert_eq!(table.expired(start + ms(1001)).count(), 1);
        assert_eq!(sent(&mut table, "still more", start + ms(1001), ms(1000)), None);
    }

    proptest! {
        #[test]
        fn every_probe_ends_exactly_once(
            steps in proptest::collection::vec((0..4u8, 0..30u64, 0..200usize), 1..600),
        ) {
            let (mut table, mut now) = (Outstanding::default(), Instant::now());
            let (mut started, mut ended) = (0, 0);
            for (what, wait, which) in steps {
                now += ms(wait);
                match what {
                    0 | 1 => {
                        ended += sent(&mut table, &started.to_string(), now, ms(15)).iter().count();
                        started += 1;
                    }
                    2 => {
                        let name = which % started.max(1);
                        let reply = table.answered(&format!("branch-{name}"), &format!("call-{name}"), now);
                        let ends = matches!(reply, Some(Reply::InTime { .. } | Reply::Late { missed: false, .. }));
                        ended += usize::from(ends);
                    }
                    _ => {
                        ended += table.expired(now).count();
                        prop_assert!(table.next_deadline().is_none_or(|deadline| deadline > now));
                    }
                }
                prop_assert!(ended <= started);
            }
            ended += table.expired(now + ms(15)).count();
            prop_assert_eq!(ended, started);
            prop_assert_eq!(table.next_deadline(), None);
        }
    }
}
