//! The loop with real sockets on loopback and a datapath that only remembers.

mod drains;

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
};

use anyhow::bail;
use rustix::event::{EventfdFlags, eventfd};

use super::*;
use crate::{
    datapath::{Heard, Signal, Steering, VlanTag},
    evidence::{Evidence, Fault},
    status::{ServerStatus, ServiceStatus},
};

const SOON: Duration = Duration::from_secs(10);
const MASTER: ServerId = ServerId(0);
const HOP: NextHop = NextHop {
    ifindex: 2,
    mtu: 1500,
    source: [2; 6],
    destination: [4; 6],
    vlans: [VlanTag { protocol: 0, id: 0 }; 2],
    by_stack: false,
    mask: None,
};

/// What a datapath was told, and has to tell.
#[derive(Clone)]
struct Fake(Arc<Mutex<Told>>, Arc<OwnedFd>);

impl Default for Fake {
    fn default() -> Self {
        Self(Arc::default(), Arc::new(eventfd(0, EventfdFlags::NONBLOCK).unwrap()))
    }
}

impl Fake {
    /// As the XDP program does.
    fn signal(&self, signal: Signal) {
        self.0.lock().unwrap().signals.push(signal);
        rustix::io::write(&*self.1, &1_u64.to_ne_bytes()).unwrap();
    }
}

#[derive(Default)]
struct Told {
    word: Steering,
    hops: Vec<NextHop>,
    refuse_hops: bool,
    signals: Vec<Signal>,
}

impl Datapath for Fake {
    fn steer(&mut self, _: ServiceId, steering: Steering) -> u16 {
        self.0.lock().unwrap().word = steering;
        1
    }

    fn end_census(&mut self, _: ServiceId) {}

    fn steering(&self, _: ServiceId) -> Steering {
        self.0.lock().unwrap().word
    }

    fn set_next_hop(&mut self, _: ServerId, _: Family, hop: NextHop) -> Result<()> {
        let mut told = self.0.lock().unwrap();
        if told.refuse_hops {
            bail!("refused");
        }
        told.hops.push(hop);
        Ok(())
    }

    fn next_hop(&self, _: ServerId, _: Family) -> Option<NextHop> {
        self.0.lock().unwrap().hops.last().copied()
    }

    fn traffic(&self, _: ServerId) -> Heard {
        Heard::default()
    }

    fn signals(&mut self) -> Vec<Signal> {
        let _ = rustix::io::read(&*self.1, &mut [0_u8; 8]);
        std::mem::take(&mut self.0.lock().unwrap().signals)
    }

    fn signal_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.1.as_fd())
    }
}

