//! Phones of both families at one service, through the gateway's program: calls, failover, long messages, path MTU and errors.

use std::{net::UdpSocket, time::Duration};

use anyhow::{Context as _, Result};
use lab::{
    Lab, Layout, Options,
    gateway::{self, Config, Gateway, Probe},
    message::{Caller, icmp6, output},
    phone::Phones,
    process::Process,
    real::RealServer,
    server,
    topology::{SIP, SIP6},
    trial::{Kind, Trial},
    wait,
};
use serde_json::Value;

const SECOND: Duration = Duration::from_secs(1);
/// Most bytes of a datagram that fits into one Ethernet frame over IPv6.
const ONE_FRAME: usize = 1452;

fn lab(layout: Layout) -> Result<Lab> {
    Lab::new(Options { layout, ipv6: true, alone: false, ..Options::default() })
}

fn servers(lab: &Lab) -> Result<[Process; 2]> {
    Ok([server::start(lab, "master", &[])?, server::start(lab, "backup", &[])?])
}

/// Crashes under calls of both families.
fn both_families_survive(layout: Layout) -> Result<()> {
    const CALLS: usize = 10;
    const CRASHES: usize = 5;
    let lab = Lab::new(Options { layout, ipv6: true, ..Options::default() })?;
    let mut config = Config::of(&lab);
    config.probe = Probe { preset: Some("lan".to_owned()), ..Probe::default() };
    let mut trial = Trial::start(&lab, config, |lab, name| server::start(lab, name, &[]))?;
    let mut phones = [Phones::new(&lab, SIP, CALLS)?, Phones::new(&lab, SIP6, CALLS)?];
    let mut streams = Vec::new();
    for phones in &mut phones {
        assert_eq!((phones.register()?.succeeded, phones.call(CALLS)?.succeeded), (CALLS, CALLS));
        streams.extend(phones.streams()?);
    }
    assert_eq!(streams.iter().filter(|stream| stream.remote.is_ipv6()).count(), CALLS, "half of the media is IPv6");
    trial.stream(streams)?;
    let mut gaps = Vec::new();
    for _ in 0..CRASHES {
        let crash = trial.make(Kind::Crash)?;
        println!("{layout:?}: {crash:?}");
        assert_eq!((&*crash.evidence, crash.duplicated), ("refused", 0), "{crash:?}");
        // Whom the new server does not know yet registers there, by the same VIPs.
        for phones in &mut phones {
            assert_eq!(phones.register()?.succeeded, CALLS, "{}", crash.to);
        }
        trial.bring_back(Kind::Crash, &crash.from)?;
        gaps.push((crash.max_lost_in_a_row, crash.max_gap_ms));
    }
    gaps.sort_by(|one, other| one.1.total_cmp(&other.1));
    let (in_a_row, gap) = gaps[CRASHES / 2];
    // What a crash costs IPv4 alone: see the test of failover.
    assert!(in_a_row <= 1 && gap <= 42.0, "the worst stream of either family: {gaps:?}");
    let total = trial.finish_streams()?;
    assert_eq!((total.corrupt, total.strays), (0, 0), "{total:?}");
    Ok(())
}

#[test]
fn a_crash_costs_streams_of_both_families_two_packets_at_the_median_in_two_arms() -> Result<()> {
    both_families_survive(Layout::TwoArm)
}

#[test]
fn a_crash_costs_streams_of_both_families_two_packets_at_the_median_in_one_arm() -> Result<()> {
    both_families_survive(Layout::OneArm)
}

#[test]
fn the_first_reply_to_a_phone_whose_ethernet_address_is_unknown_is_not_lost() -> Result<()> {
    let lab = lab(Layout::TwoArm)?;
    let _servers = servers(&lab)?;
    let gateway = Gateway::start(&lab, Config::of(&lab))?;
    for caller in [Caller::v4(&lab)?, Caller::v6(&lab)?] {
        // The phone learns the gateway's address, and by that the gateway the phone's.
        assert!(caller.is_answered_at_once(&lab)?, "{caller:?}");
        lab.gateway().ip(&format!("neigh del {} dev front", caller.phone.ip()))?;
        let before = gateway.counted("sip", "to-client-by-stack")?;
        assert!(caller.is_answered_at_once(&lab)?, "{caller:?}: the first reply is lost");
        assert_eq!(gateway.counted("sip", "to-client-by-stack")?, before + 1, "{caller:?}: it was known");
    }
    Ok(())
}

#[test]
fn a_3_kb_invite_in_fragments_reaches_kamailio_by_ipv6_and_is_answered_in_fragments() -> Result<()> {
    let lab = lab(Layout::TwoArm)?;
    let _servers = [RealServer::start(&lab, "master")?, RealServer::start(&lab, "backup")?];
    let gateway = Gateway::start(&lab, Config::of(&lab))?;
    let caller = Caller::v6(&lab)?;
    for server in ["master", "backup"] {
        gateway.switch(server)?;
        let before = (gateway.counted("sip", "to-server")?, gateway.counted("sip", "to-client")?);
        let answer = caller.ask(&lab, &caller.request("INVITE", 3000))?;
        assert!(answer > ONE_FRAME, "{server} answers with {answer} bytes, which need no fragments");
        let after = (gateway.counted("sip", "to-server")?, gateway.counted("sip", "to-client")?);
        assert!(after.0 - before.0 >= 3, "{server}: 3 fragments of a request, {before:?} then {after:?}");
        assert!(after.1 - before.1 >= 2, "{server}: 2 fragments of an answer, {before:?} then {after:?}");
    }
    assert_eq!(gateway.counted("other", "fragment")?, 0, "dropped for want of their first one");
    Ok(())
}

