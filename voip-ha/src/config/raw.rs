//! The tables of the file as TOML gives them: right names and types, every value with its place in the text.
//!
//! Nothing is required and nothing has a default here. A missing key is a matter of `check`, which reports it
//! together with all others; serde would stop at the first one.

use std::fmt;

use serde::{Deserialize, Deserializer, de};
use toml::Spanned;

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct Config {
    pub(super) gateway: Option<Spanned<Gateway>>,
    pub(super) probe: Option<Probe>,
    pub(super) policy: Option<Policy>,
    pub(super) service: Option<Vec<Spanned<Service>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Gateway {
    pub(super) front: Option<Spanned<String>>,
    pub(super) back: Option<Spanned<String>>,
    pub(super) allow_generic: Option<bool>,
    pub(super) pin_dir: Option<Spanned<String>>,
    pub(super) control_socket: Option<Spanned<String>>,
    pub(super) control_group: Option<Spanned<String>>,
    pub(super) state_dir: Option<Spanned<String>>,
    pub(super) masquerade_idle_s: Option<Spanned<i64>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct Probe {
    pub(super) preset: Option<Spanned<String>>,
    pub(super) interval_ms: Option<Spanned<i64>>,
    pub(super) standby_interval_ms: Option<Spanned<i64>>,
    pub(super) timeout_min_ms: Option<Spanned<i64>>,
    pub(super) timeout_max_ms: Option<Spanned<i64>>,
    pub(super) confirm: Option<Spanned<i64>>,
    pub(super) confirm_gap_us: Option<Spanned<i64>>,
    pub(super) quiet_ms: Option<Spanned<i64>>,
    pub(super) hang_ms: Option<Spanned<i64>>,
    pub(super) patience_ms: Option<Spanned<i64>>,
    pub(super) rise: Option<Spanned<i64>>,
    pub(super) echo: Option<bool>,
    pub(super) port: Option<Spanned<i64>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct Policy {
    pub(super) failback: Option<Spanned<String>>,
    pub(super) hold_down_s: Option<Spanned<i64>>,
    pub(super) switch_grace_ms: Option<Spanned<i64>>,
    pub(super) drain_s: Option<Spanned<i64>>,
    pub(super) failback_drains: Option<bool>,
    pub(super) give_back_s: Option<Spanned<i64>>,
    pub(super) damping_half_life_s: Option<Spanned<i64>>,
    pub(super) failovers_per_hour: Option<Spanned<i64>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Service {
    pub(super) name: Option<Spanned<String>>,
    pub(super) vip: Option<Spanned<Addresses>>,
    pub(super) sip_ports: Option<Spanned<Vec<Spanned<i64>>>>,
    pub(super) rtp_ports: Option<Spanned<String>>,
    pub(super) protection: Option<Protection>,
    pub(super) server: Option<Vec<Spanned<Server>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Protection {
    pub(super) sip_packets_per_s: Option<Spanned<i64>>,
    pub(super) sip_burst: Option<Spanned<i64>>,
    pub(super) ipv6_prefix: Option<Spanned<i64>>,
    pub(super) allow: Option<Spanned<Vec<Spanned<String>>>>,
    pub(super) deny: Option<Spanned<Vec<Spanned<String>>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Server {
    pub(super) name: Option<Spanned<String>>,
    pub(super) address: Option<Spanned<Addresses>>,
    pub(super) forwarding: Option<Spanned<String>>,
    pub(super) probe: Option<Probe>,
}

/// One address, or a list.
#[derive(Clone)]
pub(super) enum Addresses {
    One(String),
    List(Vec<Spanned<String>>),
}

impl<'de> Deserialize<'de> for Addresses {
    /// By hand: an untagged enum would lose the places in the text.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Addresses;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an address, or a list of addresses")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Addresses, E> {
                Ok(Addresses::One(text.to_owned()))
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<Addresses, A::Error> {
                let mut addresses = Vec::new();
                while let Some(address) = list.next_element()? {
                    addresses.push(address);
                }
                Ok(Addresses::List(addresses))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// Every key with a line that shows how it is written: the remedy for a missing key or a wrong type, and the list
/// that a misspelt key is compared with.
pub(super) const EXAMPLES: &[(&str, &str)] = &[
    ("gateway", "[gateway]"),
    ("gateway.front", "front = \"eth0\""),
    ("gateway.back", "back = \"eth1\""),
    ("gateway.allow_generic", "allow_generic = false"),
    ("gateway.pin_dir", "pin_dir = \"/sys/fs/bpf/voip-ha\""),
    ("gateway.control_socket", "control_socket = \"/run/voip-ha/control.sock\""),
    ("gateway.control_group", "control_group = \"voip\""),
    ("gateway.state_dir", "state_dir = \"/var/lib/voip-ha\""),
    ("gateway.masquerade_idle_s", "masquerade_idle_s = 300"),
    ("probe", "[probe]"),
    ("probe.preset", "preset = \"lan\""),
    ("probe.interval_ms", "interval_ms = 20"),
    ("probe.standby_interval_ms", "standby_interval_ms = 100"),
    ("probe.timeout_min_ms", "timeout_min_ms = 2"),
    ("probe.timeout_max_ms", "timeout_max_ms = 100"),
    ("probe.confirm", "confirm = 7"),
    ("probe.confirm_gap_us", "confirm_gap_us = 500"),
    ("probe.quiet_ms", "quiet_ms = 3"),
    ("probe.hang_ms", "hang_ms = 200"),
    ("probe.patience_ms", "patience_ms = 2000"),
    ("probe.rise", "rise = 3"),
    ("probe.echo", "echo = true"),
    ("probe.port", "port = 5060"),
    ("policy", "[policy]"),
    ("policy.failback", "failback = \"manual\""),
    ("policy.hold_down_s", "hold_down_s = 60"),
    ("policy.switch_grace_ms", "switch_grace_ms = 500"),
    ("policy.drain_s", "drain_s = 600"),
    ("policy.failback_drains", "failback_drains = true"),
    ("policy.give_back_s", "give_back_s = 10"),
    ("policy.damping_half_life_s", "damping_half_life_s = 900"),
    ("policy.failovers_per_hour", "failovers_per_hour = 12"),
    ("service", "[[service]]"),
    ("service.name", "name = \"pbx\""),
    ("service.vip", "vip = \"192.0.2.10\""),
    ("service.sip_ports", "sip_ports = [5060]"),
    ("service.rtp_ports", "rtp_ports = \"10000-19999\""),
    ("service.protection", "[service.protection]"),
    ("service.protection.sip_packets_per_s", "sip_packets_per_s = 50"),
    ("service.protection.sip_burst", "sip_burst = 100"),
    ("service.protection.ipv6_prefix", "ipv6_prefix = 64"),
    ("service.protection.allow", "allow = [\"203.0.113.0/24\"]"),
    ("service.protection.deny", "deny = [\"198.51.100.0/24\"]"),
    ("service.server", "[[service.server]]"),
    ("service.server.name", "name = \"master\""),
    ("service.server.address", "address = \"10.0.0.2\""),
    ("service.server.forwarding", "forwarding = \"nat\""),
    ("service.server.probe", "[service.server.probe]"),
    ("service.server.probe.preset", "preset = \"lan\""),
    ("service.server.probe.interval_ms", "interval_ms = 20"),
    ("service.server.probe.standby_interval_ms", "standby_interval_ms = 100"),
    ("service.server.probe.timeout_min_ms", "timeout_min_ms = 2"),
    ("service.server.probe.timeout_max_ms", "timeout_max_ms = 100"),
    ("service.server.probe.confirm", "confirm = 7"),
    ("service.server.probe.confirm_gap_us", "confirm_gap_us = 500"),
    ("service.server.probe.quiet_ms", "quiet_ms = 3"),
    ("service.server.probe.hang_ms", "hang_ms = 200"),
    ("service.server.probe.patience_ms", "patience_ms = 2000"),
    ("service.server.probe.rise", "rise = 3"),
    ("service.server.probe.echo", "echo = true"),
    ("service.server.probe.port", "port = 5060"),
];

/// The line that shows how the key at `path` is written; none for a key that does not exist.
pub(super) fn example(path: &str) -> Option<&'static str> {
    let path = without_indices(path);
    EXAMPLES.iter().find(|(known, _)| *known == path).map(|(_, example)| *example)
}

/// Whether the key at `path` takes a list of values that are no tables.
pub(super) fn takes_list(path: &str) -> bool {
    matches!(
        without_indices(path).as_str(),
        "service.vip"
            | "service.sip_ports"
            | "service.server.address"
            | "service.protection.allow"
            | "service.protection.deny"
    )
}

/// The names of the keys in the table at `path`; the empty path is the whole file.
pub(super) fn keys_of(path: &str) -> impl Iterator<Item = &'static str> {
    let table = without_indices(path);
    EXAMPLES.iter().filter_map(move |(known, _)| match known.rsplit_once('.') {
        Some((parent, name)) => (parent == table).then_some(name),
        None => table.is_empty().then_some(*known),
    })
}

/// `service[0].server[1].name` → `service.server.name`.
fn without_indices(path: &str) -> String {
    let names: Vec<_> = path.split('.').map(|step| step.split('[').next().unwrap_or(step)).collect();
    names.join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_example_is_accepted_by_the_tables() {
        let lines: Vec<_> = EXAMPLES.iter().map(|(_, example)| *example).collect();
        toml::from_str::<Config>(&lines.join("\n")).map(|_| ()).unwrap_or_else(|error| panic!("{error}"));
    }

    #[test]
    fn every_key_of_the_tables_has_an_example() {
        for (table, wrong) in [
            ("", "x = 1"),
            ("gateway", "gateway.x = 1"),
            ("probe", "probe.x = 1"),
            ("policy", "policy.x = 1"),
            ("service", "[[service]]\nx = 1"),
            ("service.protection", "[[service]]\nprotection.x = 1"),
            ("service.server", "[[service]]\n[[service.server]]\nx = 1"),
            ("service.server.probe", "[[service]]\n[[service.server]]\nprobe.x = 1"),
        ] {
            let Err(error) = toml::from_str::<Config>(wrong) else { panic!("{wrong} was accepted") };
            // serde's text lists the keys it knows between back quotes, after the unknown one.
            let mut known: Vec<_> = error.message().split('`').skip(3).step_by(2).collect();
            let mut shown: Vec<_> = keys_of(table).collect();
            known.sort_unstable();
            shown.sort_unstable();
            assert_eq!(shown, known, "in the table [{table}]");
        }
    }
}
