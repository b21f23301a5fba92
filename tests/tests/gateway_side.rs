//! What is no reason for a failover, and what is no sign of health.

use std::{
    net::UdpSocket,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::Result;
use lab::{
    Lab, Options,
    gateway::{Config, Gateway, cli},
    meter::Meter,
    phone::Phones,
    server,
    topology::{Layout, SIP},
    wait,
};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_flap_of_the_gateways_own_link_is_an_outage_and_no_failover() -> Result<()> {
    let lab = Lab::new(Options::default())?;
    let _servers = [server::start(&lab, "master", &[])?, server::start(&lab, "backup", &[])?];
    let mut gateway = Gateway::start(&lab, Config::of(&lab))?;
    for _ in 0..3 {
        lab.router().ip("link set dev gateway down")?;
        let status = gateway.wait_until("both are down", SECOND, |status| status.services[0].outage)?;
        assert_eq!((status.health("master"), status.health("backup")), ("down", "down"));
        lab.router().ip("link set dev gateway up")?;
        gateway.wait_until("both are up", 5 * SECOND, |status| {
            status.health("master") == "up" && status.health("backup") == "up"
        })?;
    }
    let events = gateway.cli(&["events"])?.stdout;
    assert!(events.contains("no carrier"), "{events}");
    assert!(!events.contains("failover"), "{events}");
    assert_eq!(gateway.status()?.active(), "master");
    Ok(())
}

#[test]
fn a_server_that_answers_no_probe_but_goes_on_serving_is_left_alone_until_patience_ends() -> Result<()> {
    const PATIENCE: Duration = Duration::from_secs(2);
    let lab = Lab::new(Options::default())?;
    let _servers = [server::start(&lab, "master", &[])?, server::start(&lab, "backup", &[])?];
    let mut gateway = Gateway::start(&lab, Config::of(&lab))?;
    let mut phones = Phones::new(&lab, SIP, 10)?;
    assert_eq!(phones.call(10)?.succeeded, 10);
    let meter = Meter::start(phones.streams()?)?;
    wait::until(
        10 * SECOND,
        "a second of traffic",
        || Ok((gateway.counted("rtp", "to-client")? >= 500).then_some(())),
    )?;
    let master = &lab.server("master")?.namespace;
    // What comes from the gateway's own address is refused as a martian; what comes from phones is not.
    for _ in 0..3 {
        master.ip("route add blackhole 10.66.1.1/32")?;
        let status = |gateway: &Gateway<'_>| gateway.cli(&["status"]).map(|answer| answer.stdout);
        wait::until(SECOND, "the master to be called busy", || {
            Ok(status(&gateway)?.contains("but it goes on sending to clients").then_some(()))
        })?;
        assert_eq!(gateway.status()?.active(), "master");
        master.ip("route delete blackhole 10.66.1.1/32")?;
        wait::until(SECOND, "the master to answer again", || {
            Ok((!status(&gateway)?.contains("left OPTIONS unanswered")).then_some(()))
        })?;
    }
    assert!(!gateway.cli(&["events"])?.stdout.contains("failover"), "a busy server was left");

    let blocked = std::time::Instant::now();
    master.ip("route add blackhole 10.66.1.1/32")?;
    gateway.wait_until("patience ends", 2 * PATIENCE, |status| status.active() == "backup")?;
    // Patience begins with the first probe that is missed, which may be one of the last blockade.
    let (left, interval) = (blocked.elapsed(), Duration::from_millis(20));
    assert!(left >= PATIENCE - 2 * interval, "left after {left:?}");
    let total = meter.finish()?.total;
    assert_eq!((total.duplicated, total.corrupt), (0, 0), "{total:?}");
    Ok(())
}

#[test]
fn garbled_answers_to_the_probe_are_no_evidence_of_health() -> Result<()> {
    let lab = Lab::new(Options::default())?;
    let _backup = server::start(&lab, "backup", &[])?;
    let master = lab.server("master")?;
    let address = master.address;
    let socket = master.namespace.run(move || UdpSocket::bind((address, 5060)))?;
    let liar = Liar::start(socket)?;
    let mut gateway = Gateway::launch(&lab, Config::of(&lab))?;
    gateway.wait_until("the backup serves", 5 * SECOND, |status| status.active() == "backup")?;
    let so_far = liar.answers.load(Ordering::Relaxed);
    wait::until(10 * SECOND, "every lie to be told ten times", || {
        assert_ne!(gateway.status()?.health("master"), "up");
        Ok((liar.answers.load(Ordering::Relaxed) >= so_far + 10 * LIES.len()).then_some(()))
    })?;
    Ok(())
}

/// Ways to spoil a good answer. Each gets the answer and returns what is sent.
const LIES: [fn(&str) -> Vec<u8>; 8] = [
    |good| good.replacen("branch=z9hG4bK", "branch=z9hG4bL", 1).into(),
    |good| good.replacen("Call-ID: ", "Call-ID: 0", 1).into(),
    |good| good.replace(" OPTIONS\r\n", " INVITE\r\n").into(),
    |good| good.replacen("SIP/2.0 200 OK", "SIP/2.0 2000 OK", 1).into(),
    |good| good.replacen("SIP/2.0 200 OK", "OPTIONS sip:a SIP/2.0", 1).into(),
    |good| good.as_bytes()[..good.len() / 2].to_vec(),
    |good| good.replacen("Via: ", "Via: SIP/2.0/UDP other;branch=z9hG4bK1\r\nVia: ", 1).into(),
    |good| good.replacen("SIP/2.0 200 OK", "SIP/2.0 100 Trying", 1).into(),
];

/// A server that answers every probe by a lie.
struct Liar {
    answers: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Liar {
    fn start(socket: UdpSocket) -> Result<Self> {
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        let (answers, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (counted, stopped) = (Arc::clone(&answers), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while !stopped.load(Ordering::Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
                let request = String::from_utf8_lossy(&buffer[..length]);
                let Some((_, headers)) = request.split_once("\r\n") else { continue };
                let good = format!("SIP/2.0 200 OK\r\n{headers}");
                let lie = LIES[counted.fetch_add(1, Ordering::Relaxed) % LIES.len()];
                let _ = socket.send_to(&lie(&good), from);
            }
        });
        Ok(Self { answers, stop, thread: Some(thread) })
    }
}

impl Drop for Liar {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[test]
fn a_restart_while_a_host_is_dead_takes_over_the_way_to_it() -> Result<()> {
    let lab = Lab::new(Options::default())?;
    let _servers = [server::start(&lab, "master", &[])?, server::start(&lab, "backup", &[])?];
    let mut gateway = Gateway::start(&lab, Config::of(&lab))?;
    lab.cut("master")?;
    gateway.wait_until("the master is down", SECOND, |status| status.health("master") == "down")?;
    gateway.kill9()?;
    lab.gateway().ip("neighbour flush dev back")?;
    gateway.restart()?;
    gateway.wait_until("the backup is up", 5 * SECOND, |status| status.health("backup") == "up")?;
    let verified = gateway.cli(&["maps", "verify"])?;
    assert_eq!(verified.code, 0, "{verified:?}");
    Ok(())
}

#[test]
fn a_setting_that_somebody_takes_back_is_shown_with_its_remedy() -> Result<()> {
    let lab = Lab::new(Options { layout: Layout::OneArm, ..Options::default() })?;
    let gateway = Gateway::launch(&lab, Config::of(&lab))?;
    let warned =
        |name: &str| gateway.cli(&["status"]).map(|answer| answer.stdout.contains(&format!("sysctl -w {name}")));
    for (setting, bad) in [
        ("back.forwarding", "0"),
        ("back.accept_local", "0"),
        ("all.rp_filter", "1"),
        ("all.send_redirects", "1"),
        ("back.send_redirects", "1"),
    ] {
        let path = format!("net/ipv4/conf/{}", setting.replace('.', "/"));
        let named = format!("net.ipv4.conf.{}", setting.replace("all.rp_filter", "back.rp_filter"));
        assert!(!warned(&named)?, "{setting} is wrong from the start");
        lab.gateway().sysctl(&path, bad)?;
        assert!(warned(&named)?, "{setting} = {bad} is not told");
    }
    Ok(())
}

#[test]
fn generic_mode_is_refused_unless_it_is_allowed_and_then_shown() -> Result<()> {
    let lab = Lab::new(Options::default())?;
    let _servers = [server::start(&lab, "master", &[])?, server::start(&lab, "backup", &[])?];
    // The loopback device has no native XDP.
    let mut config = Config::of(&lab);
    config.gateway.front = "lo".to_owned();
    let refused = Gateway::launch(&lab, config.clone()).map(|_| ()).expect_err("lo has no native XDP");
    let text = format!("{refused:#}");
    assert!(text.contains("lo: its driver has no native XDP") && text.contains("allow_generic"), "{text}");
    assert!(!lab.pin_dir().join(format!("abi-{}", voip_ha_ebpf::abi::ABI_VERSION)).exists(), "half a gateway was left");

    config.gateway.allow_generic = true;
    let gateway = Gateway::start(&lab, config.clone())?;
    let status = cli(&lab, &["status"])?.stdout;
    assert!(status.contains("lo: GENERIC XDP (slow)") && status.contains("back: native XDP"), "{status}");
    drop(gateway);

    config.gateway.allow_generic = false;
    let mut gateway = Gateway::start(&lab, config)?;
    gateway.process().wait_for_log("GENERIC mode", SECOND)?;
    let status = gateway.cli(&["status"])?.stdout;
    assert!(status.contains("lo: GENERIC XDP (slow)"), "what runs is not taken off: {status}");
    Ok(())
}
