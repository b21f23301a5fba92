mod masquerade;
mod protection;

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, UdpSocket},
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::{Value, json};
use voip_ha_ebpf::abi::EPOCHS_KEPT;

use super::{
    Failure, Socket,
    output::{self, GOOD, HEADING, styled},
};
use crate::{
    config::Addresses,
    control::{Answer, Client, Command},
    datapath::{Ledger, Link, Pins, Stamps, Tables, Traffic},
    journal::monotonic,
    plan::{Plan, ServicePlan},
};

/// Show what the kernel holds, read from the pinned maps: without the daemon, and as root.
///
/// Without a word: services, servers, counters and devices.
#[derive(Args)]
pub(super) struct Maps {
    #[command(subcommand)]
    what: Option<What>,
    /// Answer as JSON, for machines
    #[arg(long, global = true)]
    json: bool,
    /// The pin directory (gateway.pin_dir)
    #[arg(long, global = true, value_name = "DIRECTORY", default_value = crate::config::DEFAULT_PIN_DIR)]
    pin_dir: PathBuf,
}

#[derive(Subcommand)]
enum What {
    /// VIPs, their ports, and the servers that the decision words name
    Services,
    /// Servers, the way to each, and what their packets tell of them
    Servers,
    /// The first packets after the latest flips
    Flips,
    /// What became of the packets, by server, class and outcome
    Counters,
    /// The devices that packets may leave by
    Devices,
    /// Limits and lists of the services, and the senders of SIP that lose most by them
    Protection,
    /// Which ports of the gateway stand for which clients, towards servers that masquerade
    Masquerade,
    /// Kinds and sizes of the maps
    Layout,
    /// Compare the maps with what the daemon wants; exit code 1 if they differ
    Verify(Socket),
}

/// A part of the answer: its name, the same as data, and the same as a table.
struct Part {
    name: &'static str,
    json: Value,
    text: String,
}

impl Maps {
    pub(super) fn run(self) -> Result<(), Failure> {
        let pins = Pins::new(&self.pin_dir);
        let tables = Tables::open(&pins)?;
        let parts = match self.what {
            Some(What::Verify(socket)) => return verify(&tables, &socket, self.json),
            Some(What::Services) => vec![services(&tables)?],
            Some(What::Servers) => vec![servers(&Ledger::open(&pins)?)?],
            Some(What::Flips) => vec![flips(&Ledger::open(&pins)?)?],
            Some(What::Counters) => vec![counters(&tables)?],
            Some(What::Devices) => vec![devices(&tables)?],
            Some(What::Protection) => vec![protection::protection(&tables)?],
            Some(What::Masquerade) => vec![masquerade::masquerade(&tables)?],
            Some(What::Layout) => vec![layout(&pins)?],
            None => vec![services(&tables)?, servers(&Ledger::open(&pins)?)?, counters(&tables)?, devices(&tables)?],
        };
        if self.json {
            let values: BTreeMap<_, _> = parts.into_iter().map(|part| (part.name, part.json)).collect();
            return output::print_json(&values);
        }
        let texts = parts.iter().map(|part| format!("{}\n{}", styled(HEADING, part.name), part.text));
        Ok(output::print(&texts.collect::<Vec<_>>().join("\n"))?)
    }
}

fn services(tables: &Tables) -> Result<Part> {
    let plan = Plan::from_kernel(tables)?;
    let address = |of: Option<Addresses>| of.map_or("none".to_owned(), |addresses| addresses.to_string());
    let rows = plan.services.iter().map(|service| {
        let ports: Vec<_> = service.sip_ports.iter().map(u16::to_string).collect();
        let rtp = format!("{}-{}", service.rtp_ports.start(), service.rtp_ports.end());
        let active = if service.signalling == service.media {
            address(service.signalling)
        } else {
            format!("{} (signalling), {} (media)", address(service.signalling), address(service.media))
        };
        [service.vips.to_string(), ports.join(","), rtp, active, address(service.draining)]
    });
    let text = output::table(["VIP", "SIP PORTS", "RTP PORTS", "ACTIVE", "DRAINING"], rows);
    part("services", &plan.services, text)
}

fn servers(ledger: &Ledger) -> Result<Part> {
    let plan = Plan::from_kernel(ledger.tables())?;
    let now = monotonic();
    let name = device_names()?;
    let mut rows = Vec::new();
    let mut values = Vec::new();
    for service in &plan.services {
        for server in &service.servers {
            let role = role(service, server.addresses);
            let hop = server.next_hops.text(&name);
            let seen = ledger.seen(server.addresses.first())?;
            let sent = ledger.sent_since_heard(server.addresses.first())?;
            rows.push([
                server.addresses.to_string(),
                service.vips.to_string(),
                role.to_owned(),
                server.forwarding.to_string(),
                hop,
                age(seen.heard, now),
                (sent.sip + sent.rtp).to_string(),
                age(seen.refused, now),
            ]);
            values.push(json!({
                "addresses": server.addresses, "vips": service.vips, "role": role,
                "forwarding": server.forwarding, "next_hops": server.next_hops,
                "heard_ms_ago": milliseconds(seen.heard, now), "refused_ms_ago": milliseconds(seen.refused, now),
                "sent_since_heard": { "sip": sent.sip, "rtp": sent.rtp },
            }));
        }
    }
    let columns = ["SERVER", "VIP", "ROLE", "FORWARDING", "NEXT HOP", "LAST HEARD", "SENT SINCE>", "LAST REFUSED"];
    part("servers", &values, output::table(columns, rows))
}

