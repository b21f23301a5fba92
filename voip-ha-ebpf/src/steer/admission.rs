//! Whether the sender of a packet to a VIP may send it: lists and limits of the service.

use super::{Tables, towards_server::Towards};
use crate::abi::{Address, Class, DENIES, EXEMPTS, LIMITS_SIP, Listing};

/// What becomes of the packet as far as its sender is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// Nothing is against it.
    Admitted,
    /// The sender has sent too much.
    Limited,
    /// The sender is denied.
    Denied,
}

/// Looks at the sender of a packet of this class. Where a service has neither list nor limit, no table is asked. RTP has no limit,
/// so it asks only where somebody is denied; what has no ports may be SIP, and counts as that.
#[inline(always)]
pub(super) fn admission(source: &Address, class: Class, to: &Towards<'_>, tables: &impl Tables) -> Admission {
    let on = match class {
        Class::Rtp => to.service.protection & DENIES,
        Class::Sip | Class::Other => to.service.protection,
    };
    if on == 0 {
        return Admission::Admitted;
    }
    if on & (DENIES | EXEMPTS) != 0 {
        match tables.listing(to.place, source) {
            Listing::Denied => return Admission::Denied,
            Listing::Allowed => return Admission::Admitted,
            Listing::Unlisted => {}
        }
    }
    if on & LIMITS_SIP != 0 && !tables.spend(to.place, source) { Admission::Limited } else { Admission::Admitted }
}

#[cfg(test)]
mod tests;
