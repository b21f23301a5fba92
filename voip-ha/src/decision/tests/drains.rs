//! What a server may still do after another one has taken its place.

use super::*;

const MS: Duration = Duration::from_millis(1);

fn all_up(now: Instant) -> [Standing; 3] {
    [standing(Health::Up, now); 3]
}

fn order(to: Rank, drain: Option<Duration>) -> Order {
    Order { to: Some(to), scope: Scope::Both, force: false, drain }
}

fn silent(since: Instant) -> Standing {
    Standing { fault: Some(Fault::Unreachable), ..crashed(since) }
}

/// Silent, then switched from.
fn failed_over(fault: Fault, now: Instant) -> (Decision, [Standing; 3]) {
    let mut servers = all_up(now);
    servers[0] = Standing { fault: Some(fault), ..crashed(now) };
    let mut decision = decision(false, MASTER, now);
    assert_eq!(decision.decide(&servers, now), Some(failover(MASTER, BACKUP)));
    (decision, servers)
}

/// Drains to another server, by an operator's order, from now on.
fn drain_to(decision: &mut Decision, to: Rank, time: Duration, now: Instant) {
    assert_eq!(decision.obey(&order(to, Some(time)), &all_up(now), now - CENSUS), Ok(None), "the census comes first");
    decision.decide(&all_up(now), now).expect("it switches");
}

/// The master drains.
fn drained(time: Duration, now: Instant) -> Decision {
    let mut decision = decision(false, MASTER, now);
    drain_to(&mut decision, BACKUP, time, now);
    decision
}

/// The first server by priority is returned to, and the one before it drains.
fn returning(active: Rank, now: Instant) -> Decision {
    let policy = Policy { failback_drains: true, ..policy(true) };
    Decision::new(&policy, SETTLE, 3, Found { signalling: Some(active), ..Found::default() }, now)
}

fn former(decision: &Decision) -> Option<(Rank, Stay, Duration)> {
    decision.former().map(|former| (former.server, former.stay, former.until - former.since))
}

#[test]
fn what_the_server_that_is_left_may_still_do_follows_from_the_cause() {
    let now = Instant::now();
    let mut switched = decision(false, MASTER, now);
    switched.obey(&order(BACKUP, None), &all_up(now), now).unwrap().expect("it switches");
    assert_eq!(former(&switched), Some((MASTER, Stay::Grace, GRACE)));
    assert_eq!(former(&drained(HOLD_DOWN, now)), Some((MASTER, Stay::Drain, HOLD_DOWN)));
    assert_eq!(former(&failed_over(Fault::Hung, now).0), Some((MASTER, Stay::Recall, GIVE_BACK)));
    assert_eq!(former(&failed_over(Fault::Crashed, now).0), None, "what has crashed has no calls any more");

    let mut refusing = all_up(now);
    refusing[0] = standing(Health::Maintenance, now);
    let mut left = decision(false, MASTER, now);
    let flip = Flip { scope: Scope::Both, from: MASTER, to: BACKUP, cause: Cause::Maintenance };
    assert_eq!(left.decide(&refusing, now), Some(flip));
    assert_eq!(former(&left), Some((MASTER, Stay::Drain, DRAIN)));

    let mut left = returning(BACKUP, now);
    assert_eq!(left.decide(&all_up(now), now + HOLD_DOWN), None, "the census comes first");
    left.decide(&all_up(now), now + HOLD_DOWN + CENSUS).expect("failback");
    assert_eq!(former(&left), Some((BACKUP, Stay::Drain, DRAIN)));
}

#[test]
fn policies_that_say_so_drain_nobody_and_give_nothing_back() {
    let now = Instant::now();
    let hard = Policy { drain: Duration::ZERO, failback_drains: true, give_back: None, ..policy(true) };
    let no_drain = Policy { failback_drains: false, ..policy(true) };
    let found = |active| Found { signalling: Some(active), ..Found::default() };
    for policy in [&hard, &no_drain] {
        let mut decision = Decision::new(policy, SETTLE, 3, found(BACKUP), now);
        decision.decide(&all_up(now), now + HOLD_DOWN).expect("failback");
        assert_eq!(former(&decision), Some((BACKUP, Stay::Grace, GRACE)));
    }
    let mut decision = Decision::new(&hard, SETTLE, 3, found(MASTER), now);
    let mut servers = all_up(now);
    servers[0] = silent(now);
    decision.decide(&servers, now).expect("failover");
    assert_eq!(former(&decision), None);
    let none = Policy { switch_grace: Duration::ZERO, ..hard };
    let mut decision = Decision::new(&none, SETTLE, 3, found(BACKUP), now);
    decision.decide(&all_up(now), now + HOLD_DOWN).expect("failback");
    assert_eq!(former(&decision), None, "not even a grace");
}

