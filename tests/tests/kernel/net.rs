//! The network of a rig: devices, neighbours and one client address for every way that the routing table can answer.

use std::{
    fs,
    io::Write as _,
    net::IpAddr,
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use voip_ha_ebpf::{
    abi::{Ends, Mac, VlanTag},
    steer::{Hop, Route, RouteQuery},
};

/// An IPv4 address. Each of these tests' addresses has an IPv6 address beside it: see [`beside`].
pub(crate) type Ipv4 = [u8; 4];

/// Device towards phones.
pub(crate) const FRONT: u32 = 11;
/// Device towards servers.
pub(crate) const BACK: u32 = 12;
/// A device without the program.
pub(crate) const SIDE: u32 = 13;

pub(crate) const VIP: Ipv4 = [192, 0, 2, 10];
pub(crate) const OTHER_VIP: Ipv4 = [192, 0, 2, 20];

/// On the front network, in the neighbour table.
pub(crate) const PHONE: Ipv4 = [198, 51, 100, 7];
/// On the front network, not in the neighbour table.
pub(crate) const NEW_PHONE: Ipv4 = [198, 51, 100, 8];
/// Behind a router of the front network.
pub(crate) const FAR_PHONE: Ipv4 = [203, 0, 113, 7];
/// On the network of the device without the program.
pub(crate) const SIDE_PHONE: Ipv4 = [198, 51, 101, 7];
/// Refused by a route: blackhole, unreachable, prohibit.
pub(crate) const REFUSED: [Ipv4; 3] = [[203, 0, 113, 129], [203, 0, 113, 193], [203, 0, 113, 225]];
/// Nowhere: no route leads there.
pub(crate) const NOWHERE: Ipv4 = [100, 64, 0, 1];
/// The gateway's own address towards the servers, which it probes from.
pub(crate) const GATEWAY: Ipv4 = [10, 0, 0, 1];

const PHONE_MAC: Mac = [2, 0, 198, 51, 100, 7];
const ROUTER_MAC: Mac = [2, 0, 198, 51, 100, 254];
/// The router on the way to the cloud.
pub(crate) const CLOUD_ROUTER: Mac = [2, 0, 10, 0, 0, 254];

/// Of all devices.
pub(crate) const MTU: u32 = 1500;

const LINKS: &str = "
    link add name front index 11 address 02:00:00:00:00:0b type veth peer name phones
    link add name back index 12 address 02:00:00:00:00:0c type veth peer name servers
    link add name side index 13 address 02:00:00:00:00:0d type veth peer name strangers
    link set front up
    link set back up
    link set side up
    link set phones up
    link set servers up
    link set strangers up
    addr add 198.51.100.1/24 dev front
    addr add 192.0.2.10/32 dev front
    addr add 192.0.2.20/32 dev front
    addr add 10.0.0.1/24 dev back
    addr add 198.51.101.1/24 dev side
    neigh add 198.51.100.7 lladdr 02:00:c6:33:64:07 dev front nud permanent
    neigh add 198.51.100.254 lladdr 02:00:c6:33:64:fe dev front nud permanent
    neigh add 198.51.101.7 lladdr 02:00:c6:33:65:07 dev side nud permanent
    neigh add 10.0.0.2 lladdr 02:00:0a:00:00:02 dev back nud permanent
    neigh add 10.0.0.254 lladdr 02:00:0a:00:00:fe dev back nud permanent
    route add 203.0.113.0/25 via 198.51.100.254
    route replace blackhole 203.0.113.128/26
    route replace unreachable 203.0.113.192/27
    route replace prohibit 203.0.113.224/28
    route add 10.8.0.0/24 via 10.0.0.254";

/// The same for IPv6, with addresses as [`beside`] makes them.
const LINKS_6: &str = "
    addr add 2001:db8::c633:6401/120 dev front nodad
    addr add 2001:db8::c000:20a/128 dev front nodad
    addr add 2001:db8::c000:214/128 dev front nodad
    addr add 2001:db8::a00:1/120 dev back nodad
    addr add 2001:db8::c633:6501/120 dev side nodad
    neigh add 2001:db8::c633:6407 lladdr 02:00:c6:33:64:07 dev front nud permanent
    neigh add 2001:db8::c633:64fe lladdr 02:00:c6:33:64:fe dev front nud permanent
    neigh add 2001:db8::c633:6507 lladdr 02:00:c6:33:65:07 dev side nud permanent
    neigh add 2001:db8::a00:2 lladdr 02:00:0a:00:00:02 dev back nud permanent
    neigh add 2001:db8::a00:fe lladdr 02:00:0a:00:00:fe dev back nud permanent
    route add 2001:db8::cb00:7100/121 via 2001:db8::c633:64fe
    route replace blackhole 2001:db8::cb00:7180/122
    route replace unreachable 2001:db8::cb00:71c0/123
    route replace prohibit 2001:db8::cb00:71e0/124
    route add 2001:db8::a08:0/120 via 2001:db8::a00:fe";

/// Builds the network in the namespace of this thread.
pub(crate) fn build() -> Result<()> {
    // Or the stacks behind the devices would send neighbour discovery of their own through the program, and into its counters.
    let write = |name: &str, setting: &str, value: &str| {
        let path = format!("/proc/sys/net/ipv6/conf/{name}/{setting}");
        fs::write(&path, value).context(path)
    };
    write("default", "disable_ipv6", "1")?;
    ip(LINKS)?;
    for device in ["front", "back", "side"] {
        write(device, "addr_gen_mode", "1")?;
        write(device, "disable_ipv6", "0")?;
    }
    ip(LINKS_6).map(drop)
}

/// Runs lines of `ip` in the namespace of this thread.
pub(crate) fn ip(lines: &str) -> Result<String> {
    let mut child = start("ip", &["-statistics", "-json", "-batch", "-"])?;
    child.stdin.take().context("no pipe to ip")?.write_all(lines.as_bytes())?;
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "ip: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

/// Makes a veth device take frames that are redirected into its other end, which it does with a program or with GRO.
pub(crate) fn take_redirected(interface: &str) -> Result<()> {
    let output = start("ethtool", &["-K", interface, "gro", "on"])?.wait_with_output()?;
    ensure!(output.status.success(), "ethtool: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn start(program: &str, arguments: &[&str]) -> Result<Child> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().with_context(|| format!("the {program} command (package iproute2 or ethtool)"))
}

/// The Ethernet address of one of the three devices.
pub(crate) fn mac(ifindex: u32) -> Mac {
    [2, 0, 0, 0, 0, ifindex as u8]
}

/// The row of a device in the map `DEVICES`; the device without the program has none that counts.
pub(crate) fn exit(ifindex: u32) -> u32 {
    ifindex
}

/// The IPv6 address of who has this IPv4 address: the same four bytes behind a prefix.
pub(crate) fn beside([a, b, c, d]: Ipv4) -> [u8; 16] {
    [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, a, b, c, d]
}

/// The address that [`beside`] gives this one, or this one itself; nothing if it is another.
pub(crate) fn is_beside(address: IpAddr) -> Option<Ipv4> {
    match address {
        IpAddr::V4(four) => Some(four.octets()),
        IpAddr::V6(six) => {
            let [.., a, b, c, d] = six.octets();
            (beside([a, b, c, d]) == six.octets()).then_some([a, b, c, d])
        }
    }
}

/// What this network's routing table answers, for every destination there is.
pub(crate) fn route(query: &RouteQuery) -> Route {
    let fits = query.total_length <= MTU;
    let hop = |ifindex, destination| {
        let tags = [VlanTag::default(); 2];
        Route::Hop(Hop { exit: exit(ifindex), ends: Ends::new(destination, mac(ifindex)), tags })
    };
    let Some(destination) = is_beside(query.destination.into()) else { return Route::NotForwarded };
    let is_v4 = query.destination.is_v4();
    let route = match destination {
        PHONE => hop(FRONT, PHONE_MAC),
        // Not a device that packets may leave by.
        SIDE_PHONE => Route::Stack,
        [198, 51, 100, 254] | [203, 0, 113, 0..128] => hop(FRONT, ROUTER_MAC),
        [10, 0, 0, 2] => hop(BACK, [2, 0, 10, 0, 0, 2]),
        [10, 0, 0, 254] | [10, 8, 0, _] => hop(BACK, CLOUD_ROUTER),
        // Addresses of the gateway, and broadcasts. The lowest address of a network is an ordinary one since Linux 5.14.
        [198, 51, 100 | 101, 1] | [10, 0, 0, 1] => return Route::NotForwarded,
        [198, 51, 100 | 101, 255] | [10, 0, 0, 255] if is_v4 => return Route::NotForwarded,
        [198, 51, 100 | 101, _] | [10, 0, 0, _] => Route::Stack,
        [203, 0, 113, 128..240] => return Route::Refused,
        _ => return Route::NotForwarded,
    };
    if fits { route } else { Route::TooLarge(MTU) }
}
