//! The books of one stream: what was sent, what came back, and what that means. No sockets and no clock.

use std::{collections::BTreeSet, ops::Range, time::Duration};

use super::tally::{Path, Split, Tally};
use crate::rtp::{self, Arrival, History, Packet, ServerName, Stamp};

/// A packet unanswered for so long in ns is lost; before that it is in flight.
pub(super) const SETTLE: u64 = 1_000_000_000;

/// All packets of one stream. Times are ns on the meter's clock.
#[derive(Debug)]
pub(super) struct Track {
    stream: u32,
    first: u16,
    sent: Vec<Sent>,
    /// Times of first answers, ascending.
    arrivals: Vec<u64>,
    oddities: Vec<Oddity>,
    /// Packets neither answered nor known to have reached a server.
    open: BTreeSet<usize>,
    servers: Vec<Server>,
    unstamped: bool,
    highest_answered: Option<usize>,
}

#[derive(Debug)]
struct Sent {
    at: u64,
    /// When the first answer came.
    answered: Option<u64>,
    reached: bool,
    /// Index in `servers`, if the first answer was stamped.
    server: Option<u8>,
}

/// One process of a server.
#[derive(Debug)]
struct Server {
    name: ServerName,
    instance: u32,
    /// Which of its counts have come back.
    counts: History,
}

/// Something rare, filed under the packet it happened to or, for what belongs to no packet, its time.
#[derive(Debug)]
enum Oddity {
    Duplicate { packet: usize, on_the_way: Way },
    Reordered { packet: usize, on_the_way: Way },
    Corrupt { at: u64 },
    Stray { at: u64 },
    SendFailed { packet: usize },
}

/// Where on the round trip it happened. Reordering has one entry for the whole trip and one for each way it happened on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Round,
    Up,
    Down,
}

impl Track {
    /// A stream whose first sequence number is `first`.
    pub(super) fn new(stream: u32, first: u16) -> Self {
        let (sent, arrivals, oddities, open, servers) = Default::default();
        Self { stream, first, sent, arrivals, oddities, open, servers, unstamped: false, highest_answered: None }
    }

    /// The next packet to send, filed as sent at `now`.
    pub(super) fn send(&mut self, now: u64) -> Packet {
        self.open.insert(self.sent.len());
        self.sent.push(Sent { at: now, answered: None, reached: false, server: None });
        self.packet(self.sent.len() - 1)
    }

    /// The packet last sent did not leave: the kernel refused it.
    pub(super) fn send_failed(&mut self) {
        if let Some(packet) = self.sent.len().checked_sub(1) {
            self.oddities.push(Oddity::SendFailed { packet });
        }
    }

    /// A datagram from the address that this stream is sent to.
    pub(super) fn receive(&mut self, bytes: &[u8], now: u64) {
        let packet = rtp::sequence_and_source(bytes).and_then(|(sequence, _)| self.locate(sequence));
        let Some(packet) = packet.filter(|packet| self.packet(*packet).is_echoed_by(bytes)) else {
            self.oddities.push(Oddity::Corrupt { at: now });
            return;
        };
        let stamp = rtp::read_stamp(bytes);
        let learnt = stamp.map(|stamp| self.learn(&stamp, packet));
        self.unstamped |= stamp.is_none();
        if self.sent[packet].answered.is_some() {
            let on_the_way = match learnt {
                Some((_, Arrival::Repeated)) => Way::Down,
                Some(_) => Way::Up,
                None => Way::Round,
            };
            self.oddities.push(Oddity::Duplicate { packet, on_the_way });
            return;
        }
        let ways = [
            (Way::Round, self.highest_answered.is_some_and(|highest| packet < highest)),
            (Way::Up, stamp.is_some_and(|stamp| stamp.late)),
            (Way::Down, learnt.is_some_and(|(_, arrival)| arrival == Arrival::Late)),
        ];
        let late = ways.into_iter().filter(|(_, late)| *late);
        self.oddities.extend(late.map(|(on_the_way, _)| Oddity::Reordered { packet, on_the_way }));
        self.answer(packet, learnt.map(|(server, _)| server), now);
    }

