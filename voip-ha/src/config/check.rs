//! From the tables of the file to a [`Config`]: required keys, defaults, ranges, and the rules between keys.
//!
//! A value that is wrong becomes `None` and the rest is still checked.

use std::net::IpAddr;
use std::time::Duration;

use toml::Spanned;

use super::findings::Findings;
use super::probe::ProbeDefaults;
use super::protection::protection;
use super::raw;
use super::values;
use super::{
    Addresses, Config, DEFAULT_CONTROL_SOCKET, DEFAULT_PIN_DIR, DEFAULT_STATE_DIR, Failback, Forwarding, Gateway,
    MAX_SERVERS, MAX_SERVERS_PER_SERVICE, MAX_SERVICES, MAX_SIP_PORTS, Policy, Server, Service,
};
use crate::ids::Family;

const LONGEST_HOLD_DOWN_S: i64 = 24 * 60 * 60;

/// The configuration in `raw`, or `None` with the reasons in `findings`.
pub(super) fn config(raw: raw::Config, findings: &mut Findings<'_>) -> Option<Config> {
    let gateway = match raw.gateway {
        Some(table) => gateway(&table, findings),
        None => missing("gateway", 0, findings),
    };
    let policy = policy(&raw.policy.unwrap_or_default(), findings);
    let probe = ProbeDefaults::BUILT_IN.overridden("probe", &raw.probe.unwrap_or_default(), findings);
    let mut services = Services { probe: probe.unwrap_or(ProbeDefaults::BUILT_IN), taken: Taken::default(), findings };
    let services = services.all(&raw.service.unwrap_or_default());
    Some(Config { gateway: gateway?, policy: policy?, services: services? })
}

fn gateway(table: &Spanned<raw::Gateway>, findings: &mut Findings<'_>) -> Option<Gateway> {
    let (raw, at) = (table.get_ref(), table.span().start);
    let front = required("gateway.front", &raw.front, at, findings, |text| values::interface(text));
    let back = required("gateway.back", &raw.back, at, findings, |text| values::interface(text));
    let pin_dir = optional("gateway.pin_dir", &raw.pin_dir, findings, |text| values::absolute_path(text));
    let control_socket =
        optional("gateway.control_socket", &raw.control_socket, findings, |text| values::socket_path(text));
    let control_group = optional("gateway.control_group", &raw.control_group, findings, |text| values::group(text));
    let state_dir = optional("gateway.state_dir", &raw.state_dir, findings, |text| values::absolute_path(text));
    let idle = optional("gateway.masquerade_idle_s", &raw.masquerade_idle_s, findings, |seconds| {
        values::number(*seconds, 1..=86_400).map(Duration::from_secs)
    });
    Some(Gateway {
        front: front?,
        back: back?,
        allow_generic: raw.allow_generic.unwrap_or(false),
        pin_dir: pin_dir?.unwrap_or_else(|| DEFAULT_PIN_DIR.into()),
        control_socket: control_socket?.unwrap_or_else(|| DEFAULT_CONTROL_SOCKET.into()),
        control_group: control_group?,
        state_dir: state_dir?.unwrap_or_else(|| DEFAULT_STATE_DIR.into()),
        masquerade_idle: idle?.unwrap_or(Duration::from_secs(300)),
    })
}

