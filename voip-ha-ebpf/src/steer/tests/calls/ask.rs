//! A world that remembers, and when it is asked what it remembers.

use super::*;

/// A world with what is known of the flow, the call and the message of the one packet that the test sends.
pub(super) struct Memory<const CALLS: bool> {
    pub(super) world: World,
    pub(super) flow: Owner,
    pub(super) call: Owner,
    pub(super) scan: Scan,
    pub(super) asked: Cell<Asked>,
}

/// How often each was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct Asked {
    pub(super) flow: u32,
    pub(super) call: u32,
    pub(super) scan: u32,
}

impl Memory<true> {
    pub(super) fn of(world: World) -> Self {
        Self::with(world)
    }
}

impl<const CALLS: bool> Memory<CALLS> {
    fn with(world: World) -> Self {
        let asked = Cell::default();
        Self { world, flow: Owner::UNKNOWN, call: Owner::UNKNOWN, scan: Scan::NOTHING, asked }
    }

    pub(super) fn asked(&self) -> Asked {
        self.asked.get()
    }

    pub(super) fn verdict(&self, mut frame: Vec<u8>) -> Verdict {
        let mut view = Frame::from_slice(&mut frame);
        let network = packet::network(&mut view).unwrap();
        steer(&mut view, &network, self)
    }

    fn count(&self, add: impl Fn(&mut Asked)) {
        let mut asked = self.asked.get();
        add(&mut asked);
        self.asked.set(asked);
    }
}

impl<const CALLS: bool> Tables for Memory<CALLS> {
    const HAS_CALLS: bool = CALLS;
    fn endpoint(&self, address: &Address) -> Endpoint {
        self.world.endpoint(address)
    }
    fn service(&self, place: ServicePlace) -> Option<&ServiceEntry> {
        self.world.service(place)
    }
    fn steering(&self, service: u32) -> Option<SteeringWord> {
        self.world.steering(service)
    }
    fn server(&self, slot: Slot, family: Family) -> Option<&ServerEntry> {
        self.world.server(slot, family)
    }
    fn ingress(&self) -> u32 {
        self.world.ingress()
    }
    fn first_fragment(&self, key: &FragmentKey) -> Option<FirstFragment> {
        self.world.first_fragment(key)
    }
    fn route(&self, query: &RouteQuery) -> Route {
        self.world.route(query)
    }
    fn flow(&self, key: &FlowKey) -> Owner {
        self.count(|asked| asked.flow += 1);
        assert!(BOTH.iter().any(|hosts| hosts.phone == key.client), "{key:?}");
        assert_eq!((key.service, key.client_port, key.service_port), (0, PHONE_PORT, RTP));
        self.flow
    }
    fn call(&self, key: &CallKey) -> Owner {
        self.count(|asked| asked.call += 1);
        assert_eq!(*key, CallKey { service: 0, reserved: 0, call: CALL });
        self.call
    }
    fn scan(&self, _: &Datagram) -> Scan {
        self.count(|asked| asked.scan += 1);
        self.scan
    }
}

#[test]
fn the_decision_is_put_off_where_calls_are_remembered_or_a_flow_is_counted_and_nowhere_else() {
    for hosts in BOTH {
        for (notes, draining) in Notes::ALL.into_iter().flat_map(|notes| [(notes, None), (notes, BACKUP)]) {
            let (affinity, flows) = (notes.is_affine(), notes != Notes::Nothing);
            let memory = Memory::<false>::with(remembering(draining, notes));
            let cases = [
                (to_vip(&hosts, SIP), Class::Sip, affinity),
                (to_vip(&hosts, RTP), Class::Rtp, flows),
                (from(hosts.master, &hosts, SIP), Class::Sip, affinity),
                (from(hosts.master, &hosts, RTP), Class::Rtp, affinity),
                (from(hosts.backup, &hosts, RTP), Class::Rtp, affinity),
                (to_vip(&hosts, 22), Class::Other, false),
                (from(hosts.backup, &hosts, 53), Class::Other, false),
                (from(hosts.master, &hosts, 53), Class::Other, false),
            ];
            for (frame, class, is_put_off) in cases {
                let verdict = memory.verdict(frame);
                assert_eq!(verdict.class, class);
                assert_eq!(verdict.action.kind == Kind::AskCalls, is_put_off, "{notes:?}: {verdict:?}");
                if is_put_off {
                    assert_eq!((verdict.note, verdict.to_remember()), (Note::NOTHING, None), "nothing is done twice");
                }
            }
            assert_eq!(memory.asked(), Asked::default(), "{notes:?}");
        }
    }
}

#[test]
fn where_nobody_is_active_there_is_nothing_to_ask() {
    for hosts in BOTH {
        let mut world = World::steered(None, BACKUP).with_way_to_backup();
        world.words[0] = world.words[0].with_notes(Notes::CallsOfFormer);
        for port in [SIP, RTP] {
            let (early, late) = (Memory::<false>::with(world.clone()), Memory::of(world.clone()));
            for verdict in [early.verdict(to_vip(&hosts, port)), late.verdict(to_vip(&hosts, port))] {
                assert_eq!(verdict.action, Action::drop(Outcome::NoActiveServer));
            }
            assert_eq!(late.asked(), Asked::default());
        }
    }
}

#[test]
fn later_fragments_follow_the_first_one_to_the_draining_server_and_without_it_are_dropped_while_that_drains() {
    for hosts in BOTH {
        let first = datagram_with(part(ip(hosts.phone, hosts.vip), 7, 0, true), (PHONE_PORT, SIP), &[b'.'; 1304]);
        let later = datagram_with(part(ip(hosts.phone, hosts.vip), 7, 164, false), (0, 0), b"the rest");
        let scan = message(Message::Initial, true);
        let mut memory = Memory { scan, ..Memory::of(remembering(BACKUP, Notes::Calls)) };
        let unknown = memory.verdict(later.clone());
        assert_eq!((unknown.server, unknown.action), (None, Action::drop(Outcome::Fragment)));
        let verdict = memory.verdict(first.clone());
        assert_eq!((verdict.server, verdict.note.call), (BACKUP, CALL));
        let network = packet::network(&mut Frame::from_slice(&mut first.clone())).unwrap();
        let said = verdict.to_remember().map(|first| (network.fragment_key(), first));
        assert!(said.is_some(), "a first fragment says nothing about the others");
        memory.world.fragments.extend(said);
        let followed = memory.verdict(later.clone());
        assert_eq!((followed.server, followed.class, followed.action.outcome), (BACKUP, Class::Sip, Outcome::ToServer));
        assert_eq!(followed.action.rewrite.destination, hosts.backup);
        for (draining, notes) in [(None, Notes::CallsOfFormer), (None, Notes::CallsOfActive), (BACKUP, Notes::Count)] {
            let verdict = Memory::of(remembering(draining, notes)).verdict(later.clone());
            assert_eq!((verdict.server, verdict.action.outcome), (MASTER, Outcome::ToServer), "{draining:?}");
        }
        assert_eq!(memory.asked(), Asked { call: 1, scan: 1, ..Asked::default() }, "for its first fragment");
    }
}
