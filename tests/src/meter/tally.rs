//! What the meter reports.

use std::{collections::BTreeMap, ops::Range, time::Duration};

use crate::rtp;

/// The account of one stream, or of several added up, in a window of time.
///
/// Losses, duplicates and reordering are those of the packets *sent* in the window; received packets and gaps are those
/// of the echoes that *arrived* in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tally {
    /// Length of the window.
    pub window: Duration,
    /// Packets sent.
    pub sent: u64,
    /// Packets without an echo 1 s after they were sent.
    pub lost: u64,
    /// Packets without an echo that are younger than that.
    pub in_flight: u64,
    /// The most packets that one stream lost one after another.
    pub max_lost_in_a_row: u64,
    /// Echoes beyond the first of a packet.
    pub duplicated: u64,
    /// Echoes that came after the echo of a later packet.
    pub reordered: u64,
    /// Datagrams from the right address that are no echo, or differ from what was sent.
    pub corrupt: u64,
    /// Datagrams from any other address.
    pub strays: u64,
    /// Packets that the kernel refused to send; they are lost too.
    pub send_failed: u64,
    /// First echoes that arrived in the window.
    pub received: u64,
    /// Over these: the time in ns to the nearer end of the window, added up.
    pub(super) weight: u128,
    /// The longest time of one stream between two arrivals, where it touches the window. 20 ms is a stream without loss.
    pub max_gap: Duration,
    /// The longest time of one stream between two packets sent: what is above 20 ms is the meter's own unrest.
    pub max_send_gap: Duration,
    /// Packets answered, by the name of the server that stamped the echo.
    pub answered_by: BTreeMap<String, u64>,
    /// The two ways apart. None if a server echoed packets without its stamp, or none ever answered.
    pub split: Option<Split>,
}

/// The way to the server and the way back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Split {
    /// From phone to server. A loss that no later echo within 5 s accounts for is filed here: the last packets before a
    /// server died may have reached it.
    pub up: Path,
    /// From server to phone.
    pub down: Path,
}

/// What happened on one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Path {
    /// Packets lost.
    pub lost: u64,
    /// Packets that came more than once, each time beyond the first.
    pub duplicated: u64,
    /// Packets that came after a later one.
    pub reordered: u64,
}

/// The account of a whole measurement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// One entry per stream, in the order in which they were given.
    pub streams: Vec<Tally>,
    /// All of them together.
    pub total: Tally,
}

impl Tally {
    /// Bytes received per second, as Ethernet frames: 10,700 for each stream without loss.
    ///
    /// An echo counts the more the nearer to the middle of the window it arrived: from 0 at either end up to 2, so that
    /// the mean over the window is 1. A plain count over 1 s is off by 2 % where one packet of a stream falls on the other
    /// side of an end; with these weights and a window of 2 s or more, a packet 20 ms late changes less than 0.1 %.
    pub fn bytes_per_s(&self) -> f64 {
        let window = self.window.as_nanos() as f64;
        let packets_per_ns = self.weight as f64 / (window * window / 4.0);
        packets_per_ns * 1e9 * rtp::FRAME as f64
    }

    pub(super) fn empty(window: &Range<u64>) -> Self {
        Self {
            window: Duration::from_nanos(window.end.saturating_sub(window.start)),
            sent: 0,
            lost: 0,
            in_flight: 0,
            max_lost_in_a_row: 0,
            duplicated: 0,
            reordered: 0,
            corrupt: 0,
            strays: 0,
            send_failed: 0,
            received: 0,
            weight: 0,
            max_gap: Duration::ZERO,
            max_send_gap: Duration::ZERO,
            answered_by: BTreeMap::new(),
            split: Some(Split::default()),
        }
    }

    pub(super) fn sum<'a>(window: &Range<u64>, tallies: impl IntoIterator<Item = &'a Self>) -> Self {
        let mut sum = Self::empty(window);
        tallies.into_iter().for_each(|tally| sum.add(tally));
        sum
    }

    fn add(&mut self, other: &Self) {
        self.sent += other.sent;
        self.lost += other.lost;
        self.in_flight += other.in_flight;
        self.max_lost_in_a_row = self.max_lost_in_a_row.max(other.max_lost_in_a_row);
        self.duplicated += other.duplicated;
        self.reordered += other.reordered;
        self.corrupt += other.corrupt;
        self.strays += other.strays;
        self.send_failed += other.send_failed;
        self.received += other.received;
        self.weight += other.weight;
        self.max_gap = self.max_gap.max(other.max_gap);
        self.max_send_gap = self.max_send_gap.max(other.max_send_gap);
        for (server, count) in &other.answered_by {
            *self.answered_by.entry(server.clone()).or_default() += count;
        }
        self.split = self.split.zip(other.split).map(|(a, b)| Split { up: a.up.plus(b.up), down: a.down.plus(b.down) });
    }
}

impl Path {
    fn plus(self, other: Self) -> Self {
        Self {
            lost: self.lost + other.lost,
            duplicated: self.duplicated + other.duplicated,
            reordered: self.reordered + other.reordered,
        }
    }
}
