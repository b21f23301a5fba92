//! The RTP meter against real sockets: what a relay is told to do to packets is what the meter reports.

use std::{
    net::{SocketAddrV4, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context, Result};
use lab::{
    Lab, Layout, Options,
    meter::{Meter, Path, Report, Split, Stream},
    netns::Namespace,
    server,
    topology::VIP,
    wait,
};

const RTP: SocketAddrV4 = SocketAddrV4::new(VIP, 10_000);

fn lab() -> Result<Lab> {
    Lab::new(Options { layout: Layout::Routed, ..Options::default() })
}

/// What a relay does to a packet.
#[derive(Clone, Copy, PartialEq)]
enum Fate {
    Pass,
    Drop,
    Twice,
    /// It leaves after the next one.
    AfterNext,
}

/// Forwards between one stream and the server, and does to the nth packet of each way what it is told.
struct Relay {
    address: SocketAddrV4,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Relay {
    fn start(namespace: &Namespace, server: SocketAddrV4, up: fn(u64) -> Fate, down: fn(u64) -> Fate) -> Result<Self> {
        let (front, back) = namespace.run(|| (UdpSocket::bind("192.0.2.1:0"), UdpSocket::bind("0.0.0.0:0")));
        let (front, back) = (front?, back?);
        for socket in [&front, &back] {
            socket.set_read_timeout(Some(Duration::from_millis(1)))?;
        }
        back.connect(server)?;
        let address = match front.local_addr()? {
            std::net::SocketAddr::V4(address) => address,
            other => anyhow::bail!("{other}"),
        };
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let (mut phone, mut upward, mut downward) = (None, Way::new(up), Way::new(down));
            let mut bytes = [0; 2048];
            while !stopped.load(Ordering::Relaxed) {
                if let Ok((length, from)) = front.recv_from(&mut bytes) {
                    phone = Some(from);
                    upward.relay(&bytes[..length], |bytes| back.send(bytes))?;
                }
                if let Ok(length) = back.recv(&mut bytes) {
                    let phone = phone.context("an echo before any packet")?;
                    downward.relay(&bytes[..length], |bytes| front.send_to(bytes, phone))?;
                }
            }
            Ok(())
        });
        Ok(Self { address, stop, thread: Some(thread) })
    }

    fn stop(mut self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().context("stopped twice")?.join().expect("the relay does not panic")
    }
}

struct Way {
    fate: fn(u64) -> Fate,
    number: u64,
    held: Option<Vec<u8>>,
}

impl Way {
    fn new(fate: fn(u64) -> Fate) -> Self {
        Self { fate, number: 0, held: None }
    }

    fn relay(&mut self, bytes: &[u8], mut send: impl FnMut(&[u8]) -> std::io::Result<usize>) -> Result<()> {
        let fate = (self.fate)(self.number);
        self.number += 1;
        let held = self.held.take();
        match fate {
            Fate::AfterNext => self.held = Some(bytes.to_vec()),
            Fate::Drop => {}
            Fate::Pass | Fate::Twice => {
                send(bytes)?;
                if fate == Fate::Twice {
                    send(bytes)?;
                }
            }
        }
        if let Some(held) = held {
            send(&held)?;
        }
        Ok(())
    }
}

/// Measures one stream through a relay until `packets` are sent.
fn through_relay(up: fn(u64) -> Fate, down: fn(u64) -> Fate, packets: u64) -> Result<Report> {
    let lab = lab()?;
    let _server = server::start(&lab, "master", &[])?;
    let relay = Relay::start(lab.gateway(), RTP, up, down)?;
    let meter = Meter::start(Stream::open(&lab, relay.address, 1)?)?;
    wait::until(Duration::from_secs(20), "the packets to be sent", || {
        Ok((meter.snapshot(Duration::ZERO..meter.now()).sent >= packets).then_some(()))
    })?;
    let report = meter.finish()?;
    relay.stop()?;
    Ok(report)
}

