use proptest::prelude::*;

use super::*;

mod drains;
mod orders;
mod planned;

const HOLD_DOWN: Duration = Duration::from_secs(60);
const SETTLE: Duration = Duration::from_millis(700);
const GRACE: Duration = Duration::from_millis(500);
const DRAIN: Duration = Duration::from_secs(600);
const GIVE_BACK: Duration = Duration::from_secs(10);
const HOUR: Duration = Duration::from_secs(3600);
const MASTER: Rank = Rank(0);
const BACKUP: Rank = Rank(1);

fn policy(auto: bool) -> Policy {
    Policy {
        failback: if auto { Failback::Auto { hold_down: HOLD_DOWN } } else { Failback::Manual },
        switch_grace: GRACE,
        drain: DRAIN,
        // Those that drain have tests of their own.
        failback_drains: false,
        give_back: Some(GIVE_BACK),
        damping_half_life: Some(Duration::from_secs(900)),
        failovers_per_hour: Some(4),
    }
}

fn decision(auto: bool, active: Rank, now: Instant) -> Decision {
    let found = Found { signalling: Some(active), ..Found::default() };
    Decision::new(&policy(auto), SETTLE, 3, found, now)
}

/// A server that has this health since then, and gave its last sign of life at that moment.
fn standing(health: Health, since: Instant) -> Standing {
    let (last_sign, silent_since) = (Some(since), None);
    Standing { health, since, reachable: true, last_sign, silent_since, fault: None, certain: false }
}

/// Dead by proof, so that nothing has to be confirmed.
fn crashed(since: Instant) -> Standing {
    Standing { certain: true, fault: Some(Fault::Crashed), ..standing(Health::Down, since) }
}

fn failover(from: Rank, to: Rank) -> Flip {
    Flip { scope: Scope::Both, from, to, cause: Cause::Failover }
}

/// Every health of master and backup, with the server of signalling afterwards and whether it is an outage.
#[test]
fn the_active_server_is_left_only_when_it_does_not_serve_and_only_for_one_that_is_up() {
    use Health::{Down, Maintenance, Unknown, Up};
    let now = Instant::now();
    for (active, other, goes_to, outage) in [
        (Unknown, Unknown, MASTER, false),
        (Unknown, Up, MASTER, false),
        (Unknown, Down, MASTER, false),
        (Up, Unknown, MASTER, false),
        (Up, Up, MASTER, false),
        (Up, Maintenance, MASTER, false),
        (Up, Down, MASTER, false),
        (Maintenance, Unknown, MASTER, false),
        (Maintenance, Up, BACKUP, false),
        (Maintenance, Maintenance, MASTER, false),
        (Maintenance, Down, MASTER, false),
        (Down, Unknown, MASTER, true),
        (Down, Up, BACKUP, false),
        (Down, Maintenance, MASTER, true),
        (Down, Down, MASTER, true),
    ] {
        let servers = [Standing { certain: true, ..standing(active, now) }, standing(other, now)];
        let mut decision = decision(false, MASTER, now);
        let flip = decision.decide(&servers, now);
        assert_eq!(decision.active(), goes_to, "{active:?}, {other:?}");
        assert_eq!(flip.is_some(), goes_to != MASTER, "{active:?}, {other:?}");
        assert_eq!(decision.is_outage(&servers), outage, "{active:?}, {other:?}");
    }
}

#[test]
fn a_master_that_comes_back_waits_for_the_operator_if_failback_is_manual() {
    let now = Instant::now();
    let mut decision = decision(false, BACKUP, now);
    let servers = [standing(Health::Up, now), standing(Health::Up, now)];
    assert_eq!(decision.decide(&servers, now + HOLD_DOWN * 10), None);
    assert_eq!(decision.next_deadline(&servers, now), None);
}

#[test]
fn a_master_that_comes_back_is_active_again_after_the_hold_down_and_not_before() {
    let now = Instant::now();
    let mut decision = decision(true, BACKUP, now);
    let servers = [standing(Health::Up, now), standing(Health::Up, now)];
    assert_eq!(decision.next_deadline(&servers, now), Some(now + HOLD_DOWN));
    assert_eq!(decision.decide(&servers, now + HOLD_DOWN - Duration::from_millis(1)), None);
    let flip = Flip { scope: Scope::Both, from: BACKUP, to: MASTER, cause: Cause::Failback };
    assert_eq!(decision.decide(&servers, now + HOLD_DOWN), Some(flip));
}

#[test]
fn failback_goes_to_the_best_server_that_is_due_and_not_to_the_one_that_was_due_first() {
    let now = Instant::now() + HOUR;
    let servers = [10, 20, 30].map(|ago| standing(Health::Up, now - HOLD_DOWN * ago));
    let mut decision = decision(true, Rank(2), now);
    assert_eq!(decision.decide(&servers, now).map(|flip| flip.to), Some(MASTER));
}

