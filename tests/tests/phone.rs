//! Phones and the built-in server make calls over plain routing, without any gateway.

use std::{
    net::UdpSocket,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use lab::{
    Lab, Layout, Options,
    meter::Meter,
    phone::{Failure, Outcome, Phones},
    server,
    topology::SIP,
};

fn lab() -> Result<Lab> {
    Lab::new(Options { layout: Layout::Routed, ..Options::default() })
}

/// The outcome without what depends on the time.
fn counts(outcome: &Outcome) -> (usize, Vec<(Failure, usize)>) {
    (outcome.succeeded, outcome.failed.iter().map(|(failure, count)| (*failure, *count)).collect())
}

#[test]
fn fifty_phones_register_call_at_once_talk_and_hang_up() -> Result<()> {
    let lab = lab()?;
    let _server = server::start(&lab, "master", &[])?;
    let mut phones = Phones::new(&lab, SIP, 50)?;
    assert_eq!(counts(&phones.register()?), (50, vec![]));
    assert_eq!(counts(&phones.register()?), (50, vec![]), "renewed");
    let start = Instant::now();
    assert_eq!(counts(&phones.call(50)?), (50, vec![]));
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    assert_eq!(phones.calls(), 50);

    let streams = phones.streams()?;
    let mut ports: Vec<_> = streams.iter().map(|stream| stream.remote).collect();
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports.len(), 50, "calls share an RTP port");
    let meter = Meter::start(streams)?;
    let second = meter.settled(Duration::ZERO..Duration::from_secs(1))?.total;
    assert_eq!((second.lost, second.answered_by["master"]), (0, second.sent), "{second:?}");
    meter.finish()?;

    assert_eq!(counts(&phones.hang_up()?), (50, vec![]));
    assert_eq!(phones.calls(), 0);
    assert_eq!(counts(&phones.call(50)?), (50, vec![]), "ports and phones are free again");
    Ok(())
}

#[test]
fn a_call_without_a_free_port_fails_with_its_status() -> Result<()> {
    let lab = lab()?;
    let _server = server::start(&lab, "master", &["--rtp-ports", "10000-10005"])?;
    let mut phones = Phones::new(&lab, SIP, 5)?;
    assert_eq!(counts(&phones.call(5)?), (3, vec![(Failure::Status(486), 2)]));
    assert_eq!((phones.calls(), phones.streams()?.len()), (3, 3));
    assert!(phones.call(3).is_err(), "only two phones are idle");
    Ok(())
}

#[test]
fn the_backup_serves_the_streams_but_knows_no_dialog_of_the_master() -> Result<()> {
    let lab = lab()?;
    let mut master = server::start(&lab, "master", &[])?;
    let _backup = server::start(&lab, "backup", &[])?;
    let mut phones = Phones::new(&lab, SIP, 4)?;
    assert_eq!(counts(&phones.call(4)?), (4, vec![]));
    master.kill9()?;
    lab.route_vip_to("backup")?;
    let report = Meter::start(phones.streams()?)?;
    let total = report.settled(Duration::ZERO..Duration::from_millis(500))?.total;
    assert_eq!((total.lost, total.answered_by["backup"]), (0, total.sent), "{total:?}");
    assert_eq!(counts(&phones.hang_up()?), (0, vec![(Failure::Status(481), 4)]));
    assert_eq!(phones.calls(), 0);
    Ok(())
}

#[test]
fn a_phone_repeats_its_request_after_half_a_second() -> Result<()> {
    let lab = lab()?;
    let namespace = &lab.server("master")?.namespace;
    let deaf = namespace.run(|| UdpSocket::bind(SIP)).context("a socket in the server's place")?;
    deaf.set_read_timeout(Some(Duration::from_secs(10)))?;
    let listener = std::thread::spawn(move || -> Result<(Vec<u8>, Vec<u8>, Duration)> {
        let (mut first, mut second) = (vec![0; 4096], vec![0; 4096]);
        let length = deaf.recv(&mut first)?;
        let start = Instant::now();
        first.truncate(length);
        let length = deaf.recv(&mut second)?;
        second.truncate(length);
        Ok((first, second, start.elapsed()))
    });
    let mut phones = Phones::new(&lab, SIP, 1)?;
    let caller = std::thread::spawn(move || phones.register());
    let (first, second, pause) = listener.join().expect("the listener does not panic")?;
    assert_eq!(first, second);
    assert!((450..700).contains(&pause.as_millis()), "{pause:?}");
    // Now somebody answers.
    let _server = server::start(&lab, "master", &[])?;
    let outcome = caller.join().expect("the phone does not panic")?;
    assert_eq!(counts(&outcome), (1, vec![]));
    assert!(outcome.retransmissions >= 2, "{outcome:?}");
    Ok(())
}
