//! Calls that stay where they are, and calls that are given back.

use super::*;
use crate::{
    decision::{DrainEnd, Dropped, Stay},
    event::DrainWhy,
};

const MINUTE: Duration = Duration::from_secs(60);
const DRAINS: &str = "failback = 'manual', drain_s = 60";

/// The cloud is active, and calls are remembered: those of the master stay with it, if it drains.
fn word(draining: Option<ServerId>, choice: Choice) -> Steering {
    Steering { draining, memory: Memory::Calls, choice, ..Steering::to(CLOUD) }
}

/// Asks for a drain, which begins after its census.
fn drain(lab: &mut Lab, time: Duration) {
    orders::asks(lab, &Wish { drain: Some(time), ..orders::wish(Some(CLOUD)) });
    lab.run(CENSUS);
}

/// The cloud is active, and what shows is new: the running calls were noted before.
fn drained(choice: Choice, draining: ServerId) -> Steering {
    Steering { memory: Memory::AfterCensus, ..word(Some(draining), choice) }
}

/// What was told of drains, in order.
fn drains(lab: &Lab) -> Vec<&Happening> {
    let happenings = lab.outputs.iter().filter_map(|(_, output)| match output {
        Output::Steer(_, _, happening) | Output::Tell(happening) => Some(happening),
        _ => None,
    });
    let is_drain = |told: &&Happening| {
        matches!(told, Happening::Draining { .. } | Happening::DrainEnded { .. } | Happening::NotBack { .. })
    };
    happenings.filter(is_drain).collect()
}

fn ends(lab: &Lab) -> Vec<DrainEnd> {
    let ends = drains(lab).into_iter().filter_map(|told| match told {
        Happening::DrainEnded { end, .. } => Some(*end),
        _ => None,
    });
    ends.collect()
}

#[test]
fn a_switch_with_drain_keeps_calls_where_they_are_until_the_deadline() {
    let mut lab = lab(DRAINS);
    drain(&mut lab, MINUTE);
    let census = Steering { memory: Memory::Census, ..Steering::to(MASTER) };
    assert_eq!(steered(&lab.outputs), [(SERVICE, census), (SERVICE, drained(Choice::Chosen, MASTER))]);
    let flip = flips(&lab)[0];
    assert_eq!((flip.drain_s, flip.remembered, flip.asked_by.as_deref()), (Some(60), false, Some("ann")));
    assert_eq!(flip.census_us, Some(flip.decided_us), "it was decided when it was ordered");
    assert_eq!(told(&lab, |told| matches!(told, Happening::Choice { asked_by: Some(_), .. })), 1);
    let began = lab.now;
    lab.forget();
    lab.run(MINUTE * 2);
    assert_eq!(steered(&lab.outputs), [(SERVICE, Steering { choice: Choice::Chosen, ..Steering::to(CLOUD) })]);
    assert_eq!(ends(&lab), [DrainEnd::Deadline]);
    let ended = lab.outputs.iter().find(|(_, output)| matches!(output, Output::Steer(..))).unwrap().0;
    assert_eq!(ended - began, MINUTE);
}

/// What was told of a flip that was planned, and did not come.
fn dropped(lab: &Lab) -> Vec<Dropped> {
    let happenings = lab.outputs.iter().filter_map(|(_, output)| match output {
        Output::Steer(_, _, Happening::NotSwitched { why, .. }) | Output::Tell(Happening::NotSwitched { why, .. }) => {
            Some(*why)
        }
        _ => None,
    });
    happenings.collect()
}

/// The census of a switch with drain is half over.
fn in_a_census() -> Lab {
    let mut lab = lab(DRAINS);
    orders::asks(&mut lab, &Wish { drain: Some(MINUTE), ..orders::wish(Some(CLOUD)) });
    lab.run(CENSUS / 2);
    lab
}

#[test]
fn a_crash_in_the_census_of_a_drain_flips_at_once_and_is_no_drain() {
    let mut lab = in_a_census();
    lab.host(MASTER, Host::Crashed);
    let (time, steering) = lab.until_steered(CENSUS).expect("it crashed");
    assert!(time <= Duration::from_millis(21), "{time:?}");
    assert_eq!(steering, Steering::to(CLOUD));
    let flip = flips(&lab)[0];
    assert_eq!((flip.cause, flip.census_us, flip.drain_s), (Cause::Failover, None, None));
    assert_eq!(dropped(&lab), [Dropped::Down]);
    lab.run(MINUTE);
    assert_eq!(flips(&lab).len(), 1);
}

