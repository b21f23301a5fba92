//! Probes of one server: a connected socket, and the table of what was asked.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, UdpSocket as StdUdpSocket},
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use tokio::{io::ReadBuf, net::UdpSocket};

use crate::{
    config::{Probe, Server},
    detector::Evidence,
    ids::ServerId,
    probe::{
        outstanding::{Outstanding, Reply},
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
    /// A refusal that the kernel handed out while sending.
    refused: bool,
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
            refused: false,
        }
    }

    pub(super) fn server(&self) -> ServerId {
        self.server
    }

    /// When [`Prober::tick`] is due.
    pub(super) fn next_deadline(&self) -> Instant {
        self.outstanding.next_deadline().map_or(self.next_send, |deadline| deadline.min(self.next_send))
    }

    /// The gateway came late by `late`: probes that wait get that much more time.
    pub(super) fn forgive(&mut self, late: Duration) {
        self.outstanding.postpone(late);
    }

    /// Does what is due: counts misses, sends the next probe.
    pub(super) fn tick(&mut self, now: Instant) -> Vec<Evidence> {
        let mut evidence: Vec<_> = self.outstanding.expired(now).map(|_| Evidence::Missed).collect();
        if now >= self.next_send {
            // From now, if this one is late: probes are never sent in bursts.
            self.next_send = (self.next_send + self.settings.interval).max(now);
            evidence.extend(self.send(now));
        }
        evidence
    }

    /// Reads what came back.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Evidence> {
        if std::mem::take(&mut self.refused) {
            return Poll::Ready(Evidence::Refused);
        }
        let mut buffer = [0; LONGEST_ANSWER];
        for _ in 0..BURST {
            let Some(line) = &self.line else { return Poll::Pending };
            let mut buffer = ReadBuf::new(&mut buffer);
            match ready!(line.socket.poll_recv(context, &mut buffer)) {
                Ok(()) => {
                    if let Some(evidence) = self.read(buffer.filled(), Instant::now()) {
                        return Poll::Ready(evidence);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    self.outstanding = Outstanding::default();
                    return Poll::Ready(Evidence::Refused);
                }
                // Such as EHOSTUNREACH when ARP fails: the probe that ran into it will be a miss, which counts once.
                Err(error) => tracing::debug!(%error, server = self.server.0, "a probe's socket"),
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
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

    fn send(&mut self, now: Instant) -> Option<Evidence> {
        match self.try_send(now) {
            Ok(()) => None,
            // Refusals of the probe before, handed out here; the next `poll` gives them. This probe is not sent.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                self.refused = true;
                None
            }
            // The gateway itself is short of something. That is no evidence.
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::OutOfMemory) => None,
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NOBUFS.raw_os_error()) => None,
            Err(error) => {
                tracing::debug!(%error, server = self.server.0, "cannot send a probe");
                self.line = None;
                Some(Evidence::Unreachable)
            }
        }
    }

    fn try_send(&mut self, now: Instant) -> io::Result<()> {
        let token = Token::random()?;
        let line = match &mut self.line {
            Some(line) => line,
            none => none.insert(Line::open(self.target)?),
        };
        line.socket.try_send(&line.options.request(token))?;
        let deadline = now + self.settings.timeout;
        // Only an interval far below the timeout fills the table; the oldest is then forgotten without a verdict.
        let _ = self.outstanding.sent(token.branch(), token.call_id(), now, deadline);
        Ok(())
    }
}

impl Line {
    fn open(target: SocketAddr) -> io::Result<Self> {
        let socket = StdUdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.connect(target)?;
        socket.set_nonblocking(true)?;
        let options = OptionsProbe::new(target, socket.local_addr()?);
        Ok(Self { socket: UdpSocket::from_std(socket)?, options })
    }
}
