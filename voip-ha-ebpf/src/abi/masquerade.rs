//! Which port of the gateway stands for which client, where a server gets packets in the gateway's own name.
//!
//! A flow is a client's address and port, a server, and the port of the service: each port of each server has all mapped ports for
//! itself. The map `MASKED` says whose a mapped port is, and nothing else does: what the map `MASKS` says of a flow counts only where
//! both agree, so that nobody's packets are ever taken for another's.

use super::{Address, FAMILIES, Family, ServerEntry, ServerNumber};

/// Key of the map `MASKS`, whose value is the mapped port: a flow as the client sees it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct MaskKey {
    /// The client's address; [`Address::NONE`] in a lock.
    pub client: Address,
    /// Number of the server; in a lock, with the family.
    pub server: u32,
    /// The client's port; in a lock, the mapped one.
    pub client_port: u16,
    /// The service's port.
    pub service_port: u16,
}

/// Key of the map `MASKED`: a flow as the server sees it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct MaskedKey {
    /// Number of the server.
    pub server: u16,
    /// [`Family`] as a number: the gateway has an address of each.
    pub family: u16,
    /// The mapped port: of the gateway's address that packets to the server come from.
    pub port: u16,
    /// The service's port.
    pub service_port: u16,
}

/// Value of the map `MASKED`: whose the mapped port is.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct MaskedEntry {
    /// The client's address; [`Address::NONE`] is nobody's.
    pub client: Address,
    /// When a packet of the flow was last seen, either way, as `CLOCK_MONOTONIC` in nanoseconds. Up to
    /// [`SEEN_GRAIN_NS`](super::SEEN_GRAIN_NS) too old.
    pub seen_at: u64,
    /// The client's port.
    pub client_port: u16,
    /// Zero.
    pub reserved: [u16; 3],
}

/// Most flows that are masqueraded at one time.
pub const MAX_MASKED: u32 = 131_072;
/// Entries of the map `MASKS`: a little more, for locks and for flows whose port has become another's.
pub const MAX_MASKS: u32 = MAX_MASKED + 4096;

impl MaskKey {
    /// The flow that a mapped port stands for.
    #[inline(always)]
    pub const fn of(key: &MaskedKey, entry: &MaskedEntry) -> Self {
        Self {
            client: entry.client,
            server: key.server as u32,
            client_port: entry.client_port,
            service_port: key.service_port,
        }
    }

    /// Who has put this key into `MASKS` is the only one who may take a mapped port away from an idle flow.
    #[inline(always)]
    pub const fn lock(key: &MaskedKey) -> Self {
        let server = key.server as u32 * FAMILIES + key.family as u32;
        Self { client: Address::NONE, server, client_port: key.port, service_port: key.service_port }
    }

    /// Whether it is a lock, and no flow.
    pub const fn is_lock(&self) -> bool {
        self.client.is_none()
    }

    /// The family of the client, and so of the server's address.
    #[inline(always)]
    pub const fn family(&self) -> Family {
        if self.client.is_v4() { Family::V4 } else { Family::V6 }
    }

    /// The same flow as the server sees it, by this mapped port.
    #[inline(always)]
    pub const fn masked(&self, port: u16) -> MaskedKey {
        MaskedKey::new(ServerNumber(self.server), self.family(), port, self.service_port)
    }

    /// Ports to be tried one after the other, beginning with 1, if the client's own one cannot be had. Even ports get even ones and odd
    /// ports odd ones (RFC 4787, REQ-4): RTCP is often sought one above RTP.
    #[inline(always)]
    pub const fn candidate(&self, attempt: u32, [first, last]: [u16; 2]) -> u16 {
        const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
        let ports = ((self.client_port as u64) << 16) | self.service_port as u64;
        let flow = self.client.high.rotate_left(17) ^ self.client.low ^ ((self.server as u64) << 32) ^ ports;
        let flow = flow.wrapping_mul(GOLDEN);
        let mixed = (flow ^ (flow >> 29)).wrapping_add(attempt as u64).wrapping_mul(GOLDEN);
        let span = last.wrapping_sub(first) as u64 + 1;
        let port = first.wrapping_add((((mixed >> 32) * span) >> 32) as u16);
        (port & !1) | (self.client_port & 1)
    }
}

