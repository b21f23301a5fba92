//! A backup that is reached by a tunnel, by which only the kernel's stack can send.

use std::{net::UdpSocket, time::Duration};

use anyhow::{Context as _, Result};
use aya::programs::{SchedClassifier, TcAttachType};
use lab::{
    Lab, Options,
    gateway::{Config, Gateway, Probe},
    message::{Caller, udp_checksum_errors},
    meter::Meter,
    phone::Phones,
    process::Process,
    server,
    topology::{SIP, SIP6},
    trial::{Kind as Fault, Trial},
    tunnel::{DEVICE, Kind, Tunnel},
    wait,
};
use serde_json::Value;

const SECOND: Duration = Duration::from_secs(1);
const CALLS: usize = 10;
/// The kernel's verifier takes some seconds for the programs of tunnels, and for those of XDP before, on a busy machine many more.
const LOADED: Duration = Duration::from_secs(60);
const BY_STACK: &str = "by the stack, device vpn0";

fn servers(lab: &Lab) -> Result<[Process; 2]> {
    Ok([server::start(lab, "master", &[])?, server::start(lab, "backup", &[])?])
}

/// The relay of a VPN in user space waits for a processor like any other program, so nobody is called dead in a hurry.
fn config(lab: &Lab, preset: &str) -> Config {
    let probe = Probe { preset: Some(preset.to_owned()), ..Probe::default() };
    Config { probe, ..Config::of(lab) }
}

fn tunnelled(lab: &Lab, kind: Kind) -> Result<Tunnel<'_>> {
    let tunnel = Tunnel::new(lab, kind)?;
    tunnel.lead_to_backup(true)?;
    tunnel.lead_from_backup(true)?;
    Ok(tunnel)
}

/// Waits until the kernel has so many ways by the tunnel, as the daemon wants.
fn wait_for_ways(gateway: &Gateway<'_>, ways: usize) -> Result<()> {
    wait::until(LOADED, &format!("{ways} ways by the tunnel"), || {
        let shown = gateway.says(&["maps", "servers"])?;
        let verified = gateway.cli(&["maps", "verify"])?.code == 0;
        Ok((shown.matches(BY_STACK).count() == ways && verified).then_some(()))
    })
    .with_context(|| format!("{:?}", gateway.cli(&["status"])))
}

fn assert_whole_checksums(lab: &Lab) -> Result<()> {
    for namespace in lab.servers().iter().map(|server| &server.namespace).chain([lab.phones()]) {
        assert_eq!(udp_checksum_errors(namespace)?, 0, "{}", namespace.name());
    }
    Ok(())
}

/// The master crashes under calls, which go on at the backup, and go back.
fn calls_go_on(kind: Kind, ipv6: bool) -> Result<()> {
    let lab = Lab::new(Options { ipv6, ..Options::default() })?;
    let _tunnel = tunnelled(&lab, kind)?;
    let mut trial = Trial::start(&lab, config(&lab, "wan"), |lab, name| server::start(lab, name, &[]))?;
    wait_for_ways(trial.gateway(), lab.vips().count())?;
    let mut phones = vec![Phones::new(&lab, SIP, CALLS)?];
    if ipv6 {
        phones.push(Phones::new(&lab, SIP6, CALLS)?);
    }
    let mut streams = Vec::new();
    for phones in &mut phones {
        assert_eq!((phones.register()?.succeeded, phones.call(CALLS)?.succeeded), (CALLS, CALLS));
        streams.extend(phones.streams()?);
    }
    trial.stream(streams)?;
    let crash = trial.make(Fault::Crash)?;
    println!("{kind:?}: {crash:?}");
    assert_eq!((&*crash.to, &*crash.evidence, crash.duplicated), ("backup", "refused", 0), "{crash:?}");
    assert!(crash.max_lost_in_a_row <= 2, "{crash:?}");
    let now = trial.meter()?.now();
    let whole = trial.meter()?.settled(now..now + SECOND)?.total;
    assert_eq!((whole.lost, whole.answered_by.get("backup")), (0, Some(&whole.sent)), "every stream: {whole:?}");
    for phones in &mut phones {
        assert_eq!(phones.register()?.succeeded, CALLS);
    }
    let gateway = trial.gateway();
    for class in ["sip", "rtp"] {
        let counted = (gateway.counted(class, "to-server-by-stack")?, gateway.counted(class, "to-client-by-stack")?);
        assert!(counted.0 > 0 && counted.1 > 0, "{class}: {counted:?}");
    }
    trial.bring_back(Fault::Crash, "master")?;
    let back = trial.make(Fault::Planned)?;
    println!("{kind:?}: {back:?}");
    assert_eq!((&*back.to, back.lost), ("master", 0), "{back:?}");
    let total = trial.finish_streams()?;
    assert_eq!((total.corrupt, total.strays), (0, 0), "{total:?}");
    assert_whole_checksums(&lab)
}