#[test]
fn a_server_is_taken_for_a_silent_one_only_after_it_gave_a_sign_of_life_since() {
    let now = Instant::now() + HOUR;
    let master = standing(Health::Down, now);
    let backup = |sign| Standing { last_sign: Some(sign), ..standing(Health::Up, now - HOLD_DOWN) };
    for (sign, taken) in [(now - Duration::from_millis(1), false), (now, false), (now + Duration::from_nanos(1), true)]
    {
        let flip = decision(false, MASTER, now).decide(&[master, backup(sign)], now);
        assert_eq!(flip, taken.then(|| failover(MASTER, BACKUP)));
    }
    let asked = now + Duration::from_millis(3);
    let master = Standing { silent_since: Some(asked), ..master };
    for (sign, taken) in [(asked, false), (asked + Duration::from_nanos(1), true)] {
        let flip = decision(false, MASTER, now).decide(&[master, backup(sign)], asked + HOLD_DOWN);
        assert_eq!(flip.is_some(), taken, "a sign of before the question that the master did not answer says nothing");
    }
    let stale = backup(now - Duration::from_millis(90));
    let flip = decision(false, MASTER, now).decide(&[crashed(now), stale], now);
    assert_eq!(flip, Some(failover(MASTER, BACKUP)), "a proof of its own needs no comparison");
}

#[test]
fn after_a_fault_of_all_servers_the_active_one_gets_time_to_come_back() {
    let now = Instant::now();
    let back = now + Duration::from_secs(1);
    let cut_off = Standing { fault: Some(Fault::GatewaySide), ..crashed(now) };
    for master in [standing(Health::Down, now), cut_off] {
        let servers = [master, standing(Health::Up, back)];
        let mut decision = decision(false, MASTER, now);
        assert_eq!(decision.decide(&servers, back), None);
        assert_eq!(decision.next_deadline(&servers, back), Some(back + SETTLE));
        assert!(decision.decide(&servers, back + SETTLE).is_some());
    }
    let servers = [crashed(now), standing(Health::Up, back)];
    let flip = decision(false, MASTER, now).decide(&servers, back);
    assert_eq!(flip, Some(failover(MASTER, BACKUP)), "a crash concerns nobody else");
}

#[test]
fn a_sign_of_life_of_the_active_server_makes_nobody_leave_it_sooner() {
    let now = Instant::now();
    let cut = Standing { certain: true, fault: Some(Fault::GatewaySide), ..standing(Health::Down, now) };
    let servers = [cut, standing(Health::Up, now + SETTLE / 2)];
    // Its first answer; some more are needed until it is called up.
    let answers = [Standing { last_sign: Some(now + SETTLE), ..cut }, servers[1]];
    for servers in [servers, answers] {
        let mut decision = Decision::new(&policy(false), SETTLE, 2, Found::default(), now);
        assert_eq!(decision.decide(&servers, now + SETTLE), None);
        assert_eq!(decision.decide(&servers, now + SETTLE * 3 / 2), Some(failover(MASTER, BACKUP)));
    }
}

#[test]
fn a_server_without_a_way_is_not_taken() {
    let now = Instant::now();
    let mut servers = [crashed(now), standing(Health::Up, now), standing(Health::Up, now)];
    servers[1].reachable = false;
    assert_eq!(decision(false, MASTER, now).decide(&servers, now), Some(failover(MASTER, Rank(2))));
    servers[2].reachable = false;
    let mut decision = decision(false, MASTER, now);
    assert_eq!(decision.decide(&servers, now), None);
    assert!(decision.is_outage(&servers));
}

#[test]
fn a_server_that_flaps_is_taken_last_and_not_returned_to_until_its_penalty_has_decayed() {
    let now = Instant::now() + HOUR;
    let mut decision = decision(true, Rank(2), now);
    for _ in 0..3 {
        decision.went_down(MASTER, now);
    }
    let until = decision.suppressed_until(MASTER, now).expect("the third fall suppresses");
    assert!(until > now + Duration::from_secs(900), "{:?}", until - now);
    let up = standing(Health::Up, now - HOLD_DOWN * 2);
    let flip = decision.clone().decide(&[up, up, crashed(now)], now);
    assert_eq!(flip, Some(failover(Rank(2), BACKUP)), "the master is before it, and flaps");
    let dead = crashed(now - HOLD_DOWN * 2);
    let flip = decision.clone().decide(&[up, dead, crashed(now)], now);
    assert_eq!(flip, Some(failover(Rank(2), MASTER)), "better than none");

    let servers = [up, dead, up];
    assert_eq!(decision.decide(&servers, now), None, "no failback");
    assert_eq!(decision.next_deadline(&servers, now), Some(until));
    assert_eq!(
        decision.decide(&servers, until + Duration::from_millis(1)).map(|flip| flip.cause),
        Some(Cause::Failback)
    );
}

