mod drains;

use std::{cell::RefCell, collections::HashMap};

use anyhow::{Result, bail};

use super::*;
use crate::{
    datapath::{FlipStamps, SentSinceHeard, Stamps},
    decision::Cause,
    decision::Scope,
    event::Happening,
    evidence::Evidence,
    evidence::{Fault, Witness},
    receipt::Unanswered,
    record::ledger::Bytes,
};

const CONFIG: &str = "
    gateway = { front = 'lan', back = 'lan' }
    service = [{ name = 'pbx', vip = '192.0.2.10', sip_ports = [5060], rtp_ports = '10000-19999',
                 server = [{ name = 'master', address = '10.0.0.2' }, { name = 'cloud', address = '10.8.0.2' }] }]";
const PBX: ServiceId = ServiceId(0);
const MASTER: ServerId = ServerId(0);

/// A kernel whose notes the test writes.
#[derive(Default)]
struct Fake {
    stamps: HashMap<u16, FlipStamps>,
    sent: HashMap<ServerId, SentSinceHeard>,
    flows: u64,
    /// When those of the draining server were last seen.
    left: Vec<Duration>,
    affine: bool,
    bytes: Bytes,
    broken: bool,
    reads: RefCell<u32>,
}

impl Ledger for Fake {
    fn flip_stamps(&self, service: ServiceId, epoch: u16) -> Result<FlipStamps> {
        self.check()?;
        assert_eq!(service, PBX);
        Ok(self.stamps.get(&epoch).copied().unwrap_or_default())
    }

    fn sent_since_heard(&self, server: ServerId) -> Result<SentSinceHeard> {
        self.check()?;
        Ok(self.sent.get(&server).copied().unwrap_or_default())
    }

    fn take_flows(&mut self, _: ServiceId) -> Result<u64> {
        self.check()?;
        Ok(if self.affine { self.flows } else { std::mem::take(&mut self.flows) })
    }

    fn flows_left(&self, service: ServiceId, server: ServerId, since: Duration) -> Result<u64> {
        self.check()?;
        assert_eq!((service, server), (PBX, MASTER));
        Ok(self.left.iter().filter(|seen| **seen >= since).count() as u64)
    }

    fn bytes(&self, _: ServiceId) -> Result<Bytes> {
        self.check()?;
        Ok(self.bytes)
    }
}

impl Fake {
    fn check(&self) -> Result<()> {
        *self.reads.borrow_mut() += 1;
        if self.broken { bail!("the pins are gone") } else { Ok(()) }
    }

    /// Stamps of RTP, in milliseconds.
    fn stamp(&mut self, epoch: u16, first_to: f64, first_back: Option<f64>) {
        let media = Stamps { first_to: Some(ms(first_to)), first_back: first_back.map(ms) };
        self.stamps.insert(epoch, FlipStamps { media, ..FlipStamps::default() });
    }

    fn unanswered(&mut self, sip: u64, rtp: u64, heard: f64) {
        self.sent.insert(MASTER, SentSinceHeard { sip, rtp, heard_at: Some(ms(heard)) });
    }
}

fn ms(millis: f64) -> Duration {
    Duration::from_secs_f64(millis / 1e3)
}

fn collector() -> Collector {
    let config = Config::parse("test", CONFIG).unwrap_or_else(|error| panic!("{error}"));
    Collector::new(&config, ms(1000.0))
}

/// A failover at 10 s of the clock, if not said otherwise.
fn crash(epoch: u16, flipped: f64) -> (Event, FlipRecord) {
    let us = |millis: f64| (millis * 1e3) as u64;
    let flip = FlipRecord {
        service: "pbx".to_owned(),
        from: "master".to_owned(),
        to: "cloud".to_owned(),
        scope: Scope::Both,
        cause: Cause::Failover,
        fault: Some(Fault::Crashed),
        reason: None,
        asked_by: None,
        drain_s: None,
        remembered: false,
        evidence: Some(Evidence::Refused),
        trail: vec![Witness {
            monotonic_us: us(flipped - 0.25),
            server: "master".to_owned(),
            evidence: Evidence::Refused,
        }],
        census_us: None,
        decided_us: us(flipped - 0.125),
        flipped_us: us(flipped),
        evidence_to_flip_us: 40.0,
        epoch,
    };
    let happening = Happening::Flip(flip.clone());
    (Event { number: 77, at: jiff::Timestamp::UNIX_EPOCH, monotonic_us: us(flipped), happening }, flip)
}

