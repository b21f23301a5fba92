//! Whose a call is while calls are remembered: each cell of the table in `steer/calls.rs`, and what is noted.

use std::cell::Cell;

use super::*;
use crate::{abi::Notes, sip};

use self::{
    ask::{Asked, Memory},
    sip::Kind as Message,
};

mod ask;

const CALL: u64 = 0x1234_5678_9abc_def0;

/// Of a service with three servers.
const THIRD: ServerNumber = ServerNumber(2);
/// Noted in the census, and no server has sent on it since.
const FORMER: Owner = Owner { is_known: true, server: 0 };

const fn owned_by(server: ServerNumber) -> Owner {
    Owner { is_known: true, server: server.0 + 1 }
}

/// All that may be known of a flow.
const FLOW_OWNERS: [Owner; 5] =
    [Owner::UNKNOWN, FORMER, owned_by(NUMBER_OF_MASTER), owned_by(NUMBER_OF_BACKUP), owned_by(THIRD)];
/// All that may be known of a call, which is never noted without its owner.
const CALL_OWNERS: [Owner; 4] =
    [Owner::UNKNOWN, owned_by(NUMBER_OF_MASTER), owned_by(NUMBER_OF_BACKUP), owned_by(THIRD)];

/// Each kind of message, with and without a tag in `To`, and whether it may begin a call.
const MESSAGES: [(Message, bool, bool); 11] = [
    (Message::None, false, true),
    (Message::Initial, false, true),
    (Message::Initial, true, false),
    (Message::Inside, false, false),
    (Message::Inside, true, false),
    (Message::Bye, false, false),
    (Message::Bye, true, false),
    (Message::Provisional, false, false),
    (Message::Provisional, true, false),
    (Message::Final, false, false),
    (Message::Final, true, false),
];

const fn message(kind: Message, to_tag: bool) -> Scan {
    Scan { call: CALL, kind, to_tag, gave_up: false }
}

/// The master is active, and the backup may drain.
fn remembering(draining: Option<ServerNumber>, notes: Notes) -> World {
    let mut world = World::steered(MASTER, draining).with_way_to_backup();
    world.words[0] = world.words[0].with_notes(notes);
    world
}

fn to_vip(hosts: &Hosts, port: u16) -> Vec<u8> {
    datagram((hosts.phone, PHONE_PORT), (hosts.vip, port))
}

fn from(server: Address, hosts: &Hosts, port: u16) -> Vec<u8> {
    datagram((server, port), (hosts.phone, PHONE_PORT))
}

/// What is to be noted of a flow or call, without what every packet says.
fn of_call(note: Note) -> Note {
    Note { news: News::Nothing, flip: Note::NOTHING.flip, is_target: false, client_port: 0, service_port: 0, ..note }
}

#[test]
fn rtp_stays_with_the_draining_server_if_it_was_noted_or_nobody_foresaw_the_flip_unless_the_active_one_has_answered() {
    let cases = [
        (Owner::UNKNOWN, false, MASTER),
        (Owner::UNKNOWN, true, BACKUP),
        (FORMER, false, BACKUP),
        (FORMER, true, BACKUP),
        (owned_by(NUMBER_OF_BACKUP), false, BACKUP),
        (owned_by(NUMBER_OF_BACKUP), true, BACKUP),
        (owned_by(NUMBER_OF_MASTER), false, MASTER),
        (owned_by(NUMBER_OF_MASTER), true, MASTER),
        (owned_by(THIRD), false, MASTER),
        (owned_by(THIRD), true, MASTER),
    ];
    for hosts in BOTH {
        for (flow, is_fresh, server) in cases {
            let notes = if is_fresh { Notes::CallsOfFormer } else { Notes::Calls };
            let memory = Memory { flow, ..Memory::of(remembering(BACKUP, notes)) };
            let verdict = memory.verdict(to_vip(&hosts, RTP));
            assert_eq!((verdict.server, verdict.action.outcome), (server, Outcome::ToServer), "{flow:?}, {notes:?}");
            let address = if server == MASTER { hosts.master } else { hosts.backup };
            assert_eq!(verdict.action.rewrite.destination, address);
            // Who owns it is said by who sends on it, not by where it goes.
            let wanted = Note { is_flow: flow.is_known || is_fresh, ..Note::NOTHING };
            assert_eq!(of_call(verdict.note), wanted, "{flow:?}, {notes:?}");
            assert_eq!((verdict.note.client_port, verdict.note.service_port), (PHONE_PORT, RTP));
            assert_eq!((verdict.note.news, verdict.note.is_target), (News::Sent, server == MASTER));
            assert_eq!(memory.asked(), Asked { flow: 1, ..Asked::default() });
        }
    }
}

