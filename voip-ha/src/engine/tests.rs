use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::detector::Health;

const GRACE: Duration = Duration::from_millis(500);
const HOLD_DOWN: Duration = Duration::from_secs(60);
const SERVICE: ServiceId = ServiceId(0);
const MASTER: ServerId = ServerId(0);
const CLOUD: ServerId = ServerId(1);
const ANSWER: Evidence = Evidence::Answer { status: 200, rtt: Duration::from_micros(150) };

fn config(failback: &str) -> Config {
    let text = format!(
        "gateway = {{ front = 'eth0', back = 'eth1' }}
         policy = {{ {failback}, switch_grace_ms = {} }}
         probe = {{ fall = 3, rise = 2 }}
         service = [
           {{ name = 'pbx', vip = '192.0.2.10', sip_ports = [5060], rtp_ports = '10000-19999', server = [
             {{ name = 'master', address = '10.0.0.2' }}, {{ name = 'cloud', address = '10.8.0.2' }} ] }},
           {{ name = 'fax', vip = '192.0.2.11', sip_ports = [5060], rtp_ports = '10000-19999', server = [
             {{ name = 'fax-a', address = '10.0.0.3' }}, {{ name = 'fax-b', address = '10.8.0.3' }} ] }} ]",
        GRACE.as_millis()
    );
    Config::parse("test", &text).unwrap_or_else(|error| panic!("{error}"))
}

/// An engine in which everybody is up.
fn engine(failback: &str, now: Instant) -> Engine {
    let (mut engine, _) = Engine::new(&config(failback), &[Steering::default(), Steering::default()], now);
    for server in (0..4).map(ServerId) {
        engine.observe(server, ANSWER, now);
    }
    engine
}

fn steering(active: ServerId, draining: Option<ServerId>) -> Steering {
    Steering { draining, ..Steering::to(active) }
}

fn steered(outputs: &[Output]) -> Vec<(ServiceId, Steering)> {
    let steers = outputs.iter().filter_map(|output| match output {
        Output::Steer(service, steering, _) => Some((*service, *steering)),
        Output::Tell(_) => None,
    });
    steers.collect()
}

fn wish(server: Option<ServerId>) -> Wish {
    Wish { service: SERVICE, server, reason: Some("test".to_owned()) }
}

#[test]
fn a_refusal_flips_the_service_at_once_fences_the_dead_server_and_leaves_other_services_alone() {
    let now = Instant::now();
    let mut engine = engine("failback = 'manual'", now);
    let outputs = engine.observe(MASTER, Evidence::Refused, now);
    assert_eq!(steered(&outputs), [(SERVICE, steering(CLOUD, None))]);
    assert!(
        matches!(&outputs[0], Output::Steer(_, _, Happening::Flip(flip))
        if flip.cause == Cause::Failover && flip.evidence == Some(Evidence::Refused)),
        "{outputs:?}"
    );
    assert_eq!(engine.steering(ServiceId(1)), steering(ServerId(2), None));
}

#[test]
fn silence_flips_at_the_last_of_fall_misses() {
    let now = Instant::now();
    let mut engine = engine("failback = 'manual'", now);
    for _ in 0..2 {
        assert_eq!(engine.observe(MASTER, Evidence::Missed, now), []);
        assert_eq!(engine.observe(CLOUD, ANSWER, now), []);
    }
    assert_eq!(steered(&engine.observe(MASTER, Evidence::Missed, now)), [(SERVICE, steering(CLOUD, None))]);
}

#[test]
fn a_planned_switch_lets_the_old_server_end_what_it_began_and_then_fences_it() {
    let now = Instant::now();
    let mut engine = engine("failback = 'manual'", now);
    let outputs = engine.wish(&wish(Some(CLOUD)), now).unwrap();
    assert_eq!(steered(&outputs), [(SERVICE, Steering { held: true, ..steering(CLOUD, Some(MASTER)) })]);
    assert_eq!(engine.next_deadline(), Some(now + GRACE));
    assert_eq!(engine.tick(now + GRACE - Duration::from_millis(1)), []);
    let fenced = Steering { held: true, ..steering(CLOUD, None) };
    assert_eq!(steered(&engine.tick(now + GRACE)), [(SERVICE, fenced)]);
    assert_eq!(engine.next_deadline(), None);
}

