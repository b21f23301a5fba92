//! The lab's own SIP/RTP server: REGISTER, OPTIONS, INVITE, ACK, BYE, CANCEL over UDP, and an RTP echo.
//!
//! It echoes RTP on every even port of its range, also on ports that it never signalled itself. That stands in for a media
//! relay whose sessions are shared between master and backup, such as rtpengine with Redis: after a failover the backup
//! serves the streams of calls that the master set up. Dialogs are not shared: the backup answers 481 to a BYE of a call
//! that it did not set up.

mod calls;
mod media;

use std::{
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    ops::RangeInclusive,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use rustix::{
    buffer::spare_capacity,
    event::epoll::{self, EventData, EventFlags},
    time::Timespec,
};

use crate::{
    process::Process,
    program,
    sip::brackets,
    topology::{Lab, VIP, VIP6},
};
use calls::Calls;
use media::Media;

/// How long a server may take to open its sockets.
const START: Duration = Duration::from_secs(10);

/// The marker of the SIP socket among the RTP sockets' indices.
const SIP: u64 = u64::MAX;

/// What a server is told.
#[derive(Debug, Clone)]
pub struct Config {
    /// Address that it listens on and sends from.
    pub address: IpAddr,
    /// Address that it writes into Contact headers and session descriptions: the VIP.
    pub advertise: IpAddr,
    /// Port of SIP over UDP.
    pub sip_port: u16,
    /// RTP ports; the even ones are opened.
    pub rtp_ports: RangeInclusive<u16>,
    /// Its name in stamps and logs.
    pub name: String,
    /// Status of its answer to OPTIONS.
    pub options_status: u16,
    /// While this file exists, OPTIONS are answered by 503, as by a server that ends gracefully.
    pub maintenance: Option<PathBuf>,
}

/// Starts the program `lab-server` on a server of the lab, advertising the VIP of each family, and returns when it serves.
/// `arguments` are added to its command line.
pub fn start(lab: &Lab, server: &str, arguments: &[&str]) -> Result<Process> {
    let host = lab.server(server)?;
    let mut command = Command::new(program("lab-server")?);
    command.args(["--name", server, "--address", &lab.listen_address(host).to_string()]);
    command.args(["--advertise", &VIP.to_string()]);
    if let Some(address) = host.address6 {
        command.args(["--address", &address.to_string(), "--advertise", &VIP6.to_string()]);
    }
    command.args(arguments);
    let mut process = Process::start(lab, &host.namespace, server, command)?;
    process.wait_for_log("ready", START)?;
    Ok(process)
}

/// A server with all its sockets open.
#[derive(Debug)]
pub struct Server {
    sip: UdpSocket,
    maintenance: Option<PathBuf>,
    calls: Calls,
    media: Media,
}

impl Server {
    /// Opens every socket. Fails if an address or port is not free.
    pub fn open(config: &Config) -> Result<Self> {
        let address = SocketAddr::new(config.address, config.sip_port);
        let sip = UdpSocket::bind(address).with_context(|| format!("SIP port {address}"))?;
        sip.set_nonblocking(true)?;
        let media = Media::open(config.address, config.rtp_ports.clone(), &config.name)?;
        let ports = media.sockets().iter().map(|socket| Ok(socket.local_addr()?.port())).collect::<io::Result<_>>()?;
        let contact = SocketAddr::new(config.advertise, config.sip_port);
        Ok(Self {
            sip,
            maintenance: config.maintenance.clone(),
            calls: Calls::new(contact, ports, config.options_status),
            media,
        })
    }

    /// Serves until the process is killed; returns on an error of epoll only.
    pub fn run(&mut self) -> Result<()> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &self.sip, EventData::new_u64(SIP), EventFlags::IN)?;
        for (index, socket) in self.media.sockets().iter().enumerate() {
            epoll::add(&epoll, socket, EventData::new_u64(index as u64), EventFlags::IN)?;
        }
        let mut events = Vec::with_capacity(64);
        loop {
            events.clear();
            let wait = self.calls.next_deadline().map(|at| timespec(at.saturating_duration_since(Instant::now())));
            match epoll::wait(&epoll, spare_capacity(&mut events), wait.as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error).context("epoll_wait"),
            }
            for event in &events {
                match event.data.u64() {
                    SIP => self.serve_sip(),
                    index => self.media.echo(index as usize)?,
                }
            }
            let due = self.calls.retransmit(Instant::now());
            self.send(due);
        }
    }

    fn serve_sip(&mut self) {
        let mut buffer = [0; 65_536];
        while let Ok((length, from)) = self.sip.recv_from(&mut buffer) {
            self.calls.in_maintenance = self.maintenance.as_ref().is_some_and(|file| file.exists());
            let answers = self.calls.receive(&brackets::hide(&buffer[..length]), from, Instant::now());
            self.send(answers);
        }
    }

    fn send(&self, messages: Vec<calls::Outgoing>) {
        for message in messages {
            // A lost answer is repeated when the request is.
            let _ = self.sip.send_to(&brackets::show(&message.bytes), message.to);
        }
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec { tv_sec: duration.as_secs() as i64, tv_nsec: duration.subsec_nanos().into() }
}