#[test]
fn a_service_whose_failovers_of_the_hour_are_used_up_keeps_its_dead_server_until_the_next() {
    let start = Instant::now();
    let mut decision = decision(false, MASTER, start);
    let servers = |dead: Rank| {
        let mut servers = [standing(Health::Up, start); 3];
        servers[dead.0] = crashed(start);
        servers
    };
    for _ in 0..4 {
        let servers = servers(decision.active());
        assert!(!decision.is_kept(&servers, start));
        assert!(decision.decide(&servers, start).is_some());
    }
    let active = decision.active();
    let servers = servers(active);
    assert_eq!(decision.decide(&servers, start), None);
    assert!(decision.is_kept(&servers, start) && !decision.is_outage(&servers));
    let next = decision.next_deadline(&servers, start).expect("one is allowed again");
    assert_eq!(next - start, Duration::from_secs(3600));
    assert_eq!(decision.decide(&servers, next - Duration::from_secs(1)), None);
    assert!(decision.decide(&servers, next).is_some());
}

#[test]
fn planned_flips_cost_nothing_of_the_budget() {
    let start = Instant::now();
    let mut decision = decision(true, MASTER, start);
    let up = standing(Health::Up, start);
    let mut now = start;
    for _ in 0..20 {
        now += HOLD_DOWN;
        let refuses = [standing(Health::Maintenance, now), up, up];
        assert_eq!(decision.decide(&refuses, now).map(|flip| flip.cause), Some(Cause::Maintenance));
        now += HOLD_DOWN * 10;
        assert_eq!(decision.decide(&[up, up, up], now).map(|flip| flip.cause), Some(Cause::Failback));
    }
    assert!(decision.decide(&[crashed(now), up, up], now).is_some());
}

fn any_health() -> impl Strategy<Value = Health> {
    prop::sample::select(vec![Health::Unknown, Health::Up, Health::Up, Health::Maintenance, Health::Down])
}

fn any_order() -> impl Strategy<Value = Order> {
    let scope = prop::sample::select(vec![Scope::Both, Scope::Signalling, Scope::Media]);
    let drain = prop::option::of((1..900u64).prop_map(Duration::from_secs));
    (prop::option::of(0..3usize), scope, drain).prop_map(|(to, scope, drain)| Order {
        to: to.map(Rank),
        scope,
        force: false,
        drain,
    })
}

proptest! {
    #[test]
    fn nothing_but_force_ever_goes_to_a_server_that_is_not_up(
        steps in prop::collection::vec(
            (prop::collection::vec((any_health(), any::<bool>()), 3), prop::option::weighted(0.3, any_order()), 0..90u64),
            1..60,
        ),
        auto in any::<bool>(),
    ) {
        let mut now = Instant::now();
        let mut decision = decision(auto, MASTER, now);
        for (health, order, seconds) in steps {
            let standing = |(health, certain)| Standing { certain, ..standing(health, now) };
            let servers: Vec<_> = health.into_iter().map(standing).collect();
            now += Duration::from_secs(seconds);
            let before = (decision.active(), decision.media());
            let flip = match order {
                Some(order) => decision.obey(&order, &servers, now).unwrap_or(None),
                None => decision.decide(&servers, now),
            };
            match flip {
                Some(flip) => prop_assert_eq!(servers[flip.to.0].health, Health::Up),
                None => prop_assert_eq!((decision.active(), decision.media()), before),
            }
            decision.part(&servers, now);
            let Some(former) = decision.former() else { continue };
            prop_assert!(former.until > now && ![decision.active(), decision.media()].contains(&former.server));
            let health = servers[former.server.0].health;
            match former.stay {
                Stay::Grace => continue,
                Stay::Drain => prop_assert_ne!(health, Health::Down),
                Stay::Recall => prop_assert_ne!(health, Health::Up),
            }
            prop_assert_eq!(decision.active(), decision.media());
        }
    }
}

#[test]
fn what_was_chosen_before_a_hold_is_so_again_after_it_and_a_release_of_no_hold_changes_nothing() {
    let now = Instant::now();
    let mut decision = Decision::new(&policy(false), Duration::ZERO, 2, Found::default(), now);
    for choice in [Choice::None, Choice::Chosen] {
        decision.choice = choice;
        decision.hold(false);
        assert_eq!(decision.choice(), choice);
        decision.hold(true);
        decision.hold(true);
        assert_eq!(decision.choice(), Choice::Held);
        decision.hold(false);
        assert_eq!(decision.choice(), choice);
    }
}
