use rtnetlink::packet_route::link::VlanProtocol;

use super::*;

const BACK: u32 = 7;

fn link(index: u32, name: &str, facts: Vec<LinkAttribute>) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.attributes = vec![
        LinkAttribute::IfName(name.to_owned()),
        LinkAttribute::Address(vec![2, 0, 0, 0, 0, index as u8]),
        LinkAttribute::Mtu(1500 - index),
    ];
    message.attributes.extend(facts);
    message
}

fn vlan(index: u32, below: u32, id: u16, protocol: VlanProtocol) -> LinkMessage {
    let data = InfoData::Vlan(vec![InfoVlan::Protocol(protocol), InfoVlan::Id(id)]);
    let info = LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Vlan), LinkInfo::Data(data)]);
    link(index, &format!("vlan{id}"), vec![LinkAttribute::Link(below), info])
}

fn tag(protocol: u16, id: u16) -> VlanTag {
    VlanTag { protocol, id }
}

#[test]
fn frames_of_a_vlan_leave_by_the_interface_below_with_the_tag_the_address_and_the_mtu_of_the_vlan() {
    let stack = read_stack(&[vlan(9, BACK, 100, VlanProtocol::Ieee8021Q)], &[BACK]).unwrap();
    let expected = Stack {
        name: "vlan100".to_owned(),
        mac: [2, 0, 0, 0, 0, 9],
        mtu: 1491,
        tags: [tag(0x8100, 100), VlanTag::default()],
        bottom: BACK,
        above: vec![9],
    };
    assert_eq!(stack, expected);
}

#[test]
fn of_two_nested_vlans_the_lower_one_is_the_outer_tag() {
    let links = [vlan(10, 9, 200, VlanProtocol::Ieee8021Q), vlan(9, BACK, 100, VlanProtocol::Ieee8021Ad)];
    let stack = read_stack(&links, &[BACK]).unwrap();
    assert_eq!((stack.tags, stack.bottom), ([tag(0x88a8, 100), tag(0x8100, 200)], BACK));
    assert_eq!((stack.mac[5], stack.above), (10, vec![10, 9]), "the address is that of the top");
}

#[test]
fn three_vlans_are_no_way() {
    let links = [11, 10, 9].map(|index| vlan(index, index - 1, 100 + index as u16, VlanProtocol::Ieee8021Q));
    assert_eq!(read_stack(&links, &[8]), Err(StackError::Deep("vlan111".to_owned())));
}

#[test]
fn another_device_on_top_or_below_is_no_way_and_is_named() {
    let kind = |kind| vec![LinkAttribute::Link(BACK), LinkAttribute::LinkInfo(vec![LinkInfo::Kind(kind)])];
    let says = |links: &[LinkMessage]| read_stack(links, &[BACK]).unwrap_err().to_string();
    assert_eq!(says(&[link(9, "mac0", kind(InfoKind::MacVlan))]), "mac0 (macvlan)");
    assert_eq!(
        says(&[vlan(10, 9, 5, VlanProtocol::Ieee8021Q), link(9, "bond0", kind(InfoKind::Bond))]),
        "bond0 (bond)"
    );
    assert_eq!(says(&[link(9, "eth5", vec![])]), "eth5");
    assert_eq!(read_stack(&[], &[BACK]), Err(StackError::Gone));
}

#[test]
fn a_vlan_of_an_interface_in_another_network_namespace_is_none_of_ours() {
    let mut foreign = vlan(9, BACK, 100, VlanProtocol::Ieee8021Q);
    foreign.attributes.push(LinkAttribute::LinkNetNsId(0));
    assert!(matches!(read_stack(&[foreign], &[BACK]), Err(StackError::Elsewhere { .. })));
}

#[test]
fn vlans_on_the_gateways_interfaces_are_found_two_deep() {
    let q = VlanProtocol::Ieee8021Q;
    let links = [
        link(BACK, "back", vec![]),
        vlan(9, BACK, 100, q),
        vlan(10, 9, 200, q),
        vlan(11, 10, 300, q),
        vlan(12, 6, 400, q),
        link(13, "mac0", vec![LinkAttribute::Link(BACK)]),
    ];
    let listing = Listing(links.to_vec());
    assert_eq!(listing.vlans_on(&[BACK]), ["vlan100", "vlan200"]);
    let tags = [[tag(0x8100, 100), VlanTag::default()], [tag(0x8100, 100), tag(0x8100, 200)]];
    let vlan = |ifindex, tags| Link { ifindex, device: BACK, tags };
    assert_eq!(listing.links(&[BACK]), [Link::plain(BACK), vlan(9, tags[0]), vlan(10, tags[1])]);
}
