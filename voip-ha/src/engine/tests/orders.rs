//! What operators ask for, and what outlives a controller.

use super::*;

pub(super) fn wish(server: Option<ServerId>) -> Wish {
    let words = Words { reason: Some("test".to_owned()), asked_by: Some("ann".to_owned()) };
    Wish { service: SERVICE, server, scope: Scope::Both, force: false, drain: None, words }
}

pub(super) fn asks(lab: &mut Lab, wish: &Wish) {
    let outputs = lab.engine.wish(wish, lab.now).unwrap_or_else(|refusal| panic!("{refusal}"));
    lab.note(outputs);
}

#[test]
fn a_planned_switch_lets_the_old_server_end_what_it_began_and_then_fences_it() {
    let mut lab = lab(MANUAL);
    asks(&mut lab, &wish(Some(CLOUD)));
    let held = |draining| Steering { choice: Choice::Chosen, draining, ..Steering::to(CLOUD) };
    assert_eq!(steered(&lab.outputs), [(SERVICE, held(Some(MASTER)))]);
    let flip = flips(&lab)[0].clone();
    assert_eq!((flip.reason.as_deref(), flip.asked_by.as_deref()), (Some("test"), Some("ann")));
    assert_eq!((flip.fault, flip.evidence), (None, None));
    let began = lab.now;
    lab.forget();
    lab.run(SECOND);
    assert_eq!(steered(&lab.outputs), [(SERVICE, held(None))]);
    let ended = lab.outputs.iter().find(|(_, output)| matches!(output, Output::Steer(..))).unwrap().0;
    assert_eq!(ended - began, GRACE);
    let counted: Vec<_> = lab.outputs.iter().filter(|(_, output)| *output == Output::EndCensus(SERVICE)).collect();
    assert_eq!(counted.len(), 1);
    assert_eq!(counted[0].0 - began, CENSUS);
}

#[test]
fn a_crash_during_the_grace_of_a_switch_goes_back_and_leaves_nobody_draining() {
    let mut lab = lab(MANUAL);
    asks(&mut lab, &wish(Some(CLOUD)));
    lab.host(CLOUD, Host::Crashed);
    lab.forget();
    let (_, steering) = lab.until_steered(GRACE / 2).expect("it crashed");
    assert_eq!(steering, Steering::to(MASTER));
}

#[test]
fn a_wish_for_a_dead_server_is_refused_and_changes_nothing_unless_it_is_forced() {
    let mut lab = lab(MANUAL);
    lab.host(CLOUD, Host::Crashed);
    lab.run(SECOND);
    let before = lab.engine.steering(SERVICE);
    assert_eq!(lab.engine.may(&wish(Some(CLOUD))), Err(Refusal::Down));
    assert_eq!(lab.engine.wish(&wish(Some(CLOUD)), lab.now), Err(Refusal::Down));
    assert_eq!((lab.engine.steering(SERVICE), lab.engine.services()[0].choice()), (before, Choice::None));
    asks(&mut lab, &Wish { force: true, ..wish(Some(CLOUD)) });
    lab.run(HOLD_DOWN);
    let forced = Steering { choice: Choice::Held, ..Steering::to(CLOUD) };
    assert_eq!(lab.engine.steering(SERVICE), forced, "it stays there, dead as it is");
    assert_eq!(told(&lab, |told| matches!(told, Happening::Kept { held: true, .. })), 1);
}

#[test]
fn a_held_service_stays_with_its_dead_server_says_so_once_and_leaves_it_when_it_is_let_go() {
    let mut lab = lab(MANUAL);
    let outputs = lab.engine.hold(SERVICE, true, &Words::default(), lab.now);
    lab.note(outputs);
    assert_eq!(steered(&lab.outputs), [(SERVICE, Steering { choice: Choice::Held, ..Steering::to(MASTER) })]);
    lab.host(MASTER, Host::Crashed);
    lab.forget();
    lab.run(60 * SECOND);
    assert_eq!(steered(&lab.outputs), []);
    assert_eq!(told(&lab, |told| matches!(told, Happening::Kept { held: true, .. })), 1);
    assert_eq!(lab.engine.wish(&wish(Some(CLOUD)), lab.now), Err(Refusal::Held));
    let outputs = lab.engine.hold(SERVICE, false, &Words::default(), lab.now);
    lab.note(outputs);
    assert_eq!(steered(&lab.outputs), [(SERVICE, Steering::to(CLOUD))]);
}

