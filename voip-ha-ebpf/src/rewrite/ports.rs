//! Replacing a port. Functions of their own: of all programs only those for masquerading need them.

use super::addresses;
use crate::{
    packet::{Frame, Icmp, Network, Udp, kept},
    steer::{Action, Kind, Unmasked},
};

/// A port that a packet is to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortChange {
    /// Offset of the UDP header from the start of the frame; 0 if no port changes.
    pub udp: usize,
    /// If that header is in a quotation, offset of the ICMP header; 0 otherwise.
    pub icmp: usize,
    /// Whether it is the sender's port, and not the receiver's.
    pub is_source: bool,
    /// The port, in host order.
    pub port: u16,
}

impl PortChange {
    /// No port changes.
    pub const NONE: Self = Self { udp: 0, icmp: 0, is_source: false, port: 0 };
}

/// Puts the client into a packet to the gateway's own name. Returns `None` if the headers do not lie inside the frame, of which nothing
/// was found then.
#[inline(always)]
pub fn unmask(frame: &mut Frame<'_>, network: &Network, found: &Unmasked) -> Option<()> {
    addresses(frame, network, &found.rewrite)?;
    port(frame, &found.port)
}

/// Changes in a packet what [`steer::mask`](crate::steer::mask) asks for beside the action: the port, and all of what a sender is told
/// about, because that is quoted. Returns `None` if the headers do not lie inside the frame.
#[inline(always)]
pub fn mask(frame: &mut Frame<'_>, network: &Network, action: &Action, change: &PortChange) -> Option<()> {
    if action.kind == Kind::TellTooBig && change.udp != 0 {
        addresses(frame, network, &action.rewrite)?;
    }
    port(frame, change)
}

/// Replaces the port, and updates all checksums that cover it. Returns `None`, with nothing changed, if the headers do not lie inside
/// the frame.
#[inline(always)]
fn port(frame: &mut Frame<'_>, change: &PortChange) -> Option<()> {
    if change.udp == 0 {
        return Some(());
    }
    if change.icmp != 0 {
        frame.at::<Icmp>(kept(change.icmp))?;
    }
    let udp: &mut Udp = frame.at(kept(change.udp))?;
    let changed = udp.replace_port(change.is_source, change.port);
    if change.icmp != 0 {
        let icmp: &mut Icmp = frame.at(kept(change.icmp))?;
        icmp.checksum.set(changed.apply(icmp.checksum.get()));
    }
    Some(())
}