fn policy(raw: &raw::Policy, findings: &mut Findings<'_>) -> Option<Policy> {
    let automatic = optional("policy.failback", &raw.failback, findings, |text| match text.as_str() {
        "manual" => Ok(false),
        "auto" => Ok(true),
        _ => Err(format!("{text:?} is not known; use \"manual\" or \"auto\"")),
    });
    let hold_down = optional("policy.hold_down_s", &raw.hold_down_s, findings, |seconds| {
        values::number(*seconds, 0..=LONGEST_HOLD_DOWN_S).map(Duration::from_secs)
    });
    let grace = optional("policy.switch_grace_ms", &raw.switch_grace_ms, findings, |ms| {
        values::number(*ms, 0..=60_000).map(Duration::from_millis)
    });
    let seconds = |key: &str, value: &Option<Spanned<i64>>, most, findings: &mut Findings<'_>| {
        optional(key, value, findings, |seconds| values::number(*seconds, 0..=most).map(Duration::from_secs))
    };
    let drain = seconds("policy.drain_s", &raw.drain_s, 24 * 60 * 60, findings);
    let give_back = seconds("policy.give_back_s", &raw.give_back_s, 60 * 60, findings);
    let half_life = seconds("policy.damping_half_life_s", &raw.damping_half_life_s, 60 * 60, findings);
    let budget = optional("policy.failovers_per_hour", &raw.failovers_per_hour, findings, |number| {
        values::number::<u32>(*number, 0..=100_000)
    });
    let automatic = automatic?.unwrap_or(false);
    if let (Some(value), false, false) = (&raw.hold_down_s, automatic, findings.is_excused("policy.failback")) {
        let message = "has no effect with manual failback; set failback = \"auto\" or remove this key";
        findings.add("policy.hold_down_s", value.span().start, message);
    }
    let hold_down = hold_down?.unwrap_or(Duration::from_secs(60));
    let failback = if automatic { Failback::Auto { hold_down } } else { Failback::Manual };
    Some(Policy {
        failback,
        switch_grace: grace?.unwrap_or(Duration::from_millis(500)),
        drain: drain?.unwrap_or(Duration::from_secs(600)),
        failback_drains: raw.failback_drains.unwrap_or(true),
        give_back: Some(give_back?.unwrap_or(Duration::from_secs(10))).filter(|time| !time.is_zero()),
        damping_half_life: Some(half_life?.unwrap_or(Duration::from_secs(900))).filter(|time| !time.is_zero()),
        failovers_per_hour: Some(budget?.unwrap_or(12)).filter(|number| *number > 0),
    })
}

/// What must be different from each other, with the key and offset where it was first seen.
#[derive(Default)]
struct Taken {
    services: Vec<(String, String, usize)>,
    servers: Vec<(String, String, usize)>,
    addresses: Vec<(IpAddr, String, usize)>,
}

/// What a server has of its service; `None` is what is reported as wrong.
#[derive(Clone, Copy)]
struct Of {
    vips: Option<Addresses>,
    first_sip_port: Option<u16>,
}

struct Services<'f, 'a> {
    probe: ProbeDefaults,
    taken: Taken,
    findings: &'f mut Findings<'a>,
}

impl Services<'_, '_> {
    fn all(&mut self, raw: &[Spanned<raw::Service>]) -> Option<Vec<Service>> {
        count("service", raw, 0, MAX_SERVICES, self.findings)?;
        self.count_all_servers(raw);
        let services: Vec<_> =
            raw.iter().enumerate().map(|(i, table)| self.service(&format!("service[{i}]"), table)).collect();
        services.into_iter().collect()
    }

    /// Reports the service whose servers are more than one gateway can have.
    fn count_all_servers(&mut self, raw: &[Spanned<raw::Service>]) {
        let mut total = 0;
        for (i, table) in raw.iter().enumerate() {
            let before = total;
            total += table.get_ref().server.as_ref().map_or(0, Vec::len);
            if before <= MAX_SERVERS && total > MAX_SERVERS {
                let message = format!("a gateway has at most {MAX_SERVERS} servers over all services; remove some");
                self.findings.add(&format!("service[{i}].server"), table.span().start, message);
            }
        }
    }

    fn service(&mut self, path: &str, table: &Spanned<raw::Service>) -> Option<Service> {
        let (raw, at) = (table.get_ref(), table.span().start);
        let name = required(&format!("{path}.name"), &raw.name, at, self.findings, |text| values::name(text));
        unique(&format!("{path}.name"), &raw.name, &name, &mut self.taken.services, self.findings);
        let vips = self.addresses(&format!("{path}.vip"), &raw.vip, at);
        let sip_ports = sip_ports(&format!("{path}.sip_ports"), &raw.sip_ports, at, self.findings);
        let rtp_ports = required(&format!("{path}.rtp_ports"), &raw.rtp_ports, at, self.findings, |text| {
            let range = values::port_range(text)?;
            match sip_ports.iter().flatten().find(|port| range.contains(port)) {
                Some(port) => Err(format!("{text:?} contains the SIP port {port}; choose a range without it")),
                None => Ok(range),
            }
        });
        let of = Of { vips, first_sip_port: sip_ports.as_ref().and_then(|ports| ports.first().copied()) };
        let servers = self.servers(&format!("{path}.server"), raw.server.as_deref().unwrap_or_default(), at, of);
        let protection = protection(&format!("{path}.protection"), &raw.protection, self.findings);
        Some(Service {
            name: name?,
            vips: vips?,
            sip_ports: sip_ports?,
            rtp_ports: rtp_ports?,
            protection: protection?,
            servers: servers?,
        })
    }