/// Streams of calls that run at the backup.
fn calls_at_backup(lab: &Lab, gateway: &Gateway<'_>) -> Result<(Phones, Meter)> {
    gateway.switch("backup")?;
    let mut phones = Phones::new(lab, SIP, CALLS)?;
    assert_eq!((phones.register()?.succeeded, phones.call(CALLS)?.succeeded), (CALLS, CALLS));
    let meter = Meter::start(phones.streams()?)?;
    meter.settled(Duration::ZERO..SECOND)?;
    Ok((phones, meter))
}

/// What was lost from then on until a moment from now, all of it answered by this server.
fn lost_since(meter: &Meter, since: Duration, server: &str) -> Result<u64> {
    let total = meter.settled(since..meter.now() + SECOND / 2)?.total;
    assert_eq!(total.answered_by.get(server), Some(&(total.sent - total.lost)), "{total:?}");
    Ok(total.lost)
}

#[test]
fn calls_of_both_families_go_on_over_vxlan_with_partial_checksums_when_the_master_crashes_and_go_back_without_loss()
-> Result<()> {
    calls_go_on(Kind::Offloaded, true)
}

#[test]
fn calls_go_on_over_a_vpn_of_user_space_when_the_master_crashes_and_go_back_without_loss() -> Result<()> {
    calls_go_on(Kind::Tun, false)
}

#[test]
fn a_server_that_dies_silently_behind_a_tunnel_is_left_as_soon_as_any_other() -> Result<()> {
    let lab = Lab::new(Options::default())?;
    let _tunnel = tunnelled(&lab, Kind::Vxlan)?;
    let mut trial = Trial::start(&lab, config(&lab, "lan"), |lab, name| server::start(lab, name, &[]))?;
    wait_for_ways(trial.gateway(), 1)?;
    let mut phones = Phones::new(&lab, SIP, CALLS)?;
    assert_eq!((phones.register()?.succeeded, phones.call(CALLS)?.succeeded), (CALLS, CALLS));
    trial.stream(phones.streams()?)?;
    assert_eq!(trial.make(Fault::Planned)?.lost, 0);
    let servers: Value = serde_json::from_str(&trial.gateway().says(&["maps", "servers", "--json"])?)?;
    let heard = servers["servers"][1]["heard_ms_ago"].as_f64();
    assert!(heard.is_some_and(|ms| ms < 100.0), "it sends by the tunnel: {servers}");
    let dead = trial.make(Fault::Silent)?;
    println!("{dead:?}");
    assert_eq!((&*dead.to, dead.duplicated), ("master", 0), "{dead:?}");
    assert!(dead.max_lost_in_a_row <= 3, "{dead:?}");
    Ok(())
}

