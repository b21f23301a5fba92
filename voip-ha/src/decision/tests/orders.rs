//! What an operator may ask for, and what comes of it.

use super::*;

fn order(to: Option<Rank>, scope: Scope, force: bool) -> Order {
    Order { to, scope, force, drain: None }
}

fn switch(to: Rank) -> Order {
    order(Some(to), Scope::Both, false)
}

fn all_up(now: Instant) -> [Standing; 3] {
    [standing(Health::Up, now); 3]
}

#[test]
fn a_switch_to_a_server_that_is_not_known_to_serve_is_refused_and_changes_nothing() {
    let now = Instant::now();
    for (health, reachable, refusal) in [
        (Health::Down, true, Refusal::Down),
        (Health::Unknown, true, Refusal::Unknown),
        (Health::Maintenance, true, Refusal::Maintenance),
        (Health::Up, false, Refusal::NoWay),
    ] {
        let mut servers = all_up(now);
        servers[1] = Standing { reachable, ..standing(health, now) };
        let mut decision = decision(false, MASTER, now);
        assert_eq!(decision.obey(&switch(BACKUP), &servers, now), Err(refusal));
        assert_eq!((decision.active(), decision.choice()), (MASTER, Choice::None));
        let forced = decision.obey(&order(Some(BACKUP), Scope::Both, true), &servers, now);
        assert_eq!(forced.map(|flip| flip.map(|flip| flip.to)), Ok(Some(BACKUP)), "{refusal}");
        assert_eq!(decision.choice(), Choice::Held, "or the policy would undo it at once");
    }
}

#[test]
fn a_choice_stands_against_failback_until_it_is_handed_back() {
    let now = Instant::now();
    let mut decision = decision(true, MASTER, now);
    let flip = Flip { scope: Scope::Both, from: MASTER, to: BACKUP, cause: Cause::Operator };
    assert_eq!(decision.obey(&switch(BACKUP), &all_up(now), now), Ok(Some(flip)));
    let later = now + HOLD_DOWN * 2;
    assert_eq!(decision.decide(&all_up(now), later), None);
    let back = Flip { scope: Scope::Both, from: BACKUP, to: MASTER, cause: Cause::Failback };
    assert_eq!(decision.obey(&order(None, Scope::Both, false), &all_up(now), later), Ok(Some(back)));
}

#[test]
fn a_choice_ends_with_the_server_that_was_chosen() {
    let now = Instant::now();
    let mut decision = decision(true, MASTER, now);
    decision.obey(&switch(BACKUP), &all_up(now), now).unwrap();
    let mut servers = all_up(now);
    servers[1] = crashed(now);
    assert_eq!(decision.decide(&servers, now), Some(failover(BACKUP, MASTER)));
    assert_eq!(decision.choice(), Choice::None);
}

#[test]
fn a_hold_beats_failover_maintenance_failback_and_switches_but_not_force() {
    let now = Instant::now();
    let later = now + HOLD_DOWN * 100;
    let mut dead = all_up(now);
    dead[1] = crashed(now);
    let mut refusing = all_up(now);
    refusing[1] = standing(Health::Maintenance, now);
    let mut decision = decision(true, BACKUP, now);
    decision.hold(true);
    for servers in [dead, refusing, all_up(now)] {
        assert_eq!(decision.decide(&servers, later), None);
        assert_eq!(decision.next_deadline(&servers, now), None);
        assert_eq!(decision.obey(&switch(MASTER), &servers, later), Err(Refusal::Held));
    }
    assert!(decision.is_kept(&dead, now) && !decision.is_kept(&all_up(now), now));
    let forced = decision.obey(&order(Some(Rank(2)), Scope::Both, true), &dead, later);
    assert_eq!(forced.map(|flip| flip.map(|flip| flip.to)), Ok(Some(Rank(2))));
    assert_eq!(decision.choice(), Choice::Held, "force switches, it does not let go");

    decision.hold(false);
    assert_eq!(decision.decide(&all_up(now), later).map(|flip| flip.cause), Some(Cause::Failback));
}

#[test]
fn signalling_and_media_can_be_parted_and_come_together_again() {
    let now = Instant::now();
    let mut decision = decision(false, MASTER, now);
    let part = order(Some(BACKUP), Scope::Media, false);
    let flip = Flip { scope: Scope::Media, from: MASTER, to: BACKUP, cause: Cause::Operator };
    assert_eq!(decision.obey(&part, &all_up(now), now), Ok(Some(flip)));
    assert_eq!(decision.decide(&all_up(now), now + HOUR), None, "nobody undoes it");
    let flip = Flip { scope: Scope::Media, from: BACKUP, to: MASTER, cause: Cause::Operator };
    assert_eq!(decision.obey(&order(None, Scope::Both, false), &all_up(now), now), Ok(Some(flip)));

    let part = order(Some(BACKUP), Scope::Signalling, false);
    decision.obey(&part, &all_up(now), now).unwrap();
    assert_eq!((decision.active(), decision.media()), (BACKUP, MASTER));
    assert_eq!(decision.decide(&all_up(now), now + HOUR), None, "nobody undoes that either");
}

#[test]
fn of_parted_servers_the_half_that_dies_goes_and_the_other_half_stays() {
    let now = Instant::now();
    let mut parted = decision(false, MASTER, now);
    parted.obey(&order(Some(BACKUP), Scope::Media, false), &all_up(now), now).unwrap();
    let mut no_media = all_up(now);
    no_media[1] = crashed(now);
    let flip = Flip { scope: Scope::Media, from: BACKUP, to: MASTER, cause: Cause::Failover };
    assert_eq!(parted.clone().decide(&no_media, now), Some(flip));
    let mut no_signalling = all_up(now);
    no_signalling[0] = crashed(now);
    let flip = Flip { scope: Scope::Signalling, from: MASTER, to: BACKUP, cause: Cause::Failover };
    assert_eq!(parted.decide(&no_signalling, now), Some(flip));
}

#[test]
fn what_an_earlier_controller_left_parted_stays_so_until_an_operator_hands_it_back() {
    let now = Instant::now();
    for choice in [Choice::None, Choice::Chosen] {
        let found = Found { signalling: Some(BACKUP), media: Some(MASTER), choice, ..Found::default() };
        let mut decision = Decision::new(&policy(false), SETTLE, 3, found, now);
        assert_eq!(decision.choice(), Choice::Chosen, "nobody but an operator parts them");
        assert_eq!(decision.decide(&all_up(now), now + HOUR), None, "{choice:?}");
        let joined = decision.obey(&order(None, Scope::Both, false), &all_up(now), now + HOUR);
        assert_eq!(joined.map(|flip| flip.map(|flip| (flip.scope, flip.to))), Ok(Some((Scope::Media, BACKUP))));
    }
}
