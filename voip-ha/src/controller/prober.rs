//! Probes of one server: a connected socket, and the table of what was asked.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    os::fd::BorrowedFd,
    time::Instant,
};

use rustix::event::epoll;

use crate::{
    config::{Probe, Server},
    detector::Evidence,
    ids::ServerId,
    probe::{
        outstanding::{Miss, Outstanding, Reply},
        sip_options::{AnswerKind, OptionsProbe, Token, read_answer, verdict},
    },
};

/// Datagrams that are read in one go before others get their turn: a server that sends a flood to the probe's port must
/// not keep the controller from the other servers.
const BURST: usize = 32;
/// Longer than any sensible answer to OPTIONS; what is longer is cut, and then refused as cut short.
const LONGEST_ANSWER: usize = 4096;

/// Asks one server, again and again.
pub(super) struct Prober {
    server: ServerId,
    target: SocketAddr,
    settings: Probe,
    line: Option<Line>,
    outstanding: Outstanding,
    next_send: Instant,
}

/// The connected socket. It is made anew when the kernel's way to the server has changed under it.
struct Line {
    socket: UdpSocket,
    options: OptionsProbe,
}

impl Prober {
    pub(super) fn new(server: ServerId, config: &Server, now: Instant) -> Self {
        Self {
            server,
            target: (config.address, config.probe.port).into(),
            settings: config.probe,
            line: None,
            outstanding: Outstanding::default(),
            next_send: now,
        }
    }

    pub(super) fn server(&self) -> ServerId {
        self.server
    }

    /// When [`Prober::tick`] is due.
    pub(super) fn next_deadline(&self) -> Instant {
        self.outstanding.next_deadline().map_or(self.next_send, |deadline| deadline.min(self.next_send))
    }

    /// The gateway itself came late: probes that wait get their time anew.
    pub(super) fn forgive(&mut self, now: Instant) {
        self.outstanding.postpone(now + self.settings.timeout);
    }

    /// Begins anew with another socket, whose source address fits the present route.
    pub(super) fn reopen(&mut self) {
        self.line = None;
    }

    /// Does what is due: counts misses, sends the next probe. A new socket is added to `poller`. `heard` is when the server
    /// last sent to a client.
    pub(super) fn tick(&mut self, poller: BorrowedFd<'_>, heard: Option<Instant>, now: Instant) -> Vec<Evidence> {
        let missed = |miss: Miss| match heard {
            Some(heard) if heard > miss.sent_at => Evidence::Busy,
            _ => Evidence::Missed,
        };
        let mut evidence: Vec<_> = self.outstanding.expired(now).map(missed).collect();
        if now >= self.next_send {
            // Probes that a late gateway did not send are not made up for.
            let next = self.next_send + self.settings.interval;
            self.next_send = if next > now { next } else { now + self.settings.interval };
            let (pushed_out, failed) = self.send(poller, now);
            evidence.extend(pushed_out.map(missed).into_iter().chain(failed));
        }
        evidence
    }

    /// Reads what came back, at most [`BURST`] datagrams.
    pub(super) fn receive(&mut self) -> Vec<Evidence> {
        let mut evidence = Vec::new();
        let mut buffer = [0; LONGEST_ANSWER];
        for _ in 0..BURST {
            let Some(line) = &self.line else { break };
            match line.socket.recv(&mut buffer) {
                Ok(length) => evidence.extend(self.read(&buffer[..length], Instant::now())),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => evidence.extend(self.failed(&error)),
            }
        }
        evidence
    }

    /// What an error that the kernel noted on the socket says about the server.
    fn failed(&mut self, error: &io::Error) -> Option<Evidence> {
        if error.kind() == io::ErrorKind::ConnectionRefused {
            // An answer to all that was asked so far.
            self.outstanding = Outstanding::default();
            return Some(Evidence::Refused);
        }
        // Such as EHOSTUNREACH when ARP fails: the probe that ran into it will be a miss, which counts once.
        tracing::debug!(%error, server = self.server.0, "a probe's socket");
        None
    }

    fn read(&mut self, datagram: &[u8], now: Instant) -> Option<Evidence> {
        let answer = match read_answer(datagram) {
            Ok(answer) => answer,
            Err(error) => {
                tracing::debug!(%error, server = self.server.0, "no answer to a probe");
                return None;
            }
        };
        let kind = verdict(answer.status);
        if kind == AnswerKind::Provisional {
            return None;
        }
        match self.outstanding.answered(&answer.branch, &answer.call_id, now)? {
            Reply::Late { rtt, missed: true } => Some(Evidence::Late { rtt }),
            // Late, but no miss: this gateway has read it late.
            Reply::InTime { rtt } | Reply::Late { rtt, missed: false } => Some(match kind {
                AnswerKind::Alive => Evidence::Answer { status: answer.status, rtt },
                _ => Evidence::NoService { status: answer.status },
            }),
        }
    }

    /// Sends a probe. Gives the oldest one if the table is full, and what sending brought to light.
    fn send(&mut self, poller: BorrowedFd<'_>, now: Instant) -> (Option<Miss>, Option<Evidence>) {
        let error = match self.try_send(poller, now) {
            Ok(pushed_out) => return (pushed_out, None),
            Err(error) => error,
        };
        // It may be what an earlier probe ran into and the socket only hands out here. Then this one is not sent yet.
        let noted = self.failed(&error);
        match self.try_send(poller, now) {
            Ok(pushed_out) => (pushed_out, noted),
            // The gateway itself is short of something. That is no evidence.
            Err(error) if is_shortage(&error) => (None, noted),
            Err(error) => {
                tracing::debug!(%error, server = self.server.0, "cannot send a probe");
                self.reopen();
                (None, noted.or(Some(Evidence::Unreachable)))
            }
        }
    }

    fn try_send(&mut self, poller: BorrowedFd<'_>, now: Instant) -> io::Result<Option<Miss>> {
        let token = Token::random()?;
        let line = match &mut self.line {
            Some(line) => line,
            none => none.insert(Line::open(self.target, poller, self.server)?),
        };
        line.socket.send(&line.options.request(token))?;
        Ok(self.outstanding.sent(token.branch(), token.call_id(), now, now + self.settings.timeout))
    }
}

fn is_shortage(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::OutOfMemory)
        || error.raw_os_error() == Some(rustix::io::Errno::NOBUFS.raw_os_error())
}

impl Line {
    fn open(target: SocketAddr, poller: BorrowedFd<'_>, server: ServerId) -> io::Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.connect(target)?;
        socket.set_nonblocking(true)?;
        epoll::add(poller, &socket, epoll::EventData::new_u64(server.0 as u64), epoll::EventFlags::IN)?;
        let options = OptionsProbe::new(target, socket.local_addr()?);
        Ok(Self { socket, options })
    }
}