#[test]
fn a_route_that_moves_to_a_tunnel_and_back_is_followed_under_running_calls() -> Result<()> {
    for kind in [Kind::Vxlan, Kind::Tun] {
        let lab = Lab::new(Options::default())?;
        let tunnel = Tunnel::new(&lab, kind)?;
        let _servers = servers(&lab)?;
        let gateway = Gateway::start(&lab, config(&lab, "wan"))?;
        wait_for_ways(&gateway, 0)?;
        let (_phones, meter) = calls_at_backup(&lab, &gateway)?;
        for by_tunnel in [true, false, true, false] {
            let since = meter.now();
            tunnel.lead_to_backup(by_tunnel)?;
            wait_for_ways(&gateway, usize::from(by_tunnel))?;
            tunnel.lead_from_backup(by_tunnel)?;
            let before = gateway.counted("rtp", "to-client-by-stack")?;
            let lost = lost_since(&meter, since, "backup")?;
            println!("{kind:?}, by tunnel: {by_tunnel}: {lost} lost");
            assert_eq!(lost, 0, "{kind:?}, by tunnel: {by_tunnel}");
            let counted = gateway.counted("rtp", "to-client-by-stack")?;
            assert_eq!(counted > before + 10, by_tunnel, "{kind:?}: {before}, then {counted}");
            let events = gateway.says(&["events"])?;
            assert!(events.contains("backup is reached by the stack, device vpn0"), "{events}");
            let status = gateway.says(&["status"])?;
            assert_eq!(status.contains("backup is reached by the stack, device vpn0"), by_tunnel, "{status}");
        }
        assert_whole_checksums(&lab)?;
    }
    Ok(())
}

#[test]
fn a_long_message_passes_a_tunnel_in_fragments_both_ways_and_in_both_families() -> Result<()> {
    let lab = Lab::new(Options { ipv6: true, alone: false, ..Options::default() })?;
    let _tunnel = tunnelled(&lab, Kind::Vxlan)?;
    let _servers = servers(&lab)?;
    let gateway = Gateway::start(&lab, config(&lab, "wan"))?;
    wait_for_ways(&gateway, 2)?;
    gateway.switch("backup")?;
    for caller in [Caller::v4(&lab)?, Caller::v6(&lab)?] {
        let before = gateway.counted("sip", "to-client-by-stack")?;
        let answer = caller.ask(&lab, &caller.request("OPTIONS", 4000))?;
        assert!(answer > 2 * 1500, "{answer} bytes of an answer");
        assert!(gateway.counted("sip", "to-client-by-stack")? >= before + 3, "fragments of an answer");
    }
    assert_whole_checksums(&lab)
}

#[test]
fn what_a_fenced_server_sends_by_a_tunnel_is_dropped_and_counted() -> Result<()> {
    for kind in [Kind::Vxlan, Kind::Tun] {
        let lab = Lab::new(Options { alone: false, ..Options::default() })?;
        let _tunnel = tunnelled(&lab, kind)?;
        let _servers = servers(&lab)?;
        let gateway = Gateway::start(&lab, config(&lab, "wan"))?;
        wait_for_ways(&gateway, 1)?;
        let address = lab.phone_addresses().next().context("a phone")?;
        let phone = lab.phones().run(move || UdpSocket::bind((address, 0)))?;
        phone.set_read_timeout(Some(SECOND / 2))?;
        let (to, backup) = (phone.local_addr()?, lab.server("backup")?);
        let from = (backup.address, 19_999);
        let say = || backup.namespace.run(move || UdpSocket::bind(from)?.send_to(b"still here", to));
        say()?;
        assert!(phone.recv(&mut [0; 32]).is_err(), "{kind:?}: the phone hears it");
        assert_eq!(gateway.counted("rtp", "fenced")?, 1, "{kind:?}");
        gateway.switch("backup")?;
        say()?;
        assert_eq!(phone.recv_from(&mut [0; 32])?.1, "192.0.2.10:19999".parse()?, "{kind:?}");
    }
    Ok(())
}