#[test]
fn a_drain_ends_at_its_deadline_and_not_before_even_if_the_service_is_held() {
    let now = Instant::now();
    for held in [false, true] {
        let mut decision = drained(HOLD_DOWN, now);
        decision.hold(held);
        let servers = all_up(now);
        assert_eq!(decision.next_deadline(&servers, now), Some(now + HOLD_DOWN));
        assert_eq!(decision.part(&servers, now + HOLD_DOWN - MS), None);
        let ended = Parting::Drained(DrainEnd::Deadline);
        assert_eq!(decision.part(&servers, now + HOLD_DOWN), Some((MASTER, ended)));
        assert_eq!((decision.former(), decision.next_deadline(&servers, now + HOLD_DOWN)), (None, None));
    }
}

#[test]
fn a_drain_ends_with_the_server_and_goes_on_while_it_refuses_service() {
    let now = Instant::now();
    let mut decision = drained(HOLD_DOWN, now);
    let mut servers = all_up(now);
    servers[0] = standing(Health::Maintenance, now);
    assert_eq!(decision.part(&servers, now), None);
    servers[0] = crashed(now);
    assert_eq!(decision.part(&servers, now), Some((MASTER, Parting::Drained(DrainEnd::Down))));
    assert_eq!(decision.former(), None);
}

#[test]
fn an_operator_may_end_a_drain_and_give_it_another_time() {
    let now = Instant::now();
    let mut decision = drained(HOLD_DOWN, now);
    decision.prolong(HOLD_DOWN * 3, now + MS);
    assert_eq!(decision.draining().map(|former| former.until - now), Some(HOLD_DOWN * 3 + MS));
    assert_eq!(decision.end_drain(), Some(MASTER));
    assert_eq!((decision.end_drain(), decision.former()), (None, None));
    let mut graced = super::decision(false, MASTER, now);
    graced.obey(&order(BACKUP, None), &all_up(now), now).unwrap().expect("it switches");
    graced.prolong(HOUR, now);
    assert_eq!((graced.end_drain(), former(&graced)), (None, Some((MASTER, Stay::Grace, GRACE))));
}

#[test]
fn when_the_new_server_dies_the_one_that_drains_is_before_others_and_its_drain_ends() {
    let now = Instant::now();
    let mut decision = decision(false, Rank(2), now);
    drain_to(&mut decision, MASTER, DRAIN, now);
    let mut servers = all_up(now);
    servers[0] = silent(now);
    servers[2].last_sign = Some(now + MS);
    assert_eq!(decision.decide(&servers, now), Some(failover(MASTER, Rank(2))), "not the backup, which has no calls");
    assert_eq!(former(&decision), Some((MASTER, Stay::Recall, GIVE_BACK)));
}

#[test]
fn a_server_that_refuses_service_while_it_drains_does_not_become_active_again() {
    let now = Instant::now();
    let mut decision = drained(DRAIN, now);
    let mut servers = all_up(now);
    (servers[0], servers[1]) = (standing(Health::Maintenance, now), crashed(now));
    assert_eq!(decision.decide(&servers, now), Some(failover(BACKUP, Rank(2))));
}

#[test]
fn a_server_that_proves_alive_in_time_gets_its_calls_back_and_drains() {
    let now = Instant::now();
    let (mut decision, mut servers) = failed_over(Fault::Unreachable, now);
    assert_eq!(decision.next_deadline(&servers, now), Some(now + GIVE_BACK));
    assert_eq!(decision.part(&servers, now + GIVE_BACK - MS), None, "it is down still");
    let back = now + GIVE_BACK / 2;
    servers[0] = standing(Health::Up, back);
    assert_eq!(decision.part(&servers, back), Some((MASTER, Parting::GivenBack)));
    assert_eq!(former(&decision), Some((MASTER, Stay::Drain, DRAIN)));
    assert_eq!(decision.active(), BACKUP, "new calls stay where they are");
    assert_eq!(decision.part(&servers, back + DRAIN), Some((MASTER, Parting::Drained(DrainEnd::Deadline))));
}

