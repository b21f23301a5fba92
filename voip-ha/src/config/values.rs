//! What a single value may be. Each function takes the text or number of the file and gives the value, or what is
//! wrong with it and the remedy.

use std::net::{IpAddr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::path::PathBuf;

use super::{Forwarding, RESERVED_SERVER_NAME};

/// Linux's IFNAMSIZ without its final NUL.
const INTERFACE_BYTES: usize = 15;
/// `sun_path` of a `sockaddr_un` without its final NUL.
const SOCKET_PATH_BYTES: usize = 107;
const NAME_BYTES: usize = 32;

type Checked<T> = Result<T, String>;

/// A number in `range`, which must fit in `T`.
pub(super) fn number<T: TryFrom<i64>>(value: i64, range: RangeInclusive<i64>) -> Checked<T> {
    let out_of_range = || format!("{value} is out of range; use {} to {}", range.start(), range.end());
    if !range.contains(&value) {
        return Err(out_of_range());
    }
    T::try_from(value).map_err(|_| out_of_range())
}

/// A UDP port.
pub(super) fn port(value: i64) -> Checked<u16> {
    number(value, 1..=u16::MAX.into())
}

/// What the kernel accepts as the name of an interface (`dev_valid_name`).
pub(super) fn interface(text: &str) -> Checked<String> {
    let strange = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
    if text.is_empty() || text.len() > INTERFACE_BYTES || text.contains(strange) || text == "." || text == ".." {
        return Err(format!(
            "{text:?} cannot be the name of an interface; use 1 to {INTERFACE_BYTES} bytes without spaces, `/` or `:`, \
             as `ip link` shows it"
        ));
    }
    Ok(text.to_owned())
}

/// The name of a service.
pub(super) fn name(text: &str) -> Checked<String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if text.is_empty() || text.len() > NAME_BYTES || !text.chars().all(allowed) {
        return Err(format!("{text:?} cannot be a name; use 1 to {NAME_BYTES} letters, digits, `.`, `_` or `-`"));
    }
    Ok(text.to_owned())
}

/// The name of a server.
pub(super) fn server_name(text: &str) -> Checked<String> {
    if text == RESERVED_SERVER_NAME {
        return Err(format!("{text:?} is reserved for `voip-ha switch auto`; choose another name"));
    }
    name(text)
}

/// The address of one host that is not this one.
pub(super) fn unicast(text: &str) -> Checked<IpAddr> {
    let address: IpAddr = text
        .parse()
        .map_err(|_| format!("{text:?} is not an IP address; write it like \"10.0.0.2\" or \"2001:db8::2\""))?;
    let what = match address {
        IpAddr::V4(v4) => match v4.octets() {
            [0, ..] => "is in 0.0.0.0/8, which names no host",
            [127, ..] => "is a loopback address",
            [169, 254, ..] => "is a link-local address, which means nothing beyond one link",
            [224..=239, ..] => "is a multicast address",
            [240..=255, ..] => "is a broadcast or reserved address",
            _ => return Ok(address),
        },
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => {
            "is an IPv4 address in the clothes of IPv6; write it as IPv4"
        }
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => "names no host",
        IpAddr::V6(Ipv6Addr::LOCALHOST) => "is a loopback address",
        IpAddr::V6(v6) if v6.is_multicast() => "is a multicast address",
        IpAddr::V6(v6) if v6.is_unicast_link_local() => "is a link-local address, which means nothing beyond one link",
        IpAddr::V6(_) => return Ok(address),
    };
    Err(format!("{address} {what}; use the unicast address of one host"))
}

/// `FIRST-LAST`, both inclusive.
pub(super) fn port_range(text: &str) -> Checked<RangeInclusive<u16>> {
    let one = |text: &str| text.trim().parse::<u16>().ok().filter(|_| !text.contains('+'));
    let Some((Some(first), Some(last))) = text.split_once('-').map(|(first, last)| (one(first), one(last))) else {
        return Err(format!("{text:?} is not a range of ports; write the first and the last, such as \"10000-19999\""));
    };
    if first == 0 {
        return Err("port 0 cannot be used; start the range at 1 or later".into());
    }
    if first > last {
        return Err(format!("{first} is greater than {last}; write \"{last}-{first}\""));
    }
    Ok(first..=last)
}

/// An absolute path.
pub(super) fn absolute_path(text: &str) -> Checked<PathBuf> {
    if !text.starts_with('/') || text.contains('\0') {
        return Err(format!("{text:?} is not an absolute path; start it with `/`"));
    }
    Ok(text.into())
}

/// An absolute path that a Unix socket can be bound to.
pub(super) fn socket_path(text: &str) -> Checked<PathBuf> {
    if text.len() > SOCKET_PATH_BYTES {
        return Err(format!("is {} bytes long; a socket path has at most {SOCKET_PATH_BYTES}", text.len()));
    }
    absolute_path(text)
}

/// The name of a group, as group(5) can hold it.
pub(super) fn group(text: &str) -> Checked<String> {
    let strange = |c: char| matches!(c, ':' | ',' | '/') || c.is_whitespace() || c.is_control();
    if text.is_empty() || text.len() > NAME_BYTES || text.contains(strange) {
        return Err(format!("{text:?} cannot be the name of a group; use one that `getent group` shows"));
    }
    Ok(text.to_owned())
}

/// A forwarding mode.
pub(super) fn forwarding(text: &str) -> Checked<Forwarding> {
    match text {
        "nat" => Ok(Forwarding::Nat),
        "dsr" => Ok(Forwarding::Dsr),
        "masquerade" => Ok(Forwarding::Masquerade),
        _ => Err(format!("{text:?} is not known; use \"nat\", \"masquerade\" or \"dsr\"")),
    }
}
