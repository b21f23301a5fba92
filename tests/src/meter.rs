//! The RTP meter: streams of 50 packets/s whose echoes are checked byte by byte and accounted for one by one.
//!
//! Packets leave by absolute deadlines, the streams spread evenly over the 20 ms. Arrival times are the kernel's, so that
//! a meter waiting for a processor does not see gaps that the network did not make.

mod tally;
mod threads;
mod track;
#[cfg(test)]
mod track_tests;

use std::{
    net::{SocketAddr, UdpSocket},
    ops::Range,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

pub use tally::{Path, Report, Split, Tally};
use track::{SETTLE, Track};

use crate::{topology::Lab, wait};

/// Slack of a wait that ends by itself.
const SLACK: Duration = Duration::from_secs(1);

/// One stream to measure.
#[derive(Debug)]
pub struct Stream {
    /// Bound, not connected: like a phone, it hears datagrams from anywhere and does not notice ICMP errors.
    pub socket: UdpSocket,
    /// Where the packets go and where echoes must come from.
    pub remote: SocketAddr,
}

impl Stream {
    /// `count` streams from the lab's phone addresses to every second port of `remote`, beginning with its own.
    pub fn open(lab: &Lab, remote: impl Into<SocketAddr>, count: u16) -> Result<Vec<Self>> {
        let remote = remote.into();
        let port = |number: u16| number.checked_mul(2).and_then(|above| remote.port().checked_add(above));
        let remote = |number| Some(SocketAddr::new(remote.ip(), port(number)?));
        let remotes: Option<Vec<_>> = (0..count).map(remote).collect();
        Self::open_each(lab, remotes.context("ports beyond 65535")?)
    }

    /// `count` streams from the lab's phone addresses, all of them to `remote`.
    pub fn open_to_one_port(lab: &Lab, remote: impl Into<SocketAddr>, count: usize) -> Result<Vec<Self>> {
        Self::open_each(lab, vec![remote.into(); count])
    }

    fn open_each(lab: &Lab, remotes: Vec<SocketAddr>) -> Result<Vec<Self>> {
        let Some(first) = remotes.first() else { return Ok(Vec::new()) };
        let addresses = lab.phone_addresses_for(first.ip())?;
        lab.phones().run(move || {
            let stream = |(remote, address)| Ok(Self { socket: UdpSocket::bind((address, 0))?, remote });
            remotes.into_iter().zip(addresses.into_iter().cycle()).map(stream).collect()
        })
    }
}

/// A running measurement. Its times are durations since its start.
#[derive(Debug)]
pub struct Meter {
    shared: Arc<Shared>,
    sender: Option<JoinHandle<Result<()>>>,
    receiver: Option<JoinHandle<Result<()>>>,
}

#[derive(Debug)]
struct Shared {
    start: Instant,
    streams: Vec<(Stream, Mutex<Track>)>,
    stop_sending: AtomicBool,
    stop_receiving: AtomicBool,
}

impl Meter {
    /// Starts to send. Sequence numbers begin at random, as RTP's do.
    pub fn start(streams: Vec<Stream>) -> Result<Self> {
        ensure!(!streams.is_empty(), "a meter needs a stream");
        let track = |stream| (stream, Mutex::new(Track::new(fastrand::u32(..), fastrand::u16(..))));
        let shared = Arc::new(Shared {
            start: Instant::now(),
            streams: streams.into_iter().map(track).collect(),
            stop_sending: AtomicBool::new(false),
            stop_receiving: AtomicBool::new(false),
        });
        let receiver = threads::Receiver::new(Arc::clone(&shared))?;
        let sender = Arc::clone(&shared);
        Ok(Self {
            receiver: Some(std::thread::Builder::new().name("meter-receive".into()).spawn(move || receiver.run())?),
            sender: Some(std::thread::Builder::new().name("meter-send".into()).spawn(move || threads::send(&sender))?),
            shared,
        })
    }

    /// The time on the meter's clock, to mark an event.
    pub fn now(&self) -> Duration {
        self.shared.start.elapsed()
    }

    /// An instant on the meter's clock; zero if it was before the start.
    pub fn at(&self, instant: Instant) -> Duration {
        instant.saturating_duration_since(self.shared.start)
    }

    /// The account of all streams in a window, as far as it is known now.
    pub fn snapshot(&self, window: Range<Duration>) -> Tally {
        self.shared.report(&window).total
    }

    /// When the first echo of a packet that was sent in the window came, as far as it is known now.
    pub fn first_echo(&self, window: Range<Duration>) -> Option<Duration> {
        let window = nanos(&window);
        let streams = 0..self.shared.streams.len();
        let first = streams.filter_map(|stream| self.shared.track(stream).first_answer(&window)).min();
        first.map(Duration::from_nanos)
    }

    /// When the first echo by the server of this name came, of the packets that were sent in the window.
    pub fn first_echo_by(&self, server: &str, window: Range<Duration>) -> Option<Duration> {
        let window = nanos(&window);
        let streams = 0..self.shared.streams.len();
        let first = streams.filter_map(|stream| self.shared.track(stream).first_answer_by(server, &window)).min();
        first.map(Duration::from_nanos)
    }

    /// The account of a window after the fate of every packet sent in it is known: at most 1 s after its end.
    pub fn settled(&self, window: Range<Duration>) -> Result<Report> {
        let over = window.end + Duration::from_nanos(SETTLE);
        wait::until(over.saturating_sub(self.now()) + SLACK, "the window's packets to be answered", || {
            let now = self.now();
            Ok((now >= over || (now >= window.end && self.shared.all_answered(&window))).then_some(()))
        })?;
        Ok(self.shared.report(&window))
    }

    /// Stops sending, waits for the echoes still in flight (at most 1 s), and accounts for everything.
    pub fn finish(mut self) -> Result<Report> {
        self.shared.stop_sending.store(true, Ordering::Relaxed);
        join(self.sender.take())?;
        let end = self.now();
        let report = self.settled(Duration::ZERO..end)?;
        self.shared.stop_receiving.store(true, Ordering::Relaxed);
        join(self.receiver.take())?;
        Ok(report)
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.shared.stop_sending.store(true, Ordering::Relaxed);
        self.shared.stop_receiving.store(true, Ordering::Relaxed);
        for thread in [self.sender.take(), self.receiver.take()] {
            let _ = join(thread);
        }
    }
}

impl Shared {
    fn nanos(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    fn track(&self, stream: usize) -> MutexGuard<'_, Track> {
        self.streams[stream].1.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn all_answered(&self, window: &Range<Duration>) -> bool {
        let window = nanos(window);
        (0..self.streams.len()).all(|stream| self.track(stream).all_answered(&window))
    }

    fn report(&self, window: &Range<Duration>) -> Report {
        let (window, now) = (nanos(window), self.nanos());
        let streams: Vec<_> = (0..self.streams.len()).map(|stream| self.track(stream).tally(&window, now)).collect();
        Report { total: Tally::sum(&window, &streams), streams }
    }
}

fn nanos(window: &Range<Duration>) -> Range<u64> {
    window.start.as_nanos() as u64..window.end.as_nanos() as u64
}

fn join(thread: Option<JoinHandle<Result<()>>>) -> Result<()> {
    match thread.map(JoinHandle::join) {
        None => Ok(()),
        Some(Ok(result)) => result,
        Some(Err(_)) => anyhow::bail!("a thread of the meter panicked"),
    }
}
