//! What is known about the ways to the servers.

use crate::{config::Addresses, datapath::NextHop, ids::Family};

/// The ways to one server: one for each family that it has an address of.
#[derive(Clone, Debug, Default)]
pub(super) struct Ways([Way; 2]);

/// What is known about the way to one address of a server.
#[derive(Clone, Debug, Default)]
pub(super) struct Way {
    /// The way that packets take, and the name of its interface.
    pub(super) known: Option<(NextHop, String)>,
    /// Why there is none now.
    pub(super) missing: Option<String>,
    /// The interface of the known way is gone: packets cannot reach the server, whatever way probes find.
    pub(super) cut: bool,
}

impl Ways {
    /// The ways that an earlier controller wrote, as far as `known` says.
    pub(super) fn of_earlier(addresses: Addresses, known: impl Fn(Family) -> Option<NextHop>) -> Self {
        let mut ways = Self::default();
        for family in addresses.families() {
            ways.of_mut(family).known = known(family).map(|hop| (hop, String::new()));
        }
        ways
    }

    pub(super) fn of(&self, family: Family) -> &Way {
        &self.0[family as usize]
    }

    pub(super) fn of_mut(&mut self, family: Family) -> &mut Way {
        &mut self.0[family as usize]
    }

    /// Packets of every family find their way.
    pub(super) fn are_whole(&self) -> bool {
        self.0.iter().all(|way| way.missing.is_none())
    }

    /// An interface is gone.
    pub(super) fn lose(&mut self, interface: &str) {
        for way in &mut self.0 {
            way.cut |= way.may_lead_by(interface);
        }
    }

    /// Why packets of some family find no way; `None` if all find one.
    pub(super) fn missing(&self) -> Option<String> {
        let missing: Vec<_> = self.0.iter().filter_map(|way| way.missing.as_deref()).collect();
        (!missing.is_empty()).then(|| missing.join("; "))
    }
}

impl Way {
    /// A way that nothing is known of yet, or that an earlier controller wrote, may lead anywhere. What leads by another
    /// interface is told anew at once, which ends the doubt.
    fn may_lead_by(&self, interface: &str) -> bool {
        self.known.as_ref().is_none_or(|(_, by)| by.is_empty() || by == interface)
    }

    pub(super) fn is(&self, hop: NextHop, interface: &str) -> bool {
        self.missing.is_none() && self.known.as_ref().is_some_and(|(known, name)| *known == hop && name == interface)
    }
}