    /// One address, or one of each family.
    fn addresses(&mut self, key: &str, value: &Option<Spanned<raw::Addresses>>, table: usize) -> Option<Addresses> {
        let list = required(key, value, table, self.findings, |given| Ok(given.clone()))?;
        let at = value.as_ref()?.span().start;
        let list = match list {
            raw::Addresses::One(text) => vec![(key.to_owned(), at, text)],
            raw::Addresses::List(list) => {
                let place = |(i, text): (usize, Spanned<String>)| (format!("{key}[{i}]"), text.span().start, text);
                let list = list.into_iter().enumerate().map(place);
                list.map(|(key, at, text)| (key, at, text.into_inner())).collect()
            }
        };
        let mut good = Vec::new();
        for (key, at, text) in &list {
            let second = |of: Family| good.iter().any(|other| Family::of(*other) == of);
            match values::unicast(text) {
                Ok(address) if second(Family::of(address)) => {
                    let family = Family::of(address);
                    let message = format!("{address} is a second {family} address; use at most one of each family");
                    self.findings.add(key, *at, message);
                }
                Ok(address) => {
                    claim(key, *at, &address, &mut self.taken.addresses, self.findings);
                    good.push(address);
                }
                Err(message) => self.findings.add(key, *at, message),
            }
        }
        if list.is_empty() {
            self.findings.add(key, at, "has no address; write one, or one of each family");
        }
        if good.len() == list.len() { Addresses::try_from(good).ok() } else { None }
    }

    fn servers(&mut self, path: &str, raw: &[Spanned<raw::Server>], at: usize, of: Of) -> Option<Vec<Server>> {
        count(path, raw, at, MAX_SERVERS_PER_SERVICE, self.findings)?;
        let servers: Vec<_> =
            raw.iter().enumerate().map(|(i, table)| self.server(&format!("{path}[{i}]"), table, of)).collect();
        servers.into_iter().collect()
    }

    fn server(&mut self, path: &str, table: &Spanned<raw::Server>, of: Of) -> Option<Server> {
        let (raw, at) = (table.get_ref(), table.span().start);
        let (name_key, address_key) = (format!("{path}.name"), format!("{path}.address"));
        let name = required(&name_key, &raw.name, at, self.findings, |text| values::server_name(text));
        unique(&name_key, &raw.name, &name, &mut self.taken.servers, self.findings);
        let addresses = self.addresses(&address_key, &raw.address, at);
        if let (Some(source), Some(vips), Some(addresses)) = (&raw.address, of.vips, addresses)
            && let Some(mistake) = unlike(vips, addresses)
        {
            self.findings.add(&address_key, source.span().start, mistake);
        }
        let forwarding =
            optional(&format!("{path}.forwarding"), &raw.forwarding, self.findings, |text| values::forwarding(text));
        let probe = match &raw.probe {
            Some(own) => self.probe.overridden(&format!("{path}.probe"), own, self.findings),
            None => Some(self.probe),
        };
        Some(Server {
            name: name?,
            addresses: addresses?,
            forwarding: forwarding?.unwrap_or(Forwarding::Nat),
            probe: probe?.probe(of.first_sip_port?),
        })
    }
}

