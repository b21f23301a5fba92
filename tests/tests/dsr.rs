//! A server that has the VIP itself and answers phones by a way of its own.

use std::{net::UdpSocket, time::Duration};

use anyhow::Result;
use lab::{
    Lab, Layout, Options,
    gateway::{Config, Gateway},
    message::Caller,
    meter::Meter,
    phone::Phones,
    server,
    topology::{SIP, SIP6},
    wait,
};
use serde_json::Value;

const SECOND: Duration = Duration::from_secs(1);
const CALLS: usize = 4;

/// The one-arm layout, in which the phones' router is a neighbour of the servers: by that the master answers.
fn lab() -> Result<Lab> {
    let lab = Lab::new(Options { layout: Layout::OneArm, ipv6: true, alone: false, ..Options::default() })?;
    let master = &lab.server("master")?.namespace;
    master.sysctl("net/ipv4/conf/all/arp_ignore", "1")?;
    master.sysctl("net/ipv4/conf/all/arp_announce", "2")?;
    master.ip("address add 192.0.2.10/32 dev lo\n\
         address add 2001:db8::10/128 dev lo nodad\n\
         route add 192.0.2.0/24 via 10.66.1.253\n\
         route add 2001:db8::/64 via 2001:db8:1::253")?;
    Ok(lab)
}

fn config(lab: &Lab) -> Config {
    let mut config = Config::of(lab);
    config.service[0].server[0].forwarding = "dsr".to_owned();
    config
}

/// By all of its addresses.
const ITS_VIPS: [&str; 8] = [
    "--address",
    "192.0.2.10",
    "--advertise",
    "192.0.2.10",
    "--address",
    "2001:db8::10",
    "--advertise",
    "2001:db8::10",
];

#[test]
fn a_server_with_the_vip_answers_phones_of_both_families_past_the_gateway() -> Result<()> {
    let lab = lab()?;
    let _servers = [server::start(&lab, "master", &ITS_VIPS)?, server::start(&lab, "backup", &[])?];
    let gateway = Gateway::start(&lab, config(&lab))?;
    let mut all = [Phones::new(&lab, SIP, CALLS)?, Phones::new(&lab, SIP6, CALLS)?];
    let mut streams = Vec::new();
    for phones in &mut all {
        assert_eq!((phones.register()?.succeeded, phones.call(CALLS)?.succeeded), (CALLS, CALLS));
        streams.extend(phones.streams()?);
    }
    let meter = Meter::start(streams)?;
    let total = meter.settled(SECOND..2 * SECOND)?.total;
    assert_eq!((total.lost, total.strays, total.answered_by.get("master")), (0, 0, Some(&total.sent)), "{total:?}");
    let seen = ["sip", "rtp"].map(|class| (gateway.counted(class, "to-server"), gateway.counted(class, "to-client")));
    for (to_server, to_client) in seen {
        assert!(to_server? > 0, "phones ask by the gateway");
        assert_eq!(to_client?, 0, "answers pass it by");
    }
    let servers: Value = serde_json::from_str(&gateway.cli(&["maps", "servers", "--json"])?.stdout)?;
    let modes = [0, 1].map(|index| &servers["servers"][index]["forwarding"]);
    assert_eq!(modes, ["dsr", "nat"], "{servers}");
    assert_eq!(gateway.cli(&["maps", "verify"])?.code, 0);
    let status = gateway.cli(&["status"])?.stdout;
    assert!(status.contains("master answers phones directly (dsr)"), "{status}");

    // From one mode to the other and back, by the same VIPs.
    for server in ["backup", "master"] {
        gateway.switch(server)?;
        let now = meter.now();
        let total = meter.settled(now + SECOND / 10..now + SECOND)?.total;
        assert_eq!((total.lost, total.answered_by.get(server)), (0, Some(&total.sent)), "{server}: {total:?}");
    }
    Ok(())
}

#[test]
fn what_is_too_large_for_a_server_with_the_vip_is_dropped_or_told_of_but_never_left_to_the_gateways_stack() -> Result<()>
{
    let lab = Lab::new(Options { ipv6: true, alone: false, ..Options::default() })?;
    let _servers = [server::start(&lab, "master", &[])?, server::start(&lab, "backup", &[])?];
    lab.gateway().ip("link set dev back mtu 1300")?;
    // By IPv4 the phone lets its packets be fragmented on their way.
    lab.phones().sysctl("net/ipv4/ip_no_pmtu_disc", "1")?;
    let gateway = Gateway::start(&lab, config(&lab))?;
    for (caller, outcome) in [(Caller::v4(&lab)?, "too-large"), (Caller::v6(&lab)?, "told-too-big")] {
        assert_eq!(gateway.counted("sip", outcome)?, 0);
        let request = caller.one_sided_request("OPTIONS", 1400);
        lab.phones().run(move || UdpSocket::bind(caller.phone)?.send_to(request.as_bytes(), caller.server))?;
        let counted = || Ok((gateway.counted("sip", outcome)? == 1).then_some(()));
        wait::until(5 * SECOND, &format!("a packet counted as {outcome}"), counted)?;
    }
    assert_eq!(gateway.counted("sip", "to-server-by-stack")?, 0);
    Ok(())
}

#[test]
fn a_server_behind_a_router_cannot_have_the_vip_and_says_why() -> Result<()> {
    let lab = lab()?;
    let _servers = [server::start(&lab, "master", &ITS_VIPS)?, server::start(&lab, "backup", &[])?];
    let mut config = config(&lab);
    config.service[0].server[1].forwarding = "dsr".to_owned();
    let gateway = Gateway::launch(&lab, config)?;
    wait::until(5 * SECOND, "the status to say so", || {
        let status = gateway.cli(&["status"])?.stdout;
        Ok(status.contains("no way to backup: it is behind the router 10.66.1.254").then_some(()))
    })
}
