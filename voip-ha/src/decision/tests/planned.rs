//! Flips that wait for the census of running calls, and what comes in between.

use super::*;

const MS: Duration = Duration::from_millis(1);
const OPERATOR: Flip = Flip { scope: Scope::Both, from: MASTER, to: BACKUP, cause: Cause::Operator };

fn all_up(now: Instant) -> [Standing; 3] {
    [standing(Health::Up, now); 3]
}

fn order(to: Option<Rank>, drain: Option<Duration>) -> Order {
    Order { to, scope: Scope::Both, force: false, drain }
}

/// The backup is to take over from the master, which will drain.
fn planned(now: Instant) -> Decision {
    let mut decision = decision(false, MASTER, now);
    assert_eq!(decision.obey(&order(Some(BACKUP), Some(DRAIN)), &all_up(now), now), Ok(None));
    decision
}

#[test]
fn a_switch_with_drain_comes_after_its_census_and_nothing_changes_before() {
    let now = Instant::now();
    let mut decision = planned(now);
    let wanted =
        Planned { to: BACKUP, cause: Cause::Operator, drain: DRAIN, decided: now, since: now, due: now + CENSUS };
    assert_eq!(decision.planned(), Some(wanted));
    assert_eq!(decision.next_deadline(&all_up(now), now), Some(now + CENSUS));
    assert_eq!(decision.decide(&all_up(now), now + CENSUS - MS), None);
    assert_eq!((decision.active(), decision.choice(), decision.former()), (MASTER, Choice::None, None));
    assert_eq!(decision.decide(&all_up(now), now + CENSUS), Some(OPERATOR));
    assert_eq!((decision.choice(), decision.planned()), (Choice::Chosen, None));
    let former = decision.former().expect("it drains");
    assert_eq!((former.stay, former.is_noted, former.until), (Stay::Drain, true, now + CENSUS + DRAIN));
}

#[test]
fn a_crash_in_the_census_is_followed_by_the_rules_at_once() {
    let now = Instant::now();
    let mut decision = planned(now);
    let mut servers = all_up(now);
    (servers[0], servers[1]) = (crashed(now), standing(Health::Maintenance, now));
    assert_eq!(decision.decide(&servers, now + MS), Some(failover(MASTER, Rank(2))));
    assert_eq!((decision.planned(), decision.former()), (None, None));
    assert_eq!(decision.decide(&all_up(now), now + CENSUS), None, "the order is forgotten");
}

#[test]
fn a_server_that_cannot_take_over_any_more_is_not_waited_for() {
    let now = Instant::now();
    let unwell = [Health::Down, Health::Maintenance, Health::Unknown].map(|health| standing(health, now));
    for other in unwell.into_iter().chain([Standing { reachable: false, ..standing(Health::Up, now) }]) {
        let mut decision = planned(now);
        let mut servers = all_up(now);
        servers[1] = other;
        assert_eq!(decision.decide(&servers, now + MS), None);
        assert_eq!(decision.planned(), None, "{other:?}");
        assert_eq!(decision.decide(&all_up(now), now + CENSUS), None);
    }
}

#[test]
fn a_server_that_refuses_service_in_its_census_is_left_at_the_end_of_it_as_was_ordered() {
    let now = Instant::now();
    let mut decision = planned(now);
    let mut servers = all_up(now);
    servers[0] = standing(Health::Maintenance, now);
    assert_eq!(decision.decide(&servers, now + MS), None);
    assert_eq!(decision.decide(&servers, now + CENSUS), Some(OPERATOR));
}

