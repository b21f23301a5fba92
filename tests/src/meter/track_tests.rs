//! The books against networks that lose, repeat and reorder as told.

use super::{
    tally::{Path, Split, Tally},
    track::{SETTLE, Track},
};
use crate::rtp::{Arrival, History, PACKET, Packet, ServerName, Stamp, write_stamp};

const MS: u64 = 1_000_000;
const STEP: u64 = 20 * MS;
const TRIP: u64 = MS / 2;
const LATER: u64 = 10_000 * SETTLE;

/// What the built-in server does with a packet.
struct Server {
    name: &'static str,
    instance: u32,
    count: u16,
    history: History,
}

impl Server {
    fn new(name: &'static str, instance: u32) -> Self {
        Self { name, instance, count: 0, history: History::default() }
    }

    fn echo(&mut self, packet: &Packet) -> [u8; PACKET] {
        let mut bytes = packet.encode();
        let late = self.history.insert(packet.sequence) == Arrival::Late;
        self.count = self.count.wrapping_add(1);
        let (server, instance, count, history) = (ServerName::new(self.name), self.instance, self.count, self.history);
        write_stamp(&mut bytes, &Stamp { server, instance, count, late, history });
        bytes
    }
}

/// Sends packet `number` at its time.
fn send(track: &mut Track, number: u64) -> Packet {
    track.send(number * STEP)
}

/// Sends packets and lets the server answer those that `answered` says.
fn run(track: &mut Track, server: &mut Server, numbers: std::ops::Range<u64>, answered: impl Fn(u64) -> bool) {
    for number in numbers {
        let packet = send(track, number);
        if answered(number) {
            track.receive(&server.echo(&packet), number * STEP + TRIP);
        }
    }
}

fn whole(track: &Track) -> Tally {
    track.tally(&(0..LATER), LATER)
}

fn lost(up: u64, down: u64) -> Option<Split> {
    let path = |lost| Path { lost, ..Path::default() };
    Some(Split { up: path(up), down: path(down) })
}

#[test]
fn a_stream_without_faults_has_gaps_of_20_ms_and_nothing_to_report() {
    let mut track = Track::new(1, 65_000);
    run(&mut track, &mut Server::new("master", 1), 0..100_000, |_| true);
    let tally = whole(&track);
    assert_eq!((tally.sent, tally.received, tally.lost, tally.in_flight), (100_000, 100_000, 0, 0));
    assert_eq!((tally.duplicated, tally.reordered, tally.corrupt, tally.max_lost_in_a_row), (0, 0, 0, 0));
    assert_eq!((tally.max_gap.as_millis(), tally.max_send_gap.as_millis()), (20, 20));
    assert_eq!(tally.split, Some(Split::default()));
    assert_eq!(tally.answered_by.get("master"), Some(&100_000));
    let second = track.tally(&(50 * STEP..100 * STEP), LATER);
    assert!((second.bytes_per_s() / 10_700.0 - 1.0).abs() < 0.001, "{}", second.bytes_per_s());
}

#[test]
fn neither_the_phase_of_the_window_nor_a_stall_of_20_ms_changes_the_throughput_by_a_thousandth() {
    let start = 50 * STEP;
    for stall in (start - STEP..start + 100 * STEP).step_by(7 * MS as usize) {
        let mut track = Track::new(1, 0);
        let mut server = Server::new("master", 1);
        for number in 0..200 {
            let packet = send(&mut track, number);
            let due = number * STEP + TRIP;
            let late = (stall..stall + STEP).contains(&due);
            track.receive(&server.echo(&packet), if late { stall + STEP } else { due });
        }
        for phase in 0..20 {
            let start = start + phase * MS;
            let rate = track.tally(&(start..start + 100 * STEP), LATER).bytes_per_s();
            assert!((rate / 10_700.0 - 1.0).abs() < 0.001, "{rate} B/s; stall at {stall} ns, phase {phase} ms");
        }
    }
}

#[test]
fn one_packet_lost_of_fifty_is_two_per_cent_of_the_throughput() {
    for lost in 0..50 {
        let mut track = Track::new(1, 0);
        run(&mut track, &mut Server::new("master", 1), 0..200, |number| number % 50 != lost);
        let rate = track.tally(&(50 * STEP..150 * STEP), LATER).bytes_per_s();
        assert!((rate / 10_700.0 - 0.98).abs() < 0.001, "{rate} B/s without every 50th from {lost} on");
    }
}

#[test]
fn the_first_answer_is_the_earliest_to_come_not_that_of_the_earliest_packet() {
    let mut track = Track::new(1, 0);
    let mut server = Server::new("master", 1);
    let packets: Vec<_> = (0..4).map(|number| send(&mut track, number)).collect();
    for (packet, at) in [(2, 71), (1, 75), (0, 60)] {
        track.receive(&server.echo(&packets[packet]), at * MS);
    }
    assert_eq!(track.first_answer(&(0..LATER)), Some(60 * MS));
    assert_eq!(track.first_answer(&(STEP..LATER)), Some(71 * MS));
    assert_eq!(track.first_answer(&(3 * STEP..LATER)), None);
}

