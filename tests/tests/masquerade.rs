//! A server that knows no way to phones gets packets in the gateway's own name: ten thousand flows beside each other, no port left, calls
//! that come and go, and what does not fit into one packet.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use fastrand::Rng;
use lab::{
    Lab, Options,
    gateway::{Config, Gateway},
    message::{Caller, icmp, output},
    meter::{Meter, Tally},
    phone::Phones,
    process::Process,
    server,
    topology::{SIP, VIP},
    wait,
};
use serde_json::Value;

const SECOND: Duration = Duration::from_secs(1);
/// An RTP port of the service, at which the built-in server sends back what it gets.
const ECHO: u16 = 10_000;
const PAYLOAD: usize = 172;
/// Packets on their way at one time: as many as a socket's buffer surely holds.
const AT_ONCE: usize = 100;

/// The backup masquerades, and has no way to phones but that.
fn lab(options: Options) -> Result<Lab> {
    let lab = Lab::new(Options { alone: false, ..options })?;
    let mut routes = "route add unreachable 192.0.2.0/24".to_owned();
    if lab.vips().count() == 2 {
        routes += "\nroute add unreachable 2001:db8::/64";
    }
    lab.server("backup")?.namespace.ip(&routes)?;
    Ok(lab)
}

fn servers(lab: &Lab) -> Result<[Process; 2]> {
    Ok([server::start(lab, "master", &[])?, server::start(lab, "backup", &[])?])
}

/// Everything goes to the backup.
fn gateway(lab: &Lab, idle_s: Option<u32>) -> Result<Gateway<'_>> {
    let gateway = Gateway::start(lab, config(lab, idle_s))?;
    gateway.switch("backup")?;
    Ok(gateway)
}

fn config(lab: &Lab, idle_s: Option<u32>) -> Config {
    let mut config = Config::of(lab);
    config.service[0].server[1].forwarding = "masquerade".to_owned();
    config.gateway.masquerade_idle_s = idle_s;
    config
}

/// What `maps masquerade` lists.
fn mappings(gateway: &Gateway<'_>) -> Result<Vec<Value>> {
    let answer: Value = serde_json::from_str(&gateway.says(&["maps", "masquerade", "--json"])?)?;
    Ok(answer["masquerade"].as_array().context("no list")?.clone())
}

/// A socket of every address for every port.
fn sockets(lab: &Lab, ports: impl Iterator<Item = u16>) -> Result<Vec<UdpSocket>> {
    let addresses: Vec<_> = lab.phone_addresses().collect();
    let ends: Vec<(Ipv4Addr, u16)> =
        ports.flat_map(|port| addresses.iter().map(move |address| (*address, port))).collect();
    lab.phones().run(move || {
        let open = |end| -> Result<UdpSocket> {
            let socket = UdpSocket::bind(end)?;
            socket.connect((VIP, ECHO))?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        };
        ends.into_iter().map(open).collect()
    })
}

/// What only this flow sends, and only in this round. It looks like RTP.
fn payload(flow: usize, round: u64) -> [u8; PAYLOAD] {
    let mut rng = Rng::with_seed((flow as u64) << 32 | round);
    let mut payload = [0; PAYLOAD];
    payload.fill_with(|| rng.u8(..));
    payload[0] = 0x80;
    payload
}

/// Sends one packet of every flow. Returns which were answered within the time; an answer that is not the flow's own, to the last byte,
/// is an error.
fn exchange(flows: &BTreeMap<usize, &UdpSocket>, round: u64, patience: Duration) -> Result<BTreeSet<usize>> {
    let all: Vec<_> = flows.iter().collect();
    let mut answered = BTreeSet::new();
    for some in all.chunks(AT_ONCE) {
        for (flow, socket) in some {
            socket.send(&payload(**flow, round))?;
        }
        let deadline = Instant::now() + patience;
        let mut waiting = some.to_vec();
        while !waiting.is_empty() && Instant::now() < deadline {
            for (flow, socket) in &waiting {
                if is_answered(**flow, socket, round)? {
                    answered.insert(**flow);
                }
            }
            waiting.retain(|(flow, _)| !answered.contains(flow));
        }
    }
    Ok(answered)
}

fn is_answered(flow: usize, socket: &UdpSocket, round: u64) -> Result<bool> {
    let mut buffer = [0; 2 * PAYLOAD];
    match socket.recv(&mut buffer) {
        Ok(length) => {
            ensure!(
                buffer[..length] == payload(flow, round),
                "flow {flow} was sent another one's packet, or an old one"
            );
            Ok(true)
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error).with_context(|| format!("flow {flow}")),
    }
}

