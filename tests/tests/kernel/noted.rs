//! What the program should have noted about servers and flips, to be compared with what the kernel's maps hold.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use anyhow::{Result, ensure};
use voip_ha::datapath::{Datapath as _, Tables};
use voip_ha_ebpf::{
    abi::{Class, MAX_FLIPS, MAX_SERVERS, Pending, ServerNumber, flip_index, tally_index},
    steer::{News, Note},
};

use super::{model::Memory, rig::Rig};

/// What one frame says about a server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Noted {
    pub(crate) server: ServerNumber,
    pub(crate) class: Class,
    pub(crate) note: Note,
}

/// What all frames so far say.
#[derive(Default)]
pub(crate) struct Expected {
    pending: BTreeMap<u32, Pending>,
    /// Epochs of the stamps to the server and back, by index in the map.
    flips: BTreeMap<u32, [u64; 2]>,
    /// Since the last check.
    refused: BTreeSet<u32>,
}

impl Expected {
    /// Takes in a frame that the kernel has just run. Only the kernel knows whether half a millisecond has gone by since it
    /// last wrote when a server was heard.
    pub(crate) fn add(&mut self, tables: &Tables, noted: &Noted) -> Result<()> {
        let Noted { server, class, note } = *noted;
        let Note { flip, is_target, .. } = note;
        let flip_at = flip_index(flip.service, flip.epoch, class);
        match note.news {
            News::Nothing => {}
            News::Sent => {
                let heard_at = tables.signs(server)?.heard_at;
                let pending = self.pending.entry(tally_index(Some(server), class)).or_default();
                let before = if pending.heard_at == heard_at { pending.packets } else { 0 };
                *pending = Pending { heard_at, packets: before + 1 };
                if is_target {
                    self.flips.entry(flip_at).or_default()[0] = flip.epoch.into();
                }
            }
            News::Heard => {
                ensure!(tables.signs(server)?.heard_at != 0, "{server:?} was not heard");
                if is_target {
                    self.flips.entry(flip_at).or_default()[1] = flip.epoch.into();
                }
            }
            News::Refused => drop(self.refused.insert(server.0)),
        }
        Ok(())
    }

    /// Compares with the kernel's maps.
    pub(crate) fn check(&mut self, rig: &mut Rig) -> Result<()> {
        let signals = rig.datapath.signals();
        let signalled: BTreeSet<_> = signals.iter().map(|signal| rig.datapath.number(signal.server).0).collect();
        ensure!(signalled.is_subset(&self.refused), "{signalled:?} are signalled, {:?} were refused", self.refused);
        let tables = rig.datapath.tables();
        for server in (0..MAX_SERVERS).map(ServerNumber) {
            ensure!(
                !self.refused.contains(&server.0) || tables.signs(server)?.refused_at != 0,
                "{server:?} was refused"
            );
            let heard_at = tables.signs(server)?.heard_at;
            for &class in Class::ALL {
                let index = tally_index(Some(server), class);
                let present = |pending: &Pending| pending.heard_at == heard_at;
                let tallies = tables.tallies(index)?;
                let found: u64 = tallies.iter().map(|cpu| cpu.pending).filter(present).map(|cpu| cpu.packets).sum();
                let wanted = self.pending.get(&index).copied().filter(present).map_or(0, |pending| pending.packets);
                ensure!(found == wanted, "{server:?} {class:?}: {found} pending, should be {wanted}");
            }
        }
        for index in 0..MAX_FLIPS {
            let entry = tables.flips.get(&index, 0)?;
            let found = [entry.first_to.epoch, entry.first_back.epoch];
            let wanted = self.flips.get(&index).copied().unwrap_or_default();
            ensure!(found == wanted, "FLIPS[{index}] has stamps of {found:?}, should be {wanted:?}");
        }
        self.refused.clear();
        Ok(())
    }

    /// What a check compares, so that a test can see that there was something.
    pub(crate) fn has_seen_everything(&self) -> bool {
        let stamped = |direction: usize| self.flips.values().any(|epochs| epochs[direction] != 0);
        !self.pending.is_empty() && stamped(0) && stamped(1)
    }
}

/// Compares the owners of flows and calls in the kernel's maps with those that the host remembers.
pub(crate) fn compare_owners(tables: &Tables, memory: &Memory) -> Result<()> {
    let flows = tables.flows.iter().map(|flow| flow.map(|(key, entry)| (key, entry.server)));
    let calls = tables.calls.iter().map(|call| call.map(|(key, entry)| (key, entry.server)));
    let flows = flows.collect::<Result<HashMap<_, _>, _>>()?;
    let calls = calls.collect::<Result<HashMap<_, _>, _>>()?;
    let wanted = memory.owners();
    ensure!(flows == wanted.0, "{flows:?}, should be {:?}", wanted.0);
    ensure!(calls == wanted.1, "{calls:?}, should be {:?}", wanted.1);
    Ok(())
}
