use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read as _},
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use clap::{ArgGroup, Args};
use rustix::net::netdevice;
use serde::Serialize;

use super::{
    Failure, Format, PinDir, Socket,
    output::{self, ALARM, CAUTION, GOOD, HEADING, styled},
};
use crate::{
    control::{Answer, Client, Command},
    datapath::{Pins, Replica},
    ids::Family,
    network,
    plan::Plan,
    trace::{
        Names, Party, Scene, Trace, capture, ends, frame,
        ingress::{Interface, Interfaces},
    },
};

/// Most text that is read as hex: the longest frame in the widest writing, many times over.
const MOST_TEXT: u64 = 1 << 20;

/// Say what would happen to a packet, and why. Nothing is sent and nothing is counted: the program runs over copies of the live
/// maps. Needs root and the gateway's network namespace, and no daemon; a daemon that answers tells the names.
#[derive(Args)]
#[command(group(ArgGroup::new("packet").required(true).args(["from", "hex", "pcap"])))]
pub(super) struct TraceVerb {
    /// Sender of a UDP packet; an IPv6 address in brackets
    #[arg(long, value_name = "ADDRESS:PORT", requires = "to")]
    from: Option<SocketAddr>,
    /// Its receiver
    #[arg(long, value_name = "ADDRESS:PORT", requires = "from")]
    to: Option<SocketAddr>,
    /// Bytes of its payload
    #[arg(long, value_name = "BYTES", requires = "from", default_value_t = frame::USUAL_PAYLOAD,
          value_parser = clap::value_parser!(u16).range(..=i64::from(frame::LONGEST_PAYLOAD)))]
    payload: u16,
    /// A frame from its Ethernet header on, in hex, also as tcpdump -xx prints it; - for standard input
    #[arg(long, value_name = "TEXT")]
    hex: Option<String>,
    /// The frames of a pcap or pcapng file
    #[arg(long, value_name = "FILE")]
    pcap: Option<PathBuf>,
    /// Most frames of the file to trace
    #[arg(long, value_name = "N", requires = "pcap", default_value_t = 1000)]
    limit: u64,
    /// The interface that the packet comes in by: front, back or a name [default: guessed from its sender]
    #[arg(long = "in", value_name = "INTERFACE")]
    interface: Option<String>,
    #[command(flatten)]
    format: Format,
    #[command(flatten)]
    pin_dir: PinDir,
    #[command(flatten)]
    socket: Socket,
}

/// The gateway, as far as a packet can tell.
struct Gateway {
    replica: Replica,
    scene: Scene,
    interfaces: Interfaces,
    /// For the names of interfaces.
    socket: UdpSocket,
}

/// The answer about a frame of a file.
#[derive(Serialize)]
struct Numbered {
    packet: u64,
    #[serde(flatten)]
    trace: Option<Trace>,
    #[serde(skip_serializing_if = "Option::is_none")]
    skipped: Option<String>,
}

impl TraceVerb {
    pub(super) fn run(self) -> Result<(), Failure> {
        // What was asked first: bad input is bad input with and without a gateway.
        if let Some(path) = &self.pcap {
            let file = File::open(path).map_err(|error| bad(path, error))?;
            return self.trace_file(path, file);
        }
        let frame = match (&self.hex, self.from.zip(self.to)) {
            (Some(text), _) => read_hex(text)?,
            (None, Some((from, to))) => {
                frame::datagram(from, to, self.payload).map_err(|error| Failure::BadInput(format!("--from {error}")))?
            }
            (None, None) => return Err(Failure::BadInput("no packet is named".to_owned())),
        };
        let trace = self.gateway()?.trace(self.interface.as_deref(), &frame)?;
        if self.format.json { output::print_json(&trace) } else { Ok(output::print(&describe(&trace))?) }
    }

    fn trace_file(&self, path: &Path, file: File) -> Result<(), Failure> {
        let mut gateway = None;
        let mut told = 0;
        capture::read::<FileFailure>(file, |captured| {
            if told == self.limit {
                anstream::eprintln!("{told} frames traced; --limit N traces more");
                return Ok(false);
            }
            told += 1;
            let gateway = match &mut gateway {
                Some(gateway) => gateway,
                none => none.insert(self.gateway()?),
            };
            self.trace_captured(gateway, &captured)?;
            Ok(true)
        })
        .map_err(|failure| failure.of(path))
    }

    fn trace_captured(&self, gateway: &mut Gateway, captured: &capture::Captured) -> Result<(), Failure> {
        let capture::Captured { number: packet, frame, captured } = captured;
        let skipped = frame::unfit(frame.len());
        let mut trace = match skipped {
            Some(_) => None,
            None => Some(gateway.trace(self.interface.as_deref(), frame)?),
        };
        if let Some(trace) = trace.as_mut().filter(|_| *captured < frame.len()) {
            trace.notes.push(format!("of {} bytes {captured} were captured: the rest is zeros here", frame.len()));
        }
        if self.format.json {
            return output::print_json(&Numbered { packet: *packet, trace, skipped });
        }
        let title = styled(HEADING, format!("packet {packet}"));
        let text =
            trace.map_or_else(|| format!("skipped: {}\n", skipped.unwrap_or_default()), |trace| describe(&trace));
        Ok(output::print(&format!("{title}\n{text}\n"))?)
    }

