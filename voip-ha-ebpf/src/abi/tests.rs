use super::*;
use std::collections::HashSet;

const CHOICES: [Choice; 3] = [Choice::None, Choice::Chosen, Choice::Held];

#[test]
fn a_steering_word_gives_back_what_was_packed() {
    let slots = [None, Some(Slot(0)), Some(Slot(MAX_SLOTS - 1))];
    for (signalling, media) in slots.into_iter().flat_map(|slot| slots.map(|other| (slot, other))) {
        for (draining, epoch) in slots.into_iter().flat_map(|slot| [0, 1, LAST_EPOCH].map(|epoch| (slot, epoch))) {
            for (choice, notes) in CHOICES.into_iter().flat_map(|choice| Notes::ALL.map(|notes| (choice, notes))) {
                let named = Named { signalling, media, draining };
                let word = SteeringWord::new(named, epoch).with_choice(choice).with_notes(notes);
                assert_eq!((word.named(), word.epoch()), (named, epoch));
                assert_eq!((word.choice(), word.notes()), (choice, notes));
                let other = Named::both(Slot(7));
                assert_eq!(word.with(other).with(named), word, "what is not a slot stays");
            }
        }
    }
}

#[test]
fn what_is_noted_says_who_is_asked_and_whose_a_flow_is_that_nobody_knows() {
    use Notes::{Calls, CallsOfActive, CallsOfFormer, Count, Nothing};
    for (notes, affine, flows, of_former, of_active, settled) in [
        (Nothing, false, false, false, false, Nothing),
        (Count, false, true, true, false, Nothing),
        (Calls, true, false, false, false, Calls),
        (CallsOfFormer, true, true, true, false, Calls),
        (CallsOfActive, true, true, false, true, CallsOfActive),
    ] {
        let word = SteeringWord::default().with_notes(notes);
        let found = (word.is_affine(), word.notes_flows(), word.notes_flows_of_former(), word.notes_flows_of_active());
        assert_eq!(found, (affine, flows, of_former, of_active), "{notes:?}");
        let asked = [Class::Sip, Class::Rtp].map(|class| word.asks_about(class));
        assert_eq!((asked, notes.settled()), ([affine, affine || flows], settled), "{notes:?}");
    }
}

#[test]
fn the_next_epoch_changes_nothing_else_and_is_never_zero() {
    let with = |word: SteeringWord| word.with_choice(Choice::Held).with_notes(Notes::CallsOfActive);
    let word = with(SteeringWord::new(Named::both(Slot(3)), LAST_EPOCH));
    assert_eq!(word.next(), with(SteeringWord::new(word.named(), 1)));
    assert_eq!(word.next().next().epoch(), 2);
    assert_eq!(SteeringWord::default().next(), SteeringWord::new(Named::default(), 1));
}

#[test]
fn an_epoch_begins_with_another_server_only_and_a_take_over_is_when_it_takes_the_place_of_one() {
    let [first, second] = [0, 1].map(ServerNumber);
    let both = |server: ServerNumber| Named::both(server.slot(0));
    let change = |from: SteeringWord, named: Named, choice: Choice| {
        let to = from.steered(named, choice);
        assert_eq!((to.named(), to.choice(), to.notes()), (named, choice, from.notes()));
        (to.epoch() - from.epoch(), from.is_take_over(named))
    };
    let nobody = SteeringWord::default();
    let word = nobody.steered(both(first), Choice::None).with_notes(Notes::Calls);
    assert_eq!(change(nobody, both(first), Choice::None), (1, false));
    assert_eq!(change(word, both(first), Choice::None), (0, false));
    assert_eq!(change(word, both(second), Choice::None), (1, true));
    assert_eq!(change(word, Named { media: Some(second.slot(1)), ..both(first) }, Choice::None), (1, true));
    assert_eq!(change(word, both(first), Choice::Chosen), (0, false));
    assert_eq!(change(word, Named::default(), Choice::None), (1, false));
    assert_eq!(change(word, Named::both(first.slot(1)), Choice::None), (0, false));
    assert_eq!(change(word, Named { draining: Some(second.slot(0)), ..both(first) }, Choice::None), (0, false));
}

