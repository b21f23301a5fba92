use std::fs;

use super::{
    super::history::{History, latest_events},
    *,
};
use crate::receipt::examples::crash;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

fn store(directory: &Path, now: i64) -> Store {
    Store::new(directory, at(now), Duration::from_secs(now as u64))
}

fn outage(number: u64, now: i64) -> Event {
    let happening = Happening::OutageBegan { service: "pbx".to_owned() };
    Event { number, at: at(now), monotonic_us: 0, happening }
}

#[test]
fn what_was_recorded_is_read_again() {
    let directory = tempfile::tempdir().unwrap();
    let mut first = store(directory.path(), 1000);
    first.event(outage(1, 1001));
    first.receipt(crash(2));
    first.end(at(1010), Duration::from_secs(1010));
    drop(first);
    let history = History::read(directory.path()).unwrap();
    assert_eq!(history.receipt(2), Some(&crash(2)));
    assert_eq!(history.events, [outage(1, 1001)]);
    assert!(history.observed.iter().all(|seen| *seen == Observed { from: at(1000), to: at(1010) }), "{history:?}");
    assert_eq!((history.unreadable, history.complete_since), (0, None));
    assert_eq!(latest_events(directory.path(), 10).unwrap(), [outage(1, 1001)]);
}

#[test]
fn the_time_that_a_dead_server_is_kept_is_part_of_the_history() {
    let directory = tempfile::tempdir().unwrap();
    let service = || "pbx".to_owned();
    let happenings = [
        Happening::Kept { service: service(), server: "master".to_owned(), held: true },
        Happening::KeptEnded { service: service() },
    ];
    let events = happenings.map(|happening| Event { happening, ..outage(1, 1001) });
    let mut store = store(directory.path(), 1000);
    events.iter().for_each(|event| store.event(event.clone()));
    assert_eq!(History::read(directory.path()).unwrap().events, events);
}

#[test]
fn events_that_only_the_history_has_are_among_the_latest_so_that_their_numbers_are_not_given_again() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = store(directory.path(), 1000);
    store.event(outage(1, 1001));
    // The log of events cannot be written any more, the history can.
    let full = directory.path().join("events-000002.jsonl");
    std::os::unix::fs::symlink("/dev/full", &full).unwrap();
    store.opened.as_mut().unwrap().events = Log::open(directory.path(), EVENTS, EVENT_LIMITS).unwrap();
    store.event(outage(2, 1002));
    store.receipt(crash(2));
    fs::remove_file(full).unwrap();
    assert_eq!(latest_events(directory.path(), 10).unwrap(), [outage(1, 1001), outage(2, 1002)]);
    assert_eq!(latest_events(directory.path(), 1).unwrap(), [outage(2, 1002)]);
}

#[test]
fn the_observed_time_of_a_killed_controller_ends_with_its_last_beat() {
    let directory = tempfile::tempdir().unwrap();
    let mut killed = store(directory.path(), 1000);
    killed.beat(at(1020), Duration::from_secs(1020));
    drop(killed);
    drop(store(directory.path(), 5000));
    let history = History::read(directory.path()).unwrap();
    let stretch = |from, to| Observed { from: at(from), to: at(to) };
    assert_eq!(history.observed, [stretch(1000, 1020), stretch(5000, 5000)]);
}

#[test]
fn a_torn_last_line_is_skipped_and_told() {
    let directory = tempfile::tempdir().unwrap();
    store(directory.path(), 1000).receipt(crash(2));
    let path = directory.path().join("history-000001.jsonl");
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() - 40]).unwrap();
    store(directory.path(), 2000).receipt(crash(3));
    let history = History::read(directory.path()).unwrap();
    assert_eq!(history.unreadable, 1);
    assert_eq!(history.receipts, [crash(3)]);
}

#[test]
fn a_disk_that_fails_keeps_the_latest_receipts_waiting_and_has_them_when_it_works_again() {
    let directory = tempfile::tempdir().unwrap();
    fill_the_disk(directory.path());
    let mut failing = store(directory.path(), 1000);
    for number in 0..MOST_WAITING as u64 + 44 {
        failing.receipt(crash(number));
    }
    assert!(failing.failing);
    // The disk is given space: here, a file in the place of the full device.
    fs::remove_file(directory.path().join("history-000001.jsonl")).unwrap();
    failing.opened = None;
    failing.beat(at(1010), Duration::from_secs(1010));
    assert!(!failing.failing);
    let history = History::read(directory.path()).unwrap();
    assert_eq!(history.receipts.len(), MOST_WAITING);
    assert_eq!(history.receipts[0].number, 44);
    assert_eq!(history.lost, 44);
    failing.beat(at(1020), Duration::from_secs(1020));
    assert_eq!(History::read(directory.path()).unwrap().lost, 44, "told once");
}

#[test]
fn a_directory_that_cannot_be_made_is_no_panic_and_is_tried_again() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("file/state");
    fs::write(directory.path().join("file"), "").unwrap();
    let mut store = store(&state, 1000);
    store.receipt(crash(1));
    assert!(store.failing);
    fs::remove_file(directory.path().join("file")).unwrap();
    store.beat(at(1010), Duration::from_secs(1010));
    assert_eq!(History::read(&state).unwrap().receipts, [crash(1)]);
}

#[test]
fn two_controllers_do_not_record_in_one_directory() {
    let directory = tempfile::tempdir().unwrap();
    let first = store(directory.path(), 1000);
    let mut second = store(directory.path(), 1000);
    second.receipt(crash(9));
    assert!(second.failing && !first.failing);
    assert_eq!(History::read(directory.path()).unwrap().receipts, []);
}

#[test]
fn old_history_is_dropped_and_its_end_is_told() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("history-000001.jsonl"), "").unwrap();
    let small = Limits { bytes: 3000, files: 2 };
    let mut log = Log::open(directory.path(), HISTORY, small).unwrap();
    for number in 0..20 {
        append(&mut log, &Record::Receipt(Box::new(crash(number))), crash(number).at).unwrap();
    }
    let history = History::read(directory.path()).unwrap();
    let oldest = history.receipts[0].clone();
    assert!((1..19).contains(&oldest.number), "{}", oldest.number);
    assert_eq!(history.complete_since, Some(oldest.at));
}