#[test]
fn a_phone_learns_the_mtu_of_the_way_to_the_server_by_icmpv6_and_is_answered() -> Result<()> {
    let lab = lab(Layout::TwoArm)?;
    let _servers = servers(&lab)?;
    lab.gateway().ip("link set dev back mtu 1300")?;
    let gateway = Gateway::start(&lab, Config::of(&lab))?;
    let caller = Caller::v6(&lab)?;
    caller.ask(&lab, &caller.one_sided_request("OPTIONS", 1400))?;
    assert!(gateway.counted("sip", "told-too-big")? > 0, "it was never told");
    let route = output(lab.phones(), "ip", "route get 2001:db8::10")?;
    assert!(route.contains("mtu 1300"), "{route}");
    assert_eq!(icmp6(lab.phones(), "InCsumErrors")?, 0);
    Ok(())
}

#[test]
fn a_server_learns_the_mtu_of_the_way_to_the_phone_by_icmpv6_and_the_phone_is_answered() -> Result<()> {
    let lab = lab(Layout::TwoArm)?;
    let _servers = servers(&lab)?;
    lab.gateway().ip("link set dev front mtu 1300")?;
    lab.phones().ip("link set dev eth0 mtu 1300")?;
    let gateway = Gateway::start(&lab, Config::of(&lab))?;
    let caller = Caller::v6(&lab)?;
    caller.ask(&lab, &caller.request("OPTIONS", 1400))?;
    assert!(gateway.counted("sip", "told-too-big")? > 0, "it was never told");
    let master = &lab.server("master")?.namespace;
    let route = output(master, "ip", "route get 2001:db8::100")?;
    assert!(route.contains("mtu 1300"), "{route}");
    assert_eq!(icmp6(master, "InCsumErrors")?, 0);
    Ok(())
}

#[test]
fn a_closed_port_of_the_server_refuses_the_phones_connected_socket_by_ipv6() -> Result<()> {
    let lab = lab(Layout::TwoArm)?;
    let _servers = servers(&lab)?;
    let gateway = Gateway::start(&lab, Config::of(&lab))?;
    let phone = Caller::v6(&lab)?.phone;
    lab.phones().run(move || {
        let phone = UdpSocket::bind(phone)?;
        phone.connect("[2001:db8::10]:19998")?;
        phone.set_read_timeout(Some(SECOND / 5))?;
        wait::until(10 * SECOND, "the phone to be refused", || {
            let sent = phone.send(&[0; 172]);
            let refused = sent.and_then(|_| phone.recv(&mut [0; 200])).err().map(|error| error.kind());
            Ok((refused == Some(std::io::ErrorKind::ConnectionRefused)).then_some(()))
        })
    })?;
    assert_eq!(icmp6(lab.phones(), "InCsumErrors")?, 0);
    assert!(gateway.counted("other", "to-client")? > 0);
    Ok(())
}

#[test]
fn maps_status_and_trace_tell_of_both_families() -> Result<()> {
    let lab = lab(Layout::TwoArm)?;
    let _servers = servers(&lab)?;
    let gateway = Gateway::start(&lab, Config::of(&lab))?;
    let (v4, v6) = ("192.0.2.10", "2001:db8::10");
    let told = |what: &str| -> Result<Value> {
        let answer = gateway.cli(&["maps", what, "--json"])?;
        Ok(serde_json::from_str::<Value>(&answer.stdout).with_context(|| format!("{answer:?}"))?[what].clone())
    };
    let master = serde_json::json!(["10.66.1.2", "2001:db8:1::2"]);
    let service = told("services")?[0].clone();
    assert_eq!((&service["vips"], &service["signalling"]), (&serde_json::json!([v4, v6]), &master), "{service}");
    // Both by the bridge in front of it, or the router.
    let both_known = || {
        let servers = told("servers")?;
        let is_known = |server: &Value| !server["next_hops"]["v4"].is_null() && !server["next_hops"]["v6"].is_null();
        let servers_known = servers.as_array().is_some_and(|all| all.len() == 2 && all.iter().all(is_known));
        Ok(servers_known.then_some(servers))
    };
    let servers = wait::until(5 * SECOND, "next hops of both families", both_known)?;
    assert_eq!((&servers[0]["addresses"], &servers[0]["forwarding"]), (&master, &"nat".into()), "{servers}");
    assert_eq!(servers[0]["next_hops"]["v4"]["destination"], servers[0]["next_hops"]["v6"]["destination"]);
    let devices = told("devices")?;
    for name in ["front", "back"] {
        assert!(devices.as_array().is_some_and(|all| all.iter().any(|one| one["interface"] == name)), "{devices}");
    }
    let text = gateway.cli(&["status"])?.stdout;
    assert!(text.contains("2001:db8::10") && text.contains("2001:db8:2::2"), "{text}");
    assert_eq!(gateway.cli(&["maps", "verify"])?.code, 0);

    let (pins, socket) = (lab.pin_dir(), gateway::socket(&lab));
    let (pins, socket) = (pins.to_string_lossy(), socket.to_string_lossy());
    let arguments = ["trace", "--json", "--pin-dir", &pins, "--socket", &socket];
    let ends = ["--from", "[2001:db8::100]:4000", "--to", "[2001:db8::10]:10000"];
    let answer = gateway.cli(&[&arguments[..], &ends].concat())?;
    let trace: Value = serde_json::from_str(&answer.stdout).with_context(|| format!("{answer:?}"))?;
    assert_eq!((&trace["outcome"], &trace["server"]["name"]), (&"to-server".into(), &"master".into()), "{trace}");
    let headers = trace["headers"].as_array().context("no headers")?;
    let destination = headers.iter().find(|header| header["field"] == "IP destination").context("no destination")?;
    assert_eq!(destination["after"], "2001:db8:1::2", "{trace}");
    Ok(())
}
