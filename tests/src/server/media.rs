//! The RTP side: every packet goes back to where it came from, stamped.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    ops::RangeInclusive,
};

use anyhow::{Context, Result};

use crate::rtp::{self, Arrival, History, ServerName, Stamp};

/// How many packets one socket may have read before the others get their turn.
const TURN: usize = 32;

/// One socket for each even port of the range, and what has come in on them.
#[derive(Debug)]
pub(super) struct Media {
    server: ServerName,
    instance: u32,
    sockets: Vec<UdpSocket>,
    streams: HashMap<(SocketAddr, u32), Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    count: u16,
    history: History,
}

impl Media {
    pub(super) fn open(address: IpAddr, ports: RangeInclusive<u16>, name: &str) -> Result<Self> {
        let open = |port: u16| -> Result<UdpSocket> {
            let socket = UdpSocket::bind((address, port)).with_context(|| format!("RTP port {address}:{port}"))?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        };
        let sockets = ports.filter(|port| port % 2 == 0).map(open).collect::<Result<_>>()?;
        Ok(Self { server: ServerName::new(name), instance: fastrand::u32(..), sockets, streams: HashMap::new() })
    }

    pub(super) fn sockets(&self) -> &[UdpSocket] {
        &self.sockets
    }

    /// Echoes what waits on a socket. What is not RTP is dropped; what is not of the lab's meter is echoed unchanged.
    pub(super) fn echo(&mut self, socket: usize) -> Result<()> {
        let mut buffer = [0; 2048];
        for _ in 0..TURN {
            let (length, from) = match self.sockets[socket].recv_from(&mut buffer) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // An ICMP error of an earlier echo.
                Err(_) => continue,
            };
            let packet = &mut buffer[..length];
            let Some((sequence, source)) = rtp::sequence_and_source(packet) else { continue };
            if rtp::can_be_stamped(packet) {
                let seen = self.streams.entry((from, source)).or_default();
                seen.count = seen.count.wrapping_add(1);
                let late = seen.history.insert(sequence) == Arrival::Late;
                let (server, instance, count, history) = (self.server, self.instance, seen.count, seen.history);
                rtp::write_stamp(packet, &Stamp { server, instance, count, late, history });
            }
            // A full queue or a phone that is gone loses the echo, as it would on any server.
            let _ = self.sockets[socket].send_to(packet, from);
        }
        Ok(())
    }
}
