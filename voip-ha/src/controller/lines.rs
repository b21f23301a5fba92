//! The sockets that the probes of one server leave by and their answers come back to.

use std::{
    collections::VecDeque,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    time::Instant,
};

use nix::libc;
use rustix::{
    event::epoll,
    io::Errno,
    net::{AddressFamily, SendFlags, SocketFlags, SocketType, connect, ipproto, send, socket_with},
};

use super::receive::{receive, stamp_arrivals};
use crate::{
    monitor::ProbeKind,
    probe::{
        icmp_echo::{ECHO_REPLY, ECHO_REPLY_V6, EchoProbe},
        sip_options::{OptionsProbe, Token, read_answer},
    },
};

/// Datagrams that are read in one go before others get their turn: a server that sends a flood to the probe's port must
/// not keep the controller from the other servers.
const BURST: usize = 32;
/// Longer than any sensible answer to OPTIONS; what is longer is cut, and then refused as cut short.
const LONGEST_ANSWER: usize = 4096;
/// Questions whose answers are recognised.
const REMEMBERED: usize = 64;

/// What came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Received {
    /// An answer to the probe with this number. The SIP status of an echo is 0.
    Answer { kind: ProbeKind, number: u64, status: u16, at: Instant },
    /// Nobody listens on the port.
    Refused,
    /// The host cannot be reached.
    HostUnreachable,
    /// The socket had no room, so answers may be lost.
    Lost,
}

/// Why a probe was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unsent {
    /// There is no way to the server.
    NoWay,
    /// The gateway itself is short of something, or may not ask by echo.
    OwnFault,
}

/// The sockets of one server. They are made anew when the kernel's way to the server has changed under them.
pub(super) struct Lines {
    address: IpAddr,
    port: u16,
    options: Option<OptionsLine>,
    echo: Option<EchoLine>,
    /// Errors that sending brought to light.
    noted: Vec<Received>,
    echo_refused: bool,
}

struct OptionsLine {
    socket: UdpSocket,
    probe: OptionsProbe,
    asked: VecDeque<(Token, u64)>,
    lost: u32,
}

struct EchoLine {
    socket: OwnedFd,
    probe: EchoProbe,
    lost: u32,
}

impl Lines {
    /// Those to one address of a server.
    pub(super) fn new(address: IpAddr, port: u16) -> Self {
        Self { address, port, options: None, echo: None, noted: Vec::new(), echo_refused: false }
    }

    /// Where they lead.
    pub(super) fn address(&self) -> IpAddr {
        self.address
    }

    /// Begins anew with other sockets, whose source address fits the present route.
    pub(super) fn reopen(&mut self) {
        (self.options, self.echo) = (None, None);
    }

    /// The same for OPTIONS alone.
    pub(super) fn reopen_options(&mut self) {
        self.options = None;
    }

    /// Sends a probe. A new socket is watched by `poller` for errors, under `key`.
    pub(super) fn send(
        &mut self,
        kind: ProbeKind,
        number: u64,
        poller: BorrowedFd<'_>,
        key: u64,
    ) -> Result<(), Unsent> {
        let mut result = self.try_send(kind, number, poller, key);
        if let Err(error) = &result
            && let Some(noted) = meaning(error)
        {
            // What an earlier probe ran into and the socket only hands out here. This one is not sent yet.
            self.noted.push(noted);
            result = self.try_send(kind, number, poller, key);
        }
        let Err(error) = result else { return Ok(()) };
        if is_shortage(&error) || kind == ProbeKind::Echo && may_not(&error) {
            self.tell_once(&error);
            return Err(Unsent::OwnFault);
        }
        tracing::debug!(%error, server = %self.address, "cannot send a probe");
        self.reopen();
        Err(Unsent::NoWay)
    }

    /// Reads what came back.
    pub(super) fn receive(&mut self) -> Vec<Received> {
        let mut received = std::mem::take(&mut self.noted);
        let mut buffer = [0; LONGEST_ANSWER];
        if let Some(line) = &mut self.options {
            line.receive(&mut buffer, &mut received);
        }
        if let Some(line) = &mut self.echo {
            line.receive(&mut buffer, &mut received);
        }
        received
    }

    fn try_send(&mut self, kind: ProbeKind, number: u64, poller: BorrowedFd<'_>, key: u64) -> io::Result<()> {
        match kind {
            ProbeKind::Options => {
                let line = match &mut self.options {
                    Some(line) => line,
                    none => none.insert(OptionsLine::open((self.address, self.port).into(), poller, key)?),
                };
                line.send(number)
            }
            ProbeKind::Echo => {
                let line = match &mut self.echo {
                    Some(line) => line,
                    none => none.insert(EchoLine::open(self.address)?),
                };
                send(&line.socket, &line.probe.request(number), SendFlags::DONTWAIT)?;
                Ok(())
            }
        }
    }

    fn tell_once(&mut self, error: &io::Error) {
        if may_not(error) && !std::mem::replace(&mut self.echo_refused, true) {
            tracing::warn!(%error, server = %self.address, "cannot ask by ICMP echo: give voip-ha CAP_NET_RAW");
        }
    }
}

