//! What the packet path remembers of a datagram in fragments.

use super::{Address, Class, Slot};

/// Key of the map `FRAGMENTS`: what the fragments of one UDP datagram have in common (RFC 791, section 3.2; RFC 8200,
/// section 4.5). The protocol, which belongs to it for IPv4, is always UDP here.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct FragmentKey {
    /// Sender.
    pub source: Address,
    /// Receiver.
    pub destination: Address,
    /// Identification field, as it lies in the packet.
    pub identification: u32,
    /// Zero.
    pub reserved: u32,
}

/// Value of the map `FRAGMENTS`: what became of the first fragment.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct FragmentEntry {
    /// When the first fragment came, as `CLOCK_MONOTONIC` in nanoseconds.
    pub at: u64,
    /// [`Slot`] plus one of the server that it went to or came from; 0 if it was passed, because its port is none of the service.
    pub slot: u32,
    /// The [`Class`] as a number in the lowest byte; the bit above that is set if the kernel's stack sent the first fragment.
    pub class: u32,
    /// Of a datagram to the gateway's own name: the client that it is for. [`Address::NONE`] of all others.
    pub client: Address,
}

/// The bit of [`FragmentEntry::class`] for that.
const BY_STACK: u32 = 1 << 8;

/// How long the others are waited for: as long as Linux, the likely receiver, waits for them (`net.ipv4.ipfrag_time`).
pub const FRAGMENTS_WAIT_NS: u64 = 30_000_000_000;

/// Most datagrams whose first fragments are remembered. Beyond about that many, those that were not seen for long are forgotten.
pub const MAX_FRAGMENTS: u32 = 16_384;

/// What the first fragment of a datagram says about the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstFragment {
    /// They pass, as it did.
    Passed,
    /// It went to this server, or came from it.
    OfServer {
        /// The server's slot at that time.
        slot: Slot,
        /// What it carries.
        class: Class,
        /// The kernel's stack sent it. It may hold fragments back until it has all of them (connection tracking does), so the
        /// others have to take the same way.
        by_stack: bool,
    },
}

impl FirstFragment {
    /// As it is stored.
    #[inline(always)]
    pub fn entry(self, at: u64) -> FragmentEntry {
        match self {
            Self::Passed => FragmentEntry { at, slot: 0, class: 0, client: Address::NONE },
            Self::OfServer { slot, class, by_stack } => {
                let class = class as u32 | if by_stack { BY_STACK } else { 0 };
                FragmentEntry { at, slot: slot.0 + 1, class, client: Address::NONE }
            }
        }
    }
}

impl FragmentEntry {
    /// That the fragments of a datagram to the gateway's own name are for this client.
    #[inline(always)]
    pub const fn masked(client: Address, at: u64) -> Self {
        Self { at, slot: 0, class: 0, client }
    }

    /// The client that they are for; [`Address::NONE`] if that is not known.
    #[inline(always)]
    pub const fn client_at_time(&self, now: u64) -> Address {
        if now.wrapping_sub(self.at) > FRAGMENTS_WAIT_NS { Address::NONE } else { self.client }
    }

    /// What it says, if it is not from a datagram before this one.
    #[inline(always)]
    pub fn at_time(&self, now: u64) -> Option<FirstFragment> {
        if now.wrapping_sub(self.at) > FRAGMENTS_WAIT_NS {
            return None;
        }
        if self.slot == 0 {
            return Some(FirstFragment::Passed);
        }
        let class = match self.class & !BY_STACK {
            class if class == Class::Sip as u32 => Class::Sip,
            class if class == Class::Rtp as u32 => Class::Rtp,
            _ => Class::Other,
        };
        Some(FirstFragment::OfServer { slot: Slot(self.slot - 1), class, by_stack: self.class & BY_STACK != 0 })
    }
}