#[test]
fn losses_on_the_two_ways_are_told_apart_across_the_wrap() {
    let mut track = Track::new(1, 65_530);
    let mut server = Server::new("master", 1);
    for number in 0..20 {
        let packet = send(&mut track, number);
        if [65_535, 0, 1].contains(&packet.sequence) {
            continue;
        }
        let echo = server.echo(&packet);
        if packet.sequence != 3 {
            track.receive(&echo, number * STEP + TRIP);
        }
    }
    let tally = whole(&track);
    assert_eq!((tally.sent, tally.lost, tally.max_lost_in_a_row), (20, 4, 3));
    assert_eq!(tally.split, lost(3, 1));
    assert_eq!(tally.max_gap.as_millis(), 80);
}

#[test]
fn repeated_packets_are_counted_on_the_way_that_repeated_them() {
    let mut track = Track::new(1, 0);
    let mut server = Server::new("master", 1);
    let packet = send(&mut track, 0);
    let first = server.echo(&packet);
    let second = server.echo(&packet);
    for echo in [first, second, second, first] {
        track.receive(&echo, TRIP);
    }
    let tally = whole(&track);
    assert_eq!((tally.sent, tally.lost, tally.duplicated, tally.received), (1, 0, 3, 1));
    let split = tally.split.unwrap();
    assert_eq!((split.up.duplicated, split.down.duplicated), (1, 2));
}

#[test]
fn reordering_is_counted_on_the_way_that_reordered() {
    let mut track = Track::new(1, 65_535);
    let mut server = Server::new("master", 1);
    let packets: Vec<_> = (0..6).map(|number| send(&mut track, number)).collect();
    // Packets 0 and 1 change places on the way up, the echoes of 3 and 4 on the way down.
    let echoes: Vec<_> = [1, 0, 2, 3, 4, 5].map(|at| server.echo(&packets[at])).into();
    for at in [0, 1, 2, 4, 3, 5] {
        track.receive(&echoes[at], 6 * STEP);
    }
    let tally = whole(&track);
    assert_eq!((tally.lost, tally.duplicated, tally.reordered), (0, 0, 2));
    let split = tally.split.unwrap();
    assert_eq!((split.up.reordered, split.down.reordered), (1, 1));
}

#[test]
fn a_server_that_stamps_nothing_yields_no_judgement_on_the_two_ways() {
    let mut track = Track::new(1, 7);
    for number in 0..5 {
        let packet = send(&mut track, number);
        if number != 2 {
            track.receive(&packet.encode(), number * STEP + TRIP);
        }
    }
    track.receive(&Packet { stream: 1, sequence: 7, sent: 0 }.encode(), 5 * STEP);
    let tally = whole(&track);
    assert_eq!((tally.lost, tally.duplicated, tally.split), (1, 1, None));
    assert!(tally.answered_by.is_empty());
}

#[test]
fn what_a_dead_server_did_not_answer_is_filed_up_and_the_next_one_is_named() {
    let mut track = Track::new(1, 0);
    run(&mut track, &mut Server::new("master", 1), 0..50, |_| true);
    run(&mut track, &mut Server::new("backup", 2), 50..100, |number| number >= 52);
    let tally = whole(&track);
    assert_eq!((tally.lost, tally.max_lost_in_a_row, tally.max_gap.as_millis()), (2, 2, 60));
    assert_eq!(tally.split, lost(2, 0));
    assert_eq!((tally.answered_by["master"], tally.answered_by["backup"]), (50, 48));
}

#[test]
fn an_unanswered_packet_is_in_flight_for_a_second_and_then_lost() {
    let mut track = Track::new(1, 0);
    run(&mut track, &mut Server::new("master", 1), 0..10, |number| number != 9);
    let sent = 9 * STEP;
    let at = |now| {
        let tally = track.tally(&(0..LATER), now);
        (tally.in_flight, tally.lost)
    };
    assert_eq!(at(sent + SETTLE - 1), (1, 0));
    assert_eq!(at(sent + SETTLE), (0, 1));
    assert!(track.all_answered(&(0..sent)));
    assert!(!track.all_answered(&(0..sent + 1)));
}

#[test]
fn a_window_counts_its_own_packets_and_every_silence_that_touches_it() {
    let mut track = Track::new(1, 0);
    run(&mut track, &mut Server::new("master", 1), 0..200, |number| !(100..110).contains(&number));
    let gap = |from: u64, to: u64| {
        let tally = track.tally(&(from * STEP..to * STEP), LATER);
        (tally.sent, tally.lost, tally.max_gap.as_millis())
    };
    assert_eq!(gap(0, 99), (99, 0, 20));
    assert_eq!(gap(101, 105), (4, 4, 220));
    assert_eq!(gap(90, 101), (11, 1, 220));
    assert_eq!(gap(109, 150), (41, 1, 220));
    assert_eq!(gap(111, 150), (39, 0, 20));
}

