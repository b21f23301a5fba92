use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
};

use super::*;
use crate::{
    abi::{Endpoint, Family, FirstFragment, FragmentKey, ServerEntry, ServiceEntry, ServicePlace, Slot, SteeringWord},
    steer::{Route, RouteQuery},
};

const PLACE: ServicePlace = ServicePlace(3);
const PHONE: Address = Address::v4([198, 51, 100, 7]);
const TRUNK: Address = Address::v4([203, 0, 113, 7]);
const BANNED: Address = Address::v4([203, 0, 113, 8]);

/// Lists, and what is left of one budget. Nothing else is asked.
struct Lists {
    listings: HashMap<Address, Listing>,
    left: Cell<u32>,
    asked: RefCell<Vec<&'static str>>,
}

impl Lists {
    fn new(left: u32) -> Self {
        let listings = HashMap::from([(TRUNK, Listing::Allowed), (BANNED, Listing::Denied)]);
        Self { listings, left: Cell::new(left), asked: RefCell::default() }
    }

    fn asks(&self, protection: u32, class: Class, source: &Address) -> (Admission, Vec<&'static str>) {
        let service = ServiceEntry { protection, ..ServiceEntry::default() };
        let admission = admission(source, class, &Towards { place: PLACE, service: &service }, self);
        (admission, self.asked.take())
    }
}

impl Tables for Lists {
    fn endpoint(&self, _: &Address) -> Endpoint {
        unreachable!("looked up before")
    }
    fn listing(&self, place: ServicePlace, source: &Address) -> Listing {
        assert_eq!(place, PLACE);
        self.asked.borrow_mut().push("listing");
        self.listings.get(source).copied().unwrap_or(Listing::Unlisted)
    }
    fn spend(&self, place: ServicePlace, _: &Address) -> bool {
        assert_eq!(place, PLACE);
        self.asked.borrow_mut().push("spend");
        let left = self.left.get();
        self.left.set(left.saturating_sub(1));
        left > 0
    }
    fn service(&self, _: ServicePlace) -> Option<&ServiceEntry> {
        unreachable!("the entry is an argument")
    }
    fn steering(&self, _: u32) -> Option<SteeringWord> {
        unreachable!("no matter who is active")
    }
    fn server(&self, _: Slot, _: Family) -> Option<&ServerEntry> {
        unreachable!("no matter who is active")
    }
    fn ingress(&self) -> u32 {
        unreachable!("no matter where it came from")
    }
    fn first_fragment(&self, _: &FragmentKey) -> Option<FirstFragment> {
        unreachable!("looked up before")
    }
    fn route(&self, _: &RouteQuery) -> Route {
        unreachable!("no matter where it goes")
    }
}

#[test]
fn a_service_without_protection_asks_no_table() {
    for class in [Class::Sip, Class::Rtp, Class::Other] {
        assert_eq!(Lists::new(0).asks(0, class, &BANNED), (Admission::Admitted, vec![]));
    }
}

#[test]
fn media_asks_only_where_somebody_is_denied() {
    assert_eq!(Lists::new(0).asks(LIMITS_SIP | EXEMPTS, Class::Rtp, &PHONE), (Admission::Admitted, vec![]));
    let (admission, asked) = Lists::new(0).asks(LIMITS_SIP | EXEMPTS | DENIES, Class::Rtp, &PHONE);
    assert_eq!((admission, asked), (Admission::Admitted, vec!["listing"]), "media has no limit");
    assert_eq!(Lists::new(0).asks(DENIES, Class::Rtp, &BANNED).0, Admission::Denied);
}

#[test]
fn signalling_is_admitted_until_its_sender_has_spent_what_it_may() {
    for class in [Class::Sip, Class::Other] {
        let lists = Lists::new(2);
        let asks = |source| lists.asks(LIMITS_SIP | EXEMPTS | DENIES, class, source).0;
        assert_eq!(asks(&PHONE), Admission::Admitted);
        assert_eq!(asks(&PHONE), Admission::Admitted);
        assert_eq!(asks(&PHONE), Admission::Limited, "{class:?}");
        assert_eq!(asks(&BANNED), Admission::Denied);
    }
}

#[test]
fn who_is_allowed_spends_nothing() {
    let lists = Lists::new(0);
    assert_eq!(lists.asks(LIMITS_SIP | EXEMPTS, Class::Sip, &TRUNK), (Admission::Admitted, vec!["listing"]));
    assert_eq!(lists.asks(LIMITS_SIP, Class::Sip, &TRUNK), (Admission::Limited, vec!["spend"]), "there is no list");
}
