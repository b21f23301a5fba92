//! `voip-ha maps protection`.

use anyhow::Result;
use serde_json::{Value, json};

use super::{Part, output, part};
use crate::{
    config::{Addresses, Prefix},
    datapath::{Source, Tables},
    plan::{Plan, ServicePlan},
};

/// Senders that are shown of each service.
const SHOWN: usize = 10;

/// What each service asks of its senders, and who of them loses most.
pub(super) fn protection(tables: &Tables) -> Result<Part> {
    let plan = Plan::from_kernel(tables)?;
    let sources = tables.sources()?;
    let (mut rows, mut losers, mut values) = (Vec::new(), Vec::new(), Vec::new());
    for (known, service) in tables.services()?.iter().zip(&plan.services) {
        let own: Vec<_> = sources.iter().filter(|source| source.service == known.place.service()).collect();
        let over = own.iter().filter(|source| source.is_over).count();
        let lost: Vec<_> = own.iter().filter(|source| source.is_over || source.dropped > 0).take(SHOWN).collect();
        rows.push(row(service, own.len(), over));
        losers.extend(lost.iter().map(|source| loser(service.vips, source)));
        values.push(json!({
            "vips": service.vips, "protection": service.protection, "senders": own.len(), "over": over,
            "losing": lost.into_iter().map(|source| loser_json(source)).collect::<Vec<_>>(),
        }));
    }
    let columns = ["VIP", "SIP OF ONE SENDER", "ALLOWED", "DENIED", "SENDERS>", "OVER>"];
    let mut text = output::table(columns, rows);
    if !losers.is_empty() {
        text = format!("{text}\n{}", output::table(["VIP", "SENDER", "NOW", "DROPPED>"], losers));
    }
    part("protection", &values, text)
}

fn row(service: &ServicePlan, senders: usize, over: usize) -> [String; 6] {
    let list = |list: &[Prefix]| match list {
        [] => "-".to_owned(),
        [first] => first.to_string(),
        [first, others @ ..] => format!("{first} and {} more", others.len()),
    };
    let protection = &service.protection;
    let limit = protection.sip.map_or("any".to_owned(), |limit| limit.to_string());
    let (allow, deny) = (list(&protection.allow), list(&protection.deny));
    [service.vips.to_string(), limit, allow, deny, senders.to_string(), over.to_string()]
}

fn loser(vips: Addresses, source: &Source) -> [String; 4] {
    let now = if source.is_over { "over" } else { "within" };
    [vips.to_string(), sender(source), now.to_owned(), source.dropped.to_string()]
}

fn loser_json(source: &Source) -> Value {
    json!({ "sender": sender(source), "over": source.is_over, "dropped": source.dropped })
}

/// An address, or the prefix of an IPv6 sender.
fn sender(source: &Source) -> String {
    let Prefix { address, length } = source.sender;
    if address.is_ipv4() || length == 128 { address.to_string() } else { source.sender.to_string() }
}