#[test]
fn sip_goes_to_the_owner_of_its_call_and_without_one_to_the_active_server_only_if_it_may_begin_a_call() {
    for hosts in BOTH {
        for (kind, to_tag, begins) in MESSAGES {
            for call in CALL_OWNERS {
                let scan = message(kind, to_tag);
                let memory = Memory { call, scan, ..Memory::of(remembering(BACKUP, Notes::CallsOfFormer)) };
                let verdict = memory.verdict(to_vip(&hosts, SIP));
                let server = if call == owned_by(NUMBER_OF_BACKUP) {
                    BACKUP
                } else if call == owned_by(NUMBER_OF_MASTER) || begins {
                    MASTER
                } else {
                    BACKUP
                };
                assert_eq!((verdict.server, verdict.action.outcome), (server, Outcome::ToServer), "{scan:?}, {call:?}");
                let is_noted = call == Owner::UNKNOWN && kind != Message::None;
                assert_eq!(verdict.note.call, if is_noted { CALL } else { 0 }, "{scan:?}, {call:?}");
                assert_eq!(Some(ServerNumber(verdict.note.owner - 1)), server);
                assert_eq!((verdict.note.is_flow, verdict.note.is_target), (false, server == MASTER));
                assert_eq!(memory.asked(), Asked { call: 1, scan: 1, ..Asked::default() });
            }
        }
    }
}

#[test]
fn sip_whose_call_was_not_found_is_neither_looked_up_nor_noted() {
    for hosts in BOTH {
        for (kind, to_tag, begins) in MESSAGES {
            let scan = Scan { call: 0, ..message(kind, to_tag) };
            let memory = Memory { scan, ..Memory::of(remembering(BACKUP, Notes::Calls)) };
            let verdict = memory.verdict(to_vip(&hosts, SIP));
            assert_eq!(verdict.server, if begins { MASTER } else { BACKUP }, "{scan:?}");
            let reply = memory.verdict(from(hosts.backup, &hosts, SIP));
            assert_eq!((verdict.note.call, reply.note.call), (0, 0));
            assert_eq!(memory.asked(), Asked { scan: 2, ..Asked::default() });
        }
    }
}

#[test]
fn where_nobody_drains_all_goes_to_the_active_server_and_calls_are_noted_that_are_certainly_its_own() {
    for hosts in BOTH {
        for notes in [Notes::Calls, Notes::CallsOfFormer] {
            for flow in FLOW_OWNERS {
                let memory = Memory { flow, ..Memory::of(remembering(None, notes)) };
                let verdict = memory.verdict(to_vip(&hosts, RTP));
                assert_eq!((verdict.server, verdict.note.is_target), (MASTER, true), "{flow:?}");
                let is_flow = flow.is_known || notes == Notes::CallsOfFormer;
                assert_eq!(of_call(verdict.note), Note { is_flow, ..Note::NOTHING }, "{flow:?}, {notes:?}");
            }
            for (kind, to_tag, begins) in MESSAGES {
                for call in CALL_OWNERS {
                    let scan = message(kind, to_tag);
                    let memory = Memory { call, scan, ..Memory::of(remembering(None, notes)) };
                    let verdict = memory.verdict(to_vip(&hosts, SIP));
                    assert_eq!((verdict.server, verdict.note.is_target), (MASTER, true), "{scan:?}, {call:?}");
                    let is_noted = begins && kind != Message::None && !call.is_known;
                    assert_eq!(verdict.note.call, if is_noted { CALL } else { 0 }, "{scan:?}, {call:?}");
                }
            }
        }
    }
}

