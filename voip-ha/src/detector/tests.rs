use super::*;
use proptest::prelude::*;

const ANSWER: Evidence = Evidence::Answer { status: 200, rtt: Duration::from_micros(150) };
const PATIENCE: Duration = Duration::from_secs(2);
const LATE: Evidence = Evidence::Late { rtt: Duration::from_millis(40) };

fn detector(evidence: &[Evidence]) -> Detector {
    let mut detector = Detector::new(Thresholds { fall: 3, rise: 2, patience: PATIENCE });
    let now = Instant::now();
    for piece in evidence {
        detector.observe(piece, now);
    }
    detector
}

/// Every pair of state and evidence, with the state that follows at once.
#[test]
fn the_transition_table_is_what_the_drawing_says() {
    use Evidence::{Busy, Missed, NoCarrier, NoService, Refused, Unreachable};
    use Health::{Down, Unknown, Up};
    let unknown: &[Evidence] = &[];
    let up: &[Evidence] = &[ANSWER];
    let down: &[Evidence] = &[Refused];
    let busy = NoService { status: 503 };
    let table = [
        (unknown, ANSWER, Up),
        (unknown, Missed, Unknown),
        (unknown, Busy, Unknown),
        (unknown, busy, Unknown),
        (unknown, Unreachable, Unknown),
        (unknown, LATE, Unknown),
        (unknown, Refused, Down),
        (unknown, NoCarrier, Down),
        (up, ANSWER, Up),
        (up, Missed, Up),
        (up, Busy, Up),
        (up, busy, Up),
        (up, Unreachable, Up),
        (up, LATE, Up),
        (up, Refused, Down),
        (up, NoCarrier, Down),
        (down, ANSWER, Down),
        (down, Missed, Down),
        (down, Busy, Down),
        (down, busy, Down),
        (down, Unreachable, Down),
        (down, LATE, Down),
        (down, Refused, Down),
        (down, NoCarrier, Down),
    ];
    for (before, evidence, after) in table {
        let mut detector = detector(before);
        let from = detector.health();
        let change = detector.observe(&evidence, Instant::now());
        assert_eq!(detector.health(), after, "{from:?} + {evidence}");
        assert_eq!(change, (from != after).then_some(Change { from, to: after }), "{from:?} + {evidence}");
    }
}

#[test]
fn a_server_falls_at_the_last_of_fall_failures_in_a_row_and_not_before() {
    use Evidence::{Missed, NoService};
    assert_eq!(detector(&[ANSWER, Missed, Missed]).health(), Health::Up);
    assert_eq!(detector(&[ANSWER, Missed, Missed, ANSWER, Missed, Missed]).health(), Health::Up);
    assert_eq!(detector(&[ANSWER, Missed, NoService { status: 503 }, Missed]).health(), Health::Down);
}

#[test]
fn a_server_rises_at_the_last_of_rise_answers_in_a_row_and_not_before() {
    use Evidence::{Missed, Refused};
    assert_eq!(detector(&[Refused, ANSWER]).health(), Health::Down);
    assert_eq!(detector(&[Refused, ANSWER, Missed, ANSWER]).health(), Health::Down);
    assert_eq!(detector(&[Refused, ANSWER, Missed, ANSWER, ANSWER]).health(), Health::Up);
}

#[test]
fn a_late_answer_neither_helps_nor_harms() {
    use Evidence::{Missed, Refused};
    assert_eq!(detector(&[ANSWER, Missed, LATE, Missed, LATE, Missed]).health(), Health::Down);
    assert_eq!(detector(&[Refused, ANSWER, LATE, ANSWER]).health(), Health::Up);
}

#[test]
fn traffic_excuses_missing_answers_until_patience_ends() {
    let start = Instant::now();
    let mut detector = detector(&[ANSWER]);
    let busy = |detector: &mut Detector, after: Duration| detector.observe(&Evidence::Busy, start + after);
    for millis in (0..2000).step_by(20) {
        assert_eq!(busy(&mut detector, Duration::from_millis(millis)), None, "after {millis} ms");
    }
    assert_eq!(busy(&mut detector, PATIENCE), None);
    let down = Some(Change { from: Health::Up, to: Health::Down });
    assert_eq!(busy(&mut detector, PATIENCE + Duration::from_millis(20)), down);
}

#[test]
fn an_answer_gives_new_patience() {
    let start = Instant::now();
    let mut detector = detector(&[ANSWER]);
    assert_eq!(detector.observe(&Evidence::Busy, start), None);
    assert_eq!(detector.observe(&ANSWER, start + PATIENCE), None);
    for _ in 0..10 {
        assert_eq!(detector.observe(&Evidence::Busy, start + PATIENCE), None);
    }
    assert_eq!(detector.health(), Health::Up);
}

#[test]
fn a_death_under_traffic_is_seen_as_soon_as_any_other() {
    use Evidence::{Busy, Missed};
    assert_eq!(detector(&[ANSWER, Missed, Missed, Missed]).health(), Health::Down);
    // The first probe was sent just before the death, so traffic was heard after it.
    assert_eq!(detector(&[ANSWER, Busy, Missed]).health(), Health::Up);
    assert_eq!(detector(&[ANSWER, Busy, Missed, Missed]).health(), Health::Down);
    assert_eq!(detector(&[ANSWER, Missed, Busy, Missed]).health(), Health::Up);
}

proptest! {
    #[test]
    fn fewer_than_fall_failures_in_a_row_never_bring_a_server_down(
        fall in 1..6u32, runs in proptest::collection::vec(0..6u32, 1..50),
    ) {
        let mut detector = Detector::new(Thresholds { fall, rise: 1, patience: PATIENCE });
        let now = Instant::now();
        for run in runs {
            detector.observe(&ANSWER, now);
            for _ in 0..run.min(fall - 1) {
                detector.observe(&Evidence::Missed, now);
            }
            prop_assert_eq!(detector.health(), Health::Up);
        }
    }
}
