use std::time::Duration;

use super::*;
use crate::{
    event::{Event, Happening},
    receipt::examples::{crash, planned},
    record::Observed,
};

const DAY: i64 = 86_400;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn watched(from: i64, to: i64) -> Observed {
    Observed { from: at(from), to: at(to) }
}

fn event(number: u64, second: i64, happening: Happening) -> Event {
    Event { number, at: at(second), monotonic_us: 0, happening }
}

fn began(number: u64, second: i64) -> Event {
    event(number, second, Happening::OutageBegan { service: "pbx".to_owned() })
}

fn ended(number: u64, second: i64) -> Event {
    event(number, second, Happening::OutageEnded { service: "pbx".to_owned() })
}

/// A receipt at that second with that downtime, which ends with the flip.
fn costing(mut receipt: Receipt, second: i64, downtime_ms: f64) -> Receipt {
    receipt.at = at(second);
    (receipt.downtime_ms, receipt.first_back_ms) = (Some(downtime_ms), Some(0.0));
    receipt
}

fn report(history: &History, now: i64) -> Report {
    Report::new(history, Limits::default(), Assumptions::default(), at(now))
}

fn near(found: Option<f64>, expected: f64) -> bool {
    found.is_some_and(|found| (found - expected).abs() <= expected.abs() * 1e-9)
}

#[test]
fn the_figures_of_ten_days_are_those_computed_by_hand() {
    let receipts = vec![
        costing(crash(1), 1000, 10.0),
        costing(crash(2), 2000, 30.0),
        costing(crash(3), 3000, 20.0),
        costing(crash(4), 4000, 100.0),
        planned(5),
        costing(planned(6), 6000, 8.0),
    ];
    let history = History { receipts, observed: vec![watched(0, 10 * DAY)], ..History::default() };
    let report = report(&history, 10 * DAY);
    let pbx = &report.services[0];
    assert_eq!((pbx.unplanned.events, pbx.planned.events), (4, 2));
    assert!(near(Some(pbx.unplanned.total_s), 0.160), "{:?}", pbx.unplanned);
    assert!(near(pbx.unplanned.mean_s, 0.040) && near(pbx.unplanned.median_s, 0.025), "{:?}", pbx.unplanned);
    assert!(near(pbx.unplanned.max_s, 0.100) && near(pbx.planned.mean_s, 0.004), "{pbx:?}");
    // 0.168 s of 864000 s.
    let availability = pbx.availability.unwrap();
    assert!((1.0 - availability - 0.168 / 864_000.0).abs() < 1e-12, "{availability}");
    assert!((pbx.nines.unwrap() - 6.711_204).abs() < 1e-5, "{:?}", pbx.nines);
    // 36.5 times as much in a year: 6.132 s.
    assert!(near(pbx.minutes_per_year, 6.132 / 60.0), "{:?}", pbx.minutes_per_year);
    let text = describe(&report);
    assert!(
        text.contains("160.0 ms in 4 events: mean 40.0 ms, median 25.0 ms, max 100.0 ms (thesis: mean 1.186 s)"),
        "{text}"
    );
    assert!(text.contains("172.6 min per year, 99.967 % (thesis: 172.6 min)"), "{text}");
}

#[test]
fn an_outage_and_the_failover_that_ends_it_are_one_downtime() {
    // Down from second 1000 to 1061: the failover's receipt says 61 s, the outage 60 of them.
    let receipts = vec![costing(crash(3), 1061, 61_000.0)];
    let events = vec![began(1, 1001), ended(2, 1061)];
    let history = History { receipts, events, observed: vec![watched(0, DAY)], ..History::default() };
    let report = report(&history, DAY);
    let downtimes = &report.services[0].downtimes;
    assert_eq!(downtimes.len(), 1, "{downtimes:?}");
    assert_eq!((downtimes[0].seconds, downtimes[0].outage, downtimes[0].ended), (61.0, true, true));
}

#[test]
fn an_outage_whose_end_nobody_saw_counts_as_far_as_somebody_watched() {
    let history = History {
        events: vec![began(1, 1000), event(2, 5000, Happening::Started { adopted: true }), began(3, 5010)],
        observed: vec![watched(0, 1100), watched(5000, 5500)],
        ..History::default()
    };
    let report = report(&history, 6000);
    let seconds: Vec<_> = report.services[0].downtimes.iter().map(|downtime| downtime.seconds).collect();
    assert_eq!(seconds, [100.0, 490.0]);
    assert!(
        report.remarks.iter().any(|remark| remark.contains("end of 2 outages was not seen")),
        "{:?}",
        report.remarks
    );
}

