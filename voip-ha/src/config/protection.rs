//! Who may send to a service, and how much.

use std::{fmt, net::IpAddr};

use serde::{Deserialize, Serialize};
use toml::Spanned;
use voip_ha_ebpf::abi::MAX_LISTED_PER_SERVICE;

use super::{check::optional, findings::Findings, raw, values};

/// Most prefixes in the two lists of one service together.
pub const MAX_PREFIXES: usize = MAX_LISTED_PER_SERVICE as usize;

const DEFAULT_IPV6_PREFIX: u8 = 64;

/// What a service asks of its senders. The default: nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Protection {
    /// How much SIP one sender may send; `None`: any.
    pub sip: Option<SipLimit>,
    /// Senders without that limit, in order. The longest prefix that holds a sender decides, of this list and the next.
    pub allow: Vec<Prefix>,
    /// Senders whose SIP and RTP is dropped, in order.
    pub deny: Vec<Prefix>,
}

/// How much SIP one sender may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SipLimit {
    /// Packets in a second.
    pub packets_per_s: u32,
    /// Packets at once, after a silence.
    pub burst: u32,
    /// Bits of an IPv6 address that make one sender, from 1 to 128. An IPv4 address is one.
    pub ipv6_prefix: u8,
}

/// The addresses that begin like this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Prefix {
    /// The first of them.
    pub address: IpAddr,
    /// Bits that they have in common.
    pub length: u8,
}

impl Protection {
    /// Whether nothing is asked of any sender.
    pub fn is_off(&self) -> bool {
        *self == Self::default()
    }
}

impl Prefix {
    /// From what stands in a file: an address, a slash and a length; one address alone is all of its bits.
    fn read(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a prefix; write it like \"203.0.113.0/24\" or \"2001:db8::/32\"");
        let (address, length) = text.split_once('/').map_or((text, None), |(address, length)| (address, Some(length)));
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let is_number = |length: &&str| !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
        let length = match length {
            None => bits,
            Some(length) => Some(length).filter(is_number).and_then(|length| length.parse().ok()).ok_or_else(wrong)?,
        };
        if length > bits {
            return Err(format!("{text:?} has a longer prefix than the {bits} bits of its address"));
        }
        if matches!(address, IpAddr::V6(six) if six.to_ipv4_mapped().is_some()) {
            return Err(format!("{text:?} is of IPv4 in the clothes of IPv6; write it as IPv4"));
        }
        let prefix = Self { address: first_of(address, length), length };
        if prefix.address != address {
            return Err(format!("{text:?} is an address inside a prefix; write \"{prefix}\", or the address alone"));
        }
        Ok(prefix)
    }
}

/// The address with all bits behind the prefix at zero.
fn first_of(address: IpAddr, length: u8) -> IpAddr {
    match address {
        IpAddr::V4(four) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
            IpAddr::V4((four.to_bits() & mask).into())
        }
        IpAddr::V6(six) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
            IpAddr::V6((six.to_bits() & mask).into())
        }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

impl From<Prefix> for String {
    fn from(prefix: Prefix) -> Self {
        prefix.to_string()
    }
}

impl TryFrom<String> for Prefix {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::read(&text)
    }
}

impl fmt::Display for SipLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { packets_per_s, burst, ipv6_prefix } = self;
        write!(f, "{packets_per_s}/s, burst {burst}, IPv6 by /{ipv6_prefix}")
    }
}

impl fmt::Display for Protection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |list: &[Prefix]| match list {
            [] => "nobody".to_owned(),
            list => list.iter().map(Prefix::to_string).collect::<Vec<_>>().join(" "),
        };
        match &self.sip {
            Some(limit) => write!(f, "SIP {limit}")?,
            None => f.write_str("no limit")?,
        }
        write!(f, "; allowed {}; denied {}", list(&self.allow), list(&self.deny))
    }
}