#[test]
fn a_server_that_dies_before_it_takes_over_leaves_all_as_it_was_and_that_is_told() {
    let mut lab = in_a_census();
    let outputs = lab.engine.no_carrier(&[CLOUD], lab.now);
    lab.note(outputs);
    assert_eq!((lab.engine.steering(SERVICE), dropped(&lab)), (Steering::to(MASTER), vec![Dropped::NotEligible]));
    assert_eq!(steered(&lab.outputs).last(), Some(&(SERVICE, Steering::to(MASTER))));
}

#[test]
fn orders_in_a_census_are_followed_at_once_and_each_says_what_became_of_the_one_before() {
    let hold: fn(&mut Lab) = |lab| {
        let outputs = lab.engine.hold(SERVICE, true, &Words::default(), lab.now);
        lab.note(outputs);
    };
    let end: fn(&mut Lab) = |lab| {
        let outputs = lab.engine.end_drain(SERVICE, MASTER, &Words::default());
        lab.note(outputs);
    };
    let auto: fn(&mut Lab) = |lab| orders::asks(lab, &orders::wish(None));
    let without_drain: fn(&mut Lab) = |lab| orders::asks(lab, &orders::wish(Some(CLOUD)));
    let chosen = Steering { draining: Some(MASTER), choice: Choice::Chosen, ..Steering::to(CLOUD) };
    let held = Steering { choice: Choice::Held, ..Steering::to(MASTER) };
    let master = Steering::to(MASTER);
    let orders = [(auto, master), (hold, held), (without_drain, chosen), (end, master)];
    for (order, steering) in orders {
        let mut lab = in_a_census();
        lab.forget();
        order(&mut lab);
        assert_eq!(steered(&lab.outputs), [(SERVICE, steering)]);
        assert_eq!(dropped(&lab), [Dropped::Overruled]);
        lab.forget();
        lab.run(CENSUS);
        assert_eq!(flips(&lab).len(), 0, "{steering:?}");
    }
    let mut lab = in_a_census();
    orders::asks(&mut lab, &Wish { drain: Some(SECOND), ..orders::wish(Some(CLOUD)) });
    assert_eq!(dropped(&lab), [Dropped::Overruled]);
    lab.run(CENSUS / 2);
    assert_eq!(flips(&lab)[0].drain_s, Some(1), "the census had begun");
}

#[test]
fn a_crash_of_the_draining_server_is_seen_as_soon_as_one_of_the_active_and_ends_the_drain_at_once() {
    for (host, most) in [(Host::Crashed, 21), (Host::Silent, 40)] {
        let mut lab = lab(DRAINS);
        drain(&mut lab, MINUTE);
        lab.run(10 * SECOND);
        lab.forget();
        lab.host(MASTER, host);
        let (time, steering) = lab.until_steered(SECOND).expect("it is dead");
        assert!(time <= Duration::from_millis(most), "{host:?}: {time:?}");
        assert_eq!(steering, Steering { choice: Choice::Chosen, ..Steering::to(CLOUD) });
        assert_eq!(ends(&lab), [DrainEnd::Down]);
        assert_eq!(flips(&lab).len(), 0);
    }
}

#[test]
fn when_the_new_server_dies_its_predecessor_is_active_again_with_all_it_has() {
    let mut lab = lab(DRAINS);
    drain(&mut lab, MINUTE);
    lab.run(10 * SECOND);
    lab.host(CLOUD, Host::Crashed);
    let (_, steering) = lab.until_steered(SECOND).expect("it crashed");
    assert_eq!(steering, Steering::to(MASTER), "the operator's choice died with it");
    assert!(flips(&lab)[1].remembered);
}