#[test]
fn ten_thousand_flows_are_answered_and_none_is_crossed_with_another_and_all_expire() -> Result<()> {
    const ADDRESSES: u8 = 100;
    const PORTS: u16 = 100;
    const FLOWS: usize = ADDRESSES as usize * PORTS as usize;
    let lab = lab(Options { phone_addresses: ADDRESSES, ..Options::default() })?;
    let _servers = servers(&lab)?;
    let gateway = gateway(&lab, Some(20))?;
    let sockets = sockets(&lab, 5000..5000 + PORTS)?;
    let flows: BTreeMap<_, _> = sockets.iter().enumerate().collect();
    for round in 0..4 {
        let answered = exchange(&flows, round, 5 * SECOND)?;
        assert_eq!(answered.len(), FLOWS, "round {round}");
    }
    assert_eq!(gateway.counted("rtp", "no-port")?, 0);
    let mappings = mappings(&gateway)?;
    let ports: BTreeSet<_> = mappings.iter().filter_map(|mapping| mapping["port"].as_u64()).collect();
    assert_eq!((mappings.len(), ports.len()), (FLOWS, FLOWS), "a port for each");
    let own = |mapping: &&Value| {
        let client: Option<SocketAddr> = mapping["client"].as_str().and_then(|client| client.parse().ok());
        client.is_some_and(|client| mapping["port"] == client.port())
    };
    println!("{} flows have their own port", mappings.iter().filter(own).count());
    assert!(
        mappings.iter().filter(own).count() >= usize::from(PORTS) / 2,
        "one of each port, but where another took it"
    );
    let status = gateway.says(&["status"])?;
    assert!(status.contains("masquerade: 10000 of 131072 flows"), "{status}");
    for (flow, socket) in &flows {
        assert!(!is_answered(*flow, socket, 3)?, "flow {flow} was answered twice");
    }
    let is_empty = || Ok(self::mappings(&gateway)?.is_empty().then_some(()));
    wait::until(90 * SECOND, "all flows to expire", is_empty)
}

#[test]
fn flows_for_which_no_port_is_left_are_counted_and_harm_no_other_and_get_one_when_others_are_idle() -> Result<()> {
    const CLIENTS: usize = 40;
    let lab = lab(Options { phone_addresses: CLIENTS as u8, ..Options::default() })?;
    // From 1024 on, 8 ports are left, and of each parity 4.
    lab.gateway().sysctl("net/ipv4/ip_local_port_range", "1032 65535")?;
    let _servers = servers(&lab)?;
    let mut gateway = gateway(&lab, Some(3))?;
    let shown = gateway.says(&["maps", "servers"])?;
    assert!(shown.contains("masquerade") && shown.contains("as 10.66.1.1 ports 1024-1031"), "{shown}");
    let sockets = sockets(&lab, [1024].into_iter())?;
    let all: BTreeMap<_, _> = sockets.iter().enumerate().collect();
    let served = exchange(&all, 0, SECOND / 2)?;
    assert!((2..=4).contains(&served.len()), "{served:?}");
    assert_eq!(gateway.counted("rtp", "no-port")?, (CLIENTS - served.len()) as u64);
    let some: BTreeMap<_, _> = all.iter().filter(|(flow, _)| served.contains(flow)).map(|(f, s)| (*f, *s)).collect();
    let others: BTreeMap<_, _> = all.iter().filter(|(flow, _)| !served.contains(flow)).map(|(f, s)| (*f, *s)).collect();
    for round in 1..50 {
        assert_eq!(exchange(&some, round, 5 * SECOND)?, served, "round {round}");
        exchange(&others, round, Duration::ZERO)?;
    }
    // Nobody sweeps any more.
    gateway.kill9()?;
    let mut round = 50;
    wait::until(30 * SECOND, "the port of an idle flow", || {
        round += 1;
        Ok((!exchange(&others, round, SECOND / 10)?.is_empty()).then_some(()))
    })?;
    gateway.restart()?;
    assert!(mappings(&gateway)?.len() <= 4);
    Ok(())
}

/// Phones that call, all of which must be answered.
fn callers(lab: &Lab, count: usize) -> Result<Phones> {
    let mut phones = Phones::new(lab, SIP, count)?;
    let outcome = phones.call(count)?;
    ensure!(outcome.succeeded == count, "{outcome:?}");
    Ok(phones)
}