#[test]
fn the_latest_order_counts_and_its_census_is_the_one_that_had_begun() {
    let now = Instant::now();
    let later = now + CENSUS / 2;
    let mut decision = planned(now);
    assert_eq!(decision.obey(&order(Some(Rank(2)), Some(HOLD_DOWN)), &all_up(now), later), Ok(None));
    let planned = decision.planned().expect("another one");
    assert_eq!((planned.to, planned.decided, planned.due), (Rank(2), later, now + CENSUS));
    assert_eq!(decision.obey(&order(Some(BACKUP), None), &all_up(now), later), Ok(Some(OPERATOR)), "without a drain");
    assert_eq!(decision.planned(), None);
}

#[test]
fn another_order_a_hold_and_a_word_take_back_what_is_planned() {
    let now = Instant::now();
    let takes_back: [fn(&mut Decision, Instant); 4] = [
        |decision, now| assert_eq!(decision.obey(&order(None, None), &all_up(now), now), Ok(None)),
        |decision, now| assert_eq!(decision.obey(&order(Some(MASTER), Some(DRAIN)), &all_up(now), now), Ok(None)),
        |decision, _| decision.hold(true),
        |decision, _| assert!(decision.drop_planned()),
    ];
    for take_back in takes_back {
        let mut decision = planned(now);
        decision.hold(false);
        assert!(decision.planned().is_some(), "it was not held");
        take_back(&mut decision, now + MS);
        assert_eq!((decision.planned(), decision.drop_planned()), (None, false));
        assert_eq!(decision.decide(&all_up(now), now + CENSUS), None);
        assert_eq!(decision.active(), MASTER);
    }
}

#[test]
fn an_order_that_is_refused_takes_nothing_back() {
    let now = Instant::now();
    let mut decision = planned(now);
    let mut servers = all_up(now);
    servers[2] = crashed(now);
    assert_eq!(decision.obey(&order(Some(Rank(2)), None), &servers, now), Err(Refusal::Down));
    assert_eq!(decision.decide(&servers, now + CENSUS), Some(OPERATOR));
}

#[test]
fn nobody_waits_for_calls_of_a_server_that_is_down_or_for_a_forced_switch() {
    let now = Instant::now();
    let mut servers = all_up(now);
    servers[0] = crashed(now);
    let mut dead = decision(false, MASTER, now);
    assert_eq!(dead.obey(&order(Some(BACKUP), Some(DRAIN)), &servers, now), Ok(Some(OPERATOR)));
    let mut forced = decision(false, MASTER, now);
    let order = Order { force: true, ..order(Some(BACKUP), Some(DRAIN)) };
    assert_eq!(forced.obey(&order, &all_up(now), now), Ok(Some(OPERATOR)));
    assert_eq!(forced.former().map(|former| (former.stay, former.is_noted)), Some((Stay::Drain, false)));
}

#[test]
fn a_server_that_was_left_before_keeps_what_it_has_until_the_flip() {
    let now = Instant::now();
    let mut decision = planned(now);
    decision.decide(&all_up(now), now + CENSUS).expect("it switches");
    let again = now + DRAIN - CENSUS / 2;
    assert_eq!(decision.obey(&order(Some(Rank(2)), Some(DRAIN)), &all_up(now), again), Ok(None));
    assert_eq!(decision.draining().map(|former| former.server), Some(MASTER));
    assert_eq!(decision.next_deadline(&all_up(now), again), Some(again + CENSUS), "before the end of the first drain");
    decision.decide(&all_up(now), again + CENSUS).expect("it switches");
    assert_eq!(decision.draining().map(|former| former.server), Some(BACKUP));
}

#[test]
fn a_grace_ends_with_the_census_of_the_next_flip_because_calls_are_remembered_then() {
    let now = Instant::now();
    let mut decision = decision(false, MASTER, now);
    decision.obey(&order(Some(BACKUP), None), &all_up(now), now).unwrap().expect("it switches");
    assert_eq!(decision.former().map(|former| former.stay), Some(Stay::Grace));
    assert_eq!(decision.obey(&order(Some(Rank(2)), Some(DRAIN)), &all_up(now), now + MS), Ok(None));
    assert_eq!(decision.former(), None);
}