    fn gateway(&self) -> Result<Gateway, Failure> {
        let pins = Pins::new(&self.pin_dir.pin_dir);
        let replica = Replica::of(&pins)?;
        let scene = Scene::read(replica.tables(), names(&self.socket.socket))?;
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))
            .context("cannot open a socket to ask for the names of interfaces")?;
        let linked = pins.linked_interfaces()?.into_iter().filter_map(|name| {
            let index = netdevice::name_to_index(&socket, &name).ok()?;
            Some(Interface { name, index })
        });
        let linked: Vec<_> = linked.collect();
        if linked.is_empty() {
            return Err(Failure::No(anyhow::anyhow!("no interface of this network namespace has the program")));
        }
        let interfaces = Interfaces::new(linked, &ways(scene.plan())?);
        Ok(Gateway { replica, scene, interfaces, socket })
    }
}

impl Gateway {
    fn trace(&mut self, wanted: Option<&str>, frame: &[u8]) -> Result<Trace, Failure> {
        let interface = match wanted {
            Some(wanted) => self.interfaces.named(wanted),
            None => self.interfaces.guess(ends(frame).map(|ends| ends.source)),
        };
        let interface = interface.map_err(Failure::BadInput)?;
        let seen = self
            .replica
            .observe(interface.index, frame)
            .with_context(|| format!("a frame of {} bytes that comes in by {}", frame.len(), interface.name))?;
        let device = |index| netdevice::index_to_name(&self.socket, index).unwrap_or_else(|_| index.to_string());
        let mut trace = Trace::tell(&self.scene, frame, &seen, interface.name.clone(), device);
        if !self.replica.is_live_program() {
            let note = "the program on the interfaces is of another build than this command, and may do otherwise";
            trace.notes.push(note.to_owned());
        }
        Ok(trace)
    }
}

/// The servers and the interfaces that they are reached by: as the maps say, or the kernel's routes while they do not.
fn ways(plan: &Plan) -> Result<Vec<(IpAddr, Option<u32>)>> {
    let servers = plan.services.iter().flat_map(|service| &service.servers);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (connection, handle, _) = rtnetlink::new_connection().context("cannot talk to the kernel by rtnetlink")?;
        tokio::spawn(connection);
        let mut ways = Vec::new();
        for server in servers {
            for address in server.addresses.iter() {
                let way = match server.next_hops.of(Family::of(address)) {
                    Some(hop) => Some(hop.ifindex),
                    // No route is no way.
                    None => network::way_to(&handle, address).await.ok().map(|way| way.ifindex),
                };
                ways.push((address, way));
            }
        }
        Ok(ways)
    })
}

/// Why a file was not traced to its end.
enum FileFailure {
    Capture(capture::CaptureError),
    Other(Failure),
}

impl From<capture::CaptureError> for FileFailure {
    fn from(error: capture::CaptureError) -> Self {
        Self::Capture(error)
    }
}

impl From<Failure> for FileFailure {
    fn from(failure: Failure) -> Self {
        Self::Other(failure)
    }
}

impl FileFailure {
    fn of(self, path: &Path) -> Failure {
        match self {
            Self::Capture(error) => bad(path, error),
            Self::Other(failure) => failure,
        }
    }
}

fn bad(path: &Path, error: impl std::fmt::Display) -> Failure {
    Failure::BadInput(format!("{}: {error}", path.display()))
}

fn read_hex(text: &str) -> Result<Vec<u8>, Failure> {
    let input;
    let (place, text) = if text == "-" {
        input = io::read_to_string(io::stdin().take(MOST_TEXT))
            .map_err(|error| Failure::BadInput(format!("standard input: {error}")))?;
        ("standard input", input.as_str())
    } else {
        ("--hex", text)
    };
    let bytes = frame::from_hex(text).map_err(|error| Failure::BadInput(format!("{place}: {error}")))?;
    match frame::unfit(bytes.len()) {
        Some(why) => Err(Failure::BadInput(format!("{place}: {why}"))),
        None => Ok(bytes),
    }
}

/// The names that a daemon knows; none if none answers.
fn names(socket: &Path) -> Names {
    let answer = Client::connect(socket).and_then(|mut client| client.ask(Command::Status));
    let Ok(Answer::Status(status)) = answer else { return Names::default() };
    let names = status.services.into_iter().flat_map(|service| {
        let servers = service.servers.into_iter().map(|server| (server.addresses, server.name));
        let named = servers.chain([(service.vips, service.name)]).collect::<Vec<_>>();
        named.into_iter().flat_map(|(addresses, name)| addresses.iter().map(move |address| (address, name.clone())))
    });
    Names(HashMap::from_iter(names))
}

fn describe(trace: &Trace) -> String {
    let style = match trace.action {
        "redirect" => GOOD,
        "drop" => ALARM,
        _ => CAUTION,
    };
    let party = |party: &Option<Party>| match party {
        Some(Party { address, name: Some(name) }) => format!("{name} ({address})"),
        Some(Party { address, name: None }) => address.to_string(),
        None => "-".to_owned(),
    };
    let mut lines = vec![
        ("comes in by", trace.came_in_by.clone()),
        ("action", styled(style, trace.action)),
        ("outcome", trace.outcome.to_owned()),
        ("class", trace.class.to_owned()),
        ("service", party(&trace.service)),
        ("server", party(&trace.server)),
    ];
    if let Some(device) = &trace.leaves_by {
        lines.push(("leaves by", device.clone()));
    }
    lines.push(("why", trace.reason.clone()));
    lines.extend(trace.notes.iter().map(|note| ("note", styled(CAUTION, note))));
    let lines: String = lines.iter().map(|(name, value)| format!("{name:<13}{value}\n")).collect();
    let rows = trace.headers.iter().map(|header| {
        let after = header.after.clone().unwrap_or_else(|| "-".to_owned());
        let after = if header.is_changed() { styled(CAUTION, format!("{after}  changed")) } else { after };
        [header.field.to_owned(), header.before.clone(), after]
    });
    format!("{lines}\n{}", output::table(["HEADER", "BEFORE", "AFTER"], rows))
}
