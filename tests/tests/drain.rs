//! Whose running and new calls are while a server drains, and after it is back from a failure, and what they lost.

use std::{collections::BTreeMap, fs, net::UdpSocket, time::Duration};

use anyhow::{Context as _, Result, ensure};
use lab::{
    Lab, Options,
    gateway::{Config, Gateway},
    meter::{Meter, Stream, Tally},
    phone::Phones,
    process::Process,
    real::{self, RealServer},
    server,
    topology::SIP,
    wait,
};

const SECOND: Duration = Duration::from_secs(1);
/// Calls that run when the service moves.
const RUNNING: usize = 200;
/// Calls that are made after that.
const NEW: usize = 20;

fn servers(lab: &Lab) -> Result<[Process; 2]> {
    Ok([server::start(lab, "master", &[])?, server::start(lab, "backup", &[])?])
}

fn wait_for_event(gateway: &Gateway<'_>, text: &str) -> Result<()> {
    wait::until(5 * SECOND, text, || Ok(gateway.says(&["events"])?.contains(text).then_some(())))
        .with_context(|| format!("{:?}", gateway.says(&["events"])))
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
    println!("{server}: {} sent, {} lost, longest gap {:?}", tally.sent, tally.lost, tally.max_gap);
    assert_eq!((tally.lost, tally.duplicated, tally.corrupt, tally.strays), (0, 0, 0, 0), "{tally:?}");
    assert_eq!(tally.answered_by, BTreeMap::from([(server.to_owned(), tally.sent)]), "{tally:?}");
}

/// What a server sends from an RTP port that no call uses: whether a phone hears it.
fn is_heard(lab: &Lab, server: &str) -> Result<bool> {
    const UNUSED: u16 = 19_999;
    let address = lab.phone_addresses().next().context("a phone")?;
    let phone = lab.phones().run(move || UdpSocket::bind((address, 0)))?;
    phone.set_read_timeout(Some(SECOND / 5))?;
    let to = phone.local_addr()?;
    let host = lab.server(server)?;
    let from = (lab.listen_address(host), UNUSED);
    host.namespace.run(move || UdpSocket::bind(from)?.send_to(b"still here", to))?;
    Ok(phone.recv(&mut [0; 32]).is_ok())
}

/// Datagrams that a server's host had no room for, because the program did not read them.
fn unread(lab: &Lab, server: &str) -> Result<u64> {
    let table = lab.server(server)?.namespace.run(|| fs::read_to_string("/proc/thread-self/net/snmp"))?;
    let mut lines = table.lines().filter_map(|line| line.strip_prefix("Udp: "));
    let (names, values) = lines.next().zip(lines.next()).context("two lines of UDP")?;
    let mut pairs = names.split(' ').zip(values.split(' '));
    let (_, value) = pairs.find(|(name, _)| *name == "RcvbufErrors").context("no RcvbufErrors")?;
    Ok(value.parse()?)
}

#[test]
fn a_switch_with_drain_keeps_200_calls_at_the_old_server_without_loss_and_gives_it_no_new_one() -> Result<()> {
    let lab = Lab::new(Options::default())?;
    let _servers = servers(&lab)?;
    let gateway = Gateway::start(&lab, Config::of(&lab))?;
    let mut old = callers(&lab, RUNNING)?;
    let media = Meter::start(old.streams()?)?;
    media.settled(Duration::ZERO..SECOND)?;
    gateway.says(&["switch", "backup", "--drain", "60s"])?;
    let mut new = callers(&lab, NEW)?;
    let new_media = Meter::start(new.streams()?)?;
    new_media.settled(Duration::ZERO..2 * SECOND)?;
    let left = || Ok(gateway.says(&["drain"])?.contains(&format!("{RUNNING} RTP flows left")).then_some(()));
    wait::until(5 * SECOND, "the flows of running calls, and no others", left)?;
    assert!(is_heard(&lab, "master")? && is_heard(&lab, "backup")?, "both may send to phones");
    // Each server knows the dialogs that it set up itself, and no others.
    assert_eq!(old.hang_up()?.succeeded, RUNNING, "BYEs of running calls reach the server that has them");
    assert_eq!(new.hang_up()?.succeeded, NEW, "BYEs of new calls do, too");
    assert_whole(&new_media.finish()?.total, "backup");
    let account = media.finish()?;
    assert_whole(&account.total, "master");
    assert_eq!(account.streams.len(), RUNNING);

    gateway.says(&["drain", "--end"])?;
    assert!(!is_heard(&lab, "master")?, "it is fenced");
    assert!(is_heard(&lab, "backup")?);
    Ok(())
}

