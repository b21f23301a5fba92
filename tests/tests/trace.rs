//! `voip-ha trace` beside a running gateway: what it says is what would happen, and it leaves nothing behind.

use std::{collections::BTreeSet, fs::File, net::UdpSocket, path::Path, time::Duration};

use anyhow::{Context as _, Result};
use aya::maps::{Map, MapData, RingBuf};
use etherparse::{Icmpv4Type, PacketBuilder};
use lab::{
    Lab, Options,
    gateway::{self, Answer, Config, Gateway},
    process::Process,
    server,
    topology::{Layout, SIP},
    wait,
};
use pcap_file::pcap::{PcapPacket, PcapWriter};
use serde_json::Value;
use voip_ha::datapath::{Pins, Tables};
use voip_ha_ebpf::abi::{CLASSES, MAX_FLIPS, MAX_SERVERS, Notes, ServerNumber};

const SECOND: Duration = Duration::from_secs(1);
const PHONE: &str = "192.0.2.100:4000";
const RTP: &str = "192.0.2.10:10000";
const MASTER: &str = "10.66.1.2:10000";
const BACKUP: &str = "10.66.2.2:10000";

fn lab() -> Result<Lab> {
    Lab::new(Options { alone: false, ..Options::default() })
}

fn servers(lab: &Lab) -> Result<[Process; 2]> {
    Ok([server::start(lab, "master", &[])?, server::start(lab, "backup", &[])?])
}

fn trace(lab: &Lab, arguments: &[&str]) -> Result<Answer> {
    let (pins, socket) = (lab.pin_dir(), gateway::socket(lab));
    let (pins, socket) = (pins.to_string_lossy(), socket.to_string_lossy());
    gateway::cli(lab, &[&["trace", "--pin-dir", &pins, "--socket", &socket], arguments].concat())
}

/// The answers as data, one for each packet.
fn told(lab: &Lab, arguments: &[&str]) -> Result<Vec<Value>> {
    let answer = trace(lab, &[arguments, &["--json"]].concat())?;
    assert_eq!(answer.code, 0, "{arguments:?}: {answer:?}");
    answer.stdout.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

fn between(lab: &Lab, from: &str, to: &str) -> Result<Value> {
    told(lab, &["--from", from, "--to", to])?.pop().context("no answer")
}

fn after<'a>(answer: &'a Value, field: &str) -> &'a Value {
    let headers = answer["headers"].as_array().expect("a list");
    &headers.iter().find(|header| header["field"] == field).expect("such a header")["after"]
}

#[test]
fn a_trace_names_the_server_that_the_packet_would_reach_before_and_after_a_switch() -> Result<()> {
    let lab = lab()?;
    let _servers = servers(&lab)?;
    let gateway = Gateway::start(&lab, Config::of(&lab))?;
    for (server, address) in [("master", "10.66.1.2"), ("backup", "10.66.2.2")] {
        if server == "backup" {
            gateway.switch(server)?;
        }
        for (to, class) in [(RTP, "rtp"), (&SIP.to_string(), "sip")] {
            let answer = between(&lab, PHONE, to)?;
            assert_eq!((&answer["action"], &answer["outcome"]), (&"redirect".into(), &"to-server".into()), "{answer}");
            assert_eq!((&answer["server"]["name"], &answer["class"]), (&server.into(), &class.into()), "{answer}");
            assert_eq!((&answer["came_in_by"], &answer["leaves_by"]), (&"front".into(), &"back".into()), "{answer}");
            assert_eq!(after(&answer, "IP destination"), address, "{answer}");
            assert_eq!(after(&answer, "IP time to live"), "63", "{answer}");
            assert_eq!(answer["notes"], Value::Array(vec![]), "the same program: {answer}");
        }
    }
    Ok(())
}

#[test]
fn a_servers_packet_goes_out_with_the_vip_as_its_source_or_is_said_to_be_fenced() -> Result<()> {
    let lab = lab()?;
    let _servers = servers(&lab)?;
    let gateway = Gateway::start(&lab, Config::of(&lab))?;
    let active = between(&lab, MASTER, PHONE)?;
    let outcome = active["outcome"].as_str().context("no outcome")?;
    assert!(outcome.starts_with("to-client"), "{active}");
    assert_eq!(after(&active, "IP source"), "192.0.2.10", "{active}");
    assert_eq!(active["came_in_by"], "back", "{active}");
    let fenced = "fenced: backup is neither active nor draining; master is active";
    let answer = between(&lab, BACKUP, PHONE)?;
    assert_eq!((&answer["action"], &answer["reason"]), (&"drop".into(), &fenced.into()), "{answer}");
    let text = trace(&lab, &["--from", BACKUP, "--to", PHONE])?;
    assert!(text.stdout.contains(fenced) && text.stdout.contains("backup (10.66.2.2)"), "{text:?}");

    gateway.switch("backup")?;
    wait::until(5 * SECOND, "the master to be fenced", || {
        let answer = between(&lab, MASTER, PHONE)?;
        let reason = "fenced: master is neither active nor draining; backup is active";
        Ok((answer["outcome"] == "fenced" && answer["reason"] == reason).then_some(()))
    })?;
    Ok(())
}