/// A server that answers every OPTIONS by 200 until it is dropped.
struct Responder {
    port: u16,
    asked: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Responder {
    fn start(address: impl Into<IpAddr>) -> Self {
        Self::at((address.into(), 0).into())
    }

    fn at(address: SocketAddr) -> Self {
        let socket = UdpSocket::bind(address).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let port = socket.local_addr().unwrap().port();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&asked);
        let thread = thread::spawn(move || {
            let mut buffer = [0; 2048];
            while !stopped.load(Ordering::Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
                counted.fetch_add(1, Ordering::Relaxed);
                let request = std::str::from_utf8(&buffer[..length]).unwrap();
                let (_, headers) = request.split_once("\r\n").unwrap();
                socket.send_to(format!("SIP/2.0 200 OK\r\n{headers}").as_bytes(), from).unwrap();
            }
        });
        Self { port, asked, stop, thread: Some(thread) }
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// A service whose servers are the responders. The addresses are of loopback, which no file may name.
fn config(responders: &[&Responder]) -> Config {
    let text = "gateway = { front = 'a', back = 'b' }
        service = [{ name = 'pbx', vip = '192.0.2.10', sip_ports = [5060], rtp_ports = '10000-10999', server = [
          { name = 'master', address = '10.0.0.1' }, { name = 'backup', address = '10.0.0.2' } ] }]";
    let mut config = Config::parse("test", text).unwrap_or_else(|error| panic!("{error}"));
    for (server, responder) in config.services[0].servers.iter_mut().zip(responders) {
        server.addresses = Ipv4Addr::LOCALHOST.into();
        server.probe.port = responder.port;
        // A busy machine is no reason for this test to fail.
        (server.probe.timeout_min, server.probe.timeout_max) = (Duration::from_secs(1), Duration::from_secs(1));
        server.probe.hang = Duration::from_secs(60);
    }
    config
}

async fn status(orders: &Orders) -> ServiceStatus {
    orders.ask(Order::Status).await.expect("the controller runs").services.remove(0)
}

async fn wait_until(orders: &Orders, what: &str, is_so: impl Fn(&ServiceStatus) -> bool) {
    let deadline = Instant::now() + SOON;
    loop {
        let status = status(orders).await;
        if is_so(&status) {
            return;
        }
        assert!(Instant::now() < deadline, "waited in vain until {what}: {status:?}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// A controller in its own thread, as in the gateway. It ends when the orders do.
fn start(config: Config, fake: Fake) -> (Orders, JoinHandle<()>) {
    let (orders, mailbox) = Orders::channel().unwrap();
    let controller = Controller::new(config, fake, false).unwrap();
    (orders, thread::spawn(move || controller.run(&mailbox, Vec::new()).unwrap()))
}

#[tokio::test(flavor = "current_thread")]
async fn a_refusal_on_a_socket_becomes_a_word_in_the_datapath_and_an_event_with_its_cause() {
    let (master, backup) = (Responder::start(Ipv4Addr::LOCALHOST), Responder::start(Ipv4Addr::LOCALHOST));
    let fake = Fake::default();
    let (orders, running) = start(config(&[&master, &backup]), fake.clone());
    wait_until(&orders, "both are up", |status| status.servers.iter().all(|server| server.health == Health::Up)).await;
    assert_eq!(fake.steering(ServiceId(0)).signalling, Some(MASTER));

    drop(master);
    wait_until(&orders, "the backup is active", |status| status.active == "backup").await;
    assert_eq!(fake.steering(ServiceId(0)), Steering::to(ServerId(1)));
    let (events, _) = orders.ask(Order::Events).await.unwrap();
    let flips = events.iter().filter_map(|event| match &event.happening {
        Happening::Flip(flip) => Some((flip.to.as_str(), flip.evidence)),
        _ => None,
    });
    assert_eq!(flips.collect::<Vec<_>>(), [("backup", Some(Evidence::Refused))]);
    drop(orders);
    running.join().unwrap();
}

#[tokio::test(flavor = "current_thread")]
async fn a_next_hop_that_the_kernel_refused_is_tried_again_when_it_is_told_again() {
    let responder = Responder::start(Ipv4Addr::LOCALHOST);
    let fake = Fake::default();
    let (orders, running) = start(config(&[&responder, &responder]), fake.clone());
    let tell = || orders.tell(News::Way { server: MASTER, family: Family::V4, hop: HOP, interface: "b".to_owned() });
    fake.0.lock().unwrap().refuse_hops = true;
    tell();
    assert_eq!(status(&orders).await.servers[0].next_hops, []);
    fake.0.lock().unwrap().refuse_hops = false;
    for _ in 0..3 {
        tell();
    }
    wait_until(&orders, "the way is known", |status| !status.servers[0].next_hops.is_empty()).await;
    assert_eq!(fake.0.lock().unwrap().hops, [HOP], "told three times, written once");
    drop(orders);
    running.join().unwrap();
}

#[tokio::test(flavor = "current_thread")]
async fn answers_are_no_sign_of_life_once_an_interface_is_gone_that_unknown_ways_may_lead_by() {
    let responder = Responder::start(Ipv4Addr::LOCALHOST);
    let fake = Fake::default();
    let (orders, running) = start(config(&[&responder, &responder]), fake.clone());
    wait_until(&orders, "both are up", |status| status.servers.iter().all(|server| server.health == Health::Up)).await;
    orders.tell(News::InterfaceLost { interface: "b".to_owned() });
    wait_until(&orders, "an outage", |status| status.outage).await;
    orders.tell(News::Way { server: ServerId(1), family: Family::V4, hop: HOP, interface: "a".to_owned() });
    wait_until(&orders, "the backup is active", |status| status.active == "backup").await;
    assert_eq!(status(&orders).await.servers[0].health, Health::Down, "it answers, by a way that packets do not take");
    drop(orders);
    running.join().unwrap();
}

#[tokio::test(flavor = "current_thread")]
async fn an_icmp_error_about_traffic_makes_the_gateway_ask_at_once() {
    let (master, backup) = (Responder::start(Ipv4Addr::LOCALHOST), Responder::start(Ipv4Addr::LOCALHOST));
    let fake = Fake::default();
    let mut config = config(&[&master, &backup]);
    for server in &mut config.services[0].servers {
        // Nobody is asked by the clock.
        (server.probe.interval, server.probe.standby_interval) = (Duration::from_secs(600), Duration::from_secs(600));
    }
    let (orders, running) = start(config, fake.clone());
    wait_until(&orders, "both are up", |status| status.servers.iter().all(|server| server.health == Health::Up)).await;
    let asked = || (master.asked.load(Ordering::Relaxed), backup.asked.load(Ordering::Relaxed));
    let before = asked();
    fake.signal(Signal { at: monotonic(), server: MASTER, code: 3 });
    wait_until(&orders, "the master is asked", |_| asked().0 == before.0 + 1).await;
    assert_eq!(asked().1, before.1, "nobody doubts the backup");
    drop(orders);
    running.join().unwrap();
}

#[tokio::test(flavor = "current_thread")]
async fn a_server_with_an_ipv6_address_alone_is_probed_by_options_and_echo() {
    let responder = Responder::start(Ipv6Addr::LOCALHOST);
    let mut config = config(&[&responder, &responder]);
    for server in &mut config.services[0].servers {
        server.addresses = Ipv6Addr::LOCALHOST.into();
    }
    let (orders, running) = start(config, Fake::default());
    let is_up = |server: &ServerStatus| server.health == Health::Up && server.echo_works && server.rtt_ms.is_some();
    wait_until(&orders, "both answer both", |status| status.servers.iter().all(is_up)).await;
    let port = responder.port;
    drop(responder);
    wait_until(&orders, "the refusal is heard", |status| {
        status.outage && status.servers[0].fault == Some(Fault::Crashed)
    })
    .await;
    let _again = Responder::at((Ipv6Addr::LOCALHOST, port).into());
    wait_until(&orders, "both are up again", |status| status.servers.iter().all(is_up)).await;
    drop(orders);
    running.join().unwrap();
}

#[tokio::test(flavor = "current_thread")]
async fn a_dead_second_address_is_told_and_its_server_stays_up_and_active() {
    let responder = Responder::start(Ipv4Addr::LOCALHOST);
    let second = SocketAddr::from((Ipv6Addr::LOCALHOST, responder.port));
    let mut config = config(&[&responder, &responder]);
    config.services[0].servers[0].addresses.v6 = Some(Ipv6Addr::LOCALHOST);
    config.services[0].servers[0].probe.hang = Duration::from_secs(2);
    let (orders, running) = start(config, Fake::default());
    let fault = |status: &ServiceStatus| status.servers[0].second_address.clone();
    wait_until(&orders, "a refusal is told", |status| fault(status).as_deref() == Some("::1 refuses SIP")).await;
    let both = Responder::at(second);
    wait_until(&orders, "it is well", |status| fault(status).is_none()).await;
    drop(both);
    // Somebody who says nothing.
    let _silent = UdpSocket::bind(second).unwrap();
    wait_until(&orders, "it is told again", |status| fault(status).is_some()).await;
    let status = status(&orders).await;
    assert_eq!((status.active.as_str(), status.servers[0].health), ("master", Health::Up));
    assert_eq!(status.servers[1].second_address, None, "it has none");
    drop(orders);
    running.join().unwrap();
}