#[test]
fn an_operator_parts_media_from_signalling_and_failback_leaves_them_so() {
    let mut lab = lab(AUTO);
    asks(&mut lab, &Wish { scope: Scope::Media, ..wish(Some(CLOUD)) });
    let parted = Steering { media: Some(CLOUD), choice: Choice::Chosen, ..Steering::to(MASTER) };
    assert_eq!(lab.engine.steering(SERVICE), Steering { draining: None, ..parted }, "the master still has signalling");
    lab.run(HOLD_DOWN * 2);
    assert_eq!(lab.engine.steering(SERVICE), parted);
    lab.host(CLOUD, Host::Silent);
    let (time, steering) = lab.until_steered(SECOND).expect("media's server is dead");
    assert!(time < Duration::from_millis(40), "it is watched as an active one: {time:?}");
    assert_eq!((steering.signalling, steering.media), (Some(MASTER), Some(MASTER)));
}

#[test]
fn an_adopted_server_stays_active_until_something_is_heard() {
    let now = Instant::now();
    let found = [Steering::to(CLOUD), Steering::default()];
    let (mut engine, words) = Engine::new(&config(MANUAL, "lan"), &found, now, Duration::ZERO);
    assert_eq!(words, [(SERVICE, Steering::to(CLOUD)), (ServiceId(1), Steering::to(ServerId(2)))]);
    assert_eq!(engine.services()[0].cause, Cause::Adopted);
    assert_eq!(engine.services()[1].cause, Cause::Start);
    let outputs = engine.observe(&[(MASTER, Evidence::Answer { status: 200, rtt: GRACE }, now)], now);
    assert!(!outputs.iter().any(|output| matches!(output, Output::Steer(..))), "{outputs:?}");
}

#[test]
fn an_operators_choice_is_remembered_in_the_word_and_survives_the_controller() {
    let mut lab = lab(AUTO);
    let held = Steering { choice: Choice::Chosen, ..Steering::to(MASTER) };
    asks(&mut lab, &wish(Some(MASTER)));
    assert_eq!(steered(&lab.outputs), [(SERVICE, held)], "it was active already");
    lab.forget();
    asks(&mut lab, &wish(None));
    assert_eq!(steered(&lab.outputs), [(SERVICE, Steering::to(MASTER))]);

    let found = Steering { choice: Choice::Chosen, ..Steering::to(CLOUD) };
    let mut second = Lab::new(&config(AUTO, "lan"));
    let now = second.now;
    let (engine, words) = Engine::new(&config(AUTO, "lan"), &[found, Steering::default()], now, Duration::ZERO);
    assert_eq!(words[0], (SERVICE, found));
    second.engine = engine;
    second.run(HOLD_DOWN * 2);
    assert_eq!(steered(&second.outputs), []);
    asks(&mut second, &wish(None));
    assert_eq!(second.engine.steering(SERVICE).signalling, Some(MASTER));
}

#[test]
fn a_hold_survives_the_controller() {
    let found = Steering { choice: Choice::Held, ..Steering::to(CLOUD) };
    let mut second = Lab::new(&config(AUTO, "lan"));
    let (engine, _) = Engine::new(&config(AUTO, "lan"), &[found, Steering::default()], second.now, Duration::ZERO);
    second.engine = engine;
    second.run(SECOND);
    second.host(CLOUD, Host::Crashed);
    second.run(HOLD_DOWN * 2);
    assert_eq!(second.engine.steering(SERVICE), found, "neither a failover nor a failback");
}
