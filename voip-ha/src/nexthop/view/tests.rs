use std::{
    collections::HashMap,
    net::{Ipv4Addr, Ipv6Addr},
};

use rtnetlink::packet_route::{
    link::{LinkAttribute, LinkFlags},
    neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage},
    route::RouteMessage,
};

use super::*;

const BACK: u32 = 7;
const MASTER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));
const CLOUD: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 8, 0, 2));
const ROUTER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 254));
const OWN: Mac = [2, 0, 0, 0, 0, 1];
const OTHERS: Mac = [2, 0, 0, 0, 0, 2];

fn back() -> Interface {
    Interface { index: BACK, name: "back".to_owned(), mac: OWN, mtu: 1500, carrier: true, xdp: None }
}

/// The master is on the link, the cloud behind a router on the same link.
fn reading() -> Reading {
    Reading {
        links: Vec::new(),
        ways: vec![
            Ok(Way { ifindex: BACK, neighbour: MASTER, source: None }),
            Ok(Way { ifindex: BACK, neighbour: ROUTER, source: None }),
        ],
        neighbours: [((BACK, MASTER), OTHERS), ((BACK, ROUTER), OTHERS)].into(),
        strangers: HashMap::new(),
        mask_ports: None,
    }
}

fn elsewhere(name: &str) -> Result<Stack, StackError> {
    Err(StackError::Elsewhere { name: name.to_owned(), kind: None })
}

fn view() -> View {
    let mut view = View::new(vec![back()], [(ServerId(0), MASTER), (ServerId(1), CLOUD)].into_iter());
    view.found(&reading());
    view
}

fn link(interface: &Interface) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = interface.index;
    message.header.flags = if interface.carrier { LinkFlags::Up | LinkFlags::LowerUp } else { LinkFlags::Up };
    message.attributes = vec![
        LinkAttribute::IfName(interface.name.clone()),
        LinkAttribute::Address(interface.mac.to_vec()),
        LinkAttribute::Mtu(interface.mtu),
    ];
    message
}

fn is_now(interface: &Interface) -> NetlinkPayload<RouteNetlinkMessage> {
    NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link(interface)))
}

fn is_gone() -> NetlinkPayload<RouteNetlinkMessage> {
    NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelLink(link(&back())))
}

fn neighbour(address: IpAddr) -> NetlinkPayload<RouteNetlinkMessage> {
    let mut message = NeighbourMessage::default();
    message.attributes = vec![NeighbourAttribute::Destination(match address {
        IpAddr::V4(address) => NeighbourAddress::Inet(address),
        IpAddr::V6(address) => NeighbourAddress::Inet6(address),
    })];
    NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewNeighbour(message))
}

fn carrier(up: bool) -> News {
    News::Carrier { interface: "back".to_owned(), up, servers: vec![ServerId(0), ServerId(1)] }
}

fn lost() -> News {
    News::InterfaceLost { interface: "back".to_owned() }
}

fn way(server: usize, source: Mac) -> News {
    let hop = NextHop {
        ifindex: BACK,
        mtu: 1500,
        source,
        destination: OTHERS,
        vlans: Default::default(),
        by_stack: false,
        mask: None,
    };
    News::Way { server: ServerId(server), family: Family::V4, hop, interface: "back".to_owned() }
}

#[test]
fn a_carrier_is_told_once_when_it_goes_and_once_when_it_comes() {
    let mut view = view();
    let down = Interface { carrier: false, ..back() };
    assert_eq!(view.take(&is_now(&down)), (vec![carrier(false)], Need::Ways));
    assert_eq!(view.take(&is_now(&down)).0, []);
    assert_eq!(view.take(&is_now(&back())), (vec![carrier(true)], Need::Ways));
    assert_eq!(view.take(&is_now(&back())).0, []);
}

