//! Servers that get packets in the gateway's own name: a layer between the decision and these servers.
//!
//! ```text
//! server ──► gateway:mapped port ──► unmask ──► client:port ──► decision as in `nat` ──► client
//! client ──► VIP ──► decision as in `nat` ──► client:port ──► mask ──► gateway:mapped port ──► server
//! ```
//!
//! The decision knows nothing of mapped ports. What a server sends is for the client when it is decided about, and what goes to a server
//! is masked when that is done.

use super::{Action, Kind, Tables, Verdict};
use crate::{
    abi::{Address, FragmentKey, MaskKey, MaskedEntry, MaskedKey, Outcome, SEEN_GRAIN_NS, ServerEntry, Slot},
    packet::{self, Datagram, Frame, IcmpError, Network, NotDatagram, Piece},
    rewrite::{Inside, PortChange, Rewrite},
};

/// Ports that are tried for a new flow beside its own.
const CANDIDATES: u32 = 16;

/// The mapped ports. Others change them at the same time.
pub trait Masks: Tables {
    /// The time, as `CLOCK_MONOTONIC` in nanoseconds. It may be some milliseconds late.
    fn now(&self) -> u64;
    /// The port that was mapped for a flow; 0 if none was. It counts only if [`Masks::masked`] says the same.
    fn mask(&self, key: &MaskKey) -> u16;
    /// Whose a mapped port is.
    fn masked(&self, key: &MaskedKey) -> MaskedEntry;
    /// Says that a packet of the flow with this mapped port was seen.
    fn see(&self, key: &MaskedKey, now: u64);
    /// Gives a mapped port to a flow: not if it is somebody's, nor if the table is full.
    fn claim(&self, key: &MaskedKey, entry: &MaskedEntry) -> bool;
    /// Takes a mapped port away from whoever has it.
    fn release(&self, key: &MaskedKey);
    /// Remembers the port that was mapped for a flow, unless the table is full.
    fn put_mask(&self, key: &MaskKey, port: u16) -> bool;
    /// Forgets it.
    fn remove_mask(&self, key: &MaskKey);
    /// Takes a lock: not if somebody has it, nor if the table is full.
    fn lock(&self, key: &MaskKey) -> bool;
    /// The client that the fragments of a datagram are for; [`Address::NONE`] if the first one was not seen.
    fn masked_fragment(&self, key: &FragmentKey) -> Address;
    /// Remembers that, or that they are for none.
    fn put_masked_fragment(&self, key: &FragmentKey, client: Address);
}

/// What is to be done with a packet to the gateway's own name, before it is decided about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unmasked {
    /// Whether it is for a client at all, and not for the gateway.
    pub is_clients: bool,
    /// The addresses that it is to have.
    pub rewrite: Rewrite,
    /// The port that it is to have.
    pub port: PortChange,
}

impl Unmasked {
    const NOT: Self = Self { is_clients: false, rewrite: Rewrite::NONE, port: PortChange::NONE };
}

/// Finds the client that a packet to the gateway's own name is for: one from a server to a mapped port, a fragment of such a one, or an
/// ICMP error about a packet from a mapped port.
#[inline(always)]
pub fn unmask(frame: &mut Frame<'_>, network: &Network, tables: &impl Masks) -> Unmasked {
    if !tables.endpoint(&network.destination).is_mask() {
        return Unmasked::NOT;
    }
    if network.is_icmp() {
        return match packet::icmp_error(frame, network) {
            Some(error) if network.piece() == Piece::Whole => unmask_error(network, &error, tables),
            _ => Unmasked::NOT,
        };
    }
    let server = tables.endpoint(&network.source);
    if !server.is_server() {
        return Unmasked::NOT;
    }
    match packet::datagram(frame, network) {
        Ok(datagram) => {
            let Datagram { source_port, destination_port, offset, .. } = datagram;
            let key = MaskedKey::new(server.number(), network.family, destination_port, source_port);
            let flow = seen(&key, tables);
            if network.piece() == Piece::First {
                tables.put_masked_fragment(&network.fragment_key(), flow.client);
            }
            let port = PortChange { udp: offset, icmp: 0, is_source: false, port: flow.client_port };
            unmasked(network, flow.client, Inside::datagram(offset), port)
        }
        Err(NotDatagram::LaterFragment) => {
            let client = tables.masked_fragment(&network.fragment_key());
            unmasked(network, client, Inside::NO_PORTS, PortChange::NONE)
        }
        Err(_) => Unmasked::NOT,
    }
}

/// Of a packet that came from a mapped port. Whoever tells it is not asked: it is decided later who may.
#[inline(always)]
fn unmask_error(network: &Network, error: &IcmpError, tables: &impl Masks) -> Unmasked {
    let server = tables.endpoint(&error.destination);
    if !server.is_server() || error.source != network.destination {
        return Unmasked::NOT;
    }
    let key = MaskedKey::new(server.number(), network.family, error.source_port, error.destination_port);
    let flow = tables.masked(&key);
    let (source, destination) = (flow.client, error.destination);
    let inside = Inside { error: error.offsets, source, destination, ..Inside::NO_PORTS };
    let (udp, icmp) = (error.offsets.udp, error.offsets.icmp);
    unmasked(network, flow.client, inside, PortChange { udp, icmp, is_source: true, port: flow.client_port })
}

#[inline(always)]
fn unmasked(network: &Network, client: Address, inside: Inside, port: PortChange) -> Unmasked {
    let rewrite = Rewrite { source: network.source, destination: client, inside };
    Unmasked { is_clients: !client.is_none(), rewrite, port }
}