#[test]
fn three_503_move_the_service_and_leave_its_calls_until_the_deadline() {
    let mut lab = lab(DRAINS);
    lab.hosts[MASTER.0] = Host::Says(503);
    lab.calls[MASTER.0] = BUSY;
    let (time, steering) = lab.until_steered(SECOND).expect("it refuses service");
    assert!(time <= Duration::from_millis(81), "{time:?}");
    assert_eq!(steering, word(Some(MASTER), Choice::None));
    let flip = flips(&lab)[0];
    assert_eq!((flip.cause, flip.scope, flip.fault), (Cause::Maintenance, Scope::Both, Some(Fault::Maintenance)));
    // Calls on hold are silent: that is no reason.
    lab.calls[MASTER.0] = None;
    lab.run(59 * SECOND);
    assert_eq!(lab.engine.steering(SERVICE), steering);
    lab.run(2 * SECOND);
    assert_eq!((lab.engine.steering(SERVICE), ends(&lab)), (Steering::to(CLOUD), vec![DrainEnd::Deadline]));
}

#[test]
fn a_server_that_ends_gracefully_ends_its_drain_by_its_end() {
    let mut lab = lab(DRAINS);
    lab.hosts[MASTER.0] = Host::Says(503);
    lab.run(10 * SECOND);
    lab.host(MASTER, Host::Crashed);
    lab.run(SECOND);
    assert_eq!((lab.engine.steering(SERVICE), ends(&lab)), (Steering::to(CLOUD), vec![DrainEnd::Down]));
}

#[test]
fn a_false_alarm_gives_the_calls_back_and_new_ones_stay() {
    for host in [Host::Silent, Host::Hung] {
        let mut lab = lab(DRAINS);
        lab.host(MASTER, host);
        let (_, steering) = lab.until_steered(SECOND).expect("it is dead");
        assert_eq!(steering, word(None, Choice::None), "whose they are is remembered");
        lab.host(MASTER, Host::Well);
        lab.forget();
        let (time, steering) = lab.until_steered(SECOND).expect("it is back");
        assert!(time < Duration::from_millis(400), "{time:?}");
        assert_eq!(steering, word(Some(MASTER), Choice::None));
        let [Happening::Draining { server, seconds: 60, why: DrainWhy::GivenBack, .. }] = drains(&lab)[..] else {
            panic!("{:?}", drains(&lab))
        };
        assert_eq!(server, "master");
        lab.run(MINUTE * 2);
        assert_eq!((lab.engine.steering(SERVICE), ends(&lab)), (Steering::to(CLOUD), vec![DrainEnd::Deadline]));
    }
}

#[test]
fn calls_of_a_server_that_does_not_come_back_in_time_are_not_remembered_any_longer() {
    let mut lab = lab(DRAINS);
    lab.host(MASTER, Host::Silent);
    lab.run(SECOND);
    assert_eq!(lab.engine.steering(SERVICE), word(None, Choice::None));
    lab.run(10 * SECOND);
    assert_eq!(lab.engine.steering(SERVICE), Steering::to(CLOUD));
    assert!(matches!(drains(&lab)[..], [Happening::NotBack { .. }]), "{:?}", drains(&lab));
    lab.host(MASTER, Host::Well);
    lab.run(MINUTE);
    assert_eq!(lab.engine.steering(SERVICE), Steering::to(CLOUD));
}

#[test]
fn a_process_that_was_started_anew_gets_no_calls_that_it_does_not_know() {
    let mut lab = lab(DRAINS);
    lab.host(MASTER, Host::Crashed);
    lab.run(SECOND);
    lab.host(MASTER, Host::Well);
    lab.run(MINUTE);
    assert_eq!(steered(&lab.outputs), [(SERVICE, Steering::to(CLOUD))]);

    // A host that was started anew refuses the port until its SIP process is there.
    let mut lab = self::lab(DRAINS);
    lab.host(MASTER, Host::Silent);
    lab.run(SECOND);
    lab.host(MASTER, Host::Crashed);
    lab.run(SECOND);
    assert_eq!(lab.engine.steering(SERVICE), Steering::to(CLOUD));
    assert_eq!(drains(&lab).len(), 1);
}