fn role(service: &ServicePlan, server: Addresses) -> &'static str {
    let is = |named: Option<Addresses>| named == Some(server);
    output::role(is(service.signalling), is(service.media), is(service.draining))
}

fn flips(ledger: &Ledger) -> Result<Part> {
    let now = monotonic();
    let mut rows = Vec::new();
    let mut values = Vec::new();
    for service in ledger.tables().services()? {
        let vip = service.vips.first();
        let latest = ledger.tables().word(service.place.service())?.epoch();
        for epoch in (1..=latest).rev().take(EPOCHS_KEPT as usize) {
            let stamps = ledger.flip_stamps(vip, epoch)?;
            for (class, Stamps { first_to, first_back }) in [("sip", stamps.signalling), ("rtp", stamps.media)] {
                let [to, back] = [first_to, first_back].map(|at| age(at, now));
                rows.push([vip.to_string(), epoch.to_string(), class.to_owned(), to, back]);
                values.push(json!({
                    "vip": vip, "epoch": epoch, "class": class,
                    "first_to_ms_ago": milliseconds(first_to, now), "first_back_ms_ago": milliseconds(first_back, now),
                }));
            }
        }
    }
    part("flips", &values, output::table(["VIP", "EPOCH>", "CLASS", "FIRST TO SERVER", "FIRST BACK"], rows))
}

/// How long ago, in words for people.
fn age(at: Option<Duration>, now: Duration) -> String {
    let Some(ago) = at.map(|at| now.saturating_sub(at)) else { return "never".to_owned() };
    match ago.as_secs() {
        0 => format!("{:.1} ms ago", ago.as_secs_f64() * 1e3),
        seconds => format!("{} ago", output::span(seconds)),
    }
}

fn milliseconds(at: Option<Duration>, now: Duration) -> Option<f64> {
    at.map(|at| now.saturating_sub(at).as_secs_f64() * 1e3)
}

fn counters(tables: &Tables) -> Result<Part> {
    /// One counter with its server.
    #[derive(Serialize)]
    struct Row {
        server: Option<IpAddr>,
        #[serde(flatten)]
        traffic: Traffic,
    }
    let servers = tables.servers();
    let owners = servers.iter().map(|server| (Some(server.addresses.first()), Some(server.slot.server())));
    let mut rows = Vec::new();
    for (server, number) in owners.chain([(None, None)]) {
        rows.extend(tables.traffic(number)?.into_iter().map(|traffic| Row { server, traffic }));
    }
    let text = rows.iter().map(|Row { server, traffic }| {
        [
            server.map_or("-".to_owned(), |address| address.to_string()),
            traffic.class.to_owned(),
            traffic.outcome.to_owned(),
            traffic.packets.to_string(),
            output::bytes(traffic.bytes),
        ]
    });
    let text = output::table(["SERVER", "CLASS", "OUTCOME", "PACKETS>", "BYTES>"], text);
    part("counters", &rows, text)
}

fn devices(tables: &Tables) -> Result<Part> {
    let name = device_names()?;
    let mut links = tables.links()?;
    links.sort_unstable();
    let ids = |link: &Link| link.tags.iter().map(|tag| tag.id).filter(|id| *id != 0).collect::<Vec<_>>();
    let value = |link: &Link| {
        let Link { ifindex, device, .. } = *link;
        json!({ "ifindex": ifindex, "interface": name(ifindex), "sends_by": name(device), "vlans": ids(link) })
    };
    let values: Vec<_> = links.iter().map(value).collect();
    let rows = links.iter().map(|link| {
        let ids: Vec<_> = ids(link).iter().map(u16::to_string).collect();
        [link.ifindex.to_string(), name(link.ifindex), name(link.device), ids.join(",")]
    });
    part("devices", &values, output::table(["INDEX>", "INTERFACE", "SENDS BY", "VLANS"], rows))
}

/// What makes of a device's index its name.
fn device_names() -> Result<impl Fn(u32) -> String> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))
        .context("cannot open a socket to ask for the names of interfaces")?;
    Ok(move |index| rustix::net::netdevice::index_to_name(&socket, index).unwrap_or_else(|_| "gone".to_owned()))
}

fn layout(pins: &Pins) -> Result<Part> {
    let facts = Tables::facts(pins)?;
    let rows = facts.iter().map(|map| {
        let sizes = [map.key_bytes, map.value_bytes, map.max_entries].map(|size| size.to_string());
        let [key, value, entries] = sizes;
        [map.name.to_owned(), map.kind.clone(), key, value, entries]
    });
    let text = output::table(["MAP", "KIND", "KEY BYTES>", "VALUE BYTES>", "MOST ENTRIES>"], rows);
    part("layout", &facts, text)
}

fn verify(tables: &Tables, socket: &Socket, json: bool) -> Result<(), Failure> {
    let Answer::Plan(wanted) = Client::connect(&socket.socket)?.ask(Command::Plan)? else {
        return Err(Failure::No(anyhow::anyhow!("the daemon answered something else")));
    };
    let differences = wanted.differences(&Plan::from_kernel(tables)?);
    if json {
        output::print_json(&json!({ "equal": differences.is_empty(), "differences": differences }))?;
    } else if differences.is_empty() {
        output::print(&format!("{}\n", styled(GOOD, "the kernel holds what the daemon wants")))?;
    } else {
        for difference in &differences {
            output::print(&format!("{}\n", styled(output::ALARM, difference)))?;
        }
    }
    if differences.is_empty() { Ok(()) } else { Err(Failure::Told) }
}

fn part(name: &'static str, value: &impl Serialize, text: String) -> Result<Part> {
    Ok(Part { name, json: serde_json::to_value(value)?, text })
}
