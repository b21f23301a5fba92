//! What the monitor is made of: probes that wait, and pauses of traffic.

use super::{ms, *};
use crate::monitor::track::MAX_OUTSTANDING;

fn track() -> (Track, Instant) {
    (Track::new(ms(2), ms(100)), Instant::now())
}

#[test]
fn a_probe_ends_once_in_time_or_missed_and_an_answer_may_come_later() {
    let (mut track, start) = track();
    let (first, second) = (track.send(start), track.send(start + ms(1)));
    assert!(track.expired(start + ms(99)).is_empty());
    assert_eq!(track.next_deadline(), Some(start + ms(100)));
    assert_eq!(track.expired(start + ms(100)), [start]);
    assert!(track.expired(start + ms(100)).is_empty(), "given once");
    assert_eq!(track.newest_waiting(), Some(start + ms(1)));
    let late = track.answered(first, start + ms(150), true).map(|reply| (reply.rtt, reply.missed));
    assert_eq!(late, Some((ms(150), true)));
    let in_time = track.answered(second, start + ms(2), true).map(|reply| (reply.rtt, reply.missed));
    assert_eq!(in_time, Some((ms(1), false)));
    assert_eq!(track.answered(second, start + ms(2), true), None, "a duplicate");
    assert_eq!(track.next_deadline(), None);
}

#[test]
fn an_answer_stamped_before_its_probe_teaches_no_negative_time() {
    let (mut track, start) = track();
    let number = track.send(start);
    assert_eq!(track.answered(number, start - ms(50), true).map(|reply| reply.rtt), Some(Duration::ZERO));
}

#[test]
fn what_waits_is_waited_for_anew_after_a_stall_and_what_was_missed_stays_so() {
    let (mut track, start) = track();
    track.send(start);
    assert_eq!(track.expired(start + ms(100)).len(), 1);
    track.send(start + ms(110));
    track.postpone(start + ms(300));
    assert!(track.expired(start + ms(399)).is_empty());
    assert_eq!(track.expired(start + ms(400)), [start + ms(110)]);
}

#[test]
fn probes_that_were_never_sent_or_are_forgotten_are_not_missed() {
    let (mut track, start) = track();
    let number = track.send(start);
    track.take_back(number);
    assert_eq!(track.next_deadline(), None);
    track.send(start);
    track.forget();
    assert!(track.expired(start + ms(1000)).is_empty());
    assert_eq!(track.send(start), number + 2, "numbers are not used again");
}

#[test]
fn a_probe_that_is_pushed_out_before_its_time_is_missed() {
    let (mut track, start) = track();
    for n in 0..=MAX_OUTSTANDING as u64 {
        track.send(start + Duration::from_micros(n));
    }
    assert_eq!(track.expired(start + ms(1)), [start]);
    assert!(track.expired(start + ms(1)).is_empty(), "given once");
}

#[test]
fn an_answer_that_a_pause_held_back_does_not_make_the_next_ones_be_waited_for_long() {
    let (mut track, start) = track();
    for n in 0..50 {
        let number = track.send(start + ms(20 * n));
        track.answered(number, start + ms(20 * n) + RTT, true);
    }
    let number = track.send(start + ms(1000));
    assert_eq!(track.expired(start + ms(1050)).len(), 1);
    track.answered(number, start + ms(1050), true);
    assert!(track.timeout() < ms(8), "{:?}", track.timeout());
}

#[test]
fn a_way_that_has_become_longer_is_learnt_from_late_answers() {
    let (mut track, start) = track();
    for n in 0..100 {
        let sent = start + ms(20 * n);
        track.expired(sent);
        let number = track.send(sent);
        let rtt = if n < 50 { RTT } else { ms(15) };
        track.expired(sent + rtt);
        track.answered(number, sent + rtt, true);
    }
    assert!(track.timeout() > ms(15), "{:?}", track.timeout());
}

#[test]
fn a_first_answer_that_is_late_teaches_nothing() {
    let (mut track, start) = track();
    let number = track.send(start);
    track.expired(start + ms(300));
    track.answered(number, start + ms(300), true);
    assert_eq!(track.rtt().smoothed(), None);
}