impl OptionsLine {
    fn open(target: SocketAddr, poller: BorrowedFd<'_>, key: u64) -> io::Result<Self> {
        let any = if target.is_ipv4() { IpAddr::from(Ipv4Addr::UNSPECIFIED) } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect(target)?;
        socket.set_nonblocking(true)?;
        stamp_arrivals(&socket)?;
        // No event but the error that is always told: an answer can wait until the next timer, and the thread sleeps on.
        epoll::add(poller, &socket, epoll::EventData::new_u64(key), epoll::EventFlags::empty())?;
        let probe = OptionsProbe::new(target, socket.local_addr()?);
        Ok(Self { socket, probe, asked: VecDeque::new(), lost: 0 })
    }

    fn send(&mut self, number: u64) -> io::Result<()> {
        let token = Token::random()?;
        self.socket.send(&self.probe.request(token))?;
        if self.asked.len() == REMEMBERED {
            self.asked.pop_front();
        }
        self.asked.push_back((token, number));
        Ok(())
    }

    fn receive(&mut self, buffer: &mut [u8], received: &mut Vec<Received>) {
        let Self { socket, asked, lost, .. } = self;
        drain(socket, lost, buffer, received, |datagram, at| read_options(asked, datagram, at));
    }
}

/// What an answer to OPTIONS says, if one of those that were `asked` is meant.
fn read_options(asked: &VecDeque<(Token, u64)>, datagram: &[u8], at: Instant) -> Option<Received> {
    let answer = match read_answer(datagram) {
        Ok(answer) => answer,
        Err(error) => {
            tracing::debug!(%error, "no answer to a probe");
            return None;
        }
    };
    let is_it = |(token, _): &&(Token, u64)| token.branch() == answer.branch && token.call_id() == answer.call_id;
    let (_, number) = asked.iter().find(is_it)?;
    Some(Received::Answer { kind: ProbeKind::Options, number: *number, status: answer.status, at })
}

impl EchoLine {
    /// A raw socket: one for pings needs the group's leave in `net.ipv4.ping_group_range`, which even root has not got in a
    /// new network namespace.
    fn open(address: IpAddr) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (family, protocol) = match address {
            IpAddr::V4(_) => (AddressFamily::INET, ipproto::ICMP),
            IpAddr::V6(_) => (AddressFamily::INET6, ipproto::ICMPV6),
        };
        let socket = socket_with(family, SocketType::RAW, flags, Some(protocol))?;
        connect(&socket, &SocketAddr::from((address, 0)))?;
        hear_replies_only(&socket, address)?;
        stamp_arrivals(&socket)?;
        Ok(Self { socket, probe: EchoProbe::new(address)?, lost: 0 })
    }

    fn receive(&mut self, buffer: &mut [u8], received: &mut Vec<Received>) {
        let Self { socket, probe, lost } = self;
        drain(socket, lost, buffer, received, |packet, at| {
            let number = probe.read_reply(packet)?;
            Some(Received::Answer { kind: ProbeKind::Echo, number, status: 0, at })
        });
    }
}

/// Reads what a socket has, at most [`BURST`] datagrams. `lost` is what it had no room for, as far as known.
fn drain(
    socket: &(impl AsFd + AsRawFd),
    lost: &mut u32,
    buffer: &mut [u8],
    received: &mut Vec<Received>,
    read: impl Fn(&[u8], Instant) -> Option<Received>,
) {
    for _ in 0..BURST {
        match receive(socket, buffer) {
            Ok(arrived) => {
                if let Some(more) = arrived.lost.filter(|more| more != lost) {
                    *lost = more;
                    received.push(Received::Lost);
                }
                received.extend(read(&buffer[..arrived.length], arrived.at));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => received.extend(meaning(&error)),
        }
    }
}

/// A raw socket hears every ICMP message of the server, its errors about traffic too, which would fill it.
fn hear_replies_only(socket: &OwnedFd, address: IpAddr) -> io::Result<()> {
    // linux/icmp.h, ICMP_FILTER, and linux/icmpv6.h, ICMPV6_FILTER: masks of the types that are not wanted.
    const FILTER: libc::c_int = 1;
    let mut unwanted = [u32::MAX; 8];
    let (level, wanted, words) = match address {
        IpAddr::V4(_) => (libc::SOL_RAW, ECHO_REPLY, 1),
        IpAddr::V6(_) => (libc::IPPROTO_ICMPV6, ECHO_REPLY_V6, unwanted.len()),
    };
    unwanted[usize::from(wanted / 32)] &= !(1 << (wanted % 32));
    let length = words * size_of::<u32>();
    // SAFETY: an open socket, and an option value that is at least as long as the length that is named.
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, FILTER, unwanted.as_ptr().cast(), length as libc::socklen_t)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// What an error that the kernel noted on a socket says about the server.
fn meaning(error: &io::Error) -> Option<Received> {
    match Errno::from_io_error(error)? {
        Errno::CONNREFUSED => Some(Received::Refused),
        // By IPv6, the last is a firewall's (RFC 4443, codes 1, 5 and 6).
        Errno::HOSTUNREACH | Errno::HOSTDOWN | Errno::NETUNREACH | Errno::ACCESS => Some(Received::HostUnreachable),
        _ => None,
    }
}

/// The gateway itself is short of something.
fn is_shortage(error: &io::Error) -> bool {
    let short = [Errno::AGAIN, Errno::NOMEM, Errno::NOBUFS, Errno::MFILE, Errno::NFILE];
    Errno::from_io_error(error).is_some_and(|errno| short.contains(&errno))
}

fn may_not(error: &io::Error) -> bool {
    Errno::from_io_error(error).is_some_and(|errno| matches!(errno, Errno::PERM | Errno::ACCESS))
}
