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
fn a_disturbance_that_follows_a_lost_probe_must_outlast_more_pairs_than_one_that_stops_dense_traffic() {
    let silent_for = |period, pause| {
        let mut bench = Bench::calm();
        bench.period = period;
        bench.run(ms(4000));
        // The next OPTIONS probe is due 15 ms from here, and is lost by itself.
        bench.run(ms(14));
        bench.options = false;
        bench.run(ms(2));
        bench.forget();
        bench.die();
        bench.run(pause);
        (bench.options, bench.echo, bench.period) = (true, true, period);
        bench.run(ms(50));
        bench.verdict().is_some()
    };
    for (pause, dead) in [(ms(4), false), (ms(5), false), (ms(9), true)] {
        assert_eq!(silent_for(None, pause), dead, "no traffic, {pause:?}");
        assert_eq!(silent_for(Some(Duration::from_micros(400)), pause), dead, "50 streams, {pause:?}");
    }
    assert!(silent_for(Some(Duration::from_micros(400)), ms(8)), "3 ms of quiet, 3 gaps and the time of the last pair");
}
