//! The lab drives the real gateway: it starts, is asked, killed and started again, and calls go through it.

use std::time::Duration;

use anyhow::Result;
use lab::{
    Lab, Layout, Options,
    gateway::{Config, Gateway, cli},
    meter::Meter,
    phone::Phones,
    server,
    topology::SIP,
};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn calls_through_the_gateway_reach_the_master_in_both_layouts() -> Result<()> {
    for layout in [Layout::TwoArm, Layout::OneArm] {
        let lab = Lab::new(Options { layout, ..Options::default() })?;
        let _servers = [server::start(&lab, "master", &[])?, server::start(&lab, "backup", &[])?];
        let gateway = Gateway::start(&lab, Config::of(&lab))?;
        assert_eq!(gateway.status()?.active(), "master", "{layout:?}");

        let mut phones = Phones::new(&lab, SIP, 20)?;
        assert_eq!(phones.register()?.succeeded, 20, "{layout:?}");
        assert_eq!(phones.call(20)?.succeeded, 20, "{layout:?}");
        let meter = Meter::start(phones.streams()?)?;
        let total = meter.settled(Duration::ZERO..SECOND)?.total;
        assert_eq!((total.lost, total.strays, total.corrupt), (0, 0, 0), "{layout:?}: {total:?}");
        assert_eq!(total.answered_by.get("master"), Some(&total.sent), "{layout:?}: {total:?}");
        meter.finish()?;
        assert_eq!(phones.hang_up()?.succeeded, 20, "{layout:?}");
    }
    Ok(())
}

#[test]
fn a_switched_gateway_leads_the_same_streams_to_the_backup() -> Result<()> {
    let lab = Lab::new(Options::default())?;
    let _servers = [server::start(&lab, "master", &[])?, server::start(&lab, "backup", &[])?];
    let mut gateway = Gateway::start(&lab, Config::of(&lab))?;
    let mut phones = Phones::new(&lab, SIP, 20)?;
    assert_eq!(phones.call(20)?.succeeded, 20);
    let meter = Meter::start(phones.streams()?)?;
    assert_eq!(meter.settled(Duration::ZERO..SECOND)?.total.lost, 0);
    gateway.switch("backup")?;
    gateway.wait_until("the backup is active", SECOND, |status| status.active() == "backup")?;
    let switched = meter.now();
    let after = meter.settled(switched..switched + SECOND)?.total;
    assert_eq!((after.lost, after.answered_by.get("backup")), (0, Some(&after.sent)), "{after:?}");
    Ok(())
}

#[test]
fn a_gateway_that_is_killed_answers_nothing_until_it_is_restarted() -> Result<()> {
    let lab = Lab::new(Options::default())?;
    let _servers = [server::start(&lab, "master", &[])?, server::start(&lab, "backup", &[])?];
    assert_eq!(cli(&lab, &["status"])?.code, 3, "before the first start");
    let mut gateway = Gateway::start(&lab, Config::of(&lab))?;
    let first = gateway.process().id();
    gateway.kill9()?;
    assert_eq!(gateway.cli(&["status"])?.code, 3, "while it is dead");
    gateway.restart()?;
    assert_ne!(gateway.process().id(), first);
    assert_eq!(gateway.status()?.active(), "master");
    drop(gateway);
    assert_eq!(cli(&lab, &["unload"])?.code, 0);
    assert!(!lab.pin_dir().exists(), "unload left {}", lab.pin_dir().display());
    Ok(())
}
