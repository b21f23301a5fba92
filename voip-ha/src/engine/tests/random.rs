//! What holds whatever comes.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Event {
    Host(usize, Host),
    Calls(usize, bool),
    Link(Vec<usize>),
    Way(usize, bool),
    Wish(Option<usize>, Scope, bool),
    Drain(usize, u64),
    EndDrain(usize),
    Hold(bool),
    Wait(u64),
}

fn any_event() -> impl Strategy<Value = Event> {
    let host =
        prop::sample::select(vec![Host::Well, Host::Well, Host::Says(503), Host::Crashed, Host::Hung, Host::Silent]);
    let scope = prop::sample::select(vec![Scope::Both, Scope::Signalling, Scope::Media]);
    prop_oneof![
        6 => (0..2usize, host).prop_map(|(server, host)| Event::Host(server, host)),
        1 => (0..2usize, any::<bool>()).prop_map(|(server, talks)| Event::Calls(server, talks)),
        1 => prop::sample::select(vec![vec![0], vec![1], vec![0, 1]]).prop_map(Event::Link),
        1 => (0..2usize, any::<bool>()).prop_map(|(server, known)| Event::Way(server, known)),
        1 => (prop::option::of(0..2usize), scope, prop::bool::weighted(0.2))
            .prop_map(|(server, scope, force)| Event::Wish(server, scope, force)),
        2 => (0..2usize, 1..8u64).prop_map(|(server, seconds)| Event::Drain(server, seconds)),
        1 => (0..2usize).prop_map(Event::EndDrain),
        1 => prop::bool::weighted(0.3).prop_map(Event::Hold),
        6 => (1..3_000u64).prop_map(Event::Wait),
    ]
}

fn apply(lab: &mut Lab, event: Event) {
    let now = lab.now;
    let outputs = match event {
        Event::Host(server, host) => {
            lab.host(ServerId(server), host);
            Vec::new()
        }
        Event::Calls(server, talks) => {
            lab.calls[server] = Some(Duration::from_millis(20)).filter(|_| talks && lab.hosts[server] == Host::Well);
            Vec::new()
        }
        Event::Link(servers) => lab.engine.no_carrier(&servers.into_iter().map(ServerId).collect::<Vec<_>>(), now),
        Event::Way(server, known) => lab.engine.set_reachable(ServerId(server), known, now),
        Event::Wish(server, scope, force) => {
            let wish = Wish { scope, force, ..orders::wish(server.map(ServerId)) };
            lab.engine.wish(&wish, now).unwrap_or_default()
        }
        Event::Drain(server, seconds) => {
            let drain = Some(Duration::from_secs(seconds));
            lab.engine.wish(&Wish { drain, ..orders::wish(Some(ServerId(server))) }, now).unwrap_or_default()
        }
        Event::EndDrain(server) => lab.engine.end_drain(SERVICE, ServerId(server), &Words::default()),
        Event::Hold(held) => lab.engine.hold(SERVICE, held, &Words::default(), now),
        Event::Wait(ms) => {
            lab.run(Duration::from_millis(ms));
            Vec::new()
        }
    };
    lab.note(outputs);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn the_word_is_the_engines_and_a_dead_server_is_left_for_one_that_is_known_to_live(
        events in prop::collection::vec(any_event(), 1..60), auto in any::<bool>(),
    ) {
        let failback = if auto { "failback = 'auto', hold_down_s = 2" } else { "failback = 'manual'" };
        let mut lab = lab(&format!("{failback}, drain_s = 5, give_back_s = 3"));
        for event in events {
            let was_wait = matches!(event, Event::Wait(_));
            lab.forget();
            apply(&mut lab, event);
            let word = lab.engine.steering(SERVICE);
            if let Some((_, last)) = steered(&lab.outputs).last() {
                prop_assert_eq!(*last, word, "the word in the kernel is the engine's");
            }
            prop_assert!(word.draining.is_none_or(|old| Some(old) != word.signalling && Some(old) != word.media));
            let service = &lab.engine.services()[0];
            prop_assert_eq!(word.memory.is_affine() && word.draining.is_some(), service.draining().is_some());
            let planned = service.planned();
            prop_assert_eq!(word.memory == Memory::Census, planned.is_some());
            prop_assert!(planned.is_none_or(|(_, planned)| !was_wait || planned.due > lab.now));
            prop_assert!(planned.is_none() || service.choice() != Choice::Held);
            prop_assert!(service.former().is_none_or(|(_, former)| !was_wait || former.until > lab.now));
            let health = |server: ServerId| lab.engine.servers()[server.0].detector.health();
            let eligible = |server: ServerId| health(server) == Health::Up && lab.engine.servers()[server.0].reachable;
            let calls = service.draining();
            prop_assert!(calls.is_none_or(|(server, _)| !was_wait || health(server) != Health::Down));
            let active = service.active();
            let other = ServerId(1 - active.0);
            let is_dead = health(active) == Health::Down;
            prop_assert_eq!(service.outage, is_dead && !eligible(other));
            let waits = lab.engine.servers()[other.0].since + 2 * SECOND > lab.now;
            if was_wait && is_dead && eligible(other) && !waits {
                prop_assert!(service.kept, "{:?}", lab.engine.services()[0]);
            }
        }
    }
}