#[test]
fn a_carrier_that_is_missing_at_the_start_is_told() {
    let mut view = View::new(
        vec![Interface { carrier: false, ..back() }],
        [(ServerId(0), MASTER), (ServerId(1), CLOUD)].into_iter(),
    );
    assert!(view.questions(Need::Everything).links);
    let links = vec![(BACK, Some(Interface { carrier: false, ..back() }))];
    assert_eq!(view.found(&Reading { links, ..reading() })[0], carrier(false));
}

#[test]
fn a_changed_address_of_the_own_interface_changes_the_way_of_every_server_behind_it() {
    let mut view = view();
    let changed = Interface { mac: [2, 0, 0, 0, 0, 9], ..back() };
    assert_eq!(view.take(&is_now(&changed)), (vec![], Need::Ways));
    assert_eq!(view.found(&reading()), [way(0, changed.mac), way(1, changed.mac)]);
}

#[test]
fn a_changed_mtu_of_the_own_interface_changes_the_way_of_every_server_behind_it() {
    let mut view = view();
    assert_eq!(view.take(&is_now(&Interface { mtu: 1400, ..back() })), (vec![], Need::Ways));
    let mtus = view.found(&reading()).into_iter().map(|news| match news {
        News::Way { hop, .. } => hop.mtu,
        other => panic!("{other:?}"),
    });
    assert_eq!(mtus.collect::<Vec<_>>(), [1400, 1400]);
}

#[test]
fn an_interface_that_was_removed_is_not_replaced_by_one_of_the_same_name() {
    let mut view = view();
    assert_eq!(view.take(&is_gone()), (vec![carrier(false), lost()], Need::Ways));
    let anew = Interface { index: BACK + 1, ..back() };
    assert_eq!(view.take(&is_now(&anew)), (vec![], Need::Nothing));
    let mut reading = reading();
    reading.ways =
        vec![Ok(Way { ifindex: anew.index, neighbour: MASTER, source: None }), Err("there is no route".to_owned())];
    reading.neighbours = [((anew.index, MASTER), OTHERS)].into();
    reading.strangers = [(anew.index, elsewhere(&anew.name))].into();
    let news = view.found(&reading);
    assert!(matches!(&news[0], News::NoWay { why, .. } if why.contains("restart voip-ha")), "{news:?}");
    assert_eq!(news[1], News::NoWay { server: ServerId(1), family: Family::V4, why: "there is no route".to_owned() });
    // Not even if it gets the same index.
    assert_eq!(view.take(&is_now(&back())).0, []);
    let news = view.found(&self::reading());
    assert!(matches!(&news[..], [News::NoWay { .. }, News::NoWay { .. }]), "{news:?}");
}

#[test]
fn after_lost_notifications_the_interfaces_are_read_again_too() {
    let mut view = view();
    assert_eq!(view.take(&NetlinkPayload::Overrun(Vec::new())), (vec![], Need::Everything));
    let questions = view.questions(Need::Everything);
    assert_eq!((questions.links, questions.known), (true, vec![BACK]));
    let links = vec![(BACK, Some(Interface { carrier: false, mac: [2, 0, 0, 0, 0, 9], ..back() }))];
    let news = view.found(&Reading { links, ..reading() });
    assert_eq!(news, [carrier(false), way(0, [2, 0, 0, 0, 0, 9]), way(1, [2, 0, 0, 0, 0, 9])]);
    let news = view.found(&Reading { links: vec![(BACK, None)], ..reading() });
    assert_eq!(news[0], lost());
}

#[test]
fn a_notification_that_came_after_the_question_outweighs_the_answer() {
    let mut view = view();
    view.questions(Need::Everything);
    view.take(&is_now(&Interface { carrier: false, ..back() }));
    let stale = Reading { links: vec![(BACK, Some(back()))], ..reading() };
    assert_eq!(view.found(&stale), [way(0, OWN), way(1, OWN)]);
}

