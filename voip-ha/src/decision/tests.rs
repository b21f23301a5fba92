use super::*;
use proptest::prelude::*;

const HOLD_DOWN: Duration = Duration::from_secs(60);
const SETTLE: Duration = Duration::from_millis(135);
const AUTO: Failback = Failback::Auto { hold_down: HOLD_DOWN };
const MASTER: Rank = Rank(0);
const BACKUP: Rank = Rank(1);

fn standing(health: Health, since: Instant) -> Standing {
    let failing_since = (health == Health::Down).then_some(since);
    let last_answer = (health == Health::Up).then_some(since);
    Standing { health, since, reachable: true, failing_since, last_answer, certain: false }
}

fn standings(health: [Health; 2], since: Instant) -> [Standing; 2] {
    health.map(|health| standing(health, since))
}

/// Every health of master and backup, with the server that is active afterwards and whether it is an outage.
#[test]
fn the_active_server_is_left_only_when_it_is_down_and_only_for_one_that_is_up() {
    use Health::{Down, Unknown, Up};
    let now = Instant::now();
    for (health, active, outage) in [
        ([Unknown, Unknown], MASTER, false),
        ([Unknown, Up], MASTER, false),
        ([Unknown, Down], MASTER, false),
        ([Up, Unknown], MASTER, false),
        ([Up, Up], MASTER, false),
        ([Up, Down], MASTER, false),
        ([Down, Unknown], MASTER, true),
        ([Down, Up], BACKUP, false),
        ([Down, Down], MASTER, true),
    ] {
        let servers = standings(health, now);
        let mut decision = Decision::new(Failback::Manual, SETTLE, MASTER, false);
        let flip = decision.decide(&servers, now);
        assert_eq!(decision.active(), active, "{health:?}");
        assert_eq!(flip.is_some(), active != MASTER, "{health:?}");
        assert_eq!(decision.is_outage(&servers), outage, "{health:?}");
    }
}

#[test]
fn a_master_that_comes_back_waits_for_the_operator_if_failback_is_manual() {
    let now = Instant::now();
    let mut decision = Decision::new(Failback::Manual, SETTLE, BACKUP, false);
    let servers = standings([Health::Up, Health::Up], now);
    assert_eq!(decision.decide(&servers, now + HOLD_DOWN * 10), None);
    assert_eq!(decision.next_deadline(&servers), None);
}

#[test]
fn a_master_that_comes_back_is_active_again_after_the_hold_down_and_not_before() {
    let now = Instant::now();
    let mut decision = Decision::new(AUTO, SETTLE, BACKUP, false);
    let servers = standings([Health::Up, Health::Up], now);
    assert_eq!(decision.next_deadline(&servers), Some(now + HOLD_DOWN));
    assert_eq!(decision.decide(&servers, now + HOLD_DOWN - Duration::from_millis(1)), None);
    let flip = Flip { from: BACKUP, to: MASTER, cause: Cause::Failback };
    assert_eq!(decision.decide(&servers, now + HOLD_DOWN), Some(flip));
}

#[test]
fn an_operators_choice_is_refused_if_the_server_is_not_known_to_serve() {
    let now = Instant::now();
    let mut decision = Decision::new(Failback::Manual, SETTLE, MASTER, false);
    for (health, refusal) in [(Health::Down, Refusal::Down), (Health::Unknown, Refusal::Unknown)] {
        let servers = standings([Health::Up, health], now);
        assert_eq!(decision.choose(Some(BACKUP), &servers, now), Err(refusal));
        assert_eq!((decision.active(), decision.is_held()), (MASTER, false));
    }
}

#[test]
fn an_operators_choice_holds_against_failback_until_it_is_handed_back() {
    let now = Instant::now();
    let mut decision = Decision::new(AUTO, SETTLE, MASTER, false);
    let servers = standings([Health::Up, Health::Up], now);
    let flip = Flip { from: MASTER, to: BACKUP, cause: Cause::Operator };
    assert_eq!(decision.choose(Some(BACKUP), &servers, now), Ok(Some(flip)));
    assert_eq!(decision.decide(&servers, now + HOLD_DOWN * 2), None);
    let back = Flip { from: BACKUP, to: MASTER, cause: Cause::Failback };
    assert_eq!(decision.choose(None, &servers, now + HOLD_DOWN * 2), Ok(Some(back)));
}

#[test]
fn an_operators_choice_does_not_hold_a_dead_server() {
    let now = Instant::now();
    let mut decision = Decision::new(Failback::Manual, SETTLE, MASTER, false);
    decision.choose(Some(BACKUP), &standings([Health::Up, Health::Up], now), now).unwrap();
    let flip = Flip { from: BACKUP, to: MASTER, cause: Cause::Failover };
    assert_eq!(decision.decide(&standings([Health::Up, Health::Down], now), now), Some(flip));
}