#[test]
fn a_packet_comes_in_and_leaves_by_the_interfaces_of_its_ends_in_every_layout() -> Result<()> {
    for (layout, phones, backups) in [(Layout::OneArm, "back", "back"), (Layout::CloudByFront, "front", "front")] {
        let lab = Lab::new(Options { layout, alone: false, ..Options::default() })?;
        let _servers = servers(&lab)?;
        let gateway = Gateway::start(&lab, Config::of(&lab))?;
        let ways = |answer: &Value| (answer["came_in_by"].clone(), answer["leaves_by"].clone());
        assert_eq!(ways(&between(&lab, PHONE, RTP)?), (phones.into(), "back".into()), "{layout:?}");
        assert_eq!(ways(&between(&lab, BACKUP, PHONE)?), (backups.into(), Value::Null), "{layout:?}: fenced");
        gateway.switch("backup")?;
        assert_eq!(ways(&between(&lab, PHONE, RTP)?), (phones.into(), backups.into()), "{layout:?}");
        let named = told(&lab, &["--from", PHONE, "--to", RTP, "--in", "back"])?;
        assert_eq!(ways(&named[0]), ("back".into(), backups.into()), "{layout:?}");
    }
    Ok(())
}

/// All that packets leave in the maps. Left out is what no server is concerned with: the kernel's own ARP and the like.
fn traces(lab: &Lab) -> Result<Vec<String>> {
    let tables = Tables::open(&Pins::new(&lab.pin_dir()))?;
    let mut traces = Vec::new();
    for server in (0..MAX_SERVERS).map(ServerNumber) {
        traces.push(format!("{server:?} {:?} {:?}", tables.traffic(Some(server))?, tables.signs(server)?));
    }
    for index in 0..MAX_SERVERS * CLASSES {
        let pending = tables.tallies(index)?.iter().map(|cpu| cpu.pending).collect::<Vec<_>>();
        traces.push(format!("{pending:?}"));
    }
    for index in 0..MAX_FLIPS {
        traces.push(format!("{:?}", tables.flips.get(&index, 0)?));
    }
    let flows = tables.flows.keys().map(|key| Ok(format!("{:?}", key?))).collect::<Result<BTreeSet<_>>>()?;
    traces.extend(flows);
    let strangers = tables.traffic(None)?;
    traces.extend(strangers.iter().filter(|one| one.class != "other").map(|one| format!("{one:?}")));
    Ok(traces)
}