#[test]
fn only_what_may_concern_a_server_is_read_again() {
    let mut view = view();
    assert_eq!(view.take(&neighbour(ROUTER)).1, Need::Ways);
    assert_eq!(view.take(&neighbour(Ipv4Addr::new(10, 0, 0, 77).into())).1, Need::Nothing);
    assert_eq!(view.take(&is_now(&Interface { index: 99, ..back() })).1, Need::Nothing);
    let route = RouteNetlinkMessage::DelRoute(RouteMessage::default());
    assert_eq!(view.take(&NetlinkPayload::InnerMessage(route)).1, Need::Ways);
}

#[test]
fn a_port_that_leaves_a_bridge_is_not_lost() {
    let mut view = view();
    let mut message = link(&back());
    message.header.interface_family = AddressFamily::Bridge;
    let message = NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelLink(message));
    assert_eq!(view.take(&message), (vec![], Need::Nothing));
}

#[test]
fn a_server_without_a_usable_way_is_told_with_the_reason() {
    let mut view = view();
    let mut reading = reading();
    reading.neighbours.remove(&(BACK, MASTER));
    reading.ways[1] = Ok(Way { ifindex: 3, neighbour: CLOUD, source: None });
    reading.strangers = [(3, elsewhere("mgmt"))].into();
    let no_way = |server, why: &str| News::NoWay { server: ServerId(server), family: Family::V4, why: why.to_owned() };
    assert_eq!(
        view.found(&reading),
        [
            no_way(0, "10.0.0.2 does not answer ARP on back"),
            no_way(1, "the route leaves by mgmt, which is neither gateway.front nor gateway.back nor a VLAN of theirs"),
        ]
    );
}

const MASTER6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2));
const ROUTER6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1));

/// The master has both addresses; that of IPv6 is behind a link-local router.
fn view_of_both() -> (View, Reading) {
    let view = View::new(vec![back()], [(ServerId(0), MASTER), (ServerId(0), MASTER6)].into_iter());
    let reading = Reading {
        ways: vec![
            Ok(Way { ifindex: BACK, neighbour: MASTER, source: None }),
            Ok(Way { ifindex: BACK, neighbour: ROUTER6, source: None }),
        ],
        neighbours: [((BACK, MASTER), OTHERS), ((BACK, ROUTER6), [2, 0, 0, 0, 0, 6])].into(),
        ..Reading::default()
    };
    (view, reading)
}

#[test]
fn a_server_with_two_addresses_has_a_way_for_each_family() {
    let (mut view, mut reading) = view_of_both();
    let hops = |news: &[News]| {
        let hop = |news: &News| match news {
            News::Way { family, hop, .. } => (*family, Some(hop.destination)),
            News::NoWay { family, .. } => (*family, None),
            other => panic!("{other:?}"),
        };
        news.iter().map(hop).collect::<Vec<_>>()
    };
    let (v4, v6) = ((Family::V4, Some(OTHERS)), (Family::V6, Some([2, 0, 0, 0, 0, 6])));
    assert_eq!(hops(&view.found(&reading)), [v4, v6]);
    assert_eq!(view.take(&neighbour(ROUTER6)).1, Need::Ways);
    assert_eq!(view.take(&neighbour(MASTER6)).1, Need::Nothing, "it is behind the router");
    reading.neighbours.remove(&(BACK, ROUTER6));
    let news = view.found(&reading);
    assert_eq!(hops(&news), [v4, (Family::V6, None)]);
    assert!(
        matches!(&news[1], News::NoWay { why, .. } if why == "fe80::1 does not answer neighbour discovery on back")
    );
}

#[test]
fn a_lost_carrier_concerns_a_server_once_and_by_the_address_that_is_probed() {
    let (mut view, mut reading) = view_of_both();
    view.found(&reading);
    let down = Interface { carrier: false, ..back() };
    let told = |servers| News::Carrier { interface: "back".to_owned(), up: false, servers };
    assert_eq!(view.take(&is_now(&down)).0, [told(vec![ServerId(0)])]);
    view.take(&is_now(&back()));
    // Only IPv6 leads by it now.
    reading.ways[0] = Ok(Way { ifindex: 3, neighbour: MASTER, source: None });
    view.found(&reading);
    assert_eq!(view.take(&is_now(&down)).0, [told(vec![])]);
}

