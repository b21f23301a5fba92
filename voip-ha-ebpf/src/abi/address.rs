//! Addresses of both families in one form.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An IPv6 address, or an IPv4 address in its IPv4-mapped form (RFC 4291, section 2.5.5.2): one form for both, so that all that
/// compares and stores addresses is written once.
///
/// The 16 bytes in network order, held as two words as they lie in memory: to compare two addresses takes two instructions.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Address {
    pub(crate) high: u64,
    pub(crate) low: u64,
}

/// A family of addresses.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "user", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "lowercase"))]
pub enum Family {
    /// IPv4.
    V4 = 0,
    /// IPv6.
    V6 = 1,
}

/// How many families there are: tables have a place for each.
pub const FAMILIES: u32 = 2;

/// The last 8 bytes of an IPv4-mapped address, without the IPv4 address.
const MAPPED: u64 = u64::from_ne_bytes([0, 0, 0xff, 0xff, 0, 0, 0, 0]);
/// Where the IPv4 address is in the last 8 bytes.
const MAPPED_SHIFT: u32 = if cfg!(target_endian = "little") { 32 } else { 0 };

impl Family {
    /// Both.
    pub const ALL: [Self; FAMILIES as usize] = [Self::V4, Self::V6];

    /// The family of an address.
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

impl core::fmt::Display for Family {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

impl Address {
    /// All zeros: no address.
    pub const NONE: Self = Self { high: 0, low: 0 };

    /// An IPv4 address from its bytes.
    #[inline(always)]
    pub const fn v4(octets: [u8; 4]) -> Self {
        Self::v4_word(u32::from_ne_bytes(octets))
    }

    /// An IPv4 address from its bytes as they lie in memory.
    #[inline(always)]
    pub(crate) const fn v4_word(word: u32) -> Self {
        Self { high: 0, low: MAPPED | (word as u64) << MAPPED_SHIFT }
    }

    /// An IPv6 address from its bytes.
    pub const fn v6(octets: [u8; 16]) -> Self {
        let [high, low] = halves(octets);
        Self { high: u64::from_ne_bytes(high), low: u64::from_ne_bytes(low) }
    }

    /// The 16 bytes as two words, as they lie in memory.
    pub const fn halves(self) -> [u64; 2] {
        [self.high, self.low]
    }

    /// The address that [`Address::halves`] are of.
    pub const fn of_halves([high, low]: [u64; 2]) -> Self {
        Self { high, low }
    }

    /// The last four bytes as they lie in memory: all there is to know of an IPv4 address.
    #[inline(always)]
    pub const fn last_word(self) -> u32 {
        (self.low >> MAPPED_SHIFT) as u32
    }

    /// The 16 bytes as four words, as they lie in memory.
    #[inline(always)]
    pub const fn words(self) -> [u32; 4] {
        let [first, second] = [self.high, self.low];
        if cfg!(target_endian = "little") {
            [first as u32, (first >> 32) as u32, second as u32, (second >> 32) as u32]
        } else {
            [(first >> 32) as u32, first as u32, (second >> 32) as u32, second as u32]
        }
    }

    /// The 16 bytes.
    pub const fn octets(self) -> [u8; 16] {
        let [high, low] = [self.high.to_ne_bytes(), self.low.to_ne_bytes()];
        let mut octets = [0; 16];
        let mut index = 0;
        while index < 8 {
            (octets[index], octets[index + 8]) = (high[index], low[index]);
            index += 1;
        }
        octets
    }

    /// Whether it is an IPv4 address.
    #[inline(always)]
    pub const fn is_v4(self) -> bool {
        self.high == 0 && self.low & !(0xffff_ffff << MAPPED_SHIFT) == MAPPED
    }

    /// Whether it is no address.
    #[inline(always)]
    pub const fn is_none(self) -> bool {
        self.high == 0 && self.low == 0
    }
}

const fn halves(octets: [u8; 16]) -> [[u8; 8]; 2] {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = octets;
    [[a, b, c, d, e, f, g, h], [i, j, k, l, m, n, o, p]]
}

impl From<Ipv4Addr> for Address {
    fn from(address: Ipv4Addr) -> Self {
        Self::v4(address.octets())
    }
}

impl From<Ipv6Addr> for Address {
    fn from(address: Ipv6Addr) -> Self {
        Self::v6(address.octets())
    }
}

impl From<IpAddr> for Address {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => address.into(),
            IpAddr::V6(address) => address.into(),
        }
    }
}

impl From<Address> for IpAddr {
    fn from(address: Address) -> Self {
        if address.is_v4() {
            return Ipv4Addr::from(address.last_word().to_ne_bytes()).into();
        }
        Ipv6Addr::from(address.octets()).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_address_of_either_family_comes_back_as_it_was(four: [u8; 4], six: [u8; 16]) {
            let four = IpAddr::from(four);
            prop_assert_eq!(IpAddr::from(Address::from(four)), four);
            prop_assert!(Address::from(four).is_v4());
            let address = Address::v6(six);
            prop_assert_eq!(address.octets(), six);
            prop_assert_eq!(address.words().map(u32::to_ne_bytes).concat(), six);
            prop_assert_eq!(IpAddr::from(address), IpAddr::from(six).to_canonical());
        }
    }

    #[test]
    fn an_ipv4_address_is_stored_in_its_mapped_form() {
        let octets = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 10];
        assert_eq!(Address::v4([192, 0, 2, 10]).octets(), octets);
        assert_eq!(Address::v6(octets), Address::v4([192, 0, 2, 10]));
        assert!(!Address::NONE.is_v4() && Address::NONE.is_none());
    }
}