/// Reads the table of one service.
pub(super) fn protection(path: &str, raw: &Option<raw::Protection>, findings: &mut Findings<'_>) -> Option<Protection> {
    let Some(raw) = raw else { return Some(Protection::default()) };
    let sip = sip_limit(path, raw, findings);
    let mut taken = Vec::new();
    let allow = prefixes(&format!("{path}.allow"), &raw.allow, &mut taken, findings);
    let deny = prefixes(&format!("{path}.deny"), &raw.deny, &mut taken, findings);
    if let (Some(allowed), None, None) = (&raw.allow, &raw.sip_packets_per_s, &raw.deny) {
        let message =
            "has no effect where nothing is limited or denied; set sip_packets_per_s or deny, or remove this key";
        findings.add(&format!("{path}.allow"), allowed.span().start, message);
    }
    Some(Protection { sip: sip?, allow: allow?, deny: deny? })
}

fn sip_limit(path: &str, raw: &raw::Protection, findings: &mut Findings<'_>) -> Option<Option<SipLimit>> {
    let mut number = |key: &str, value: &Option<Spanned<i64>>, most: i64| {
        let key = format!("{path}.{key}");
        let read = optional(&key, value, findings, |number| values::number::<u32>(*number, 1..=most));
        if let (Some(value), None, true) = (value, &raw.sip_packets_per_s, read.is_some()) {
            let message = "has no effect without a limit; set sip_packets_per_s or remove this key";
            findings.add(&key, value.span().start, message);
        }
        read
    };
    let packets_per_s = number("sip_packets_per_s", &raw.sip_packets_per_s, 1_000_000);
    let burst = number("sip_burst", &raw.sip_burst, 1_000_000);
    let ipv6_prefix = number("ipv6_prefix", &raw.ipv6_prefix, 128);
    let (burst, ipv6_prefix) = (burst?, ipv6_prefix?);
    Some(packets_per_s?.map(|packets_per_s| SipLimit {
        packets_per_s,
        burst: burst.unwrap_or(packets_per_s),
        ipv6_prefix: ipv6_prefix.map_or(DEFAULT_IPV6_PREFIX, |bits| bits as u8),
    }))
}

/// One list, in order. `taken` are the prefixes of both lists, with their keys and offsets.
fn prefixes(
    key: &str,
    list: &Option<Spanned<Vec<Spanned<String>>>>,
    taken: &mut Vec<(Prefix, String, usize)>,
    findings: &mut Findings<'_>,
) -> Option<Vec<Prefix>> {
    let list = list.as_ref().map_or(&[][..], |list| list.get_ref());
    let mut good = Vec::new();
    for (index, text) in list.iter().enumerate() {
        let (key, at) = (format!("{key}[{index}]"), text.span().start);
        let mistake = match Prefix::read(text.get_ref()) {
            Err(message) => message,
            Ok(_) if taken.len() == MAX_PREFIXES => {
                format!("is one prefix too many; use at most {MAX_PREFIXES} in both lists of a service")
            }
            Ok(prefix) => match taken.iter().find(|(other, ..)| *other == prefix) {
                Some((_, first, at)) => {
                    format!("{prefix} is already {first} on line {}; remove one of them", findings.line(*at))
                }
                None => {
                    good.push(prefix);
                    taken.push((prefix, key, at));
                    continue;
                }
            },
        };
        findings.add(&key, at, mistake);
    }
    good.sort_unstable();
    (good.len() == list.len()).then_some(good)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_read_as_it_is_shown_and_an_address_is_all_of_its_bits() {
        for text in ["0.0.0.0/0", "203.0.113.128/25", "192.0.2.1/32", "::/0", "2001:db8::/32", "2001:db8::1/128"] {
            assert_eq!(Prefix::read(text).unwrap().to_string(), text);
        }
        assert_eq!(Prefix::read("192.0.2.1"), Prefix::read("192.0.2.1/32"));
        assert_eq!(Prefix::read("2001:db8::1"), Prefix::read("2001:db8::1/128"));
    }

    #[test]
    fn what_is_no_prefix_is_refused() {
        for text in ["", "/", "10.0.0.0/", "10.0.0.0/+8", "10.0.0.0/33", "10.0.0.1/24", "::/129", "x/8", "10.0.0.0/8/8"]
        {
            assert!(Prefix::read(text).is_err(), "{text:?}");
        }
        let remedy = Prefix::read("10.1.2.3/8").unwrap_err();
        assert!(remedy.contains("write \"10.0.0.0/8\""), "{remedy}");
    }
}
