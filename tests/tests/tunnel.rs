//! A backup that is reached by a tunnel, by which only the kernel's stack can send.

use std::{net::UdpSocket, time::Duration};

use anyhow::{Context as _, Result};
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

const SECOND: Duration = Duration::from_secs(1);
const CALLS: usize = 10;
const BY_STACK: &str = "by the stack, device vpn0";

fn servers(lab: &Lab) -> Result<[Process; 2]> {
    Ok([server::start(lab, "master", &[])?, server::start(lab, "backup", &[])?])
}

fn tunnelled(lab: &Lab, kind: Kind) -> Result<Tunnel<'_>> {
    let tunnel = Tunnel::new(lab, kind)?;
    tunnel.lead_to_backup(true)?;
    tunnel.lead_from_backup(true)?;
    Ok(tunnel)
}

/// Waits until the kernel has so many ways by the tunnel, as the daemon wants.
fn wait_for_ways(gateway: &Gateway<'_>, ways: usize) -> Result<()> {
    wait::until(10 * SECOND, &format!("{ways} ways by the tunnel"), || {
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
    let mut config = Config::of(&lab);
    config.probe = Probe { preset: Some("lan".to_owned()), ..Probe::default() };
    let mut trial = Trial::start(&lab, config, |lab, name| server::start(lab, name, &[]))?;
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

#[test]
fn calls_of_both_families_go_on_over_vxlan_when_the_master_crashes_and_go_back_without_loss() -> Result<()> {
    calls_go_on(Kind::Vxlan, true)
}

#[test]
fn calls_go_on_over_a_vpn_of_user_space_when_the_master_crashes_and_go_back_without_loss() -> Result<()> {
    calls_go_on(Kind::Tun, true)
}