#[test]
fn a_crash_during_the_grace_of_a_switch_goes_back_and_leaves_nobody_draining() {
    let now = Instant::now();
    let mut engine = engine("failback = 'manual'", now);
    engine.wish(&wish(Some(CLOUD)), now).unwrap();
    let outputs = engine.observe(CLOUD, Evidence::Refused, now);
    assert_eq!(steered(&outputs), [(SERVICE, steering(MASTER, None))]);
}

#[test]
fn when_nobody_is_up_nothing_changes_and_the_outage_is_told_once() {
    let now = Instant::now();
    let mut engine = engine("failback = 'manual'", now);
    engine.observe(CLOUD, Evidence::Refused, now);
    let outputs = engine.observe(MASTER, Evidence::Refused, now);
    assert_eq!(steered(&outputs), []);
    let began = Output::Tell(Happening::OutageBegan { service: "pbx".to_owned() });
    assert_eq!(outputs.iter().filter(|output| **output == began).count(), 1);
    assert_eq!(engine.observe(MASTER, Evidence::Refused, now), []);
    assert_eq!(engine.steering(SERVICE), steering(MASTER, None));

    engine.observe(CLOUD, ANSWER, now);
    let outputs = engine.observe(CLOUD, ANSWER, now);
    assert_eq!(steered(&outputs), [(SERVICE, steering(CLOUD, None))]);
    assert!(outputs.contains(&Output::Tell(Happening::OutageEnded { service: "pbx".to_owned() })), "{outputs:?}");
}

#[test]
fn an_adopted_server_stays_active_until_something_is_heard() {
    let now = Instant::now();
    let (mut engine, words) =
        Engine::new(&config("failback = 'manual'"), &[steering(CLOUD, None), Steering::default()], now);
    assert_eq!(words, [(SERVICE, steering(CLOUD, None)), (ServiceId(1), steering(ServerId(2), None))]);
    assert_eq!(engine.services()[0].cause, Cause::Adopted);
    assert_eq!(steered(&engine.observe(MASTER, ANSWER, now)), []);
    assert_eq!(steered(&engine.tick(now + HOLD_DOWN)), []);
}

#[test]
fn an_operators_choice_is_remembered_in_the_word_and_survives_the_controller() {
    let now = Instant::now();
    let mut first = engine("failback = 'auto', hold_down_s = 60", now);
    let held = Steering { held: true, ..steering(MASTER, None) };
    assert_eq!(steered(&first.wish(&wish(Some(MASTER)), now).unwrap()), [(SERVICE, held)], "it was active already");
    assert_eq!(steered(&first.wish(&wish(None), now).unwrap()), [(SERVICE, steering(MASTER, None))]);

    let found = Steering { held: true, ..steering(CLOUD, None) };
    let config = config("failback = 'auto', hold_down_s = 60");
    let (mut second, words) = Engine::new(&config, &[found, Steering::default()], now);
    assert_eq!(words[0], (SERVICE, found));
    second.observe(MASTER, ANSWER, now);
    assert_eq!(steered(&second.tick(now + HOLD_DOWN * 2)), []);
}

#[test]
fn automatic_failback_is_a_planned_switch_after_the_hold_down() {
    let mut now = Instant::now();
    let mut engine = engine("failback = 'auto', hold_down_s = 60", now);
    engine.observe(MASTER, Evidence::Refused, now);
    engine.observe(MASTER, ANSWER, now);
    engine.observe(MASTER, ANSWER, now);
    assert_eq!(engine.next_deadline(), Some(now + HOLD_DOWN));
    now += HOLD_DOWN;
    assert_eq!(steered(&engine.tick(now)), [(SERVICE, steering(MASTER, Some(CLOUD)))]);
}

#[test]
fn a_wish_for_a_dead_server_is_refused_and_changes_nothing() {
    let now = Instant::now();
    let mut engine = engine("failback = 'manual'", now);
    engine.observe(CLOUD, Evidence::Refused, now);
    assert_eq!(engine.may(&wish(Some(CLOUD))), Err(Refusal::Down));
    assert_eq!(engine.wish(&wish(Some(CLOUD)), now), Err(Refusal::Down));
    assert_eq!(engine.steering(SERVICE), steering(MASTER, None));
    assert!(!engine.services()[0].is_held());
}