/// How the families of a server's addresses differ from those of its service's VIPs: what is lacking first.
fn unlike(vips: Addresses, addresses: Addresses) -> Option<String> {
    let lacking = Family::ALL.into_iter().find_map(|family| {
        let vip = vips.of(family).filter(|_| addresses.of(family).is_none())?;
        Some(format!(
            "has no {family} address: packets to the VIP {vip} would be dropped while this server is active; add one, or \
             make {vip} a service of its own with servers that have one"
        ))
    });
    let unused = || {
        Family::ALL.into_iter().find_map(|family| {
            let address = addresses.of(family).filter(|_| vips.of(family).is_none())?;
            Some(format!(
                "{address} would never be used, because the service has no {family} VIP; remove it, or add such a VIP"
            ))
        })
    };
    lacking.or_else(unused)
}

fn sip_ports(
    key: &str,
    value: &Option<Spanned<Vec<Spanned<i64>>>>,
    table: usize,
    findings: &mut Findings<'_>,
) -> Option<Vec<u16>> {
    let list = required(key, value, table, findings, |list| match list.len() {
        1..=MAX_SIP_PORTS => Ok(list.clone()),
        n => Err(format!("has {n} ports; use 1 to {MAX_SIP_PORTS}")),
    })?;
    let mut ports = Vec::new();
    for (i, element) in list.iter().enumerate() {
        let result = values::port(*element.get_ref()).and_then(|port| match ports.contains(&port) {
            true => Err(format!("{port} is already in the list; remove it")),
            false => Ok(port),
        });
        match result {
            Ok(port) => ports.push(port),
            Err(message) => findings.add(&format!("{key}[{i}]"), element.span().start, message),
        }
    }
    (ports.len() == list.len()).then_some(ports)
}

/// The value of a key that must be there; `table` is the offset of the table it belongs in.
fn required<V, T>(
    key: &str,
    value: &Option<Spanned<V>>,
    table: usize,
    findings: &mut Findings<'_>,
    read: impl FnOnce(&V) -> Result<T, String>,
) -> Option<T> {
    match optional(key, value, findings, read)? {
        Some(value) => Some(value),
        None => missing(key, table, findings),
    }
}

/// `Some(None)` if the key is not there, `None` if its value is refused.
pub(super) fn optional<V, T>(
    key: &str,
    value: &Option<Spanned<V>>,
    findings: &mut Findings<'_>,
    read: impl FnOnce(&V) -> Result<T, String>,
) -> Option<Option<T>> {
    let Some(value) = value else { return Some(None) };
    match read(value.get_ref()) {
        Ok(value) => Some(Some(value)),
        Err(message) => {
            findings.add(key, value.span().start, message);
            None
        }
    }
}

fn missing<T>(key: &str, table: usize, findings: &mut Findings<'_>) -> Option<T> {
    if !findings.is_excused(key) {
        let example = raw::example(key).unwrap_or(key);
        findings.add(key, table, format!("is missing; add `{example}`"));
    }
    None
}

/// Refuses an empty list of tables and one of more than `most`.
fn count<T>(key: &str, list: &[Spanned<T>], table: usize, most: usize, findings: &mut Findings<'_>) -> Option<()> {
    if list.is_empty() {
        return missing(key, table, findings);
    }
    if let Some(surplus) = list.get(most) {
        let message = format!("is one too many; use at most {most} in all");
        findings.add(&format!("{key}[{most}]"), surplus.span().start, message);
    }
    Some(())
}

fn unique<T: Clone + PartialEq + std::fmt::Display>(
    key: &str,
    source: &Option<Spanned<String>>,
    value: &Option<T>,
    taken: &mut Vec<(T, String, usize)>,
    findings: &mut Findings<'_>,
) {
    if let (Some(source), Some(value)) = (source, value) {
        claim(key, source.span().start, value, taken, findings);
    }
}

/// Reports a value that is taken already.
fn claim<T: Clone + PartialEq + std::fmt::Display>(
    key: &str,
    offset: usize,
    value: &T,
    taken: &mut Vec<(T, String, usize)>,
    findings: &mut Findings<'_>,
) {
    match taken.iter().find(|(other, ..)| other == value) {
        Some((_, first, at)) => {
            let line = findings.line(*at);
            findings.add(key, offset, format!("{value} is already {first} on line {line}; each must be different"));
        }
        None => taken.push((value.clone(), key.to_owned(), offset)),
    }
}