#[test]
fn planted_loss_repetition_and_reordering_are_reported_exactly_on_their_way() -> Result<()> {
    let up = |number| match number {
        10 | 11 | 12 | 40 => Fate::Drop,
        20 | 21 => Fate::Twice,
        30 => Fate::AfterNext,
        _ => Fate::Pass,
    };
    let down = |number| match number {
        60 | 61 => Fate::Drop,
        65 => Fate::Twice,
        70 | 74 => Fate::AfterNext,
        _ => Fate::Pass,
    };
    let report = through_relay(up, down, 100)?;
    let (total, up, down) =
        (&report.total, Path { lost: 4, duplicated: 2, reordered: 1 }, Path { lost: 2, duplicated: 1, reordered: 2 });
    assert_eq!(total.split, Some(Split { up, down }), "{total:?}");
    assert_eq!((total.lost, total.max_lost_in_a_row, total.duplicated, total.reordered), (6, 3, 3, 3), "{total:?}");
    assert_eq!((total.in_flight, total.corrupt, total.strays, total.send_failed), (0, 0, 0, 0), "{total:?}");
    assert_eq!(total.received, total.sent - 6, "{total:?}");
    // Three packets in a row are missing: four intervals between arrivals. Less is impossible but for the meter's own
    // unrest, more would be the relay's.
    let gap = total.max_gap.as_secs_f64() * 1e3;
    assert!((75.0..100.0).contains(&gap), "{total:?}");
    Ok(())
}

#[test]
fn an_echo_from_another_address_is_a_stray_and_no_answer() -> Result<()> {
    let lab = lab()?;
    let (asked, other) = lab.gateway().run(|| (UdpSocket::bind("192.0.2.1:0"), UdpSocket::bind("192.0.2.1:0")));
    let (asked, other) = (asked?, other?);
    asked.set_read_timeout(Some(Duration::from_secs(5)))?;
    let address = asked.local_addr()?;
    let meter = Meter::start(Stream::open(&lab, address, 1)?)?;
    let mut bytes = [0; 2048];
    for number in 0..20 {
        let (length, from) = asked.recv_from(&mut bytes)?;
        let socket = if number < 5 { &other } else { &asked };
        socket.send_to(&bytes[..length], from)?;
    }
    let total = meter.finish()?.total;
    assert_eq!((total.strays, total.received), (5, 15), "{total:?}");
    assert_eq!(total.split, None, "nobody stamped these echoes: {total:?}");
    Ok(())
}

#[test]
fn five_hundred_streams_lose_nothing_over_plain_routing() -> Result<()> {
    let lab = lab()?;
    let _server = server::start(&lab, "master", &[])?;
    let meter = Meter::start(Stream::open(&lab, RTP, 500)?)?;
    let (from, to) = (Duration::from_millis(500), Duration::from_millis(3500));
    let middle = meter.settled(from..to)?.total;
    let report = meter.finish()?;
    let total = &report.total;
    assert_eq!((total.lost, total.duplicated, total.corrupt, total.strays), (0, 0, 0, 0), "{total:?}");
    assert_eq!(total.split, Some(Split::default()), "{total:?}");
    assert_eq!(total.answered_by.get("master"), Some(&total.sent), "{total:?}");
    for (number, stream) in report.streams.iter().enumerate() {
        assert!(stream.sent.abs_diff(total.sent / 500) <= 1, "stream {number}: {stream:?}");
    }
    let rate = middle.bytes_per_s() / 500.0;
    assert!((rate / 10_700.0 - 1.0).abs() < 0.01, "{rate} B/s per stream");
    Ok(())
}

#[test]
fn after_a_kill_and_a_new_route_the_other_server_answers_the_same_streams() -> Result<()> {
    let lab = lab()?;
    let mut master = server::start(&lab, "master", &[])?;
    let _backup = server::start(&lab, "backup", &[])?;
    let meter = Meter::start(Stream::open(&lab, RTP, 50)?)?;
    let warm = Duration::from_millis(500);
    assert_eq!(meter.settled(Duration::ZERO..warm)?.total.lost, 0);
    let before = meter.now();
    master.kill9()?;
    lab.route_vip_to("backup")?;
    let after = meter.now();
    // What was on its way when the master died was sent a moment before.
    let event = meter.settled(before - Duration::from_millis(20)..after + warm)?.total;
    let report = meter.finish()?;
    assert!(event.lost > 0 && event.lost == report.total.lost, "{event:?}");
    assert_eq!(event.split.context("both servers stamp")?.down, Path::default(), "{event:?}");
    // Nobody can lose more than was sent in the outage, and every stream's gap covers it.
    let outage = after - before;
    assert!(event.lost <= 50 * (outage.as_millis() as u64 / 20 + 2), "{outage:?}: {event:?}");
    assert!(event.max_gap >= Duration::from_millis(20) * event.max_lost_in_a_row as u32, "{event:?}");
    assert!(report.streams.iter().all(|stream| stream.answered_by.len() == 2), "{report:?}");
    Ok(())
}