/// Master down since `now`, backup up since long before, last heard as given.
fn silent_master(now: Instant, last_answer: Instant) -> [Standing; 2] {
    let backup = Standing { last_answer: Some(last_answer), ..standing(Health::Up, now - HOLD_DOWN) };
    [standing(Health::Down, now), backup]
}

#[test]
fn a_server_is_taken_for_a_silent_one_only_after_it_has_answered_since_the_silence_began() {
    let now = Instant::now();
    let mut decision = Decision::new(Failback::Manual, SETTLE, MASTER, false);
    assert_eq!(decision.decide(&silent_master(now, now - Duration::from_millis(1)), now), None);
    let flip = Flip { from: MASTER, to: BACKUP, cause: Cause::Failover };
    assert_eq!(decision.decide(&silent_master(now, now), now), Some(flip));
}

#[test]
fn a_server_is_taken_at_once_for_one_that_is_proved_dead() {
    let now = Instant::now();
    let mut servers = silent_master(now, now - Duration::from_millis(19));
    servers[0].certain = true;
    let mut decision = Decision::new(Failback::Manual, SETTLE, MASTER, false);
    assert_eq!(decision.decide(&servers, now), Some(Flip { from: MASTER, to: BACKUP, cause: Cause::Failover }));
}

#[test]
fn after_a_fault_of_all_servers_the_active_one_gets_time_to_come_back() {
    let now = Instant::now();
    let back = now + Duration::from_secs(1);
    let servers = [standing(Health::Down, now), standing(Health::Up, back)];
    let mut decision = Decision::new(Failback::Manual, SETTLE, MASTER, false);
    assert_eq!(decision.decide(&servers, back), None);
    assert_eq!(decision.next_deadline(&servers), Some(back + SETTLE));
    assert!(decision.decide(&servers, back + SETTLE).is_some());
}

#[test]
fn a_server_without_a_way_is_neither_taken_nor_chosen() {
    let now = Instant::now();
    let mut servers = standings([Health::Down, Health::Up], now);
    servers[1].reachable = false;
    let mut decision = Decision::new(Failback::Manual, SETTLE, MASTER, false);
    assert_eq!(decision.decide(&servers, now), None);
    assert!(decision.is_outage(&servers));
    assert_eq!(decision.choose(Some(BACKUP), &servers, now), Err(Refusal::NoWay));
}

#[test]
fn failback_goes_to_the_best_server_that_is_due_and_not_to_the_one_that_was_due_first() {
    let now = Instant::now();
    let servers = [10, 20, 30].map(|ago| standing(Health::Up, now - HOLD_DOWN * ago));
    let mut decision = Decision::new(AUTO, SETTLE, Rank(2), false);
    assert_eq!(decision.decide(&servers, now), Some(Flip { from: Rank(2), to: MASTER, cause: Cause::Failback }));
}

#[test]
fn a_choice_ends_with_the_server_that_was_chosen() {
    let now = Instant::now();
    let mut decision = Decision::new(AUTO, SETTLE, MASTER, true);
    assert!(decision.decide(&standings([Health::Down, Health::Up], now), now).is_some());
    assert!(!decision.is_held());
    let back = Flip { from: BACKUP, to: MASTER, cause: Cause::Failback };
    let later = now + HOLD_DOWN;
    assert_eq!(decision.decide(&standings([Health::Up, Health::Up], now), later), Some(back));
}

fn any_health() -> impl Strategy<Value = Health> {
    prop_oneof![Just(Health::Unknown), Just(Health::Up), Just(Health::Down)]
}

proptest! {
    #[test]
    fn no_flip_ever_goes_to_a_server_that_is_not_up(
        steps in proptest::collection::vec((proptest::collection::vec(any_health(), 4), 0..6usize, 0..90u64), 1..60),
        auto in any::<bool>(),
    ) {
        let mut now = Instant::now();
        let mut decision = Decision::new(if auto { AUTO } else { Failback::Manual }, SETTLE, MASTER, false);
        for (health, choice, seconds) in steps {
            let servers: Vec<_> = health.into_iter().map(|health| standing(health, now)).collect();
            now += Duration::from_secs(seconds);
            let before = decision.active();
            let flip = match choice {
                0..4 => decision.choose(Some(Rank(choice)), &servers, now).unwrap_or(None),
                4 => decision.choose(None, &servers, now).unwrap(),
                _ => decision.decide(&servers, now),
            };
            match flip {
                Some(flip) => prop_assert_eq!(servers[flip.to.0].health, Health::Up),
                None => prop_assert_eq!(decision.active(), before),
            }
        }
    }
}
