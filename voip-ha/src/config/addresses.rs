//! The addresses of one host or service: one of each family, or one alone.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use serde::{Deserialize, Serialize};

use crate::ids::Family;

/// One address of each family; at least one of the two is there. As JSON, it is the list of those that are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Vec<IpAddr>", into = "Vec<IpAddr>")]
pub struct Addresses {
    /// The IPv4 address.
    pub v4: Option<Ipv4Addr>,
    /// The IPv6 address.
    pub v6: Option<Ipv6Addr>,
}

impl Addresses {
    /// The addresses that there are, IPv4 first.
    pub fn iter(&self) -> impl Iterator<Item = IpAddr> + use<> {
        let Self { v4, v6 } = *self;
        v4.map(IpAddr::from).into_iter().chain(v6.map(IpAddr::from))
    }

    /// The IPv4 address, or the IPv6 address where there is no other.
    pub fn first(&self) -> IpAddr {
        self.v4.map_or_else(|| self.v6.unwrap_or(Ipv6Addr::UNSPECIFIED).into(), IpAddr::from)
    }

    /// The address of one family.
    pub fn of(&self, family: Family) -> Option<IpAddr> {
        match family {
            Family::V4 => self.v4.map(IpAddr::from),
            Family::V6 => self.v6.map(IpAddr::from),
        }
    }

    /// The families that there is an address of.
    pub fn families(&self) -> impl Iterator<Item = Family> + use<> {
        self.iter().map(Family::of)
    }

    /// The same with this one in the place of its family.
    pub fn with(self, address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => Self { v4: Some(v4), ..self },
            IpAddr::V6(v6) => Self { v6: Some(v6), ..self },
        }
    }

    /// Whether this is one of them.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.of(Family::of(address)) == Some(address)
    }
}

impl From<IpAddr> for Addresses {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => Self { v4: Some(v4), v6: None },
            IpAddr::V6(v6) => Self { v4: None, v6: Some(v6) },
        }
    }
}

impl From<Ipv4Addr> for Addresses {
    fn from(v4: Ipv4Addr) -> Self {
        IpAddr::from(v4).into()
    }
}

impl From<Ipv6Addr> for Addresses {
    fn from(v6: Ipv6Addr) -> Self {
        IpAddr::from(v6).into()
    }
}

impl TryFrom<Vec<IpAddr>> for Addresses {
    type Error = String;

    fn try_from(list: Vec<IpAddr>) -> Result<Self, String> {
        let mut addresses = Self { v4: None, v6: None };
        for address in &list {
            let family = Family::of(*address);
            if addresses.of(family).is_some() {
                return Err(format!("has two {family} addresses; use one of each family"));
            }
            match address {
                IpAddr::V4(v4) => addresses.v4 = Some(*v4),
                IpAddr::V6(v6) => addresses.v6 = Some(*v6),
            }
        }
        if list.is_empty() { Err("has no address; write one, or one of each family".to_owned()) } else { Ok(addresses) }
    }
}

impl From<Addresses> for Vec<IpAddr> {
    fn from(addresses: Addresses) -> Self {
        addresses.iter().collect()
    }
}

impl fmt::Display for Addresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, address) in self.iter().enumerate() {
            write!(f, "{}{address}", if place == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_json_they_are_a_list_with_at_most_one_of_each_family() {
        let both: Addresses = serde_json::from_str(r#"["fd00::2", "10.0.0.2"]"#).unwrap();
        assert_eq!(both.to_string(), "10.0.0.2, fd00::2");
        assert_eq!(serde_json::to_string(&both).unwrap(), r#"["10.0.0.2","fd00::2"]"#);
        for wrong in ["[]", r#"["10.0.0.2", "10.0.0.3"]"#, r#"["fd00::2", "fd00::3"]"#] {
            assert!(serde_json::from_str::<Addresses>(wrong).is_err(), "{wrong}");
        }
    }
}
