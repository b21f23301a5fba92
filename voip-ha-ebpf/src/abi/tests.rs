use super::*;
use std::collections::HashSet;

#[test]
fn a_steering_word_gives_back_what_was_packed() {
    for active in [None, Some(Slot(0)), Some(Slot(MAX_SLOTS - 1))] {
        for draining in [None, Some(Slot(0)), Some(Slot(MAX_SLOTS - 1))] {
            for held in [false, true] {
                let word = SteeringWord::new(active, draining, u32::MAX).with_hold(held);
                assert_eq!((word.active(), word.draining(), word.is_held()), (active, draining, held));
                assert_eq!(word.epoch(), u32::MAX >> 1);
            }
        }
    }
}

#[test]
fn only_the_active_and_the_draining_server_may_send_whichever_bank_they_use() {
    let [first, second, third] = [ServerNumber(0), ServerNumber(1), ServerNumber(2)];
    for bank in 0..BANKS {
        let word = SteeringWord::new(Some(first.slot(bank)), Some(third.slot(bank)), 0);
        assert!(word.may_send(first) && word.may_send(third) && !word.may_send(second));
    }
    assert!(!SteeringWord::default().may_send(first));
}

#[test]
fn a_port_has_the_class_that_the_service_gives_it() {
    let ports = Ports { sip: [5060, 5080, 0, 0], rtp_first: 10000, rtp_last: 19999 };
    let classes = [5060, 5080, 10000, 19999, 9999, 20000, 0, 5061].map(|port| ports.class(port));
    assert_eq!(
        classes,
        [Class::Sip, Class::Sip, Class::Rtp, Class::Rtp, Class::Other, Class::Other, Class::Other, Class::Other]
    );
}

#[test]
fn no_two_counters_share_an_index_and_none_is_outside_the_map() {
    let servers = (0..MAX_SERVERS).map(|number| Some(ServerNumber(number))).chain([None]);
    let mut seen = HashSet::new();
    for server in servers {
        for &class in Class::ALL {
            for &outcome in Outcome::ALL {
                let index = counter_index(server, class, outcome);
                assert!(index < MAX_COUNTERS && seen.insert(index), "{server:?} {class:?} {outcome:?}");
            }
        }
    }
}
