//! Mapped ports that need no memory: every odd one stands for the known client, and every even one is free.

use voip_ha_ebpf::{
    abi::{Address, Family, FirstFragment, FragmentKey, MaskKey, MaskedEntry, MaskedKey},
    steer::Masks,
};

use super::{KNOWN, MASK_PORTS, World};

/// How far a mapped port is from the port of the known client that it stands for.
pub(in crate::packet) const BESIDE: u16 = 2;

fn is_port(port: u16) -> bool {
    (MASK_PORTS[0]..=MASK_PORTS[1]).contains(&port)
}

impl Masks for World {
    fn now(&self) -> u64 {
        0
    }
    fn mask(&self, key: &MaskKey) -> u16 {
        let port = key.client_port.wrapping_sub(BESIDE);
        if KNOWN.has(key.client.into()) && port % 2 == 1 && is_port(port) { port } else { 0 }
    }
    fn masked(&self, key: &MaskedKey) -> MaskedEntry {
        if key.port.is_multiple_of(2) || !is_port(key.port) {
            return MaskedEntry::NOBODY;
        }
        let family = Family::ALL[usize::from(key.family)];
        let client_port = key.port + BESIDE;
        MaskedEntry { client: KNOWN.by(family).into(), client_port, ..MaskedEntry::NOBODY }
    }
    fn see(&self, _: &MaskedKey, _: u64) {}
    fn claim(&self, key: &MaskedKey, _: &MaskedEntry) -> bool {
        key.port.is_multiple_of(2)
    }
    fn release(&self, _: &MaskedKey) {
        unreachable!("what was claimed can be kept")
    }
    fn put_mask(&self, _: &MaskKey, _: u16) -> bool {
        true
    }
    fn remove_mask(&self, _: &MaskKey) {
        unreachable!("nothing is idle")
    }
    fn lock(&self, _: &MaskKey) -> bool {
        unreachable!("nothing is idle")
    }
    fn masked_fragment(&self, key: &FragmentKey) -> Address {
        match self.first {
            Some(FirstFragment::OfServer { .. }) if key.source.is_v4() => KNOWN.by(Family::V4).into(),
            Some(FirstFragment::OfServer { .. }) => KNOWN.by(Family::V6).into(),
            _ => Address::NONE,
        }
    }
    fn put_masked_fragment(&self, _: &FragmentKey, _: Address) {}
}