    /// A datagram from any other address.
    pub(super) fn stray(&mut self, now: u64) {
        self.oddities.push(Oddity::Stray { at: now });
    }

    /// Whether every packet sent in the window has been answered.
    pub(super) fn all_answered(&self, window: &Range<u64>) -> bool {
        self.sent_in(window).iter().all(|sent| sent.answered.is_some())
    }

    /// When the first answer to a packet sent in the window came.
    pub(super) fn first_answer(&self, window: &Range<u64>) -> Option<u64> {
        self.sent_in(window).iter().filter_map(|sent| sent.answered).min()
    }

    /// The same, if the server of this name gave it.
    pub(super) fn first_answer_by(&self, server: &str, window: &Range<u64>) -> Option<u64> {
        let name = ServerName::new(server);
        let by = |index: u8| self.servers[usize::from(index)].name == name;
        let answers = self.sent_in(window).iter().filter(|sent| sent.server.is_some_and(by));
        answers.filter_map(|sent| sent.answered).min()
    }

    /// The account of a window: of the packets sent in it, and of the arrivals and gaps in it.
    pub(super) fn tally(&self, window: &Range<u64>, now: u64) -> Tally {
        let mut tally = Tally::empty(window);
        let mut split = Split::default();
        let mut row = 0;
        for sent in self.sent_in(window) {
            tally.sent += 1;
            let lost = sent.answered.is_none() && now.saturating_sub(sent.at) >= SETTLE;
            row = if lost { row + 1 } else { 0 };
            tally.max_lost_in_a_row = tally.max_lost_in_a_row.max(row);
            tally.lost += u64::from(lost);
            tally.in_flight += u64::from(sent.answered.is_none() && !lost);
            let path = if sent.reached { &mut split.down } else { &mut split.up };
            path.lost += u64::from(lost);
            if let Some(server) = sent.server {
                *tally.answered_by.entry(self.servers[usize::from(server)].name.to_string()).or_default() += 1;
            }
        }
        self.count_oddities(window, &mut tally, &mut split);
        tally.split = (!self.unstamped && !self.servers.is_empty()).then_some(split);
        let arrivals = self.arrivals_in(window);
        tally.received = arrivals.len() as u64;
        tally.weight = arrivals.iter().map(|at| u128::from((at - window.start).min(window.end - at))).sum();
        tally.max_gap = Duration::from_nanos(self.longest_silence(window, now));
        tally.max_send_gap = Duration::from_nanos(self.longest_send_pause(window));
        tally
    }

    fn answer(&mut self, packet: usize, server: Option<usize>, now: u64) {
        self.highest_answered = self.highest_answered.max(Some(packet));
        self.open.remove(&packet);
        let sent = &mut self.sent[packet];
        sent.answered = Some(now);
        sent.server = server.and_then(|server| u8::try_from(server).ok());
        // Packets that came in on two processors may be a little out of order in the kernel's time stamps.
        self.arrivals.push(self.arrivals.last().map_or(now, |last| now.max(*last)));
    }

    /// Takes from a stamp which packets have reached the server. Returns the server's index and what its
    /// count says about the way back.
    fn learn(&mut self, stamp: &Stamp, packet: usize) -> (usize, Arrival) {
        if let Some(highest) = self.locate_near(stamp.history.highest(), packet) {
            let lowest = highest.saturating_sub(usize::from(History::WINDOW));
            let has = |at: &usize| u16::try_from(highest - at).is_ok_and(|below| stamp.history.has(below));
            let reached: Vec<_> = self.open.range(lowest..=highest).copied().filter(has).collect();
            for at in reached {
                self.sent[at].reached = true;
                self.open.remove(&at);
            }
        }
        let known = self.servers.iter().position(|server| server.instance == stamp.instance);
        let server = known.unwrap_or_else(|| {
            let (name, instance) = (stamp.server, stamp.instance);
            self.servers.push(Server { name, instance, counts: History::default() });
            self.servers.len() - 1
        });
        (server, self.servers[server].counts.insert(stamp.count))
    }