fn planned(epoch: u16, flipped: f64) -> (Event, FlipRecord) {
    let (event, flip) = crash(epoch, flipped);
    (event, FlipRecord { cause: Cause::Operator, fault: None, evidence: None, trail: Vec::new(), ..flip })
}

/// Lets the time pass until `end`, with 100 kB/s to servers and 50 kB/s to clients.
fn pass(collector: &mut Collector, kernel: &mut Fake, end: f64) -> Vec<Receipt> {
    let mut receipts = Vec::new();
    while collector.next_deadline() <= ms(end) {
        let now = collector.next_deadline();
        let seconds = now.as_secs_f64();
        kernel.bytes = Bytes { to_servers: (seconds * 1e5) as u64, to_clients: (seconds * 5e4) as u64 };
        receipts.extend(collector.tick(kernel, now));
    }
    receipts
}

#[test]
fn a_crash_gives_a_receipt_with_everything_in_it() {
    let (mut collector, mut kernel) = (collector(), Fake::default());
    kernel.unanswered(3, 7, 9988.0);
    assert_eq!(pass(&mut collector, &mut kernel, 9999.0), []);
    let (event, flip) = crash(5, 10_000.0);
    assert_eq!(collector.flip(&event, &flip, &mut kernel, ms(10_000.5)), []);
    // What comes back later does not change what was read at once.
    kernel.unanswered(0, 0, 10_200.0);
    kernel.stamp(5, 10_000.25, Some(10_001.0));
    kernel.flows = 50;
    let receipts = pass(&mut collector, &mut kernel, 13_000.0);
    let [receipt] = &receipts[..] else { panic!("{receipts:?}") };
    assert_eq!(receipt.number, 77);
    assert_eq!((receipt.last_sign_ms, receipt.read_ms), (Some(-12.0), Some(0.5)));
    assert_eq!((receipt.first_to_ms, receipt.first_back_ms), (Some(0.25), Some(1.0)));
    assert_eq!(receipt.unanswered, Some(Unanswered { sip: 3, rtp: 7 }));
    assert_eq!((receipt.rtp_flows, receipt.downtime_ms), (Some(50), Some(13.0)));
    assert_eq!((receipt.trail[0].ms, receipt.decided_ms), (-0.25, -0.125));
    let (before, after) = (receipt.throughput_before.unwrap(), receipt.throughput_after.unwrap());
    assert!((before.to_servers - 1e5).abs() < 10.0 && (before.to_clients - 5e4).abs() < 10.0, "{before:?}");
    assert!(before.to_ms <= -12.0 && before.to_ms - before.from_ms >= 1999.0, "before the fault: {before:?}");
    assert!((after.to_servers - 1e5).abs() < 10.0 && after.from_ms >= 300.0 && after.to_ms <= 2600.0, "{after:?}");
    assert!(receipt.not_measured.is_empty() && !receipt.interrupted, "{receipt:?}");
}

#[test]
fn a_planned_switch_costs_nothing_if_the_old_server_goes_on_answering() {
    let (mut collector, mut kernel) = (collector(), Fake::default());
    kernel.unanswered(0, 2, 9999.0);
    pass(&mut collector, &mut kernel, 9999.0);
    let (event, flip) = planned(5, 10_000.0);
    collector.flip(&event, &flip, &mut kernel, ms(10_000.5));
    kernel.unanswered(0, 0, 10_003.0);
    kernel.stamp(5, 10_000.25, Some(10_001.0));
    let receipts = pass(&mut collector, &mut kernel, 13_000.0);
    assert_eq!(receipts[0].downtime_ms, Some(0.0));
}

