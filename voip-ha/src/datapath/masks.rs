//! The gateway's own names towards servers that masquerade.

use std::collections::BTreeSet;

use anyhow::Result;
use voip_ha_ebpf::abi::{self, Address, Endpoint, ServerEntry};

use super::{Mask, places::Places, tables::Tables};
use crate::{
    config::{Config, Forwarding},
    ids::Family,
};

/// Whether packets may have to be looked at that are for the gateway: some server masquerades, or did until now.
pub(super) fn are_wanted(config: &Config, tables: &Tables) -> bool {
    let masquerades = |forwarding| forwarding == Forwarding::Masquerade;
    config.servers().any(|(_, _, server)| masquerades(server.forwarding))
        || tables.endpoints.all().iter().any(|(_, endpoint)| endpoint.is_mask())
}

/// A server that stays, as the configuration now wants it to be reached. Until it is known in whose name, a server that is to masquerade
/// is reached as before.
pub(super) fn reached_as(wanted: &ServerEntry, known: &ServerEntry) -> ServerEntry {
    let entry = ServerEntry { mask_idle_s: wanted.mask_idle_s, ..*known };
    if wanted.forwarding != abi::Forwarding::Masquerade as u32 {
        return ServerEntry { forwarding: wanted.forwarding, mask: Address::NONE, mask_ports: [0; 2], ..entry };
    }
    let has_mask = !known.mask.is_none() || known.ifindex == 0;
    ServerEntry { forwarding: if has_mask { wanted.forwarding } else { known.forwarding }, ..entry }
}

/// Says in whose name packets go to a server. What it answers to that is looked at before the first one goes.
pub(super) fn put(entry: &mut ServerEntry, mask: Mask, tables: &Tables) -> Result<()> {
    let forwarding = abi::Forwarding::Masquerade as u32;
    *entry = ServerEntry { forwarding, mask: mask.address.into(), mask_ports: mask.ports, ..*entry };
    tables.endpoints.put(entry.mask, Endpoint::MASK)
}

/// Removes the names that no server knows the gateway by any more. The one before the present one stays: answers to it are on their way.
pub(super) fn remove_others(places: &Places, tables: &Tables) -> Result<()> {
    let mut known = BTreeSet::new();
    for place in &places.servers {
        for slot in [place.slot, place.slot.other_bank()] {
            for family in Family::ALL {
                known.insert(tables.slot(slot, family)?.mask);
            }
        }
    }
    let others = tables.endpoints.all().into_iter();
    for (address, _) in others.filter(|(address, endpoint)| endpoint.is_mask() && !known.contains(address)) {
        tables.endpoints.remove(address);
    }
    Ok(())
}