#[test]
fn a_silence_that_does_not_end_lasts_to_the_end_of_the_window_or_of_the_stream() {
    let mut track = Track::new(1, 0);
    run(&mut track, &mut Server::new("master", 1), 0..100, |number| number < 50);
    let silence = |to: u64, now: u64| track.tally(&(0..to * STEP), now * STEP).max_gap.as_nanos() as u64 + TRIP;
    assert_eq!(silence(70, 1000), 21 * STEP);
    assert_eq!(silence(1000, 80), 31 * STEP);
    assert_eq!(silence(1000, 1000), 50 * STEP);
}

#[test]
fn what_is_no_echo_of_a_packet_sent_is_corrupt_and_answers_nothing() {
    let mut track = Track::new(1, 0);
    let packet = send(&mut track, 0);
    let mut wrong = packet.encode();
    wrong[PACKET - 1] ^= 1;
    let unsent = Packet { sequence: 1, ..packet }.encode();
    for bytes in [&wrong[..], &unsent[..], &packet.encode()[..40], &[]] {
        track.receive(bytes, TRIP);
    }
    track.stray(TRIP);
    let tally = whole(&track);
    assert_eq!((tally.corrupt, tally.strays, tally.received, tally.lost), (4, 1, 0, 1));
    assert_eq!(tally.split, None);
}

/// Both ways lose, repeat and delay at random; a plain count of what was done must agree with the books.
#[test]
fn the_books_agree_with_256_random_networks() {
    for seed in 0..256 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut track = Track::new(9, random.u16(..));
        let mut server = Server::new("master", 1);
        let packets: Vec<_> = (0..300).map(|number| send(&mut track, number)).collect();
        let up = network(&mut random, packets.len());
        let echoes: Vec<_> = up.iter().map(|packet| server.echo(&packets[*packet])).collect();
        let down = network(&mut random, echoes.len());
        for (at, echo) in down.iter().enumerate() {
            track.receive(&echoes[*echo], 300 * STEP + at as u64);
        }
        let (expected, reordered) = plain_count(packets.len(), &up, &down);
        let tally = whole(&track);
        assert_eq!(tally.split, Some(expected), "seed {seed}");
        assert_eq!(tally.reordered, reordered, "seed {seed}");
        assert_eq!(tally.lost, expected.up.lost + expected.down.lost, "seed {seed}");
        assert_eq!(tally.duplicated, expected.up.duplicated + expected.down.duplicated, "seed {seed}");
    }
}

/// The order in which `count` things arrive. The last one always does, after all others, so that everything before it is
/// accounted for.
fn network(random: &mut fastrand::Rng, count: usize) -> Vec<usize> {
    let mut arrivals = vec![(usize::MAX, count - 1)];
    for thing in 0..count - 1 {
        let copies = *random.choice(&[0, 1, 1, 1, 1, 1, 1, 1, 2]).unwrap();
        arrivals.extend((0..copies).map(|_| {
            let delay = if random.u8(0..5) == 0 { random.usize(0..40) } else { 0 };
            (10 * thing + delay, thing)
        }));
    }
    arrivals.sort_unstable();
    arrivals.into_iter().map(|(_, thing)| thing).collect()
}

/// `up` is the order in which packets reached the server, `down` the order in which its echoes reached the phone. Returns
/// what happened on each way, and how many answers came after that of a later packet.
fn plain_count(packets: usize, up: &[usize], down: &[usize]) -> (Split, u64) {
    let mut split = Split::default();
    let first_and_late: Vec<_> = (0..up.len())
        .map(|echo| !up[..echo].contains(&up[echo]) && up[..echo].iter().any(|packet| *packet > up[echo]))
        .collect();
    let mut reordered = 0;
    for (at, &echo) in down.iter().enumerate() {
        let before = &down[..at];
        if before.contains(&echo) {
            split.down.duplicated += 1;
        } else if before.iter().any(|other| up[*other] == up[echo]) {
            split.up.duplicated += 1;
        } else {
            split.up.reordered += u64::from(first_and_late[echo]);
            split.down.reordered += u64::from(before.iter().any(|other| *other > echo));
            reordered += u64::from(before.iter().any(|other| up[*other] > up[echo]));
        }
    }
    for packet in 0..packets {
        let answered = down.iter().any(|echo| up[*echo] == packet);
        let way = if up.contains(&packet) { &mut split.down } else { &mut split.up };
        way.lost += u64::from(!answered);
    }
    (split, reordered)
}