#[test]
fn only_servers_that_the_word_names_may_send_whichever_bank_they_use() {
    let [first, second, third, fourth] = [0, 1, 2, 3].map(ServerNumber);
    for bank in 0..BANKS {
        let slot = |number: ServerNumber| Some(number.slot(bank));
        let named = Named { signalling: slot(first), media: slot(second), draining: slot(third) };
        let word = SteeringWord::new(named, 0);
        assert_eq!([first, second, third, fourth].map(|server| word.may_send(server)), [true, true, true, false]);
        assert!(word.goes_to(Class::Sip, first) && !word.goes_to(Class::Rtp, first));
        assert!(word.goes_to(Class::Rtp, second) && !word.goes_to(Class::Sip, second));
    }
    assert!(!SteeringWord::default().may_send(first));
}

#[test]
fn no_two_flips_that_are_remembered_share_an_index_and_none_is_outside_the_map() {
    let mut seen = HashSet::new();
    for service in 0..MAX_SERVICES {
        for epoch in 8..8 + EPOCHS_KEPT as u16 {
            for &class in Class::ALL {
                let index = flip_index(service, epoch, class);
                assert!(index < MAX_FLIPS && seen.insert(index), "{service} {epoch} {class:?}");
            }
        }
    }
}

#[test]
fn a_signal_is_read_as_it_was_written_and_nothing_of_another_size_is_one() {
    let record = SignalRecord { at: 1 << 40, server: 5, code: 3 };
    let bytes = [&record.at.to_ne_bytes()[..], &record.server.to_ne_bytes(), &record.code.to_ne_bytes()].concat();
    assert_eq!(SignalRecord::read(&bytes), Some(record));
    assert_eq!(SignalRecord::read(&bytes[..15]), None);
    assert_eq!(SignalRecord::read(&[bytes, vec![0]].concat()), None);
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
fn no_two_tallies_share_an_index_and_none_is_outside_the_map() {
    let servers = (0..MAX_SERVERS).map(|number| Some(ServerNumber(number))).chain([None]);
    let mut seen = HashSet::new();
    for server in servers {
        for &class in Class::ALL {
            let index = tally_index(server, class);
            assert!(index < MAX_TALLIES && seen.insert(index), "{server:?} {class:?}");
        }
    }
}

#[test]
fn no_two_ways_to_servers_share_an_index_and_none_is_outside_the_map() {
    let mut seen = HashSet::new();
    for slot in (0..MAX_SERVERS).flat_map(|number| (0..BANKS).map(move |bank| ServerNumber(number).slot(bank))) {
        for family in Family::ALL {
            let index = server_index(slot, family);
            assert!(index < MAX_WAYS && seen.insert(index), "{slot:?} {family}");
        }
    }
}

#[test]
fn the_other_bank_is_of_the_same_server_and_of_the_same_service() {
    for index in 0..MAX_SERVICES {
        let place = ServicePlace::new(index, 0);
        assert_eq!(place.other_bank(), ServicePlace::new(index, 1));
        assert_eq!((place.other_bank().other_bank(), place.other_bank().service()), (place, index));
        assert!(place.other_bank().0 < MAX_PLACES);
    }
    for number in (0..MAX_SERVERS).map(ServerNumber) {
        let slot = number.slot(0);
        assert_eq!(slot.other_bank(), number.slot(1));
        assert_eq!((slot.other_bank().other_bank(), slot.other_bank().server()), (slot, number));
        assert!(slot.other_bank().0 < MAX_SLOTS);
    }
}

#[test]
fn a_search_looks_at_as_many_rows_as_there_are_probes_and_at_none_outside_the_map() {
    for ifindex in [0, 1, LINK_ROWS - 1, LINK_ROWS, u32::MAX] {
        let rows: HashSet<_> = link_rows(ifindex).collect();
        assert!(rows.len() == LINK_PROBES as usize && rows.iter().all(|row| *row < LINK_ROWS), "{ifindex}");
    }
    for last in 0..=u8::MAX {
        for address in [Address::v4([10, 0, 0, last]), Address::v6([last; 16])] {
            let rows: HashSet<_> = rows_of(&address).collect();
            assert!(rows.len() == ENDPOINT_PROBES as usize && rows.iter().all(|row| *row < ENDPOINT_ROWS));
            assert!(rows.contains(&first_row(&address)));
        }
    }
}

#[test]
fn a_service_has_the_vip_of_each_family_or_none() {
    let [four, six] = [Address::v4([192, 0, 2, 10]), Address::v6([0x20; 16])];
    let service = ServiceEntry { vips: [four, six], ..ServiceEntry::default() };
    assert_eq!(Family::ALL.map(|family| service.vip(family)), [four, six]);
    assert_eq!(Family::ALL.map(|family| ServiceEntry::default().vip(family)), [Address::NONE; 2]);
}
