//! Real Kamailio and sipp in the lab, first over plain routing, then through the gateway.

use std::time::Duration;

use anyhow::Result;
use lab::{
    Lab, Layout, Options,
    gateway::{Config, Gateway},
    meter::{Meter, Stream},
    phone::Phones,
    real::{self, Counts, RealServer},
    topology::SIP,
};

fn all(count: u64) -> impl Fn(&Counts) -> bool {
    move |counts| (counts.created, counts.successful, counts.failed) == (count, count, 0)
}

#[test]
fn kamailio_registers_and_relays_calls_with_rtp_over_plain_routing() -> Result<()> {
    let lab = Lab::new(Options { layout: Layout::Routed, ..Options::default() })?;
    let _master = RealServer::start(&lab, "master")?;
    let registered = real::register(&lab, 100)?.wait()?;
    assert!(all(100)(&registered), "{registered:?}");

    let calls = real::call(&lab, 20, 2000)?;
    let meter = Meter::start(Stream::open(&lab, real::RTP, 1)?)?;
    real::wait_for_rtp(&lab, 20)?;
    let second = meter.settled(Duration::ZERO..Duration::from_secs(1))?.total;
    assert_eq!((second.lost, second.split), (0, None), "{second:?}");
    let called = calls.wait()?;
    assert!(all(20)(&called), "{called:?}");
    Ok(())
}

#[test]
fn the_labs_own_phones_call_through_kamailio() -> Result<()> {
    let lab = Lab::new(Options { layout: Layout::Routed, ..Options::default() })?;
    let _master = RealServer::start(&lab, "master")?;
    let mut phones = Phones::new(&lab, SIP, 20)?;
    assert_eq!(phones.register()?.succeeded, 20);
    let outcome = phones.call(20)?;
    assert_eq!(outcome.succeeded, 20, "{outcome:?}");
    let meter = Meter::start(phones.streams()?)?;
    let second = meter.settled(Duration::ZERO..Duration::from_secs(1))?.total;
    assert_eq!((second.lost, second.corrupt), (0, 0), "{second:?}");
    let outcome = phones.hang_up()?;
    assert_eq!(outcome.succeeded, 20, "{outcome:?}");
    Ok(())
}

#[test]
fn registrations_and_calls_succeed_at_the_master_and_after_its_kill_at_the_backup() -> Result<()> {
    let lab = Lab::new(Options::default())?;
    let mut master = RealServer::start(&lab, "master")?;
    let _backup = RealServer::start(&lab, "backup")?;
    let mut gateway = Gateway::start(&lab, Config::of(&lab))?;
    for active in ["master", "backup"] {
        gateway.wait_until("the next server is active", Duration::from_secs(5), |status| status.active() == active)?;
        let registered = real::register(&lab, 100)?.wait()?;
        assert!(all(100)(&registered), "{active}: {registered:?}");
        let calls = real::call(&lab, 20, 2000)?;
        real::wait_for_rtp(&lab, 20)?;
        let called = calls.wait()?;
        assert!(all(20)(&called), "{active}: {called:?}");
        if active == "master" {
            master.kill9()?;
            assert_eq!(lab.server("master")?.namespace.processes()?, Vec::<u32>::new(), "they survived kill -9");
        }
    }
    Ok(())
}