#[test]
fn nothing_is_given_back_too_late_or_without_a_way_or_after_a_crash_or_to_a_held_service() {
    let now = Instant::now();
    let later = now + GIVE_BACK / 2;
    let (decision, servers) = failed_over(Fault::Hung, now);
    let back = |decision: &Decision, master, at| decision.clone().part(&[master, servers[1], servers[2]], at);
    let up = standing(Health::Up, later);
    assert_eq!(back(&decision, up, now + GIVE_BACK), Some((MASTER, Parting::NotBack)));
    assert_eq!(back(&decision, Standing { reachable: false, ..up }, later), None);
    assert_eq!(back(&decision, standing(Health::Maintenance, later), later), None);
    let crashed = Standing { fault: Some(Fault::Crashed), ..crashed(later) };
    assert_eq!(back(&decision, crashed, later), Some((MASTER, Parting::NotBack)));
    let mut held = decision.clone();
    held.hold(true);
    assert_eq!(back(&held, up, later), None);
    held.hold(false);
    assert_eq!(back(&held, up, later), Some((MASTER, Parting::GivenBack)));
}

#[test]
fn another_flip_ends_what_was_remembered_and_a_failback_drains_the_other_way() {
    let now = Instant::now();
    let (mut decision, mut servers) = failed_over(Fault::Hung, now);
    servers[1] = Standing { fault: Some(Fault::Hung), ..crashed(now) };
    assert_eq!(decision.decide(&servers, now), Some(failover(BACKUP, Rank(2))));
    assert_eq!(former(&decision), Some((BACKUP, Stay::Recall, GIVE_BACK)));

    let mut decision = returning(MASTER, now);
    let mut servers = all_up(now);
    servers[0] = silent(now);
    decision.decide(&servers, now).expect("failover");
    servers[0] = standing(Health::Up, now + MS);
    assert_eq!(decision.part(&servers, now + MS), Some((MASTER, Parting::GivenBack)));
    let flip = Flip { scope: Scope::Both, from: BACKUP, to: MASTER, cause: Cause::Failback };
    assert_eq!(decision.decide(&servers, now + MS + HOLD_DOWN), None, "the census comes first");
    assert_eq!(decision.decide(&servers, now + MS + HOLD_DOWN + CENSUS), Some(flip));
    assert_eq!(former(&decision), Some((BACKUP, Stay::Drain, DRAIN)));
}

#[test]
fn a_failback_that_an_operator_takes_back_is_not_planned_again() {
    let now = Instant::now();
    let mut decision = returning(MASTER, now);
    let mut servers = all_up(now);
    servers[0] = silent(now);
    decision.decide(&servers, now).expect("failover");
    servers[0] = standing(Health::Up, now + MS);
    decision.part(&servers, now + MS);
    let due = now + MS + HOLD_DOWN;
    assert_eq!((decision.decide(&servers, due), decision.planned().is_some()), (None, true));
    assert!(decision.drop_planned());
    assert_eq!((decision.decide(&servers, due + MS), decision.planned()), (None, None));
    assert_eq!(decision.decide(&servers, due + MS + CENSUS), None);
}

#[test]
fn parted_servers_do_not_drain() {
    let now = Instant::now();
    let mut decision = decision(false, MASTER, now);
    let half = |scope, drain| Order { to: Some(BACKUP), scope, force: false, drain };
    assert_eq!(decision.obey(&half(Scope::Media, Some(DRAIN)), &all_up(now), now), Err(Refusal::Parted));
    decision.obey(&half(Scope::Media, None), &all_up(now), now).unwrap().expect("media moves");
    assert_eq!(former(&decision), None, "the master has signalling still");
    assert_eq!(decision.may(&order(BACKUP, Some(DRAIN)), &all_up(now)), Err(Refusal::Parted));
    let mut servers = all_up(now);
    servers[0] = standing(Health::Maintenance, now);
    decision.decide(&servers, now).expect("it refuses service");
    assert_eq!(former(&decision), Some((MASTER, Stay::Grace, GRACE)));
}

#[test]
fn who_would_take_over_is_the_best_other_server_that_is_up() {
    let now = Instant::now();
    let mut servers = all_up(now);
    let decision = decision(false, MASTER, now);
    assert_eq!(decision.successor(&servers, now), Some(BACKUP));
    servers[1] = crashed(now);
    assert_eq!(decision.successor(&servers, now), Some(Rank(2)));
    servers[2].reachable = false;
    assert_eq!(decision.successor(&servers, now), None);
}

#[test]
fn a_drain_that_an_earlier_controller_began_gets_the_whole_time_and_a_grace_its_own() {
    let now = Instant::now();
    let found = |draining, affinity| {
        let found = Found { signalling: Some(BACKUP), draining, affinity, ..Found::default() };
        former(&Decision::new(&policy(false), SETTLE, 3, found, now))
    };
    assert_eq!(found(Some(MASTER), true), Some((MASTER, Stay::Drain, DRAIN)));
    assert_eq!(found(Some(MASTER), false), Some((MASTER, Stay::Grace, GRACE)));
    assert_eq!(found(None, true), None, "whom to give calls back to is not known");
}