impl MaskedKey {
    /// A mapped port at a port of a server.
    #[inline(always)]
    pub const fn new(server: ServerNumber, family: Family, port: u16, service_port: u16) -> Self {
        Self { server: server.0 as u16, family: family as u16, port, service_port }
    }
}

impl MaskedEntry {
    /// Nobody.
    pub const NOBODY: Self = Self { client: Address::NONE, seen_at: 0, client_port: 0, reserved: [0; 3] };

    /// A flow that is seen now.
    #[inline(always)]
    pub const fn of(key: &MaskKey, now: u64) -> Self {
        Self { client: key.client, seen_at: now, client_port: key.client_port, reserved: [0; 3] }
    }

    /// Whether it is this flow, of which the server and the port of the service are known to be the same.
    #[inline(always)]
    pub fn is(&self, key: &MaskKey) -> bool {
        self.client == key.client && self.client_port == key.client_port
    }

    /// Whether nothing was seen of it for so many nanoseconds. One seen later than `now`, by another CPU, is not.
    #[inline(always)]
    pub const fn is_idle(&self, now: u64, idle_ns: u64) -> bool {
        now.saturating_sub(self.seen_at) > idle_ns
    }
}

impl ServerEntry {
    /// Whether this port may be used in the gateway's name.
    #[inline(always)]
    pub const fn may_map(&self, port: u16) -> bool {
        let [first, last] = self.mask_ports;
        port != 0 && port >= first && port <= last
    }

    /// How many nanoseconds a flow must be idle until its port may be another's.
    #[inline(always)]
    pub const fn mask_idle_ns(&self) -> u64 {
        self.mask_idle_s as u64 * 1_000_000_000
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_candidate_is_in_the_range_and_has_the_parity_of_the_clients_port(
            client: [u8; 4], server in 0u32..64, client_port: u16, service_port: u16, attempt in 1u32..=16,
            first in 512u16..30_000, pairs in 1u16..1000,
        ) {
            let key = MaskKey { client: Address::v4(client), server, client_port, service_port };
            let ports = [first * 2, first * 2 + pairs * 2 - 1];
            let port = key.candidate(attempt, ports);
            prop_assert!((ports[0]..=ports[1]).contains(&port), "{port} of {ports:?}");
            prop_assert_eq!(port % 2, client_port % 2);
        }
    }

    #[test]
    fn candidates_of_one_flow_and_of_flows_beside_each_other_are_spread() {
        let key =
            |client_port| MaskKey { client: Address::v4([192, 0, 2, 7]), server: 1, client_port, service_port: 5060 };
        let of_one =
            std::collections::BTreeSet::from_iter((1..=16).map(|attempt| key(5062).candidate(attempt, [1024, 32_767])));
        assert!(of_one.len() >= 15, "{of_one:?}");
        let of_many: std::collections::BTreeSet<_> =
            (0..4000).map(|flow| key(flow * 2).candidate(1, [1024, 32_767])).collect();
        assert!(of_many.len() > 3000, "4000 flows get {} of 15872 ports at first", of_many.len());
    }

    #[test]
    fn a_lock_is_no_flow_and_belongs_to_one_mapped_port() {
        let key = MaskedKey::new(ServerNumber(3), Family::V6, 5060, 5061);
        let others = [
            MaskedKey { family: 0, ..key },
            MaskedKey { server: 4, ..key },
            MaskedKey { port: 1, ..key },
            MaskedKey { service_port: 1, ..key },
        ];
        assert!(MaskKey::lock(&key).is_lock());
        assert!(others.iter().all(|other| MaskKey::lock(other) != MaskKey::lock(&key)));
    }
}
