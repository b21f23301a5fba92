use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, UdpSocket},
    path::PathBuf,
};

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    Failure, Socket,
    output::{self, GOOD, HEADING, styled},
};
use crate::{
    control::{Answer, Client, Command},
    datapath::{Pins, Tables, Traffic},
    plan::{Plan, ServicePlan, hop_text},
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
    /// Servers and the way to each
    Servers,
    /// What became of the packets, by server, class and outcome
    Counters,
    /// The devices that packets may leave by
    Devices,
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
            Some(What::Servers) => vec![servers(&tables)?],
            Some(What::Counters) => vec![counters(&tables)?],
            Some(What::Devices) => vec![devices(&tables)?],
            Some(What::Layout) => vec![layout(&pins)?],
            None => vec![services(&tables)?, servers(&tables)?, counters(&tables)?, devices(&tables)?],
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
    let address = |address: Option<Ipv4Addr>| address.map_or("none".to_owned(), |address| address.to_string());
    let rows = plan.services.iter().map(|service| {
        let ports: Vec<_> = service.sip_ports.iter().map(u16::to_string).collect();
        let rtp = format!("{}-{}", service.rtp_ports.start(), service.rtp_ports.end());
        [service.vip.to_string(), ports.join(","), rtp, address(service.signalling), address(service.draining)]
    });
    let text = output::table(["VIP", "SIP PORTS", "RTP PORTS", "ACTIVE", "DRAINING"], rows);
    part("services", &plan.services, text)
}

fn servers(tables: &Tables) -> Result<Part> {
    let plan = Plan::from_kernel(tables)?;
    let role = |service: &ServicePlan, address| match () {
        () if service.signalling == Some(address) => "active",
        () if service.draining == Some(address) => "draining",
        () => "standby",
    };
    let mut rows = Vec::new();
    let mut values = Vec::new();
    for service in &plan.services {
        for server in &service.servers {
            let role = role(service, server.address);
            let hop = server.next_hop.as_ref().map_or("unknown".to_owned(), hop_text);
            rows.push([server.address.to_string(), service.vip.to_string(), role.to_owned(), hop]);
            values.push(json!({
                "address": server.address, "vip": service.vip, "role": role, "next_hop": server.next_hop,
            }));
        }
    }
    part("servers", &values, output::table(["SERVER", "VIP", "ROLE", "NEXT HOP"], rows))
}

fn counters(tables: &Tables) -> Result<Part> {
    /// One counter with its server.
    #[derive(Serialize)]
    struct Row {
        server: Option<Ipv4Addr>,
        #[serde(flatten)]
        traffic: Traffic,
    }
    let origins = tables.origins()?;
    let owners = origins.iter().map(|(address, origin)| (Some(*address), Some(origin.server())));
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
    let mut indexes = tables.devices.keys().collect::<Result<Vec<_>, _>>().map_err(anyhow::Error::from)?;
    indexes.sort_unstable();
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))
        .context("cannot open a socket to ask for the names of interfaces")?;
    let name = |index: u32| rustix::net::netdevice::index_to_name(&socket, index);
    let rows: Vec<_> =
        indexes.iter().map(|&index| (index, name(index).unwrap_or_else(|_| "gone".to_owned()))).collect();
    let values: Vec<_> = rows.iter().map(|(index, name)| json!({ "ifindex": index, "interface": name })).collect();
    let rows = rows.into_iter().map(|(index, name)| [index.to_string(), name]);
    part("devices", &values, output::table(["INDEX>", "INTERFACE"], rows))
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
