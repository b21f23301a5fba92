//! A flood beside calls: what limits and lists leave of it, and what they cost the others.

use std::{
    net::UdpSocket,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use lab::{
    Lab, Options,
    gateway::{Config, Gateway, Protection},
    meter::Meter,
    phone::Phones,
    server,
    topology::{SIP, VIP},
};

const CALLS: usize = 20;
const FLOODER: &str = "198.51.100.222";
/// Far more than a phone sends, and no more than the lab's processors can make beside the calls.
const PACKETS_PER_MS: usize = 30;

/// Sends as long as it lives.
struct Flood {
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<u64>>>,
}

impl Flood {
    fn start(lab: &Lab) -> Result<Self> {
        lab.phones().ip(&format!("address add {FLOODER}/32 dev lo"))?;
        let socket = lab.phones().run(|| UdpSocket::bind((FLOODER, 0)))?;
        socket.connect(SIP)?;
        let is_over = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&is_over);
        let send = move || {
            let mut sent = 0;
            while !over.load(Ordering::Relaxed) {
                for _ in 0..PACKETS_PER_MS {
                    sent += u64::from(socket.send(b"REGISTER sip:pbx SIP/2.0\r\n\r\n").is_ok());
                }
                thread::sleep(Duration::from_millis(1));
            }
            Ok(sent)
        };
        Ok(Self { is_over, thread: Some(thread::spawn(send)) })
    }

    /// Ends it. Returns how many packets it sent.
    fn end(mut self) -> Result<u64> {
        self.is_over.store(true, Ordering::Relaxed);
        let thread = self.thread.take().context("it has ended")?;
        thread.join().map_err(|_| anyhow::anyhow!("the flood panicked"))?
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

/// Makes calls beside a flood. Returns how many packets of it there were, and how many were counted under `outcome`.
fn calls_beside_a_flood(protection: Protection, outcome: &str) -> Result<[u64; 2]> {
    let lab = Lab::new(Options::default())?;
    let _servers = [server::start(&lab, "master", &[])?, server::start(&lab, "backup", &[])?];
    let mut config = Config::of(&lab);
    config.service[0].protection = Some(protection);
    let gateway = Gateway::start(&lab, config)?;
    let mut phones = Phones::new(&lab, SIP, CALLS)?;
    assert_eq!(phones.call(CALLS / 2)?.succeeded, CALLS / 2);
    let meter = Meter::start(phones.streams()?)?;
    let flood = Flood::start(&lab)?;
    let from = meter.now();
    assert_eq!(phones.call(CALLS / 2)?.succeeded, CALLS / 2, "calls that begin meanwhile");
    let total = meter.settled(from..from + Duration::from_secs(2))?.total;
    assert_eq!((total.lost, total.duplicated), (0, 0), "{total:?}");
    let shown = gateway.cli(&["maps", "protection"])?;
    ensure!(shown.code == 0 && shown.stdout.contains(&VIP.to_string()), "{shown:?}");
    if outcome == "rate-limited" {
        assert!(shown.stdout.contains(FLOODER), "{}", shown.stdout);
    }
    let sent = flood.end()?;
    assert!(gateway.cli(&["maps", "verify"])?.stdout.contains("the kernel holds what the daemon wants"));
    let counters: serde_json::Value = serde_json::from_str(&gateway.cli(&["maps", "counters", "--json"])?.stdout)?;
    let counters = counters["counters"].as_array().context("no counters")?;
    let counted = counters.iter().filter(|counter| counter["outcome"] == outcome);
    Ok([sent, counted.filter_map(|counter| counter["packets"].as_u64()).sum()])
}

#[test]
fn calls_lose_nothing_beside_a_flood_that_is_limited() -> Result<()> {
    let protection = Protection { sip_packets_per_s: Some(50), sip_burst: Some(100), ..Protection::default() };
    let [sent, dropped] = calls_beside_a_flood(protection, "rate-limited")?;
    println!("{dropped} of {sent} packets were dropped");
    assert!(dropped <= sent && dropped >= sent * 9 / 10, "{dropped} of {sent}");
    Ok(())
}

#[test]
fn calls_lose_nothing_beside_a_flood_that_is_denied() -> Result<()> {
    let protection = Protection { deny: vec![format!("{FLOODER}/32")], ..Protection::default() };
    let [sent, dropped] = calls_beside_a_flood(protection, "denied")?;
    assert_eq!(dropped, sent);
    Ok(())
}