#[test]
fn calls_of_a_server_that_drains_stay_with_it_behind_a_tunnel() -> Result<()> {
    let lab = Lab::new(Options::default())?;
    let _tunnel = tunnelled(&lab, Kind::Tun)?;
    let _servers = servers(&lab)?;
    let gateway = Gateway::start(&lab, config(&lab, "wan"))?;
    wait_for_ways(&gateway, 1)?;
    let (mut old, meter) = calls_at_backup(&lab, &gateway)?;
    let since = meter.now();
    gateway.says(&["drain", "backup", "--for", "5m"])?;
    assert_eq!(lost_since(&meter, since, "backup")?, 0);
    let mut new = Phones::new(&lab, SIP, CALLS)?;
    assert_eq!((new.register()?.succeeded, new.call(CALLS)?.succeeded), (CALLS, CALLS));
    let meter_of_new = Meter::start(new.streams()?)?;
    assert_eq!(lost_since(&meter_of_new, Duration::ZERO, "master")?, 0);
    assert_eq!(lost_since(&meter, since, "backup")?, 0);
    // A BYE that came to the other server would be none of its calls.
    assert_eq!((old.hang_up()?.succeeded, new.hang_up()?.succeeded), (CALLS, CALLS));
    Ok(())
}

/// Ids of the programs at the tunnel's end in the gateway.
fn programs(lab: &Lab) -> Result<Vec<u32>> {
    let (_, programs) = lab.gateway().run(|| SchedClassifier::query_tcx(DEVICE, TcAttachType::Ingress))?;
    Ok(programs.iter().map(aya::programs::ProgramInfo::id).collect())
}

#[test]
fn the_program_on_a_tunnel_outlives_the_controller_is_replaced_by_the_next_one_and_goes_with_unload() -> Result<()> {
    let lab = Lab::new(Options::default())?;
    let tunnel = tunnelled(&lab, Kind::Vxlan)?;
    let _servers = servers(&lab)?;
    let mut gateway = Gateway::start(&lab, config(&lab, "wan"))?;
    wait_for_ways(&gateway, 1)?;
    let (_phones, meter) = calls_at_backup(&lab, &gateway)?;
    let (since, first) = (meter.now(), programs(&lab)?);
    gateway.kill9()?;
    assert_eq!((programs(&lab)?, first.len()), (first.clone(), 1));
    gateway.restart()?;
    wait_for_ways(&gateway, 1)?;
    wait::until(LOADED, "another program", || Ok((programs(&lab)? != first).then_some(())))?;
    assert_eq!((lost_since(&meter, since, "backup")?, programs(&lab)?.len()), (0, 1));

    // It stays for packets that still come by the tunnel, until a start without need of it.
    tunnel.lead_from_backup(false)?;
    tunnel.lead_to_backup(false)?;
    wait_for_ways(&gateway, 0)?;
    assert_eq!(programs(&lab)?.len(), 1);
    gateway.restart()?;
    // The kernel takes it off a moment after its link is gone.
    let none = || Ok(programs(&lab)?.is_empty().then_some(()));
    wait::until(SECOND, "no program on the tunnel", none)?;

    tunnel.lead_to_backup(true)?;
    wait_for_ways(&gateway, 1)?;
    gateway.kill9()?;
    gateway.says(&["unload"])?;
    wait::until(SECOND, "no program after unload", none)?;
    assert!(!lab.pin_dir().exists());
    Ok(())
}

#[test]
fn a_tunnel_that_is_removed_is_no_way_and_one_that_is_made_anew_is_used() -> Result<()> {
    let lab = Lab::new(Options { alone: false, ..Options::default() })?;
    let first = tunnelled(&lab, Kind::Tun)?;
    let _servers = servers(&lab)?;
    let mut gateway = Gateway::start(&lab, config(&lab, "wan"))?;
    wait_for_ways(&gateway, 1)?;
    // By the cable nobody is reached any more.
    lab.gateway().ip("route del 10.66.2.0/24")?;
    drop(first);
    gateway.wait_until("the backup is down", 10 * SECOND, |status| status.health("backup") == "down")?;
    let status = gateway.says(&["status"])?;
    assert!(status.contains("no way to backup"), "{status}");
    let _second = tunnelled(&lab, Kind::Tun)?;
    gateway.wait_until("the backup is up", LOADED, |status| status.health("backup") == "up")?;
    wait_for_ways(&gateway, 1)?;
    gateway.switch("backup")?;
    assert!(Caller::v4(&lab)?.is_answered_at_once(&lab)?);
    Ok(())
}