    fn packet(&self, index: usize) -> Packet {
        let sequence = self.first.wrapping_add(index as u16);
        Packet { stream: self.stream, sequence, sent: self.sent[index].at }
    }

    /// The latest packet with this sequence number among the 32768 last sent.
    fn locate(&self, sequence: u16) -> Option<usize> {
        let last = self.sent.len().checked_sub(1)?;
        let back = self.first.wrapping_add(last as u16).wrapping_sub(sequence);
        if back < 1 << 15 { last.checked_sub(back.into()) } else { None }
    }

    /// The packet with this sequence number nearest to another one.
    fn locate_near(&self, sequence: u16, other: usize) -> Option<usize> {
        let ahead = sequence.wrapping_sub(self.first.wrapping_add(other as u16)) as i16;
        other.checked_add_signed(ahead.into()).filter(|index| *index < self.sent.len())
    }

    fn sent_in(&self, window: &Range<u64>) -> &[Sent] {
        let from = self.sent.partition_point(|sent| sent.at < window.start);
        let to = self.sent.partition_point(|sent| sent.at < window.end);
        self.sent.get(from..to).unwrap_or_default()
    }

    fn arrivals_in(&self, window: &Range<u64>) -> &[u64] {
        let before = |time| self.arrivals.partition_point(|at| *at < time);
        self.arrivals.get(before(window.start)..before(window.end)).unwrap_or_default()
    }

    fn count_oddities(&self, window: &Range<u64>, tally: &mut Tally, split: &mut Split) {
        for oddity in &self.oddities {
            let at = match *oddity {
                Oddity::Duplicate { packet, .. } | Oddity::Reordered { packet, .. } | Oddity::SendFailed { packet } => {
                    self.sent[packet].at
                }
                Oddity::Corrupt { at } | Oddity::Stray { at } => at,
            };
            if !window.contains(&at) {
                continue;
            }
            match *oddity {
                Oddity::Duplicate { on_the_way, .. } => {
                    tally.duplicated += 1;
                    on_the_way.of(split).into_iter().for_each(|path| path.duplicated += 1);
                }
                Oddity::Reordered { on_the_way: Way::Round, .. } => tally.reordered += 1,
                Oddity::Reordered { on_the_way, .. } => {
                    on_the_way.of(split).into_iter().for_each(|path| path.reordered += 1);
                }
                Oddity::Corrupt { .. } => tally.corrupt += 1,
                Oddity::Stray { .. } => tally.strays += 1,
                Oddity::SendFailed { .. } => tally.send_failed += 1,
            }
        }
    }

    /// The longest time without an answer that touches the window. It begins with an answer or the first packet sent, and
    /// ends with an answer or, if none follows, with the window, with `now` or with the last packet sent.
    fn longest_silence(&self, window: &Range<u64>, now: u64) -> u64 {
        let (Some(first), Some(last)) = (self.sent.first(), self.sent.last()) else { return 0 };
        let end = window.end.min(now).min(last.at);
        let tail = end.max(self.arrivals.last().copied().unwrap_or(first.at));
        let from = self.arrivals.partition_point(|at| *at < window.start);
        let to = self.arrivals.partition_point(|at| *at < window.end);
        let begin = from.checked_sub(1).map_or(first.at, |before| self.arrivals[before]);
        let after = self.arrivals.get(to).copied().unwrap_or(tail);
        longest_step(begin, self.arrivals.get(from..to).unwrap_or_default().iter().copied().chain([after]))
    }

    fn longest_send_pause(&self, window: &Range<u64>) -> u64 {
        let mut times = self.sent_in(window).iter().map(|sent| sent.at);
        times.next().map_or(0, |first| longest_step(first, times))
    }
}

impl Way {
    fn of(self, split: &mut Split) -> Option<&mut Path> {
        match self {
            Self::Round => None,
            Self::Up => Some(&mut split.up),
            Self::Down => Some(&mut split.down),
        }
    }
}

fn longest_step(begin: u64, times: impl Iterator<Item = u64>) -> u64 {
    let mut before = begin;
    times.map(|time| time.saturating_sub(std::mem::replace(&mut before, time))).max().unwrap_or(0)
}
