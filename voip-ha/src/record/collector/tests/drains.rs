//! Calls that stay with the old server, and what is forgotten of them when.

use super::*;
use crate::decision::{DrainEnd, Dropped};

fn ended() -> Happening {
    let (service, server) = ("pbx".to_owned(), "master".to_owned());
    Happening::DrainEnded { service, server, end: DrainEnd::Deadline, reason: None, asked_by: None }
}

/// A drain of ten minutes that began at 10 s.
fn drains(kernel: &mut Fake) -> (Collector, Receipt) {
    let mut collector = collector();
    kernel.affine = true;
    pass(&mut collector, kernel, 9999.0);
    let (event, flip) = planned(5, 10_000.0);
    let flip = FlipRecord { drain_s: Some(600), ..flip };
    collector.flip(&event, &flip, kernel, ms(10_000.5));
    kernel.flows = 50;
    kernel.unanswered(0, 0, 10_300.0);
    let receipts = pass(&mut collector, kernel, 13_000.0);
    let [receipt] = &receipts[..] else { panic!("{receipts:?}") };
    (collector, receipt.clone())
}

#[test]
fn the_flows_of_a_drain_are_counted_and_stay_until_it_ends() {
    let mut kernel = Fake::default();
    let (collector, receipt) = drains(&mut kernel);
    assert_eq!((receipt.rtp_flows, receipt.drain_s, kernel.flows), (Some(50), Some(600), 50));
    assert_eq!(receipt.downtime_ms, Some(0.0), "nobody noticed anything");

    kernel.affine = false;
    kernel.left = [594_000.0, 595_000.0, 599_000.0].map(ms).to_vec();
    let left = collector.forget(&ended(), &mut kernel, ms(600_000.0));
    let Some(Happening::DrainLeft { rtp_flows: 2, server, .. }) = left else { panic!("{left:?}") };
    assert_eq!((server.as_str(), kernel.flows), ("master", 0));
}

#[test]
fn what_was_left_is_not_told_if_it_cannot_be_read() {
    let mut kernel = Fake::default();
    let (collector, _) = drains(&mut kernel);
    kernel.broken = true;
    assert_eq!(collector.forget(&ended(), &mut kernel, ms(600_000.0)), None);
}

#[test]
fn calls_that_are_not_given_back_are_forgotten_without_a_word() {
    let mut kernel = Fake::default();
    let (collector, _) = drains(&mut kernel);
    kernel.affine = false;
    let not_back = Happening::NotBack { service: "pbx".to_owned(), server: "master".to_owned() };
    assert_eq!(collector.forget(&not_back, &mut kernel, ms(20_000.0)), None);
    assert_eq!(kernel.flows, 0);

    // Those of a census that led to no flip.
    kernel.flows = 50;
    let [service, server, to] = ["pbx", "master", "cloud"].map(ToOwned::to_owned);
    let why = Dropped::Overruled;
    let not_switched = Happening::NotSwitched { service, server, to, why };
    assert_eq!(collector.forget(&not_switched, &mut kernel, ms(30_000.0)), None);
    assert_eq!(kernel.flows, 0);
}

#[test]
fn flows_that_are_remembered_from_an_earlier_flip_are_not_counted_for_a_later_one() {
    let mut kernel = Fake::default();
    let (mut collector, _) = drains(&mut kernel);
    let (event, flip) = crash(6, 60_000.0);
    collector.flip(&event, &FlipRecord { remembered: true, ..flip }, &mut kernel, ms(60_000.5));
    kernel.affine = false;
    let receipts = pass(&mut collector, &mut kernel, 63_000.0);
    assert_eq!((receipts[0].rtp_flows, receipts[0].why_not("rtp_flows").contains("earlier flip")), (None, true));
    assert_eq!(kernel.flows, 0, "this flip ended the drain");
}
