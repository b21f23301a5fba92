//! What the packet path remembers of a datagram in fragments.

use super::{Address, Class};

/// Key of the map `FRAGMENTS`: what the fragments of one UDP datagram have in common (RFC 791, section 3.2; the protocol, which
/// belongs to it, is always UDP here).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct FragmentKey {
    /// Sender.
    pub source: Address,
    /// Receiver.
    pub destination: Address,
    /// Identification field.
    pub identification: [u8; 2],
}

/// Value of the map `FRAGMENTS`: what became of the first fragment.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct FragmentEntry {
    /// When the first fragment came, as `CLOCK_MONOTONIC` in nanoseconds.
    pub at: u64,
    /// The server that it went to or came from; all zeros if it was passed, because its port is none of the service.
    pub server: Address,
    /// The [`Class`] as a number.
    pub class: u32,
}

/// How long the others are waited for: as long as Linux, the likely receiver, waits for them (`net.ipv4.ipfrag_time`).
pub const FRAGMENTS_WAIT_NS: u64 = 30_000_000_000;

/// Most datagrams whose first fragments are remembered. Beyond that the least recently seen one is forgotten.
pub const MAX_FRAGMENTS: u32 = 4096;

/// What the first fragment of a datagram says about the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstFragment {
    /// They pass, as it did.
    Passed,
    /// It went to this server, or came from it.
    OfServer(Address, Class),
}

impl FirstFragment {
    /// As it is stored.
    #[inline(always)]
    pub fn entry(self, at: u64) -> FragmentEntry {
        let (server, class) = match self {
            Self::Passed => (Address::default(), Class::Other),
            Self::OfServer(server, class) => (server, class),
        };
        FragmentEntry { at, server, class: class as u32 }
    }
}

impl FragmentEntry {
    /// What it says, if it is not from a datagram before this one.
    #[inline(always)]
    pub fn at_time(&self, now: u64) -> Option<FirstFragment> {
        if now.wrapping_sub(self.at) > FRAGMENTS_WAIT_NS {
            return None;
        }
        Some(match self.class {
            _ if self.server == Address::default() => FirstFragment::Passed,
            class if class == Class::Sip as u32 => FirstFragment::OfServer(self.server, Class::Sip),
            class if class == Class::Rtp as u32 => FirstFragment::OfServer(self.server, Class::Rtp),
            _ => FirstFragment::OfServer(self.server, Class::Other),
        })
    }
}
