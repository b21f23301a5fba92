//! In whose name packets go to a server that masquerades.

use std::{fs, net::IpAddr};

use crate::{datapath::Mask, network::Way};

/// What the kernel's own sockets take their ports from, in both families.
const LOCAL_PORTS: &str = "/proc/sys/net/ipv4/ip_local_port_range";
/// Below are ports of the system's own services.
const FIRST: u16 = 1024;

/// The ports that may stand for clients: the larger part of those that the kernel never gives to a socket by itself, so that the answer
/// to a probe is never taken for a client's. The first one is even and the last one odd.
///
/// # Errors
///
/// Says why there are none.
pub(super) fn ports() -> Result<[u16; 2], String> {
    let text = fs::read_to_string(LOCAL_PORTS).map_err(|error| format!("cannot read {LOCAL_PORTS}: {error}"))?;
    beside(&text).ok_or_else(|| {
        format!("net.ipv4.ip_local_port_range = {} leaves no ports that could stand for clients", text.trim())
    })
}

fn beside(range: &str) -> Option<[u16; 2]> {
    let mut bounds = range.split_whitespace().map(|bound| bound.parse::<u16>());
    let (low, high) = (bounds.next()?.ok()?, bounds.next()?.ok()?);
    let even = |first: u32| first.next_multiple_of(2);
    let odd = |last: u32| if last.is_multiple_of(2) { last.checked_sub(1) } else { Some(last) };
    let part = |first: u32, last: u32| Some([even(first), odd(last)?]).filter(|[first, last]| first < last);
    let below = part(FIRST.into(), u32::from(low).saturating_sub(1));
    let above = part(u32::from(high.max(FIRST - 1)) + 1, u16::MAX.into());
    let larger = below.into_iter().chain(above).max_by_key(|[first, last]| last - first)?;
    Some(larger.map(|port| port as u16))
}

/// The name that the kernel would give the gateway itself on this way.
pub(super) fn of(way: &Way, vips: &[IpAddr], ports: Result<[u16; 2], String>) -> Result<Mask, String> {
    let address =
        way.source.ok_or("the kernel names no address of the gateway towards it, which masquerading needs")?;
    if vips.contains(&address) {
        return Err(format!(
            "the gateway's own address towards it is the VIP {address}, which cannot stand for clients: give the interface an \
             address of its own, or the route one as its source (`ip route change … src ADDRESS`)"
        ));
    }
    Ok(Mask { address, ports: ports? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_larger_part_beside_the_kernels_own_ports_is_used_from_an_even_one_to_an_odd_one() {
        for (range, wanted) in [
            ("32768\t60999\n", Some([1024, 32_767])),
            ("1024 60999", Some([61_000, 65_535])),
            ("15000 64000", Some([1024, 14_999])),
            ("1032 65535", Some([1024, 1031])),
            ("1027 65534", Some([1024, 1025])),
            ("1 1000", Some([1024, 65_535])),
            ("1025 65535", None),
            ("1024 65535", None),
            ("", None),
        ] {
            assert_eq!(beside(range), wanted, "{range:?}");
        }
    }

    #[test]
    fn no_vip_stands_for_clients() {
        let [own, vip]: [IpAddr; 2] = [[10, 0, 0, 1].into(), [192, 0, 2, 10].into()];
        let way = |source| Way { ifindex: 1, neighbour: own, source };
        let ports = || Ok([1024, 32_767]);
        assert_eq!(of(&way(Some(own)), &[vip], ports()), Ok(Mask { address: own, ports: [1024, 32_767] }));
        assert!(of(&way(Some(vip)), &[vip], ports()).is_err_and(|why| why.contains("is the VIP 192.0.2.10")));
        assert!(of(&way(None), &[vip], ports()).is_err());
        assert_eq!(of(&way(Some(own)), &[vip], Err("why".to_owned())), Err("why".to_owned()));
    }
}