/// Gives a packet to a server that masquerades the gateway's own name, by changing what the verdict says of addresses, or drops it.
/// Returns the port that goes with it.
///
/// Of a packet from such a server that is too big for the way to the client, it finds the name under which the server knows that, and
/// leaves it in the verdict: the message about it has to quote it.
#[inline(always)]
pub fn mask(frame: &mut Frame<'_>, network: &Network, verdict: &mut Verdict, tables: &impl Masks) -> PortChange {
    let slot = Slot(verdict.action.masked.wrapping_sub(1));
    verdict.action.masked = 0;
    let Some(entry) = tables.server(slot, network.family) else {
        verdict.action = Action::drop(Outcome::NoNextHop);
        return PortChange::NONE;
    };
    if verdict.action.kind == Kind::TellTooBig {
        return mask_told(frame, network, slot, entry, &mut verdict.action, tables);
    }
    let rewrite = &mut verdict.action.rewrite;
    let (client, error, server) = (rewrite.source, rewrite.inside.error, slot.server().0);
    rewrite.source = entry.mask;
    if error.icmp != 0 {
        let Some((service_port, client_port)) = packet::ports(frame, error.udp) else {
            verdict.action = Action::drop(Outcome::Malformed);
            return PortChange::NONE;
        };
        let key = MaskKey { client: rewrite.inside.destination, server, client_port, service_port };
        rewrite.inside.destination = entry.mask;
        let port = known_port(&key, tables);
        return change(verdict, PortChange { udp: error.udp, icmp: error.icmp, is_source: false, port });
    }
    let udp = rewrite.inside.udp;
    if udp == 0 {
        return PortChange::NONE;
    }
    let Some((client_port, service_port)) = packet::ports(frame, udp) else {
        verdict.action = Action::drop(Outcome::Malformed);
        return PortChange::NONE;
    };
    let port = port_of(&MaskKey { client, server, client_port, service_port }, entry, tables);
    change(verdict, PortChange { udp, icmp: 0, is_source: true, port })
}

#[inline(always)]
fn mask_told(
    frame: &mut Frame<'_>,
    network: &Network,
    slot: Slot,
    entry: &ServerEntry,
    action: &mut Action,
    tables: &impl Masks,
) -> PortChange {
    // A packet about which somebody is told has no options, and is no fragment but the first.
    let udp = network.upper();
    let Some((service_port, client_port)) = packet::ports(frame, udp) else { return PortChange::NONE };
    let key = MaskKey { client: network.destination, server: slot.server().0, client_port, service_port };
    let port = known_port(&key, tables);
    if port == 0 {
        return PortChange::NONE;
    }
    action.rewrite = Rewrite { source: network.source, destination: entry.mask, inside: Inside::datagram(udp) };
    PortChange { udp, icmp: 0, is_source: false, port }
}

/// Without a port there is nothing to send.
#[inline(always)]
fn change(verdict: &mut Verdict, change: PortChange) -> PortChange {
    if change.port != 0 {
        return change;
    }
    verdict.action = Action::drop(Outcome::NoPort);
    PortChange::NONE
}

/// Whose a mapped port is, and that it is used.
#[inline(always)]
fn seen(key: &MaskedKey, tables: &impl Masks) -> MaskedEntry {
    let entry = tables.masked(key);
    if !entry.client.is_none() {
        let now = tables.now();
        if now.saturating_sub(entry.seen_at) >= SEEN_GRAIN_NS {
            tables.see(key, now);
        }
    }
    entry
}

/// The port of a flow; 0 if it has none.
#[inline(always)]
fn known_port(key: &MaskKey, tables: &impl Masks) -> u16 {
    let port = tables.mask(key);
    if port != 0 && tables.masked(&key.masked(port)).is(key) { port } else { 0 }
}

/// The port of a flow, or one that it gets now; 0 if there is none for it.
#[inline(always)]
fn port_of(key: &MaskKey, entry: &ServerEntry, tables: &impl Masks) -> u16 {
    let known = tables.mask(key);
    if known != 0 && seen(&key.masked(known), tables).is(key) {
        return known;
    }
    for attempt in 0..=CANDIDATES {
        let port = match attempt {
            0 => key.client_port,
            more => key.candidate(more, entry.mask_ports),
        };
        if entry.may_map(port) && take(key, &key.masked(port), entry.mask_idle_ns(), tables) {
            if tables.put_mask(key, port) {
                return port;
            }
            tables.release(&key.masked(port));
            return 0;
        }
    }
    0
}

/// Takes a mapped port for a flow, if it is nobody's, its own already (by another CPU, at the same time), or that of a flow that is idle.
#[inline(always)]
fn take(key: &MaskKey, masked: &MaskedKey, idle_ns: u64, tables: &impl Masks) -> bool {
    let now = tables.now();
    let own = MaskedEntry::of(key, now);
    if tables.claim(masked, &own) {
        return true;
    }
    let other = tables.masked(masked);
    if other.is(key) {
        tables.see(masked, now);
        return true;
    }
    let lock = MaskKey::lock(masked);
    if other.client.is_none() || !other.is_idle(now, idle_ns) || !tables.lock(&lock) {
        return false;
    }
    // Whoever had the lock before may have given the port to a flow that is not idle.
    let other = tables.masked(masked);
    let mut is_taken = false;
    if other.is_idle(now, idle_ns) {
        tables.release(masked);
        let flow = MaskKey::of(masked, &other);
        // It may have got another port since, by another CPU at the same time.
        if tables.mask(&flow) == masked.port {
            tables.remove_mask(&flow);
        }
        is_taken = tables.claim(masked, &own);
    }
    tables.remove_mask(&lock);
    is_taken
}