#[test]
fn kamailio_ends_its_200_calls_of_sipp_while_it_drains_and_new_ones_are_seen_by_the_backup_only() -> Result<()> {
    const METERED: usize = 20;
    let lab = Lab::new(Options::default())?;
    let master = RealServer::start(&lab, "master")?;
    let backup = RealServer::start(&lab, "backup")?;
    let gateway = Gateway::start(&lab, Config::of(&lab))?;
    let old = real::call(&lab, RUNNING as u32, 10_000)?;
    real::wait_for_rtp(&lab, RUNNING as u32)?;
    let media = Meter::start(Stream::open_to_one_port(&lab, real::RTP, METERED)?)?;
    media.settled(Duration::ZERO..SECOND / 2)?;

    let (ordered, unread_before) = (media.now(), unread(&lab, "master")?);
    gateway.says(&["switch", "backup", "--drain", "60s"])?;
    let at_backup = || lab.server("backup")?.namespace.packets_received("eth0");
    let (before, switched) = (at_backup()?, media.now());
    let around = media.settled(ordered..switched + SECOND)?.total;
    let received = at_backup()? - before;
    // On a busy machine sipp does not read its one socket in time. What that lost is no fault of the gateway's.
    let unread_then = unread(&lab, "master")? - unread_before;
    assert!(around.lost <= unread_then, "{unread_then} lost by sipp, {around:?}");
    // One stream has 50 in this time.
    assert!(received < 50 * RUNNING as u64 / 10, "{received} packets: probes only, no media");
    let new = real::call(&lab, NEW as u32, 1000)?.wait()?;
    assert_eq!((new.successful, new.failed), (NEW as u64, 0), "{new:?}");
    let called = old.wait()?;
    assert_eq!((called.successful, called.failed), (RUNNING as u64, 0), "{called:?}");
    println!("old: {called:?}; new: {new:?}; {received} packets to the backup in a second");
    println!("at the switch {} sent, {} lost, {unread_then} unread", around.sent, around.lost);
    let streams = media.finish()?.total;
    let unread = unread(&lab, "master")?;
    println!("{} sent, {} lost, {unread} unread, longest gap {:?}", streams.sent, streams.lost, streams.max_gap);
    assert!(streams.lost <= unread, "{unread} lost by sipp, {streams:?}");
    assert_eq!((streams.duplicated, streams.corrupt), (0, 0), "{streams:?}");

    let of = |server: &RealServer| (server.calls_of("INVITE"), server.calls_of("BYE"));
    let ((begun, ended), (begun_later, ended_later)) = (of(&master), of(&backup));
    assert_eq!((begun.len(), begun_later.len()), (RUNNING, NEW));
    assert!(begun.is_disjoint(&begun_later));
    assert_eq!((begun, begun_later), (ended, ended_later), "BYEs reach the Kamailio that has the call");
    Ok(())
}

#[test]
fn a_crash_of_the_draining_server_ends_its_drain_at_once() -> Result<()> {
    const CALLS: usize = 50;
    /// One packet of a stream is refused and tells of the crash; the next of each comes within 20 ms.
    const BOUND: Duration = Duration::from_millis(20);
    let lab = Lab::new(Options::default())?;
    let [mut master, _backup] = servers(&lab)?;
    let gateway = Gateway::start(&lab, Config::of(&lab))?;
    let running = callers(&lab, CALLS)?;
    let media = Meter::start(running.streams()?)?;
    media.settled(Duration::ZERO..SECOND / 2)?;
    gateway.says(&["switch", "backup", "--drain", "60s"])?;
    let drains = media.now();
    let whole = media.settled(drains..drains + SECOND / 2)?.total;
    assert_whole(&whole, "master");

    let killed = media.now();
    master.kill9()?;
    wait_for_event(&gateway, "master went down while it drained; its calls go to the active server")?;
    let taken = media.first_echo_by("backup", killed..media.now()).context("the backup has none of the media")?;
    let after = media.settled(killed..killed + SECOND)?.total;
    println!("the backup answered {:?} after the kill; {after:?}", taken - killed);
    assert!(taken - killed <= BOUND, "{:?}", taken - killed);
    assert!(after.max_lost_in_a_row <= 1, "{after:?}");
    Ok(())
}

#[test]
fn a_server_cut_off_for_a_moment_gets_its_running_calls_back_and_new_ones_stay() -> Result<()> {
    const CALLS: usize = 50;
    let lab = Lab::new(Options::default())?;
    let _master = server::start(&lab, "master", &[])?;
    // It shares no media sessions with the master: on the ports of those nobody answers.
    let _backup = server::start(&lab, "backup", &["--rtp-ports", "11000-11999"])?;
    let mut gateway = Gateway::start(&lab, Config::of(&lab))?;
    let mut old = callers(&lab, CALLS)?;
    let media = Meter::start(old.streams()?)?;
    media.settled(Duration::ZERO..SECOND / 2)?;
    lab.cut("master")?;
    gateway.wait_until("the backup is active", SECOND, |status| status.active() == "backup")?;
    let mut new = callers(&lab, NEW)?;
    let new_media = Meter::start(new.streams()?)?;
    new_media.settled(Duration::ZERO..SECOND / 2)?;

    lab.mend("master")?;
    let mended = media.now();
    wait_for_event(&gateway, "master is back, and its running calls are its own again")?;
    let told = media.now();
    let back = media.first_echo_by("master", mended..told).context("no media of the master")?;
    println!("media of the master {:?} after the cable was plugged in", back - mended);
    assert_whole(&media.settled(told..told + SECOND)?.total, "master");
    let newest = callers(&lab, NEW)?;
    let newest_media = Meter::start(newest.streams()?)?;
    assert_whole(&newest_media.settled(Duration::ZERO..SECOND)?.total, "backup");
    assert_whole(&new_media.finish()?.total, "backup");
    assert_eq!(old.hang_up()?.succeeded, CALLS, "their dialogs are the master's");
    assert_eq!(new.hang_up()?.succeeded, NEW, "their dialogs are the backup's");
    assert_eq!(gateway.status()?.active(), "backup");
    Ok(())
}