#[test]
fn silence_of_all_servers_at_once_moves_nothing_and_neither_does_their_return() {
    let mut now = Instant::now();
    let mut engine = engine("failback = 'manual'", now);
    for _ in 0..3 {
        now += Duration::from_millis(20);
        for server in [MASTER, CLOUD] {
            assert_eq!(steered(&engine.observe(server, Evidence::Missed, now)), []);
        }
    }
    assert!(engine.services()[0].outage);
    for server in [CLOUD, CLOUD, MASTER, MASTER] {
        now += Duration::from_millis(20);
        assert_eq!(steered(&engine.observe(server, ANSWER, now)), []);
    }
    assert_eq!(steered(&engine.tick(now + HOLD_DOWN)), []);
}

#[test]
fn a_flap_of_the_gateways_own_link_does_not_move_the_service() {
    let mut now = Instant::now();
    let mut engine = engine("failback = 'manual'", now);
    assert_eq!(steered(&engine.observe_all(&[MASTER, CLOUD], Evidence::NoCarrier, now)), []);
    now += Duration::from_secs(2);
    for server in [CLOUD, CLOUD, MASTER, MASTER] {
        now += Duration::from_millis(20);
        assert_eq!(steered(&engine.observe(server, ANSWER, now)), []);
    }
    assert_eq!(steered(&engine.tick(now + HOLD_DOWN)), []);
    assert_eq!(engine.steering(SERVICE), steering(MASTER, None));
}

#[derive(Clone, Debug)]
enum Step {
    Observe(usize, Evidence),
    Wish(Option<usize>),
    Wait(u64),
}

fn any_step() -> impl Strategy<Value = Step> {
    let evidence = prop_oneof![
        4 => Just(ANSWER),
        3 => Just(Evidence::Missed),
        1 => Just(Evidence::Busy),
        1 => Just(Evidence::Refused),
        1 => Just(Evidence::NoCarrier),
        1 => Just(Evidence::NoService { status: 503 }),
        1 => Just(Evidence::Late { rtt: Duration::from_millis(40) }),
    ];
    prop_oneof![
        8 => (0..2usize, evidence).prop_map(|(server, evidence)| Step::Observe(server, evidence)),
        1 => proptest::option::of(0..2usize).prop_map(Step::Wish),
        2 => (1..40_000u64).prop_map(Step::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]
    #[test]
    fn the_active_server_is_never_known_dead_while_another_is_up(
        steps in proptest::collection::vec(any_step(), 1..200), auto in any::<bool>(),
    ) {
        let mut now = Instant::now();
        let mut engine = engine(if auto { "failback = 'auto'" } else { "failback = 'manual'" }, now);
        for step in steps {
            let outputs = match step {
                Step::Observe(server, evidence) => engine.observe(ServerId(server), evidence, now),
                Step::Wish(server) => engine.wish(&wish(server.map(ServerId)), now).unwrap_or_default(),
                Step::Wait(ms) => {
                    now += Duration::from_millis(ms);
                    engine.tick(now)
                }
            };
            let word = engine.steering(SERVICE);
            if let Some((_, last)) = steered(&outputs).last() {
                prop_assert_eq!(*last, word, "the word in the kernel is the engine's");
            }
            let health = |server: ServerId| engine.servers()[server.0].detector.health();
            let active = word.signalling.unwrap();
            let other = ServerId(1 - active.0);
            // Unless it has to show first that the fault is not everybody's.
            let must_answer = engine.servers()[other.0].detector.last_answer()
                < engine.servers()[active.0].detector.failing_since();
            let waits = must_answer || engine.next_deadline().is_some_and(|due| due > now);
            prop_assert!(health(active) != Health::Down || health(other) != Health::Up || waits);
            prop_assert_ne!(word.draining, Some(active));
            let nobody = health(active) == Health::Down && health(other) != Health::Up;
            prop_assert_eq!(engine.services()[0].outage, nobody);
            prop_assert!(engine.next_deadline().is_none_or(|due| due > now), "nothing that is due is left undone");
        }
    }
}
