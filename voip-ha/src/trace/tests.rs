use std::{
    collections::HashMap,
    io::Cursor,
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use pcap_file::{
    DataLink,
    pcap::{PcapHeader, PcapPacket, PcapWriter},
    pcapng::{
        PcapNgWriter,
        blocks::{enhanced_packet::EnhancedPacketBlock, interface_description::InterfaceDescriptionBlock},
    },
};
use voip_ha_ebpf::abi::{Class, Outcome};

use super::{
    Names,
    capture::{self, CaptureError, Captured},
    ends,
    frame::{self, NotHex},
    headers,
    ingress::{Interface, Interfaces},
    reason::{Facts, sentence},
};
use crate::{
    config::Forwarding,
    datapath::NextHop,
    plan::{NextHops, Plan, ServerPlan, ServicePlan},
};

const VIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
const MASTER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const BACKUP: Ipv4Addr = Ipv4Addr::new(10, 8, 0, 2);

fn phones_rtp() -> Vec<u8> {
    frame::datagram("198.51.100.7:4000".parse().unwrap(), "192.0.2.10:10000".parse().unwrap(), 172).unwrap()
}

fn plan() -> Plan {
    let server = |address: Ipv4Addr, ifindex| {
        let hop = NextHop {
            ifindex,
            mtu: 1500,
            source: [2; 6],
            destination: [4; 6],
            vlans: Default::default(),
            by_stack: false,
            mask: None,
        };
        let next_hops = NextHops { v4: Some(hop), v6: None };
        ServerPlan { addresses: address.into(), forwarding: Forwarding::Nat, next_hops }
    };
    Plan {
        services: vec![ServicePlan {
            vips: VIP.into(),
            sip_ports: vec![5060],
            rtp_ports: 10000..=19999,
            protection: Default::default(),
            signalling: Some(MASTER.into()),
            media: Some(MASTER.into()),
            draining: None,
            affinity: false,
            servers: vec![server(MASTER, 12), server(BACKUP, 11)],
        }],
    }
}

#[test]
fn two_ends_make_a_datagram_between_them_with_right_checksums() {
    let frame = phones_rtp();
    let packet = SlicedPacket::from_ethernet(&frame).unwrap();
    let (Some(NetSlice::Ipv4(ip)), Some(TransportSlice::Udp(udp))) = (packet.net, packet.transport) else {
        panic!("no UDP over IPv4: {frame:02x?}")
    };
    let header = ip.header();
    assert_eq!(header.to_header().calc_header_checksum(), header.header_checksum());
    let checksum = udp.to_header().calc_checksum_ipv4_raw(header.source(), header.destination(), udp.payload());
    assert_eq!((udp.checksum(), udp.payload().len()), (checksum.unwrap(), 172));
    let ends = ends(&frame).unwrap();
    assert_eq!((ends.from(), ends.to()), ("198.51.100.7:4000".to_owned(), "192.0.2.10:10000".to_owned()));
    let longest = frame::datagram("10.0.0.1:1".parse().unwrap(), "10.0.0.2:2".parse().unwrap(), u16::MAX).unwrap();
    assert_eq!((longest.len(), frame::unfit(longest.len())), (frame::LONGEST - 20, None));
}

#[test]
fn two_ends_of_ipv6_make_a_datagram_with_a_right_checksum_and_of_two_families_none() {
    let [from, to, other] =
        ["[2001:db8::64]:4000", "[2001:db8::10]:10000", "192.0.2.10:1"].map(|text| text.parse().unwrap());
    let frame = frame::datagram(from, to, u16::MAX).unwrap();
    assert_eq!(frame.len(), frame::LONGEST);
    let packet = SlicedPacket::from_ethernet(&frame).unwrap();
    let (Some(NetSlice::Ipv6(ip)), Some(TransportSlice::Udp(udp))) = (packet.net, packet.transport) else {
        panic!("no UDP over IPv6: {frame:02x?}")
    };
    let header = ip.header();
    let checksum = udp.to_header().calc_checksum_ipv6_raw(header.source(), header.destination(), udp.payload());
    assert_eq!(udp.checksum(), checksum.unwrap());
    let ends = ends(&frame).unwrap();
    assert_eq!((ends.from(), ends.to()), (from.to_string(), to.to_string()));
    assert!(frame::datagram(from, other, 0).is_err() && frame::datagram(other, from, 0).is_err());
}

/// A frame with these tags, outer first.
fn tagged(mut frame: Vec<u8>, tags: &[u8]) -> Vec<u8> {
    for id in tags.iter().rev() {
        frame.splice(12..12, [0x81, 0x00, 0x00, *id]);
    }
    frame
}

#[test]
fn tags_that_are_put_on_taken_off_or_changed_are_shown_beside_each_other() {
    let shown = |before: &[u8], after: &[u8]| {
        let (before, after) = (tagged(phones_rtp(), before), tagged(phones_rtp(), after));
        let headers = headers::compare(&before, Some(&after)).into_iter();
        let changed = headers.filter(|header| header.is_changed() && header.field != "EtherType");
        changed.map(|header| (header.field, header.before, header.after.unwrap())).collect::<Vec<_>>()
    };
    let vlan = |before: &str, after: &str| ("VLAN", before.to_owned(), after.to_owned());
    assert_eq!(shown(&[100], &[100]), []);
    assert_eq!(shown(&[], &[100]), [vlan("none", "100")]);
    assert_eq!(shown(&[100, 7], &[]), [vlan("100", "none"), vlan("7", "none")]);
    assert_eq!(shown(&[100], &[200, 7]), [vlan("100", "200"), vlan("none", "7")]);
    assert_eq!(ends(&tagged(phones_rtp(), &[100, 7])), ends(&phones_rtp()));
}

#[test]
fn the_first_fragment_has_ports_and_later_ones_have_none() {
    let fragment = |flags: [u8; 2]| {
        let mut frame = phones_rtp();
        frame[20..22].copy_from_slice(&flags);
        ends(&frame).unwrap().ports
    };
    assert_eq!(fragment([0x20, 0]), Some((4000, 10000)));
    assert_eq!(fragment([0x20, 8]), None);
    // The same by IPv6: next header 44, then the fragment header.
    let whole = frame::datagram("[::2]:4000".parse().unwrap(), "[::1]:10000".parse().unwrap(), 8).unwrap();
    for (offset, ports) in [(0, Some((4000, 10000))), (8, None)] {
        let mut frame = whole.clone();
        frame.splice(54..54, [17, 0, 0, offset | 1, 0, 0, 0, 1]);
        (frame[19], frame[20]) = (frame[19] + 8, 44);
        assert_eq!(ends(&frame).unwrap().ports, ports, "{offset}");
    }
}

#[test]
fn hex_is_read_as_people_write_it() {
    let wanted = Ok(vec![0xde, 0xad, 0xbe, 0xef]);
    for text in ["deadbeef", "DE AD be ef\n", "de:ad:be:ef", "de-ad-be-ef", "0xdeadbeef", "0xde 0xad 0xbe 0xef"] {
        assert_eq!(frame::from_hex(text), wanted, "{text:?}");
    }
    assert_eq!(frame::from_hex("\t0x0000:  dead\n\t0x0002:  beef\n"), wanted, "tcpdump -xx");
    assert_eq!(frame::from_hex(""), Ok(vec![]));
}

#[test]
fn what_is_no_hex_is_named_with_its_place() {
    let no_digit = |line, column, found| Err(NotHex::NoDigit { line, column, found });
    assert_eq!(frame::from_hex("dead\nbe gf"), no_digit(2, 4, 'g'));
    assert_eq!(frame::from_hex("dé"), no_digit(1, 2, 'é'));
    assert_eq!(frame::from_hex("dx"), no_digit(1, 2, 'x'));
    assert_eq!(frame::from_hex("\t0x0000:  dead\n\t0x0002:  bezf\n"), no_digit(2, 13, 'z'));
    for text in ["dead b", "dead b eef", "dead b\nee"] {
        assert_eq!(frame::from_hex(text), Err(NotHex::HalfByte { line: 1, column: 6 }), "{text:?}");
    }
}

#[test]
fn a_length_that_xdp_never_sees_is_refused() {
    let fits = [0, 13, 14, frame::LONGEST, frame::LONGEST + 1].map(|length| frame::unfit(length).is_none());
    assert_eq!(fits, [false, false, true, true, false]);
}

#[test]
fn only_fields_that_differ_are_changed_and_a_dropped_frame_has_no_after() {
    let before = phones_rtp();
    let mut after = before.clone();
    after[30..34].copy_from_slice(&MASTER.octets());
    after[22] -= 1;
    let headers = headers::compare(&before, Some(&after));
    let changed: Vec<_> = headers.iter().filter(|header| header.is_changed()).collect();
    let text = |field: &str| {
        let header = changed.iter().find(|header| header.field == field).unwrap();
        (header.before.as_str(), header.after.as_deref().unwrap())
    };
    assert_eq!(changed.len(), 2, "{changed:?}");
    assert_eq!(text("IP destination"), ("192.0.2.10", "10.0.0.2"));
    assert_eq!(text("IP time to live"), ("64", "63"));
    assert!(headers::compare(&before, None).iter().all(|header| header.after.is_none() && !header.is_changed()));
}

#[test]
fn a_frame_of_which_nothing_can_be_read_is_no_end_of_the_command() {
    for length in 0..60 {
        let garbage = vec![0x45; length];
        assert_eq!(ends(&garbage), None);
        assert_eq!(headers::compare(&garbage, Some(&garbage)).is_empty(), length < 14);
    }
}

#[test]
fn a_packet_whose_lengths_are_wrong_still_has_its_ends_and_no_ports() {
    let mut frame = phones_rtp();
    frame[16..18].copy_from_slice(&[0, 1]);
    let ends = ends(&frame).unwrap();
    assert_eq!((ends.from(), ends.to(), ends.ports), ("198.51.100.7".to_owned(), VIP.to_string(), None));
}

#[test]
fn a_sentence_says_who_is_fenced_and_who_is_active() {
    let plan = plan();
    let names = Names(HashMap::from([(MASTER.into(), "master".to_owned()), (BACKUP.into(), "backup".to_owned())]));
    let nameless = Names::default();
    let facts = |names, server: Option<Ipv4Addr>, class| Facts {
        names,
        class,
        service: plan.services.first(),
        server: server.map(IpAddr::from),
        ends: ends(&phones_rtp()),
        length: 214,
    };
    assert_eq!(
        sentence(Outcome::Fenced, &facts(&names, Some(BACKUP), Class::Rtp)),
        "fenced: backup is neither active nor draining; master is active"
    );
    assert_eq!(
        sentence(Outcome::ToServer, &facts(&nameless, Some(MASTER), Class::Rtp)),
        "RTP to 192.0.2.10 goes to 10.0.0.2, which is active"
    );
    let sentences: Vec<_> =
        Outcome::ALL.iter().map(|outcome| sentence(*outcome, &facts(&names, Some(MASTER), Class::Sip))).collect();
    for (index, sentence) in sentences.iter().enumerate() {
        assert!(!Outcome::ALL.iter().any(|outcome| outcome.name() == sentence), "no reason: {sentence}");
        assert!(!sentences[..index].contains(sentence), "two outcomes have the same reason: {sentence}");
    }
}

#[test]
fn a_packet_comes_in_from_where_its_sender_is() {
    let [vip, master, backup] = [VIP, MASTER, BACKUP].map(IpAddr::from);
    let ways = [(master, Some(12)), (backup, Some(11))];
    let interface = |name: &str, index| Interface { name: name.to_owned(), index };
    let two = Interfaces::new(vec![interface("eth0", 11), interface("eth1", 12)], &ways);
    let guess = |interfaces: &Interfaces, sender| interfaces.guess(sender).map(|interface| interface.index);
    assert_eq!(guess(&two, Some(vip)), Ok(11), "not from a server");
    assert_eq!(guess(&two, None), Ok(11));
    assert_eq!([master, backup].map(|server| guess(&two, Some(server))), [Ok(12), Ok(11)]);
    let named = ["front", "back", "eth1"].map(|name| two.named(name).map(|interface| interface.index));
    assert_eq!(named, [Ok(11), Ok(12), Ok(12)]);
    assert_eq!(two.named("eth7").unwrap_err(), "--in eth7: these have the program: eth0, eth1");
    let lost =
        Interfaces::new(vec![interface("eth0", 11), interface("eth1", 12)], &[(master, None), (backup, Some(12))]);
    assert_eq!([guess(&lost, Some(master)), guess(&lost, Some(vip))], [Ok(12), Ok(11)], "no way to the first");
    let one = Interfaces::new(vec![interface("eth0", 9)], &ways);
    assert_eq!([guess(&one, None), guess(&one, Some(master))], [Ok(9), Ok(9)], "one-arm");
    assert!(guess(&Interfaces::new(vec![], &ways), None).unwrap_err().contains("no interface"));
}

fn pcap(link: DataLink, frames: &[(Vec<u8>, u32)]) -> Vec<u8> {
    let header = PcapHeader { datalink: link, ..PcapHeader::default() };
    let mut writer = PcapWriter::with_header(Vec::new(), header).unwrap();
    for (bytes, length) in frames {
        writer.write_packet(&PcapPacket::new(Duration::ZERO, *length, bytes)).unwrap();
    }
    writer.into_writer()
}

fn pcapng(frames: &[Vec<u8>]) -> Vec<u8> {
    let mut writer = PcapNgWriter::new(Vec::new()).unwrap();
    let interface = InterfaceDescriptionBlock { linktype: DataLink::ETHERNET, snaplen: 0, options: vec![] };
    writer.write_pcapng_block(interface).unwrap();
    for bytes in frames {
        let original_len = bytes.len() as u32;
        let data = bytes.into();
        let block =
            EnhancedPacketBlock { interface_id: 0, timestamp: Duration::ZERO, original_len, data, options: vec![] };
        writer.write_pcapng_block(block).unwrap();
    }
    writer.into_inner()
}

/// What is read from a file, and why not more.
fn read(file: Vec<u8>) -> (Vec<Captured>, Option<CaptureError>) {
    let mut taken = Vec::new();
    let result = capture::read(Cursor::new(file), |captured| {
        taken.push(captured);
        Ok(true)
    });
    (taken, result.err())
}

#[test]
fn frames_come_from_both_formats_in_their_order() {
    let frames = [phones_rtp(), vec![1; 60], vec![2; 61]];
    let wanted: Vec<_> = (1..)
        .zip(&frames)
        .map(|(number, frame)| Captured { number, frame: frame.clone(), captured: frame.len() })
        .collect();
    let old = pcap(DataLink::ETHERNET, &frames.clone().map(|frame| (frame.clone(), frame.len() as u32)));
    for file in [old, pcapng(&frames)] {
        let (taken, error) = read(file);
        assert!(error.is_none(), "{error:?}");
        assert_eq!(taken, wanted);
    }
}

#[test]
fn bytes_that_were_not_captured_are_zeros() {
    let (taken, error) = read(pcap(DataLink::ETHERNET, &[(phones_rtp()[..96].to_vec(), 214)]));
    assert!(error.is_none(), "{error:?}");
    assert_eq!((taken[0].captured, taken[0].frame.len()), (96, 214));
    assert_eq!((&taken[0].frame[..96], &taken[0].frame[96..]), (&phones_rtp()[..96], &[0; 118][..]));
}

#[test]
fn a_file_that_is_no_capture_of_ethernet_or_ends_too_early_is_refused_with_the_place() {
    let frames = [(phones_rtp(), 214), (phones_rtp(), 214)];
    let whole = pcap(DataLink::ETHERNET, &frames);
    for length in 0..whole.len() {
        let (taken, error) = read(whole[..length].to_vec());
        let packets = length.saturating_sub(24) / (16 + 214);
        assert_eq!(taken.len(), packets, "cut at {length}");
        match error {
            Some(CaptureError::NoCapture) => assert!(length < 4),
            Some(CaptureError::Header(_)) => assert!((4..24).contains(&length)),
            Some(CaptureError::Packet { number, .. }) => assert_eq!(number as usize, packets + 1),
            None => assert_eq!((length - 24) % (16 + 214), 0, "cut at {length}, unnoticed"),
            other => panic!("cut at {length}: {other:?}"),
        }
    }
    assert!(matches!(read(b"voip-ha".to_vec()).1, Some(CaptureError::NoCapture)));
    let any = read(pcap(DataLink::LINUX_SLL, &frames)).1;
    assert!(matches!(any, Some(CaptureError::Link { number: 1, found: DataLink::LINUX_SLL })), "{any:?}");
    let cut = pcapng(&[phones_rtp()]);
    let (taken, error) = read(cut[..cut.len() - 5].to_vec());
    assert!(taken.is_empty() && matches!(error, Some(CaptureError::Packet { number: 1, .. })), "{error:?}");
}