#[test]
fn a_server_that_drains_without_affinity_is_only_not_fenced() {
    for hosts in BOTH {
        for notes in [Notes::Nothing, Notes::Count] {
            for owner in FLOW_OWNERS {
                let scan = message(Message::Bye, true);
                let memory = Memory { flow: owner, call: owner, scan, ..Memory::of(remembering(BACKUP, notes)) };
                for port in [RTP, SIP] {
                    let verdict = memory.verdict(to_vip(&hosts, port));
                    assert_eq!((verdict.server, verdict.note.is_target), (MASTER, true), "{owner:?}, {notes:?}");
                    assert_eq!((verdict.note.call, verdict.note.owner), (0, 0));
                    let reply = memory.verdict(from(hosts.backup, &hosts, port));
                    assert_eq!((reply.server, reply.action.outcome), (BACKUP, Outcome::ToClient));
                    assert_eq!(of_call(reply.note), Note::NOTHING, "{owner:?}, {notes:?}");
                }
                assert_eq!(memory.asked(), Asked { flow: u32::from(notes == Notes::Count), ..Asked::default() });
            }
        }
    }
}

#[test]
fn rtp_of_a_server_says_whose_its_flow_is_and_makes_it_known_only_if_the_server_drains() {
    for hosts in BOTH {
        for notes in [Notes::Calls, Notes::CallsOfFormer] {
            for (server, address, is_draining) in
                [(NUMBER_OF_BACKUP, hosts.backup, true), (NUMBER_OF_MASTER, hosts.master, false)]
            {
                let memory = Memory::of(remembering(BACKUP, notes));
                let verdict = memory.verdict(from(address, &hosts, RTP));
                assert_eq!((verdict.server, verdict.action.outcome), (Some(server), Outcome::ToClient));
                let owner = server.0 + 1;
                let wanted = Note { is_flow: true, is_new_flow: is_draining, owner, ..Note::NOTHING };
                assert_eq!(of_call(verdict.note), wanted);
                assert_eq!((verdict.note.client_port, verdict.note.service_port), (PHONE_PORT, RTP), "as clients send");
                assert_eq!((verdict.note.news, verdict.note.is_target), (News::Heard, !is_draining));
                assert_eq!(memory.asked(), Asked::default());
            }
        }
    }
}

#[test]
fn sip_of_the_draining_server_makes_any_call_its_own_and_of_the_active_one_only_a_new_one() {
    for hosts in BOTH {
        for draining in [BACKUP, None] {
            for (kind, to_tag, begins) in MESSAGES {
                for call in CALL_OWNERS {
                    let scan = message(kind, to_tag);
                    let memory = Memory { call, scan, ..Memory::of(remembering(draining, Notes::Calls)) };
                    let is_sip = kind != Message::None && !call.is_known;
                    let reply = memory.verdict(from(hosts.master, &hosts, SIP));
                    let noted = (reply.note.call, reply.note.owner);
                    assert_eq!(noted, (if is_sip && begins { CALL } else { 0 }, 1), "{scan:?}, {call:?}");
                    let reply = memory.verdict(from(hosts.backup, &hosts, SIP));
                    if draining.is_none() {
                        assert_eq!((reply.action.outcome, reply.note), (Outcome::Fenced, Note::NOTHING));
                        continue;
                    }
                    let noted = (reply.note.call, reply.note.owner);
                    assert_eq!(noted, (if is_sip { CALL } else { 0 }, 2), "{scan:?}, {call:?}");
                    assert!(!reply.note.is_flow && reply.note.news == News::Heard);
                }
            }
        }
    }
}

/// In a census all goes where it goes without, and what is noted then is what the active server keeps when it is left.
#[test]
fn in_a_census_the_active_server_gets_all_and_what_it_serves_is_noted_as_its_own() {
    let its_own = NUMBER_OF_MASTER.0 + 1;
    for (hosts, draining) in BOTH.into_iter().flat_map(|hosts| [(hosts, None), (hosts, BACKUP)]) {
        for flow in FLOW_OWNERS {
            let memory = Memory { flow, ..Memory::of(remembering(draining, Notes::CallsOfActive)) };
            let verdict = memory.verdict(to_vip(&hosts, RTP));
            let is_former = flow == FORMER || flow == owned_by(NUMBER_OF_BACKUP);
            let server = if is_former { draining.or(MASTER) } else { MASTER };
            assert_eq!((verdict.server, verdict.note.is_target), (server, server == MASTER), "{flow:?}, {draining:?}");
            let owner = if flow.is_known { 0 } else { its_own };
            assert_eq!(of_call(verdict.note), Note { is_flow: true, owner, ..Note::NOTHING }, "{flow:?}");
            let reply = memory.verdict(from(hosts.master, &hosts, RTP));
            let wanted = Note { is_flow: true, is_new_flow: true, owner: its_own, ..Note::NOTHING };
            assert_eq!(of_call(reply.note), wanted, "a call whose phone is silent");
        }
        for (kind, to_tag, begins) in MESSAGES {
            for call in CALL_OWNERS {
                let scan = message(kind, to_tag);
                let memory = Memory { call, scan, ..Memory::of(remembering(None, Notes::CallsOfActive)) };
                let verdict = memory.verdict(to_vip(&hosts, SIP));
                assert_eq!((verdict.server, verdict.note.owner), (MASTER, its_own), "{scan:?}, {call:?}");
                let is_new = kind != Message::None && !call.is_known;
                assert_eq!(verdict.note.call, if is_new && begins { CALL } else { 0 }, "{scan:?}, {call:?}");
                // An INVITE that came before the census is repeated after the flip, and must find who has answered it.
                let reply = memory.verdict(from(hosts.master, &hosts, SIP)).note;
                assert_eq!((reply.call, reply.owner), (if is_new { CALL } else { 0 }, its_own), "{scan:?}, {call:?}");
            }
        }
    }
}