fn kept(number: u64, second: i64) -> Event {
    event(number, second, Happening::Kept { service: "pbx".to_owned(), server: "master".to_owned(), held: true })
}

fn kept_ended(number: u64, second: i64) -> Event {
    event(number, second, Happening::KeptEnded { service: "pbx".to_owned() })
}

#[test]
fn the_time_that_a_dead_server_is_kept_is_a_downtime() {
    let history = History {
        events: vec![kept(1, 1000), kept_ended(2, 1300)],
        observed: vec![watched(0, DAY)],
        ..History::default()
    };
    let report = report(&history, DAY);
    let pbx = &report.services[0];
    assert_eq!((pbx.unplanned.events, pbx.unplanned.total_s, pbx.planned.events), (1, 300.0, 0));
    assert_eq!((pbx.downtimes[0].kept, pbx.downtimes[0].outage, pbx.downtimes[0].ended), (true, false, true));
    assert!(page(&report).contains("stayed active"));

    let open = History { events: vec![kept(1, 1000)], observed: vec![watched(0, 1100)], ..History::default() };
    assert_eq!(self::report(&open, 9000).services[0].unplanned.total_s, 100.0);
}

#[test]
fn an_outage_and_a_dead_server_that_is_kept_after_it_are_one_downtime() {
    let mut told = kept(3, 1060);
    told.at += Duration::from_micros(200);
    // Before the outage it was kept as well, and the end of that is told after the outage's begin.
    let mut earlier = kept_ended(3, 1000);
    earlier.at += Duration::from_micros(200);
    let events = vec![kept(1, 900), began(2, 1000), earlier, ended(4, 1060), told, kept_ended(6, 1100)];
    let history = History { events, observed: vec![watched(0, DAY)], ..History::default() };
    let downtimes = &report(&history, DAY).services[0].downtimes;
    assert_eq!(downtimes.len(), 1, "{downtimes:?}");
    assert_eq!((downtimes[0].seconds, downtimes[0].outage, downtimes[0].kept), (200.0, true, true));
}

#[test]
fn an_outage_that_began_before_the_period_counts_from_the_begin_of_the_period() {
    let since = Limits { since: Some(at(3600)), until: None };
    let observed = vec![watched(0, 5000)];
    let history = History { events: vec![began(1, 1000)], observed: observed.clone(), ..History::default() };
    let running = Report::new(&history, since, Assumptions::default(), at(5000));
    assert_eq!((running.observed_s, running.services[0].unplanned.total_s), (1400.0, 1400.0));
    assert_eq!(running.services[0].availability, Some(0.0));
    assert!(!running.services[0].downtimes[0].ended);

    // The controller was killed, and the end is lost with it.
    let events = vec![began(1, 1000), event(2, 9000, Happening::Started { adopted: true })];
    let observed = [observed, vec![watched(9000, 9600)]].concat();
    let killed = Report::new(&History { events, observed, ..history }, since, Assumptions::default(), at(9600));
    assert_eq!((killed.observed_s, killed.services[0].unplanned.total_s), (2000.0, 1400.0));
    assert!(near(killed.services[0].availability, 0.3), "{:?}", killed.services[0]);
}

#[test]
fn an_outage_does_not_reach_beyond_the_start_of_the_next_controller() {
    // The wall clock was set back between the two: their times overlap.
    let events = vec![began(1, 1000), event(2, 1090, Happening::Started { adopted: true })];
    let history = History { events, observed: vec![watched(0, 1100), watched(1090, 5000)], ..History::default() };
    assert_eq!(report(&history, 5000).services[0].unplanned.total_s, 90.0);
}

#[test]
fn a_period_that_nobody_watched_has_no_availability() {
    let history = History { observed: vec![watched(0, 1000)], receipts: vec![crash(1)], ..History::default() };
    let limits = Limits { since: Some(at(5000)), until: Some(at(6000)) };
    let report = Report::new(&history, limits, Assumptions::default(), at(9000));
    assert_eq!((report.observed_s, report.services[0].availability), (0.0, None));
    assert_eq!(report.services[0].receipts, []);
    assert!(report.remarks[0].contains("No controller watched"), "{:?}", report.remarks);
    let text = describe(&report);
    assert!(
        !text.contains("NaN") && !text.contains("inf") && text.contains("not known: nothing was watched"),
        "{text}"
    );
}