fn health(to: Health, fault: Option<Fault>) -> Happening {
    Happening::Health { server: "master".to_owned(), from: Health::Up, to, evidence: Evidence::Missed, fault }
}

#[test]
fn a_switch_off_a_dead_server_is_not_planned_whoever_orders_it() {
    let (mut collector, mut kernel) = (collector(), Fake::default());
    kernel.unanswered(3, 500, 4000.0);
    collector.hear(&health(Health::Down, Some(Fault::Hung)));
    let (event, flip) = planned(5, 10_000.0);
    collector.flip(&event, &flip, &mut kernel, ms(10_000.5));
    kernel.stamp(5, 10_000.25, Some(10_001.0));
    let receipts = pass(&mut collector, &mut kernel, 13_000.0);
    let receipt = &receipts[0];
    assert_eq!((receipt.cause, receipt.fault, receipt.is_planned()), (Cause::Operator, Some(Fault::Hung), false));
    assert_eq!(receipt.downtime_ms, Some(6001.0));
}

#[test]
fn what_was_proved_of_the_old_server_counts_unless_it_has_recovered_since() {
    for (told, fault) in [
        (None, Some(Fault::Crashed)),
        (Some(health(Health::Down, Some(Fault::Hung))), Some(Fault::Crashed)),
        (Some(health(Health::Maintenance, Some(Fault::Maintenance))), Some(Fault::Maintenance)),
    ] {
        let (mut collector, mut kernel) = (collector(), Fake::default());
        told.iter().for_each(|told| collector.hear(told));
        let (event, flip) = crash(5, 10_000.0);
        let order = FlipRecord { cause: Cause::Operator, fault: None, evidence: None, ..flip };
        collector.flip(&event, &order, &mut kernel, ms(10_000.5));
        let receipts = collector.end(&mut kernel, ms(10_001.0));
        assert_eq!(receipts[0].fault, fault, "{told:?}");
    }
    // What an earlier controller said of it is not known to be so any more.
    let (mut collector, mut kernel) = (collector(), Fake::default());
    collector.hear(&health(Health::Down, Some(Fault::Hung)));
    collector.hear(&Happening::Started { adopted: true });
    let (event, flip) = planned(5, 10_000.0);
    collector.flip(&event, &flip, &mut kernel, ms(10_000.5));
    assert!(collector.end(&mut kernel, ms(10_001.0))[0].is_planned());
}

#[test]
fn a_new_server_that_is_slow_to_answer_is_waited_for() {
    let (mut collector, mut kernel) = (collector(), Fake::default());
    kernel.unanswered(0, 9, 9990.0);
    pass(&mut collector, &mut kernel, 9999.0);
    let (event, flip) = crash(5, 10_000.0);
    collector.flip(&event, &flip, &mut kernel, ms(10_000.5));
    kernel.stamp(5, 10_000.25, None);
    assert_eq!(pass(&mut collector, &mut kernel, 20_000.0), []);
    kernel.stamp(5, 10_000.25, Some(19_990.0));
    let receipts = pass(&mut collector, &mut kernel, 21_000.0);
    assert_eq!(receipts[0].downtime_ms, Some(10_000.0));
    let after = receipts[0].throughput_after.unwrap();
    assert!(after.to_ms < 2600.0, "the wait is no part of it: {after:?}");
}

#[test]
fn a_new_server_that_never_answers_is_given_up_and_that_is_said() {
    let (mut collector, mut kernel) = (collector(), Fake::default());
    kernel.unanswered(0, 9, 9990.0);
    let (event, flip) = crash(5, 10_000.0);
    collector.flip(&event, &flip, &mut kernel, ms(10_000.5));
    kernel.stamp(5, 10_000.25, None);
    let receipts = pass(&mut collector, &mut kernel, 80_000.0);
    assert_eq!((receipts.len(), receipts[0].downtime_ms), (1, None));
    assert!(receipts[0].why_not("downtime_ms").contains("none came back"), "{receipts:?}");
}