/// Every packet came back once, from this server.
fn assert_whole(tally: &Tally, server: &str) {
    assert_eq!((tally.lost, tally.duplicated, tally.corrupt, tally.strays), (0, 0, 0, 0), "{tally:?}");
    assert_eq!(tally.answered_by, BTreeMap::from([(server.to_owned(), tally.sent)]), "{tally:?}");
}

#[test]
fn a_backup_that_masquerades_takes_the_calls_of_a_dead_master_and_keeps_its_own_while_it_drains() -> Result<()> {
    const CALLS: usize = 20;
    let lab = lab(Options::default())?;
    let [mut master, _backup] = servers(&lab)?;
    let mut gateway = Gateway::start(&lab, config(&lab, None))?;
    let old = callers(&lab, CALLS)?;
    let media = Meter::start(old.streams()?)?;
    assert_whole(&media.settled(Duration::ZERO..SECOND / 2)?.total, "master");
    let killed = media.now();
    master.kill9()?;
    gateway.wait_until("the backup is active", SECOND, |status| status.active() == "backup")?;
    let taken = media.first_echo_by("backup", killed..media.now() + SECOND).context("no media of the backup")?;
    println!("the backup answered {:?} after the kill", taken - killed);
    let after = media.now();
    assert_whole(&media.settled(after..after + SECOND)?.total, "backup");

    let mut new = callers(&lab, CALLS)?;
    let new_media = Meter::start(new.streams()?)?;
    assert_whole(&new_media.settled(Duration::ZERO..SECOND / 2)?.total, "backup");
    let _master = server::start(&lab, "master", &[])?;
    gateway.wait_until("the master is back", 10 * SECOND, |status| {
        status.services[0].servers.iter().all(|server| server.health == "up")
    })?;
    gateway.says(&["switch", "master", "--drain", "60s"])?;
    let drains = new_media.now();
    let newest = callers(&lab, CALLS)?;
    assert_whole(&new_media.settled(drains..drains + SECOND)?.total, "backup");
    let newest_media = Meter::start(newest.streams()?)?;
    assert_whole(&newest_media.settled(Duration::ZERO..SECOND)?.total, "master");
    assert_eq!(new.hang_up()?.succeeded, CALLS, "their dialogs are the backup's");
    Ok(())
}

#[test]
fn long_messages_of_both_families_go_in_fragments_through_the_gateways_own_name_and_back() -> Result<()> {
    /// Most bytes of a datagram that fits into one Ethernet frame.
    const ONE_FRAME: usize = 1472;
    let lab = lab(Options { ipv6: true, ..Options::default() })?;
    let _servers = servers(&lab)?;
    let gateway = gateway(&lab, None)?;
    for caller in [Caller::v4(&lab)?, Caller::v6(&lab)?] {
        let before = (gateway.counted("sip", "to-server")?, gateway.counted("sip", "to-client")?);
        let answer = caller.ask(&lab, &caller.request("OPTIONS", 3000))?;
        assert!(answer > ONE_FRAME, "an answer of {answer} bytes needs no fragments");
        let after = (gateway.counted("sip", "to-server")?, gateway.counted("sip", "to-client")?);
        assert!(after.0 - before.0 >= 3 && after.1 - before.1 >= 2, "{caller:?}: {before:?}, then {after:?}");
    }
    assert_eq!(mappings(&gateway)?.len(), 2);
    assert_eq!(gateway.cli(&["maps", "verify"])?.code, 0);
    // Another phone, of which nothing is kept.
    let (pins, socket) = (lab.pin_dir(), lab::gateway::socket(&lab));
    let (pins, socket) = (pins.to_string_lossy(), socket.to_string_lossy());
    let packet = ["--from", "192.0.2.101:5062", "--to", "192.0.2.10:5060"];
    let traced = gateway.says(&[&["trace", "--pin-dir", &pins, "--socket", &socket], &packet[..]].concat())?;
    assert!(traced.contains("10.66.1.1") && traced.contains("to-server"), "{traced}");
    assert_eq!(mappings(&gateway)?.len(), 2);
    Ok(())
}

