//! `voip-ha maps masquerade`.

use std::{net::SocketAddr, time::Duration};

use anyhow::Result;
use serde_json::json;

use super::{Part, output, part};
use crate::{
    datapath::{Mapping, Tables},
    ids::Family,
};

/// Which of the gateway's ports stands for whom.
pub(super) fn masquerade(tables: &Tables) -> Result<Part> {
    let servers = tables.servers();
    let server = |mapping: &Mapping| {
        let known = servers.iter().find(|server| server.slot.server() == mapping.server);
        let address = known.and_then(|server| server.addresses.of(Family::of(mapping.client.ip())));
        address.map(|address| SocketAddr::new(address, mapping.service_port))
    };
    let all: Vec<_> = tables.mappings.all().into_iter().map(|mapping| (server(&mapping), mapping)).collect();
    let rows = all.iter().map(|(server, mapping)| {
        let server = server.map_or_else(|| format!("gone, port {}", mapping.service_port), |server| server.to_string());
        [mapping.client.to_string(), mapping.port.to_string(), server, idle(mapping.idle)]
    });
    let text = output::table(["CLIENT", "PORT>", "SERVER", "IDLE>"], rows);
    let values: Vec<_> = all
        .iter()
        .map(|(server, mapping)| {
            json!({
                "client": mapping.client, "port": mapping.port, "server": server.map(|server| server.ip()),
                "service_port": mapping.service_port, "idle_ms": mapping.idle.as_millis() as u64,
            })
        })
        .collect();
    part("masquerade", &values, text)
}

fn idle(time: Duration) -> String {
    match time.as_secs() {
        // A packet's time is kept to half a second.
        0 => "no".to_owned(),
        seconds => output::span(seconds),
    }
}
