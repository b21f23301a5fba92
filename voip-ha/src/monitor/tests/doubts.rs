//! What may be forged, or the gateway's own fault.

use super::*;

#[test]
fn one_refusal_is_a_reason_to_ask_and_the_next_is_a_proof() {
    let mut bench = Bench::calm();
    assert_eq!(bench.monitor.refused(bench.now), Evidence::RefusedOnce);
    assert_eq!(bench.monitor.next_deadline(ACTIVE, bench.now), bench.now, "it is asked at once");
    bench.run(ms(1));
    assert_eq!(bench.verdict(), None);
    bench.run(ms(50));
    assert_eq!(bench.monitor.refused(bench.now), Evidence::RefusedOnce, "it has answered since");
    assert_eq!(bench.monitor.refused(bench.now), Evidence::Refused);
}

#[test]
fn a_refusal_after_which_a_row_of_options_stays_unanswered_is_believed_within_milliseconds() {
    let mut bench = Bench::calm();
    bench.options = false;
    bench.monitor.refused(bench.now);
    bench.run(ms(6));
    assert!(bench.first(|evidence| *evidence == Evidence::Refused).is_some(), "{:?}", bench.seen);
    assert!(bench.first(|evidence| matches!(evidence, Evidence::Hung { .. })).is_none(), "{:?}", bench.seen);
}

#[test]
fn the_time_in_which_the_gateway_stood_still_makes_no_hang_of_a_pause() {
    for (late, hung) in [(ms(150), false), (Duration::ZERO, true)] {
        let mut bench = Bench::calm();
        bench.options = false;
        bench.run(ms(95));
        assert!(bench.monitor.unanswered_since().is_some());
        bench.now += ms(150);
        bench.monitor.forgive(late, bench.now);
        bench.tick();
        let is_hung = bench.first(|evidence| matches!(evidence, Evidence::Hung { .. })).is_some();
        assert_eq!(is_hung, hung, "forgiven {late:?}: {:?}", bench.seen);
    }
}

#[test]
fn a_disturbance_that_follows_a_lost_probe_must_outlast_more_pairs_than_after_dense_traffic() {
    for (pause, dead) in [(ms(4), false), (ms(5), false), (ms(9), true)] {
        let mut bench = Bench::calm();
        // The next OPTIONS probe is due 15 ms from here, and is lost by itself. Four pairs alone would end in the fifth ms.
        bench.run(ms(14));
        bench.options = false;
        bench.run(ms(2));
        bench.die();
        bench.run(pause);
        (bench.options, bench.echo) = (true, true);
        bench.run(ms(50));
        assert_eq!(bench.verdict().is_some(), dead, "{pause:?}");
    }
}

#[test]
fn a_router_that_says_unreachable_is_a_reason_to_look_and_no_proof() {
    let mut bench = Bench::calm();
    assert_eq!(bench.monitor.host_unreachable(bench.now), Evidence::HostUnreachable);
    bench.run(ms(1));
    assert_eq!(asked(&bench, ProbeKind::Options)[0], ms(0), "asked at once");
    bench.run(ms(100));
    assert_eq!(bench.verdict(), None);

    let mut bench = Bench::calm();
    bench.die();
    bench.monitor.host_unreachable(bench.now);
    bench.run(ms(20));
    assert_eq!(bench.verdict().expect("it is dead").0, ms(7), "five gaps and the time of the last pair");
}
