//! Requests at a steady rate, for a system that carries SIP and no RTP.
//!
//! Both servers answer OPTIONS, one by 200 and the other by 202: so a proxy in between need not be asked who did.

use std::{
    net::UdpSocket,
    ops::Range,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::Result;

use super::traffic::Account;
use crate::{
    Lab, sip,
    topology::{SIP, VIP},
};

/// The final answer to OPTIONS of each server.
pub(super) const STATUS: [(&str, u16); 2] = [("master", 200), ("backup", 202)];
/// Requests per second of one stream.
pub(super) const RATE: u64 = 5;
/// The user part of the request's URI. Health checks have none: by that they are told apart.
pub(super) const USER: &str = "bench";
/// How often the receiver looks whether it should stop.
const LOOK: Duration = Duration::from_millis(20);

#[derive(Debug)]
pub(super) struct SipStream {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    start: Instant,
    socket: UdpSocket,
    requests: Mutex<Vec<Request>>,
    stop: AtomicBool,
}

#[derive(Debug, Clone, Copy)]
struct Request {
    sent: Duration,
    /// When the first final answer came, and the index in [`STATUS`] of the server.
    answered: Option<(Duration, usize)>,
}

impl SipStream {
    /// [`RATE`] requests per second for each stream, from one socket.
    pub(super) fn start(lab: &Lab, streams: u16) -> Result<Self> {
        let address = lab.phone_addresses().next().unwrap_or(VIP);
        let socket = lab.phones().run(move || UdpSocket::bind((address, 0)))?;
        socket.set_read_timeout(Some(LOOK))?;
        let (start, requests, stop) = (Instant::now(), Mutex::default(), AtomicBool::new(false));
        let shared = Arc::new(Shared { start, socket, requests, stop });
        let step = Duration::from_secs(1) / (u32::from(streams) * RATE as u32);
        let (sender, receiver) = (Arc::clone(&shared), Arc::clone(&shared));
        let threads =
            vec![std::thread::spawn(move || send(&sender, step)), std::thread::spawn(move || receive(&receiver))];
        Ok(Self { shared, threads })
    }

    pub(super) fn at(&self, instant: Instant) -> Duration {
        instant.saturating_duration_since(self.shared.start)
    }

    pub(super) fn first_by(&self, server: &str, window: Range<Duration>) -> Option<Duration> {
        let requests = self.shared.requests();
        let of_server = |request: &Request| request.answered.filter(|(_, by)| STATUS[*by].0 == server);
        in_window(&requests, &window).iter().filter_map(of_server).map(|(at, _)| at).min()
    }

    pub(super) fn account(&self, window: Range<Duration>) -> Account {
        let requests = self.shared.requests();
        let sent = in_window(&requests, &window);
        let count =
            |server: usize| sent.iter().filter(|r| r.answered.is_some_and(|(_, by)| by == server)).count() as u64;
        let answered: Vec<_> = (0..STATUS.len()).map(|server| (STATUS[server].0.to_owned(), count(server))).collect();
        let lost = sent.iter().filter(|request| request.answered.is_none()).count() as u64;
        let answered = answered.into_iter().filter(|(_, count)| *count > 0).collect();
        Account { sent: sent.len() as u64, answered, lost, gap: Duration::ZERO }
    }
}

impl Drop for SipStream {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn requests(&self) -> MutexGuard<'_, Vec<Request>> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Request n is due at a fixed time, so that a late one does not delay the next.
fn send(shared: &Shared, step: Duration) {
    let call = sip::token();
    let local = shared.socket.local_addr().map(|address| address.to_string()).unwrap_or_default();
    for number in 0_u32.. {
        std::thread::sleep((step * number).saturating_sub(shared.start.elapsed()));
        if shared.stop.load(Ordering::Relaxed) {
            return;
        }
        let branch = sip::branch();
        let request = format!(
            "OPTIONS sip:{USER}@{VIP} SIP/2.0\r\nVia: SIP/2.0/UDP {local};rport;branch={branch}\r\nMax-Forwards: 70\r\n\
             From: <sip:phone@{VIP}>;tag=1\r\nTo: <sip:{USER}@{VIP}>\r\nCall-ID: {number}-{call}\r\nCSeq: 1 OPTIONS\r\n\
             Content-Length: 0\r\n\r\n"
        );
        // Filed before it is sent, as its answer may come before the system call returns.
        shared.requests().push(Request { sent: shared.start.elapsed(), answered: None });
        let _ = shared.socket.send_to(request.as_bytes(), SIP);
    }
}

fn receive(shared: &Shared) {
    let mut buffer = [0; 4096];
    while !shared.stop.load(Ordering::Relaxed) {
        let Ok(length) = shared.socket.recv(&mut buffer) else { continue };
        let now = shared.start.elapsed();
        let Some((number, server)) = read_answer(&buffer[..length]) else { continue };
        if let Some(request) = shared.requests().get_mut(number) {
            request.answered.get_or_insert((now, server));
        }
    }
}

/// Number of the request and index of the server.
fn read_answer(bytes: &[u8]) -> Option<(usize, usize)> {
    let text = std::str::from_utf8(bytes).ok()?;
    let status: u16 = text.strip_prefix("SIP/2.0 ")?.get(..3)?.parse().ok()?;
    let server = STATUS.iter().position(|(_, of_server)| *of_server == status)?;
    let call = text.lines().find_map(|line| line.strip_prefix("Call-ID: "))?;
    Some((call.split_once('-')?.0.parse().ok()?, server))
}

fn in_window<'all>(requests: &'all [Request], window: &Range<Duration>) -> &'all [Request] {
    let before = |time: Duration| requests.partition_point(|request| request.sent < time);
    requests.get(before(window.start)..before(window.end)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_tells_its_request_and_its_server() {
        let answer = |status: &str| format!("SIP/2.0 {status}\r\nVia: x\r\nCall-ID: 17-abc\r\n\r\n");
        assert_eq!(read_answer(answer("200 OK").as_bytes()), Some((17, 0)));
        assert_eq!(read_answer(answer("202 Accepted").as_bytes()), Some((17, 1)));
        assert_eq!(read_answer(answer("408 Request Timeout").as_bytes()), None);
        assert_eq!(read_answer(b"OPTIONS sip:x SIP/2.0\r\nCall-ID: 17-abc\r\n\r\n"), None);
    }
}