#[test]
fn what_a_server_that_was_down_answers_late_teaches_nothing() {
    let (mut track, start) = track();
    for n in 0..50 {
        let number = track.send(start + ms(20 * n));
        track.answered(number, start + ms(20 * n) + RTT, true);
    }
    let before = track.timeout();
    let numbers: Vec<_> = (0..10).map(|n| track.send(start + ms(1000 + 100 * n))).collect();
    assert_eq!(track.expired(start + ms(2000)).len(), 10);
    for number in numbers {
        track.answered(number, start + ms(2000), false);
    }
    assert_eq!(track.timeout(), before);
}

#[test]
fn the_memory_for_probes_is_bounded() {
    let (mut track, start) = track();
    let mut ended = 0;
    for _ in 0..MAX_OUTSTANDING * 3 {
        track.send(start);
        ended += track.expired(start).len();
    }
    assert_eq!(ended, MAX_OUTSTANDING * 2, "only these still wait, or are remembered");
    assert_eq!(track.expired(start + ms(100)).len(), MAX_OUTSTANDING);
    assert_eq!(track.answered(0, start, true), None, "the oldest are forgotten");
}

#[test]
fn a_pause_is_asked_about_once_and_again_only_after_the_next_packet() {
    let (mut quiet, start) = (Quiet::new(ms(3)), Instant::now());
    assert_eq!(quiet.due(start), None, "it was never heard");
    quiet.heard(start);
    assert_eq!(quiet.due(start), Some(start + ms(3)));
    assert_eq!(quiet.asked(start + ms(4)), ms(4));
    assert_eq!(quiet.due(start + ms(5)), None);
    quiet.heard(start);
    assert_eq!(quiet.due(start + ms(5)), None, "nothing new");
    quiet.heard(start + ms(6));
    assert_eq!(quiet.due(start + ms(6)), Some(start + ms(9)));
}

#[test]
fn needless_questions_lengthen_the_pause_up_to_a_ceiling_and_time_shortens_it_again() {
    let (mut quiet, start) = (Quiet::new(ms(3)), Instant::now());
    let pause = |quiet: &Quiet, at: Instant| quiet.due(at).expect("it was heard") - at;
    for n in 0..20 {
        let heard = start + Duration::from_nanos(n);
        quiet.heard(heard);
        let before = pause(&quiet, heard);
        quiet.was_well(heard);
        assert_eq!(pause(&quiet, heard), before, "it was not asked");
        quiet.asked(heard);
        quiet.was_well(heard);
        quiet.heard(heard + Duration::from_nanos(1));
        let after = pause(&quiet, heard);
        assert!(after > before || after > ms(47), "{before:?} became {after:?}");
        assert!(after < ms(49), "{after:?}");
    }
    let later = start + Duration::from_secs(8);
    quiet.heard(later);
    assert!(pause(&quiet, later) < ms(4), "{:?}", pause(&quiet, later));
}

#[test]
fn one_call_ends_up_with_six_needless_questions_a_second() {
    let (mut quiet, start) = (Quiet::new(ms(3)), Instant::now());
    let mut needless = 0;
    for n in 0..3000u32 {
        let (packet, next) = (start + ms(20) * n, start + ms(20) * (n + 1));
        quiet.heard(packet);
        if let Some(due) = quiet.due(packet).filter(|due| *due < next) {
            quiet.asked(due);
            quiet.was_well(due);
            needless += 1;
        }
    }
    assert!((280..400).contains(&needless), "{needless} of 3000 pauses");
}

#[test]
fn traffic_that_ended_long_ago_and_a_pause_of_zero_are_not_watched() {
    let start = Instant::now();
    let mut quiet = Quiet::new(ms(3));
    quiet.heard(start);
    assert_eq!(quiet.due(start + ms(1000)), None);
    let mut off = Quiet::new(Duration::ZERO);
    off.heard(start);
    assert_eq!(off.due(start), None);
}
