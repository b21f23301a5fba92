//! The mapped ports of the model.

use voip_ha_ebpf::{
    abi::{Address, FragmentEntry, FragmentKey, MaskKey, MaskedEntry, MaskedKey},
    steer::Masks,
};

use super::{Memory, Model, NOW};

impl Memory {
    /// Every flow that has a port, and its port.
    pub(crate) fn flows(&self) -> Vec<(MaskedKey, MaskKey)> {
        let remembered = self.0.borrow();
        let mut flows: Vec<_> = remembered.masked.iter().map(|(key, entry)| (*key, MaskKey::of(key, entry))).collect();
        flows.sort_unstable_by_key(|(key, _)| (key.server, key.family, key.port, key.service_port));
        flows
    }
}

impl Masks for Model {
    fn now(&self) -> u64 {
        NOW
    }
    fn mask(&self, key: &MaskKey) -> u16 {
        self.memory.0.borrow().masks.get(key).copied().unwrap_or(0)
    }
    fn masked(&self, key: &MaskedKey) -> MaskedEntry {
        self.memory.0.borrow().masked.get(key).copied().unwrap_or(MaskedEntry::NOBODY)
    }
    fn see(&self, _: &MaskedKey, _: u64) {}
    fn claim(&self, key: &MaskedKey, entry: &MaskedEntry) -> bool {
        let mut remembered = self.memory.0.borrow_mut();
        let is_free = !remembered.masked.contains_key(key);
        remembered.masked.entry(*key).or_insert(*entry);
        is_free
    }
    fn release(&self, key: &MaskedKey) {
        self.memory.0.borrow_mut().masked.remove(key);
    }
    fn put_mask(&self, key: &MaskKey, port: u16) -> bool {
        self.memory.0.borrow_mut().masks.insert(*key, port);
        true
    }
    fn remove_mask(&self, key: &MaskKey) {
        self.memory.0.borrow_mut().masks.remove(key);
    }
    fn lock(&self, _: &MaskKey) -> bool {
        unreachable!("nothing is idle")
    }
    fn masked_fragment(&self, key: &FragmentKey) -> Address {
        self.memory.0.borrow().fragments.get(key).map_or(Address::NONE, |entry| entry.client_at_time(NOW))
    }
    fn put_masked_fragment(&self, key: &FragmentKey, client: Address) {
        self.memory.0.borrow_mut().fragments.insert(*key, FragmentEntry::masked(client, NOW));
    }
}