#[test]
fn what_is_too_large_for_the_way_to_a_server_that_masquerades_goes_in_fragments_or_the_phone_is_told() -> Result<()> {
    let lab = lab(Options { ipv6: true, ..Options::default() })?;
    let _servers = servers(&lab)?;
    lab.gateway().ip("link set dev back mtu 1300")?;
    let gateway = gateway(&lab, None)?;
    // The kernel's stack fragments what may be fragmented, and takes it in the gateway's own name.
    lab.phones().sysctl("net/ipv4/ip_no_pmtu_disc", "1")?;
    let caller = Caller::v4(&lab)?;
    caller.ask(&lab, &caller.one_sided_request("OPTIONS", 1400))?;
    assert!(gateway.counted("sip", "to-server-by-stack")? > 0);
    lab.phones().sysctl("net/ipv4/ip_no_pmtu_disc", "0")?;
    for (caller, vip) in [(Caller::v4(&lab)?, "192.0.2.10"), (Caller::v6(&lab)?, "2001:db8::10")] {
        let before = gateway.counted("sip", "told-too-big")?;
        caller.ask(&lab, &caller.one_sided_request("OPTIONS", 1400))?;
        assert!(gateway.counted("sip", "told-too-big")? > before, "{caller:?} was never told");
        let route = output(lab.phones(), "ip", &format!("route get {vip}"))?;
        assert!(route.contains("mtu 1300"), "{route}");
    }
    assert_eq!(icmp(lab.phones(), "InCsumErrors")?, 0);
    Ok(())
}

#[test]
fn a_server_that_masquerades_learns_the_mtu_of_the_way_to_the_phone_under_the_name_that_it_knows() -> Result<()> {
    let lab = lab(Options { ipv6: true, ..Options::default() })?;
    let _servers = servers(&lab)?;
    lab.gateway().ip("link set dev front mtu 1300")?;
    lab.phones().ip("link set dev eth0 mtu 1300")?;
    let gateway = gateway(&lab, None)?;
    let backup = &lab.server("backup")?.namespace;
    for (caller, own) in [(Caller::v4(&lab)?, "10.66.1.1"), (Caller::v6(&lab)?, "2001:db8:1::1")] {
        let before = gateway.counted("sip", "told-too-big")?;
        caller.ask(&lab, &caller.request("OPTIONS", 1400))?;
        assert!(gateway.counted("sip", "told-too-big")? > before, "{caller:?}: the server was never told");
        let route = output(backup, "ip", &format!("route get {own}"))?;
        assert!(route.contains("mtu 1300"), "{route}");
    }
    assert_eq!(icmp(backup, "InCsumErrors")?, 0);
    Ok(())
}

#[test]
fn an_error_about_a_packet_in_the_gateways_own_name_reaches_who_sent_that() -> Result<()> {
    const PHONE: &str = "192.0.2.100:5062";
    let lab = lab(Options::default())?;
    let _servers = servers(&lab)?;
    let gateway = gateway(&lab, None)?;
    let backup = &lab.server("backup")?.namespace;
    // The phone's socket takes nothing from the SIP port: its host says so to the VIP, and the gateway to the backup.
    let before = icmp(backup, "InDestUnreachs")?;
    let request = Caller::v4(&lab)?.request("OPTIONS", 500);
    wait::until(10 * SECOND, "the backup to hear of it", || {
        let request = request.clone();
        lab.phones().run(move || {
            let phone = UdpSocket::bind(PHONE)?;
            phone.connect((VIP, 9))?;
            phone.send_to(request.as_bytes(), SIP).map(drop)
        })?;
        // A host says so at most once a second in the long run (`net.ipv4.icmp_ratelimit`).
        std::thread::sleep(SECOND / 5);
        Ok((icmp(backup, "InDestUnreachs")? > before).then_some(()))
    })?;
    // Nobody listens on this port of the backup: its host says so to the gateway's own name, and the phone hears it from the VIP.
    lab.phones().run(|| {
        let phone = UdpSocket::bind(PHONE)?;
        phone.connect((VIP, 19_997))?;
        phone.set_read_timeout(Some(SECOND / 5))?;
        wait::until(10 * SECOND, "the phone to be refused", || {
            let sent = phone.send(&[0; 172]);
            let refused = sent.and_then(|_| phone.recv(&mut [0; 200])).err().map(|error| error.kind());
            Ok((refused == Some(io::ErrorKind::ConnectionRefused)).then_some(()))
        })
    })?;
    assert_eq!((icmp(backup, "InCsumErrors")?, icmp(lab.phones(), "InCsumErrors")?), (0, 0));
    assert!(gateway.counted("other", "to-client")? > 0 && gateway.counted("other", "to-server")? > 0);
    Ok(())
}