#[test]
fn an_idle_servers_long_silence_is_no_downtime() {
    let (mut collector, mut kernel) = (collector(), Fake::default());
    kernel.unanswered(0, 0, 1.0);
    pass(&mut collector, &mut kernel, 9999.0);
    kernel.unanswered(1, 0, 1.0);
    let (event, flip) = crash(5, 10_000.0);
    collector.flip(&event, &flip, &mut kernel, ms(10_000.5));
    kernel.stamp(5, 10_000.25, Some(10_001.0));
    let receipts = pass(&mut collector, &mut kernel, 13_000.0);
    let downtime = receipts[0].downtime_ms.unwrap();
    assert!(downtime <= 1001.0, "the last look was at most a second before the flip: {downtime} ms");
    assert_eq!(receipts[0].last_sign_ms, Some(-9999.0));
}

#[test]
fn an_answered_probe_is_a_sign_of_life() {
    let (mut collector, mut kernel) = (collector(), Fake::default());
    kernel.unanswered(1, 0, 1.0);
    let (event, mut flip) = crash(5, 10_000.0);
    let evidence = Evidence::Answer { status: 200, rtt: ms(1.0) };
    flip.trail.insert(0, Witness { monotonic_us: 9_980_000, server: "master".to_owned(), evidence });
    collector.flip(&event, &flip, &mut kernel, ms(10_000.5));
    let receipts = collector.end(&mut kernel, ms(10_001.0));
    assert_eq!(receipts[0].last_sign_ms, Some(-20.0));
    assert_eq!(receipts[0].detection_ms(), Some(0.25));
}

#[test]
fn the_end_of_the_controller_leaves_a_receipt_with_what_is_known() {
    let (mut collector, mut kernel) = (collector(), Fake::default());
    kernel.unanswered(0, 9, 9990.0);
    let (event, flip) = crash(5, 10_000.0);
    collector.flip(&event, &flip, &mut kernel, ms(10_000.5));
    kernel.stamp(5, 10_000.25, Some(10_001.0));
    kernel.flows = 12;
    let receipts = collector.end(&mut kernel, ms(10_050.0));
    let [receipt] = &receipts[..] else { panic!("{receipts:?}") };
    assert!(receipt.interrupted);
    assert_eq!((receipt.downtime_ms, receipt.rtp_flows, receipt.throughput_after), (Some(11.0), Some(12), None));
    assert!(receipt.why_not("throughput_after").contains("the controller ended 50.0 ms after"), "{receipt:?}");
    assert_eq!(collector.end(&mut kernel, ms(10_060.0)), []);
}

#[test]
fn a_second_flip_ends_the_receipt_of_the_first() {
    let (mut collector, mut kernel) = (collector(), Fake::default());
    kernel.unanswered(0, 9, 9990.0);
    let (event, flip) = crash(5, 10_000.0);
    collector.flip(&event, &flip, &mut kernel, ms(10_000.5));
    kernel.stamp(5, 10_000.25, Some(10_001.0));
    let (event, mut back) = planned(6, 10_400.0);
    (back.from, back.to) = ("cloud".to_owned(), "master".to_owned());
    let first = collector.flip(&event, &back, &mut kernel, ms(10_400.5));
    assert_eq!((first.len(), first[0].downtime_ms, first[0].interrupted), (1, Some(11.0), false));
    assert!(first[0].why_not("throughput_after").contains("another flip followed after 400.0 ms"), "{first:?}");
    assert_eq!(pass(&mut collector, &mut kernel, 13_000.0).len(), 1);
}