/// An ICMP port unreachable from the master about a datagram to it.
fn refusal() -> String {
    let (master, gateway) = ([10, 66, 1, 2], [10, 66, 1, 1]);
    let builder = || PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
    let mut about = Vec::new();
    builder().ipv4(gateway, master, 64).udp(5060, 5060).write(&mut about, &[]).expect("memory takes every frame");
    let kind = Icmpv4Type::Unknown { type_u8: 3, code_u8: 3, bytes5to8: [0; 4] };
    let mut frame = Vec::new();
    builder().ipv4(master, gateway, 64).icmpv4(kind).write(&mut frame, &about[14..]).expect("memory takes every frame");
    frame.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn tracing_leaves_no_trace_in_the_maps_of_the_gateway() -> Result<()> {
    let lab = lab()?;
    let _servers = servers(&lab)?;
    let mut gateway = Gateway::start(&lab, Config::of(&lab))?;
    // Probes are packets too.
    gateway.kill9()?;
    let mut tables = Tables::open(&Pins::new(&lab.pin_dir()))?;
    // Flows are counted, and the epoch is one that nothing was stamped under.
    let word = tables.word(0)?.next().with_notes(Notes::Count);
    tables.steering.set(0, word, 0)?;
    take_signals(&lab)?;
    let before = traces(&lab)?;
    assert!(before.iter().any(|line| line.contains("not-forwarded")), "the answers to probes were counted");
    let refusal = refusal();
    let mut outcomes = BTreeSet::new();
    for _ in 0..3 {
        for arguments in [
            &["--from", PHONE, "--to", RTP][..],
            &["--from", PHONE, "--to", "192.0.2.10:5060"],
            &["--from", MASTER, "--to", PHONE],
            &["--from", BACKUP, "--to", PHONE],
            &["--hex", &refusal],
        ] {
            let answer = told(&lab, arguments)?.pop().context("no answer")?;
            outcomes.insert(answer["outcome"].as_str().context("no outcome")?.to_owned());
            assert_eq!(answer["server"]["name"], Value::Null, "nobody tells the names: {answer}");
        }
    }
    assert!(outcomes.contains("to-server") && outcomes.contains("server-unreachable"), "{outcomes:?}");
    assert!(outcomes.contains("fenced") && outcomes.iter().any(|one| one.starts_with("to-client")), "{outcomes:?}");
    assert_eq!(traces(&lab)?, before);
    assert_eq!(take_signals(&lab)?, 0, "the controller would have been woken");
    assert_eq!(Tables::open(&Pins::new(&lab.pin_dir()))?.word(0)?, word);

    a_packet_in_earnest_leaves_traces(&lab, &before)
}

fn a_packet_in_earnest_leaves_traces(lab: &Lab, before: &[String]) -> Result<()> {
    lab.phones().run(|| UdpSocket::bind(PHONE)?.send_to(&[0; 172], RTP))?;
    wait::until(5 * SECOND, "a packet to be noted", || {
        let new: Vec<_> = traces(lab)?.into_iter().filter(|line| !before.contains(line)).collect();
        let noted = |what: &&str| new.iter().any(|line| line.contains(*what));
        Ok(["rtp", "FlowKey", "FlipEntry", "Pending"].iter().all(noted).then_some(()))
    })
}

/// Takes what the kernel would have told the controller, and says how much that was.
fn take_signals(lab: &Lab) -> Result<usize> {
    let map = Map::from_map_data(MapData::from_pin(Pins::new(&lab.pin_dir()).map("SIGNALS"))?)?;
    let mut signals = RingBuf::try_from(map)?;
    let mut taken = 0;
    while signals.next().is_some() {
        taken += 1;
    }
    Ok(taken)
}

/// Three packets: one to the VIP, one from the backup, and one that is nobody's.
fn write_capture(path: &Path, payload: usize) -> Result<()> {
    let mut writer = PcapWriter::new(File::create(path)?)?;
    for (from, to) in [([192, 0, 2, 100], [192, 0, 2, 10]), ([10, 66, 2, 2], [192, 0, 2, 100]), ([1; 4], [2; 4])] {
        let mut frame = Vec::new();
        let builder = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
        builder.ipv4(from, to, 64).udp(10000, 10000).write(&mut frame, &vec![0; payload])?;
        writer.write_packet(&PcapPacket::new(Duration::ZERO, frame.len() as u32, &frame))?;
    }
    Ok(())
}

#[test]
fn three_packets_of_a_file_get_three_answers_and_a_broken_file_is_bad_input() -> Result<()> {
    let lab = lab()?;
    let _servers = servers(&lab)?;
    let _gateway = Gateway::start(&lab, Config::of(&lab))?;
    let path = lab.dir().join("capture.pcap");
    write_capture(&path, 172)?;
    let file = path.to_str().context("no text")?;
    let answers = told(&lab, &["--pcap", file])?;
    let outcomes: Vec<_> = answers.iter().map(|answer| (&answer["packet"], &answer["outcome"])).collect();
    let wanted = [(1, "to-server"), (2, "fenced"), (3, "not-service")].map(|(n, text)| (n.into(), text.into()));
    assert_eq!(outcomes, wanted.each_ref().map(|(number, outcome): &(Value, Value)| (number, outcome)));
    assert_eq!(told(&lab, &["--pcap", file, "--limit", "2"])?.len(), 2);

    write_capture(&path, 4000)?;
    let skipped = told(&lab, &["--pcap", file])?;
    let why = "4042 bytes are more than XDP sees in one piece (3520)";
    assert!(skipped.len() == 3 && skipped.iter().all(|answer| answer["skipped"] == why), "{skipped:?}");

    write_capture(&path, 172)?;
    File::options().write(true).open(&path)?.set_len(24 + 16 + 214 + 20)?;
    let cut = trace(&lab, &["--pcap", file])?;
    assert!(cut.code == 2 && cut.stderr.contains("packet 2: the file ends in it"), "{cut:?}");
    Ok(())
}

#[test]
fn input_that_is_no_packet_is_named_with_its_place_and_a_missing_gateway_is_a_failure() -> Result<()> {
    let lab = lab()?;
    for (arguments, place) in [
        (&["--hex", "0200 00zz"][..], "line 1, column 8: 'z' is no hex digit"),
        (&["--hex", "020000000001"], "6 bytes are no frame"),
        (&["--from", "[2001:db8::1]:5060", "--to", RTP], "--from"),
        (&["--from", PHONE], "--to"),
        (&["--hex", "-"], "standard input: 0 bytes are no frame"),
        (&["--pcap", "/nowhere"], "/nowhere"),
        (&[], "--hex"),
    ] {
        let answer = trace(&lab, arguments)?;
        assert!(answer.code == 2 && answer.stderr.contains(place), "{arguments:?}: {answer:?}");
    }
    let answer = trace(&lab, &["--from", PHONE, "--to", RTP])?;
    assert!(answer.code == 1 && answer.stderr.contains("no gateway is loaded"), "{answer:?}");
    Ok(())
}