#[test]
fn an_empty_history_is_said_to_be_empty() {
    let report = report(&History::default(), 1000);
    assert!(report.services.is_empty());
    assert!(describe(&report).contains("Nothing was flipped and no outage was seen"));
}

#[test]
fn no_downtime_is_no_number_of_nines_and_a_day_is_no_year() {
    let history = History { receipts: vec![planned(1)], observed: vec![watched(0, DAY)], ..History::default() };
    let report = report(&history, DAY);
    let pbx = &report.services[0];
    assert_eq!((pbx.availability, pbx.nines, pbx.minutes_per_year), (Some(1.0), None, None));
    let text = describe(&report);
    assert!(text.contains("that is no number of nines") && text.contains("less than 7 days were watched"), "{text}");
}

#[test]
fn records_that_were_dropped_are_told() {
    let remarks = report(&History { lost: 44, ..History::default() }, 1000).remarks;
    assert!(remarks.iter().any(|remark| remark.starts_with("44 records")), "{remarks:?}");
}

#[test]
fn flips_that_were_not_measured_are_told_and_not_averaged() {
    let mut unknown = crash(1);
    unknown.downtime_ms = None;
    let history = History { receipts: vec![unknown, crash(2)], observed: vec![watched(0, DAY)], ..History::default() };
    let unplanned = report(&history, DAY).services[0].unplanned;
    assert_eq!((unplanned.events, unplanned.not_measured), (1, 1));
    assert!(near(unplanned.mean_s, 0.013));
}

#[test]
fn time_that_is_watched_in_part_is_told() {
    let history = History {
        observed: vec![watched(0, 900), watched(950, 1000)],
        receipts: vec![planned(1)],
        ..History::default()
    };
    let report = report(&history, 1000);
    assert_eq!(report.observed_s, 950.0);
    assert!(report.remarks[0].contains("50.0 s (5.00 % of the period)"), "{:?}", report.remarks);
}

#[test]
fn throughput_is_that_towards_clients() {
    let history =
        History { receipts: vec![crash(1), planned(2)], observed: vec![watched(0, 1000)], ..History::default() };
    let change = report(&history, 1000).services[0].throughput.unwrap();
    assert_eq!((change.events, change.before, change.after, change.change_percent), (2, 530_000.0, 530_000.0, 0.0));
}

#[test]
fn the_page_is_well_formed_and_names_cannot_break_out_of_it() {
    let hostile = "<script>alert('x')</script>\"&amp;]]>";
    let mut receipt = costing(crash(1), 1000, 13.0);
    receipt.reason = Some(hostile.to_owned());
    receipt.from = hostile.to_owned();
    receipt.rtp_flows = None;
    receipt.not_measured.insert("rtp_flows".to_owned(), hostile.to_owned());
    receipt.service = hostile.to_owned();
    let history = History {
        receipts: vec![receipt],
        events: vec![began(7, 500), ended(8, 600)],
        observed: vec![watched(0, DAY)],
        ..History::default()
    };
    let page = page(&report(&history, DAY));
    let options = roxmltree::ParsingOptions { allow_dtd: true, ..Default::default() };
    let document =
        roxmltree::Document::parse_with_options(&page, options).unwrap_or_else(|error| panic!("{error}\n{page}"));
    let elements = || document.descendants().filter(|node| node.is_element());
    assert_eq!(elements().filter(|node| node.tag_name().name() == "script").count(), 0);
    assert!(elements().filter(|node| node.tag_name().name() == "svg").count() >= 3);
    assert!(elements().any(|node| node.text() == Some(&format!("Service {hostile}"))
        || node.text().is_some_and(|text| text.contains(hostile))));
    let links =
        elements().flat_map(|node| node.attributes()).filter(|attribute| ["href", "src"].contains(&attribute.name()));
    assert_eq!(links.count(), 0);
    assert!(!page.contains("NaN") && !page.contains("inf\""), "{page}");
}

#[test]
fn a_receipt_after_an_interrupted_collection_is_still_a_page() {
    let mut receipt = crash(1);
    (receipt.downtime_ms, receipt.first_back_ms, receipt.interrupted) = (None, None, true);
    receipt.at += Duration::from_secs(30);
    let history = History { receipts: vec![receipt], observed: vec![watched(0, 1000)], ..History::default() };
    assert!(page(&report(&history, 1000)).contains("not measured"));
}
