//! The network of the bench: a namespace of one thread, and in it a pair of devices for each gateway.

use std::{
    fs,
    io::Write as _,
    net::{Ipv4Addr, Ipv6Addr},
    panic::resume_unwind,
    process::{Command, Stdio},
    thread,
};

use anyhow::{Context as _, Result, ensure};
use rustix::thread::{UnshareFlags, unshare_unsafe};
use voip_ha_ebpf::abi::Mac;

/// Of all devices.
pub(super) const MTU: u32 = 1500;
/// An IPv4 address in network byte order.
pub(super) type Ipv4 = [u8; 4];

/// The two devices of one gateway.
#[derive(Clone, Copy, Debug)]
pub(super) struct Devices {
    /// Tells it from the others in the namespace.
    pub(super) gateway: u8,
}

/// Does the work in a thread with a fresh network namespace, which goes with the thread.
pub(super) fn apart<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let body = || {
        // SAFETY: only the network namespace of this thread changes, and no file descriptor.
        unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.context("no network namespace")?;
        // Or the stack would send neighbour discovery of its own through the program, and into its counters.
        for scope in ["all", "default"] {
            let path = format!("/proc/sys/net/ipv6/conf/{scope}/disable_ipv6");
            if fs::exists(&path)? {
                fs::write(&path, "1").context(path)?;
            }
        }
        work()
    };
    thread::scope(|scope| scope.spawn(body).join().unwrap_or_else(|panic| resume_unwind(panic)))
}

impl Devices {
    /// Makes the devices of a gateway. Phones are behind a router of the front network.
    pub(super) fn build(gateway: u8) -> Result<Self> {
        let devices = Self { gateway };
        let (front, back) = (devices.front(), devices.back());
        let mut lines = String::new();
        for (name, index, peer) in [(&front, devices.front_index(), "phones"), (&back, devices.back_index(), "servers")]
        {
            let mac = text(devices.mac(index));
            lines += &format!("link add name {name} index {index} address {mac} type veth peer name {peer}{gateway}\n");
            lines += &format!("link set {name} up\nlink set {peer}{gateway} up\n");
        }
        let [own, router] = [1, 254].map(|host| Ipv4Addr::from([198, 18, gateway, host]));
        lines += &format!("addr add {own}/24 dev {front}\naddr add 10.{gateway}.0.1/16 dev {back}\n");
        let mac = text([2, 0, 198, 18, gateway, 254]);
        lines += &format!("neigh add {router} lladdr {mac} dev {front} nud permanent\n");
        lines += &format!("route add {}/16 via {router}\n", Ipv4Addr::from(devices.phones()));
        ip(&lines)?;
        Ok(devices)
    }

    /// Lets IPv6 through them, by addresses that have the IPv4 ones at their end.
    pub(super) fn add_ipv6(&self) -> Result<()> {
        let (front, back) = (self.front(), self.back());
        for name in [&front, &back] {
            let path = format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6");
            fs::write(&path, "0").context(path)?;
        }
        let [own, router] = [1, 254].map(|host| six([198, 18, self.gateway, host]));
        let (servers, phones) = (six([10, self.gateway, 0, 1]), six(self.phones()));
        let mac = text([2, 0, 198, 18, self.gateway, 254]);
        ip(&format!(
            "addr add {own}/120 dev {front} nodad\naddr add {servers}/112 dev {back} nodad\n\
             neigh add {router} lladdr {mac} dev {front} nud permanent\nroute add {phones}/112 via {router}\n"
        ))
    }

    /// The network that phones are in: 65,536 addresses.
    pub(super) fn phones(&self) -> Ipv4 {
        [100, 63 + self.gateway, 0, 0]
    }

    /// Name of the device towards phones.
    pub(super) fn front(&self) -> String {
        format!("front{}", self.gateway)
    }

    /// Name of the device towards servers.
    pub(super) fn back(&self) -> String {
        format!("back{}", self.gateway)
    }

    /// Index of the device towards phones.
    pub(super) fn front_index(&self) -> u32 {
        100 + 10 * u32::from(self.gateway)
    }

    /// Index of the device towards servers.
    pub(super) fn back_index(&self) -> u32 {
        self.front_index() + 1
    }

    /// The gateway's own address towards phones.
    pub(super) fn address(&self) -> Ipv4 {
        [198, 18, self.gateway, 1]
    }

    /// Ethernet address of one of the two devices.
    pub(super) fn mac(&self, ifindex: u32) -> Mac {
        [2, 0, 0, 0, 0, ifindex as u8]
    }
}

/// The IPv6 address with this one at its end.
pub(super) fn six([a, b, c, d]: Ipv4) -> Ipv6Addr {
    Ipv6Addr::from([0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, a, b, c, d])
}

fn text(mac: Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// Runs lines of `ip` in the namespace of this thread.
fn ip(lines: &str) -> Result<()> {
    let mut command = Command::new("ip");
    command.args(["-batch", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().context("the ip command (package iproute2)")?;
    child.stdin.take().context("no pipe to ip")?.write_all(lines.as_bytes())?;
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "ip: {}\n{lines}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}