#[test]
fn a_way_by_a_vlan_leaves_by_the_interface_below_with_its_tags() {
    const VLAN: u32 = 9;
    let tags = [VlanTag { protocol: 0x8100, id: 100 }, VlanTag::default()];
    let stack = |mtu| Stack { name: "back.100".to_owned(), mac: [2; 6], mtu, tags, bottom: BACK, above: vec![VLAN] };
    let mut view = view();
    let mut reading = reading();
    reading.ways[0] = Ok(Way { ifindex: VLAN, neighbour: MASTER, source: None });
    reading.neighbours = [((VLAN, MASTER), OTHERS)].into();
    reading.strangers = [(VLAN, Ok(stack(1496)))].into();
    let hop = NextHop {
        ifindex: BACK,
        mtu: 1496,
        source: [2; 6],
        destination: OTHERS,
        vlans: tags,
        by_stack: false,
        mask: None,
    };
    let interface = "back.100".to_owned();
    assert_eq!(view.found(&reading)[0], News::Way { server: ServerId(0), family: Family::V4, hop, interface });
    // Whatever happens to the VLAN interface may change the way.
    assert_eq!(view.take(&is_now(&Interface { index: VLAN, ..back() })), (vec![], Need::Ways));
    // Its carrier is that of the interface below.
    let down = Interface { carrier: false, ..back() };
    let servers = vec![ServerId(0), ServerId(1)];
    assert_eq!(view.take(&is_now(&down)).0, [News::Carrier { interface: "back".to_owned(), up: false, servers }]);
    view.take(&is_gone());
    assert!(matches!(&view.found(&reading)[0], News::NoWay { .. }), "what was below it is gone");
}

fn tunnel(carrier: bool, has_ethernet: bool) -> HashMap<u32, Result<Stack, StackError>> {
    let tunnel = Tunnel { index: 9, name: "wg0".to_owned(), mtu: 1420, has_ethernet, carrier };
    [(tunnel.index, Err(StackError::Tunnel(tunnel)))].into()
}

#[test]
fn a_way_by_a_tunnel_needs_no_neighbour_and_is_followed() {
    let mut view = view();
    let mut reading = reading();
    reading.ways[1] = Ok(Way { ifindex: 9, neighbour: CLOUD, source: None });
    for has_ethernet in [false, true] {
        reading.strangers = tunnel(true, has_ethernet);
        let hop = NextHop::by_stack(9, 1420);
        let way = News::Way { server: ServerId(1), family: Family::V4, hop, interface: "wg0".to_owned() };
        assert_eq!(view.found(&reading)[1], way);
    }
    // It has no Ethernet address, and may get another MTU.
    let mut message = link(&Interface { index: 9, ..back() });
    message.attributes.retain(|attribute| !matches!(attribute, LinkAttribute::Address(_)));
    let news = NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(message.clone()));
    assert_eq!(view.take(&news), (vec![], Need::Ways));
    assert_eq!(view.take(&NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelLink(message))), (vec![], Need::Ways));
    reading.strangers = tunnel(false, false);
    assert!(matches!(&view.found(&reading)[1], News::NoWay { why, .. } if why.ends_with("wg0, which has no carrier")));
    // And back by a cable.
    view.found(&self::reading());
    assert_eq!(view.take(&news), (vec![], Need::Nothing));
}

#[test]
fn a_server_with_the_vip_is_not_behind_a_tunnel() {
    let mut view = view();
    view.targets[1].has_vip = true;
    let mut reading = reading();
    reading.ways[1] = Ok(Way { ifindex: 9, neighbour: CLOUD, source: None });
    reading.strangers = tunnel(true, false);
    assert!(
        matches!(&view.found(&reading)[1], News::NoWay { why, .. } if why.contains("take packets to the VIP for its own"))
    );
}