#[test]
fn an_error_about_rtp_reaches_the_server_whose_flow_it_is_and_one_about_sip_the_active_server() {
    for hosts in BOTH {
        for flow in FLOW_OWNERS {
            let memory = Memory { flow, ..Memory::of(remembering(BACKUP, Notes::Calls)) };
            let about = |port| {
                let sent = datagram((hosts.vip, port), (hosts.phone, PHONE_PORT));
                memory.verdict(unreachable(hosts.phone, hosts.vip, &sent))
            };
            let is_its_own = flow == FORMER || flow == owned_by(NUMBER_OF_BACKUP);
            let verdict = about(RTP);
            assert_eq!(verdict.server, if is_its_own { BACKUP } else { MASTER }, "{flow:?}");
            assert_eq!((verdict.action.outcome, verdict.note), (Outcome::ToServer, Note::NOTHING));
            assert_eq!(about(SIP).server, MASTER);
            assert_eq!(memory.asked(), Asked { flow: 1, ..Asked::default() });
        }
        for (draining, notes) in [(None, Notes::CallsOfActive), (BACKUP, Notes::Count)] {
            let memory = Memory::<true>::of(remembering(draining, notes));
            let sent = datagram((hosts.vip, RTP), (hosts.phone, PHONE_PORT));
            assert_eq!(memory.verdict(unreachable(hosts.phone, hosts.vip, &sent)).server, MASTER);
            assert_eq!(memory.asked(), Asked::default(), "there is nothing to choose");
        }
    }
}

#[test]
fn what_claims_to_be_of_the_draining_server_and_comes_by_another_way_makes_no_call_its_own() {
    for hosts in BOTH {
        let world = World { ingress: FRONT, ..remembering(BACKUP, Notes::CallsOfFormer) };
        let memory = Memory { scan: message(Message::Final, true), ..Memory::of(world) };
        for port in [SIP, RTP] {
            let verdict = memory.verdict(from(hosts.backup, &hosts, port));
            assert_eq!((verdict.action.outcome, verdict.note), (Outcome::ToClient, Note::NOTHING));
        }
        assert_eq!(memory.asked(), Asked::default());
    }
}

#[test]
fn signalling_and_media_that_go_to_two_servers_are_both_compared_with_the_draining_one() {
    for hosts in BOTH {
        // Media stays, and only signalling has left the backup.
        let mut world = World::split(MASTER, BACKUP, BACKUP).with_way_to_backup();
        world.words[0] = world.words[0].with_notes(Notes::Calls);
        let memory = Memory { scan: message(Message::Bye, true), ..Memory::of(world) };
        let request = memory.verdict(to_vip(&hosts, SIP));
        assert_eq!((request.server, request.note.is_target), (BACKUP, false));
        let media = memory.verdict(to_vip(&hosts, RTP));
        assert_eq!((media.server, media.note.is_target), (BACKUP, true));
    }
}

#[test]
fn a_packet_is_not_sent_to_a_draining_server_that_has_no_way() {
    for hosts in BOTH {
        let mut world = World::steered(MASTER, BACKUP);
        world.words[0] = world.words[0].with_notes(Notes::Calls);
        let verdict = Memory { flow: FORMER, ..Memory::of(world) }.verdict(to_vip(&hosts, RTP));
        let found = (verdict.server, verdict.action, verdict.note);
        assert_eq!(found, (BACKUP, Action::drop(Outcome::NoNextHop), Note::NOTHING));
    }
}