#[test]
fn after_a_give_back_an_automatic_failback_lets_the_other_server_drain() {
    let mut lab = lab("failback = 'auto', hold_down_s = 60, drain_s = 600");
    lab.host(MASTER, Host::Silent);
    lab.run(SECOND);
    lab.host(MASTER, Host::Well);
    lab.run(MINUTE * 2);
    let back = Steering { draining: Some(CLOUD), memory: Memory::AfterCensus, ..Steering::to(MASTER) };
    assert_eq!(lab.engine.steering(SERVICE), back);
    let flips: Vec<_> = flips(&lab).into_iter().map(|flip| (flip.cause, flip.drain_s, flip.remembered)).collect();
    assert_eq!(flips, [(Cause::Failover, None, false), (Cause::Failback, Some(600), true)]);
}

#[test]
fn an_operator_ends_a_drain_and_sets_its_time_anew() {
    let mut lab = lab(DRAINS);
    let words = Words { reason: Some("late".to_owned()), asked_by: Some("ann".to_owned()) };
    assert_eq!(lab.engine.end_drain(SERVICE, MASTER, &words), [], "nobody drains");
    assert_eq!(lab.engine.prolong(SERVICE, MINUTE, &words, lab.now), []);
    drain(&mut lab, MINUTE);
    lab.run(50 * SECOND);
    let outputs = lab.engine.prolong(SERVICE, MINUTE, &words, lab.now);
    assert!(
        matches!(&outputs[..], [Output::Tell(Happening::Draining { why: DrainWhy::Prolonged, seconds: 60, .. })]),
        "{outputs:?}"
    );
    lab.run(50 * SECOND);
    assert_eq!(lab.engine.steering(SERVICE).draining, Some(MASTER));
    lab.forget();
    let outputs = lab.engine.end_drain(SERVICE, MASTER, &words);
    lab.note(outputs);
    assert_eq!(ends(&lab), [DrainEnd::Operator]);
    assert_eq!(steered(&lab.outputs), [(SERVICE, Steering { choice: Choice::Chosen, ..Steering::to(CLOUD) })]);
}

#[test]
fn a_hold_does_not_stop_the_time_of_a_drain() {
    let mut lab = lab(DRAINS);
    drain(&mut lab, MINUTE);
    let outputs = lab.engine.hold(SERVICE, true, &Words::default(), lab.now);
    lab.note(outputs);
    assert_eq!(lab.engine.steering(SERVICE), drained(Choice::Held, MASTER));
    lab.run(MINUTE + SECOND);
    assert_eq!(lab.engine.steering(SERVICE), Steering { choice: Choice::Held, ..Steering::to(CLOUD) });
}

#[test]
fn the_next_server_is_the_one_that_takes_over_and_there_may_be_none() {
    let mut lab = lab(DRAINS);
    assert_eq!(lab.engine.successor(SERVICE, lab.now), Ok(CLOUD));
    lab.host(CLOUD, Host::Crashed);
    lab.run(SECOND);
    assert_eq!(lab.engine.successor(SERVICE, lab.now), Err(Refusal::Nobody));
}

#[test]
fn the_next_controller_goes_on_with_a_drain_for_the_whole_time_and_forgets_what_it_cannot_know() {
    let config = config(DRAINS, "lan");
    let now = Instant::now();
    let adopt = |found| Engine::new(&config, &[found, Steering::default()], now, Duration::ZERO);
    let draining = word(Some(MASTER), Choice::Chosen);
    let (engine, words) = adopt(draining);
    assert_eq!(words[0], (SERVICE, draining));
    let told = engine.adopted_drains(now);
    assert!(
        matches!(&told[..], [Happening::Draining { why: DrainWhy::Adopted, seconds: 60, server, .. }] if server == "master"),
        "{told:?}"
    );
    assert_eq!(engine.next_deadline(now), Some(now), "probes first");
    assert_eq!(engine.services()[0].draining().map(|(_, former)| former.until), Some(now + MINUTE));

    let (engine, words) = adopt(word(None, Choice::None));
    assert_eq!(words[0], (SERVICE, Steering::to(CLOUD)), "whom to give calls back to is not in the word");
    assert_eq!(engine.adopted_drains(now), []);

    let (engine, words) = adopt(Steering { memory: Memory::Nothing, ..draining });
    assert_eq!(words[0], (SERVICE, Steering { memory: Memory::Nothing, ..draining }));
    assert_eq!(engine.services()[0].former().map(|(_, former)| former.stay), Some(Stay::Grace));
}