#[test]
fn without_the_kernels_notes_the_receipt_says_so_and_has_the_rest() {
    let (mut collector, mut kernel) = (collector(), Fake { broken: true, ..Fake::default() });
    let (event, flip) = crash(5, 10_000.0);
    collector.flip(&event, &flip, &mut kernel, ms(10_000.5));
    let receipts = pass(&mut collector, &mut kernel, 13_000.0);
    let receipt = &receipts[0];
    let missing: Vec<_> = receipt.not_measured.keys().map(String::as_str).collect();
    assert_eq!(
        missing,
        [
            "downtime_ms",
            "first_back_ms",
            "first_to_ms",
            "last_sign_ms",
            "rtp_flows",
            "throughput_after",
            "throughput_before",
            "unanswered"
        ]
    );
    assert!(receipt.why_not("rtp_flows").contains("the pins are gone"), "{receipt:?}");
    assert_eq!((receipt.cause, receipt.trail.len()), (Cause::Failover, 1));
}

#[test]
fn an_old_server_that_is_heard_again_before_it_is_read_is_not_blamed_with_a_wrong_count() {
    let (mut collector, mut kernel) = (collector(), Fake::default());
    kernel.unanswered(0, 0, 10_000.25);
    let (event, flip) = crash(5, 10_000.0);
    collector.flip(&event, &flip, &mut kernel, ms(10_000.5));
    let receipts = collector.end(&mut kernel, ms(10_001.0));
    assert_eq!((receipts[0].unanswered, receipts[0].last_sign_ms), (None, None));
    assert!(receipts[0].why_not("unanswered").contains("heard again"), "{receipts:?}");
}

#[test]
fn a_recorder_that_comes_late_measures_the_throughput_over_as_long_a_time() {
    let (mut collector, mut kernel) = (collector(), Fake::default());
    pass(&mut collector, &mut kernel, 9999.0);
    let (event, flip) = crash(5, 10_000.0);
    collector.flip(&event, &flip, &mut kernel, ms(10_000.5));
    assert_eq!(collector.tick(&mut kernel, ms(14_000.0)), []);
    assert_eq!(collector.tick(&mut kernel, ms(14_000.1)), []);
    let receipts = pass(&mut collector, &mut kernel, 17_000.0);
    let after = receipts[0].throughput_after.unwrap();
    assert!(after.to_ms - after.from_ms >= 2200.0, "{after:?}");
}

#[test]
fn a_recorder_that_comes_after_the_count_of_flows_does_not_wipe_it() {
    let (mut collector, mut kernel) = (collector(), Fake { flows: 50, ..Fake::default() });
    let (event, flip) = crash(5, 10_000.0);
    collector.flip(&event, &flip, &mut kernel, ms(10_250.0));
    assert_eq!(pass(&mut collector, &mut kernel, 13_000.0)[0].rtp_flows, Some(50));

    // In time, it takes what an earlier count left: here the flows are still being counted.
    kernel.flows = 7;
    let (event, flip) = crash(6, 20_000.0);
    collector.flip(&event, &flip, &mut kernel, ms(20_000.5));
    kernel.flows = 50;
    assert_eq!(pass(&mut collector, &mut kernel, 23_000.0)[0].rtp_flows, Some(50));
}

#[test]
fn flows_that_are_read_too_late_to_tell_two_flips_apart_are_no_ones() {
    let (mut collector, mut kernel) = (collector(), Fake { flows: 50, ..Fake::default() });
    let flips = [crash(5, 10_000.0), crash(6, 10_400.0)];
    let mut receipts = Vec::new();
    for (event, flip) in &flips {
        receipts.extend(collector.flip(event, flip, &mut kernel, ms(11_000.0)));
    }
    receipts.extend(pass(&mut collector, &mut kernel, 14_000.0));
    let counts: Vec<_> = receipts.iter().map(|receipt| (receipt.rtp_flows, receipt.why_not("rtp_flows"))).collect();
    assert!(matches!(counts[..], [(None, why), (None, _)] if why.contains("too late")), "{counts:?}");
}

#[test]
fn looking_costs_three_reads_a_second() {
    let (mut collector, mut kernel) = (collector(), Fake::default());
    pass(&mut collector, &mut kernel, 10_999.0);
    // Ten seconds, two servers and the bytes of the service.
    assert_eq!(*kernel.reads.borrow(), 30);
}
