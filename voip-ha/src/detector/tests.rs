use std::time::Duration;

use proptest::prelude::*;

use super::*;

const ANSWER: Evidence = Evidence::Answer { status: 200, rtt: Duration::from_micros(150) };
const LATE: Evidence = Evidence::Late { rtt: Duration::from_millis(40) };
const BUSY: Evidence = Evidence::NoService { status: 503 };
const ECHO: Evidence = Evidence::Echo { rtt: Duration::from_micros(100) };
const QUIET: Evidence = Evidence::Quiet { pause: Duration::from_millis(3) };
const UNREACHABLE: Evidence = Evidence::Unreachable { probes: 4, silence: Duration::from_millis(9) };
const CUT_OFF: Evidence = Evidence::CutOff { silence: Duration::from_millis(200) };

fn hung(host_answers: bool) -> Evidence {
    Evidence::Hung { silence: Duration::from_millis(200), host_answers }
}

fn detector(evidence: &[Evidence]) -> Detector {
    let mut detector = Detector::new(2);
    for piece in evidence {
        detector.observe(piece);
    }
    detector
}

/// Every pair of health and evidence, with the health that follows at once.
#[test]
fn the_transition_table_is_what_the_drawing_says() {
    use Evidence::{EchoMissed, HostUnreachable, Missed, NoCarrier, NoWay, Refused, TrafficRefused};
    use Health::{Down, Maintenance, Unknown, Up};
    let before: [&[Evidence]; 4] = [&[], &[ANSWER], &[BUSY, BUSY, BUSY], &[Refused]];
    let table = [
        (ANSWER, [Up, Up, Maintenance, Down]),
        (BUSY, [Unknown, Up, Maintenance, Down]),
        (Missed, [Unknown, Up, Maintenance, Down]),
        (LATE, [Unknown, Up, Maintenance, Down]),
        (ECHO, [Unknown, Up, Maintenance, Down]),
        (EchoMissed, [Unknown, Up, Maintenance, Down]),
        (HostUnreachable, [Unknown, Up, Maintenance, Down]),
        (TrafficRefused, [Unknown, Up, Maintenance, Down]),
        (QUIET, [Unknown, Up, Maintenance, Down]),
        (NoWay, [Unknown, Up, Maintenance, Down]),
        (Refused, [Down; 4]),
        (NoCarrier, [Down; 4]),
        (UNREACHABLE, [Down; 4]),
        (hung(true), [Down; 4]),
        (hung(false), [Down; 4]),
        (CUT_OFF, [Down; 4]),
    ];
    for (evidence, expected) in table {
        for (before, after) in before.into_iter().zip(expected) {
            let mut detector = detector(before);
            let from = detector.health();
            let change = detector.observe(&evidence);
            assert_eq!(detector.health(), after, "{from:?} + {evidence}");
            assert_eq!(change, (from != after).then_some(Change { from, to: after }), "{from:?} + {evidence}");
        }
    }
}

#[test]
fn a_fault_has_the_name_of_what_proved_it_and_ends_with_it() {
    for (evidence, fault, certain) in [
        (Evidence::Refused, Fault::Crashed, true),
        (UNREACHABLE, Fault::Unreachable, false),
        (hung(true), Fault::Hung, true),
        (hung(false), Fault::Hung, false),
        (Evidence::NoCarrier, Fault::GatewaySide, true),
        (CUT_OFF, Fault::GatewaySide, false),
    ] {
        let mut detector = detector(&[ANSWER, evidence]);
        assert_eq!((detector.fault(), detector.is_certain()), (Some(fault), certain), "{evidence}");
        detector.observe(&ANSWER);
        assert_eq!(detector.fault(), Some(fault), "one answer does not bring it up");
        detector.observe(&ANSWER);
        assert_eq!((detector.health(), detector.fault(), detector.is_certain()), (Health::Up, None, false));
    }
}

#[test]
fn silence_that_turns_out_to_be_a_crash_becomes_certain() {
    let detector = detector(&[ANSWER, UNREACHABLE, Evidence::Refused]);
    assert_eq!((detector.fault(), detector.is_certain()), (Some(Fault::Crashed), true));
}

#[test]
fn a_server_rises_at_the_last_of_rise_answers_in_a_row_and_not_before() {
    use Evidence::{Missed, Refused};
    assert_eq!(detector(&[Refused, ANSWER]).health(), Health::Down);
    for interruption in [Missed, BUSY, Evidence::NoWay, Refused, Evidence::NoCarrier] {
        assert_eq!(detector(&[Refused, ANSWER, interruption, ANSWER]).health(), Health::Down, "{interruption}");
    }
    assert_eq!(detector(&[Refused, ANSWER, Missed, ANSWER, ANSWER]).health(), Health::Up);
}

#[test]
fn three_refusals_of_service_in_a_row_are_maintenance_and_two_are_not() {
    assert_eq!(detector(&[ANSWER, BUSY, BUSY]).health(), Health::Up);
    assert_eq!(detector(&[ANSWER, BUSY, BUSY, ANSWER, BUSY, BUSY]).health(), Health::Up);
    let overloaded = detector(&[ANSWER, BUSY, Evidence::Missed, BUSY, Evidence::Missed, BUSY]);
    assert_eq!(overloaded.health(), Health::Maintenance, "what it leaves unanswered speaks for no service either");
    let refusing = detector(&[ANSWER, BUSY, BUSY, BUSY]);
    assert_eq!((refusing.health(), refusing.fault()), (Health::Maintenance, Some(Fault::Maintenance)));
    assert_eq!(detector(&[BUSY, BUSY, BUSY, ANSWER, ANSWER]).health(), Health::Up);
}

#[test]
fn a_crashed_server_that_comes_back_refusing_service_is_in_maintenance_and_not_crashed() {
    let detector = detector(&[ANSWER, Evidence::Refused, BUSY, BUSY, BUSY]);
    assert_eq!((detector.health(), detector.fault()), (Health::Maintenance, Some(Fault::Maintenance)));
}

#[test]
fn a_late_answer_neither_helps_nor_harms() {
    assert_eq!(detector(&[Evidence::Refused, ANSWER, LATE, ANSWER]).health(), Health::Up);
    assert_eq!(detector(&[Evidence::Refused, ANSWER, LATE]).health(), Health::Down);
    let missed = detector(&[ANSWER, Evidence::Missed, LATE]);
    assert_eq!((missed.health(), missed.failures()), (Health::Up, 1));
}

fn harmless() -> impl Strategy<Value = Evidence> {
    use Evidence::{EchoMissed, HostUnreachable, Missed, NoWay, TrafficRefused};
    prop::sample::select(vec![ANSWER, Missed, LATE, ECHO, EchoMissed, HostUnreachable, TrafficRefused, QUIET, NoWay])
}

proptest! {
    #[test]
    fn nothing_but_proof_brings_a_server_down(pieces in prop::collection::vec(harmless(), 1..200)) {
        let mut detector = detector(&[ANSWER]);
        for piece in pieces {
            detector.observe(&piece);
            prop_assert_eq!(detector.health(), Health::Up, "{}", piece);
        }
    }
}
