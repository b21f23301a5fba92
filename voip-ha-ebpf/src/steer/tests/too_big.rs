//! Who sends what does not fit is told so.

use etherparse::{Icmpv4Type, Icmpv6Type, SlicedPacket, TransportSlice, icmpv4::DestUnreachableHeader};

use super::*;

fn large(from: Address, vip: Address) -> Vec<u8> {
    datagram_with(ip(from, vip), (PHONE_PORT, SIP), &[b'.'; 1500])
}

#[test]
fn nobody_is_told_of_what_is_no_single_hosts_or_no_beginning() {
    let mut multicast = [0; 16];
    (multicast[0], multicast[15]) = (0xff, 1);
    let mut loopback = [0; 16];
    loopback[15] = 1;
    let strange_4 = [[255; 4], [224, 0, 0, 1], [0; 4], [127, 0, 0, 1]].map(Address::v4).to_vec();
    let strange_6 = [multicast, [0; 16], loopback].map(Address::v6).to_vec();
    for (Hosts { vip, phone, .. }, strange) in BOTH.into_iter().zip([strange_4, strange_6]) {
        assert_eq!(World::new().verdict(large(phone, vip)).action, Action::tell_too_big(MTU));
        for from in strange.into_iter().chain([vip]) {
            assert_eq!(World::new().verdict(large(from, vip)).action.outcome, Outcome::TooLarge, "{from:?}");
        }
        let later = datagram_with(part(ip(phone, vip), 7, 185, false), (PHONE_PORT, SIP), &[b'.'; 1500]);
        assert_eq!(World::new().verdict(later).action.outcome, Outcome::TooLarge, "its ports are payload");
    }
}

#[test]
fn an_error_that_does_not_fit_is_no_reason_for_another_one() {
    for Hosts { vip, phone, .. } in BOTH {
        let narrow = World::new().with_master(|entry| entry.mtu = 50);
        let news = unreachable(phone, vip, &datagram((vip, SIP), (phone, PHONE_PORT)));
        assert_eq!(narrow.verdict(news).action, Action::drop(Outcome::TooLarge));
    }
}

#[test]
fn who_sends_too_large_a_packet_is_told_the_mtu_and_what_it_was_about() {
    let narrow = World::new().with_route_to_phone(Route::TooLarge(MTU));
    for Hosts { family, vip, master, phone, .. } in BOTH {
        for (world, from, to) in [(World::new(), phone, vip), (narrow.clone(), master, phone)] {
            for tags in [&[][..], &[(0x8100, 0x600a)], &[(0x88a8, 0x2064), (0x8100, 0x0007)]] {
                let original = datagram_with(ip(from, to), (RTP, RTP), &[b'.'; 1400]);
                let frame = world.carried_out(tagged(original.clone(), tags));
                let (source, destination, message) = sound_icmp(&frame);
                assert_eq!((source, destination), (vip, from), "the VIP says so, whoever is narrow");
                let packet = SlicedPacket::from_ethernet(&frame).unwrap();
                match &packet.transport {
                    Some(TransportSlice::Icmpv4(icmp)) => {
                        let wanted = DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: MTU as u16 };
                        assert_eq!(icmp.icmp_type(), Icmpv4Type::DestinationUnreachable(wanted));
                    }
                    Some(TransportSlice::Icmpv6(icmp)) => {
                        assert_eq!(icmp.icmp_type(), Icmpv6Type::PacketTooBig { mtu: MTU });
                    }
                    other => panic!("{other:?}"),
                }
                // The IP header and 8 bytes; of IPv6 more.
                let quoted = if family == Family::V4 { 28 } else { 96 };
                assert_eq!(message[8..], original[ETHERNET_LEN..][..quoted], "the beginning of the original");
                assert_eq!(packet.ip_payload().unwrap().payload.len(), message.len(), "nothing behind it");
                let end = ETHERNET_LEN + 4 * tags.len() + if family == Family::V4 { 20 } else { 40 } + message.len();
                assert_eq!(frame.len(), end);
                assert_eq!((&frame[..6], &frame[6..12]), (&original[6..12], &original[..6]), "back where it came from");
                assert_eq!(tagged(untagged(&frame, tags.len()), tags), frame, "in the same VLAN");
            }
        }
    }
}

#[test]
fn who_sends_too_large_a_fragment_by_ipv6_is_told_too() {
    let Hosts { vip, phone, .. } = BOTH[1];
    let first = datagram_with(part(ip(phone, vip), 7, 0, true), (PHONE_PORT, SIP), &[b'.'; 1400]);
    let frame = World::new().carried_out(first.clone());
    let (source, destination, message) = sound_icmp(&frame);
    assert_eq!((source, destination), (vip, phone));
    assert_eq!(message[8..], first[ETHERNET_LEN..][..96], "with the ports behind the fragment header");
}

fn untagged(frame: &[u8], tags: usize) -> Vec<u8> {
    [&frame[..12], &frame[12 + 4 * tags..]].concat()
}

#[test]
fn of_what_is_shorter_than_the_message_no_message_is_made() {
    for Hosts { vip, phone, .. } in BOTH {
        let mut frame = large(phone, vip);
        let network = packet::network(&mut Frame::from_slice(&mut frame)).unwrap();
        let (growth, length) = (rewrite::too_big_growth(network.family), rewrite::too_big_length(&network));
        for (grown, is_made) in [(length - 1, false), (length, true)] {
            let mut short = frame[..grown - growth].to_vec();
            short.splice(0..0, vec![0; growth]);
            let made = rewrite::too_big(&mut Frame::from_slice(&mut short), &network, vip, MTU);
            assert_eq!(made.is_some(), is_made, "{grown} bytes");
        }
    }
}
