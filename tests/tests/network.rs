//! Changes of the network around the gateway are followed while it runs.

use std::{process::Command, time::Duration};

use anyhow::{Context, Result};
use lab::{
    Lab, Options,
    gateway::{Config, Gateway},
    netns::{Namespace, join},
    server, wait,
};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn next_hops_follow_addresses_and_routes() -> Result<()> {
    let lab = Lab::new(Options::default())?;
    let _servers = [server::start(&lab, "master", &[])?, server::start(&lab, "backup", &[])?];
    let gateway = Gateway::start(&lab, Config::of(&lab))?;
    let master = &lab.server("master")?.namespace;

    // A host whose interface gets another address says so to everybody, if told to.
    master.sysctl("net/ipv4/conf/eth0/arp_notify", "1")?;
    master.ip("link set dev eth0 address 02:00:00:00:00:aa")?;
    wait_for_hop(&gateway, "master", "destination", "02:00:00:00:00:aa")?;

    // The cloud by way of the master, and back.
    let router = hop(&gateway, "backup", "destination")?;
    master.sysctl("net/ipv4/ip_forward", "1")?;
    master.ip("route add 10.66.2.0/24 via 10.66.1.254")?;
    lab.gateway().ip("route replace 10.66.2.0/24 via 10.66.1.2")?;
    wait_for_hop(&gateway, "backup", "destination", "02:00:00:00:00:aa")?;
    lab.gateway().ip("route replace 10.66.2.0/24 via 10.66.1.254")?;
    wait_for_hop(&gateway, "backup", "destination", &router)?;

    lab.gateway().ip("link set dev back address 02:00:00:00:00:bb")?;
    for server in ["master", "backup"] {
        wait_for_hop(&gateway, server, "source", "02:00:00:00:00:bb")?;
    }
    Ok(())
}

#[test]
fn an_interface_that_is_removed_is_an_outage_until_the_gateway_is_restarted() -> Result<()> {
    let lab = Lab::new(Options::default())?;
    let _servers = [server::start(&lab, "master", &[])?, server::start(&lab, "backup", &[])?];
    let mut gateway = Gateway::start(&lab, Config::of(&lab))?;
    lab.gateway().ip("link delete dev back")?;
    gateway.wait_until("an outage", SECOND, |status| status.services[0].outage)?;
    wait_for_event(&gateway, "restart voip-ha")?;

    make_back_anew(&lab)?;
    wait::until(10 * SECOND, "the new interface to be refused", || {
        let status = gateway.cli(&["status"])?.stdout;
        Ok(status.contains("back was removed and made anew").then_some(()))
    })?;
    // The servers answer probes by the new interface. That is no sign of life: nothing is redirected to it.
    let received = || lab.gateway().packets_received("back");
    let before = received()?;
    wait::until(10 * SECOND, "answers to twenty probes", || Ok((received()? >= before + 40).then_some(())))?;
    let status = gateway.status()?;
    assert!(status.services[0].outage && status.health("master") == "down", "{status:?}");

    gateway.restart()?;
    gateway.wait_until("the master serves", 10 * SECOND, |status| {
        !status.services[0].outage && status.health("master") == "up"
    })?;
    wait::until(SECOND, "the kernel to hold what is wanted", || {
        Ok((gateway.cli(&["maps", "verify"])?.code == 0).then_some(()))
    })
}

#[test]
fn a_carrier_that_is_missing_at_the_start_is_told() -> Result<()> {
    let lab = Lab::new(Options::default())?;
    lab.router().ip("link set dev gateway down")?;
    let gateway = Gateway::launch(&lab, Config::of(&lab))?;
    wait_for_event(&gateway, "back has no carrier")
}

#[test]
fn a_flood_of_notifications_leaves_the_gateway_following_the_network() -> Result<()> {
    let lab = Lab::new(Options::default())?;
    let _servers = [server::start(&lab, "master", &[])?, server::start(&lab, "backup", &[])?];
    let mut gateway = Gateway::start(&lab, Config::of(&lab))?;
    let pid = gateway.process().id().to_string();
    let signal = |name: &str| {
        let status = Command::new("kill").args([name, &pid]).status().context("kill")?;
        anyhow::ensure!(status.success(), "kill {name} {pid}");
        Ok(())
    };
    // A gateway that does not read for a while loses notifications, among them that of the carrier.
    signal("-STOP")?;
    let routes = (0..20_000).map(|n| format!("route add 10.99.{}.{}/32 dev lo\n", n / 250, n % 250));
    lab.gateway().ip(&routes.collect::<String>())?;
    lab.router().ip("link set dev gateway down")?;
    signal("-CONT")?;
    wait_for_event(&gateway, "back has no carrier")?;
    lab.router().ip("link set dev gateway up")?;
    gateway.wait_until("both are up", 10 * SECOND, |status| {
        status.health("master") == "up" && status.health("backup") == "up"
    })?;
    lab.gateway().ip("link set dev back address 02:00:00:00:00:bb")?;
    wait_for_hop(&gateway, "master", "source", "02:00:00:00:00:bb")
}

#[test]
fn a_changed_mtu_towards_the_servers_is_followed() -> Result<()> {
    let lab = Lab::new(Options::default())?;
    let _servers = [server::start(&lab, "master", &[])?, server::start(&lab, "backup", &[])?];
    let gateway = Gateway::start(&lab, Config::of(&lab))?;
    for mtu in ["1400", "1500"] {
        lab.gateway().ip(&format!("link set dev back mtu {mtu}"))?;
        wait::until(10 * SECOND, &format!("the MTU of both ways to be {mtu}"), || {
            let servers = gateway.cli(&["maps", "servers"])?.stdout;
            Ok((servers.matches(&format!("MTU {mtu}")).count() == 2).then_some(()))
        })?;
    }
    Ok(())
}

/// As the lab made it at first.
fn make_back_anew(lab: &Lab) -> Result<()> {
    let (gateway, router): (&Namespace, &Namespace) = (lab.gateway(), lab.router());
    join((gateway, "back"), (router, "gateway"))?;
    router.ethtool("gateway", &["gro", "on"])?;
    router.ip("link set dev gateway master lan")?;
    gateway.ip("address add 10.66.1.1/24 dev back\nroute add 10.66.2.0/24 via 10.66.1.254")
}

fn wait_for_event(gateway: &Gateway<'_>, text: &str) -> Result<()> {
    wait::until(5 * SECOND, text, || Ok(gateway.cli(&["events"])?.stdout.contains(text).then_some(())))
}

fn wait_for_hop(gateway: &Gateway<'_>, server: &str, end: &str, mac: &str) -> Result<()> {
    wait::until(10 * SECOND, &format!("the {end} of frames to {server} to be {mac}"), || {
        let verified = gateway.cli(&["maps", "verify"])?.code == 0;
        Ok((hop(gateway, server, end)? == mac && verified).then_some(()))
    })
}

/// An Ethernet address of the way to a server, as the status tells it.
fn hop(gateway: &Gateway<'_>, server: &str, end: &str) -> Result<String> {
    let status: serde_json::Value = serde_json::from_str(&gateway.cli(&["status", "--json"])?.stdout)?;
    let servers = status["services"][0]["servers"].as_array().context("no servers")?;
    let server = servers.iter().find(|candidate| candidate["name"] == server).context("no such server")?;
    let mac = server["next_hops"][0][end].as_array().context("no next hop")?;
    let octets = mac.iter().map(|octet| format!("{:02x}", octet.as_u64().unwrap_or_default()));
    Ok(octets.collect::<Vec<_>>().join(":"))
}
