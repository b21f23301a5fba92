//! The kernel settings that forwarding needs, per interface, set at the start and named in the log.
//!
//! | setting | value | why |
//! |---|---|---|
//! | `forwarding` | 1 | without it the routing table refuses every packet (`BPF_FIB_LKUP_RET_FWD_DISABLED`) |
//! | `accept_local` | 1 | a reply to a client that is not in the neighbour table yet goes through the stack with the VIP, a local address, as its source |
//! | `rp_filter` | 2 if it is 1 | strict reverse path filtering would drop the same packet; loose accepts it |
//! | `send_redirects` | 0, one-arm only, and on `all` too | or the kernel tells servers to go around the gateway |
//!
//! On every interface of the gateway: a server may be behind either.

use std::fs;

use anyhow::{Context as _, Result};

use crate::config::Gateway;

/// One setting that was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// Name as `sysctl` knows it.
    pub name: String,
    /// Value before.
    pub from: String,
    /// Value now.
    pub to: &'static str,
}

/// Makes the settings. Returns what was changed.
///
/// # Errors
///
/// Names the setting that cannot be read or written.
pub fn prepare(gateway: &Gateway) -> Result<Vec<Changed>> {
    let mut changed = Vec::new();
    for interface in gateway.interfaces() {
        changed.extend(set(interface, "forwarding", "1")?);
        changed.extend(set(interface, "accept_local", "1")?);
        if is_strict(interface)? {
            changed.extend(set(interface, "rp_filter", "2")?);
        }
    }
    if gateway.one_arm() {
        for interface in ["all", &gateway.back] {
            changed.extend(set(interface, "send_redirects", "0")?);
        }
    }
    Ok(changed)
}

/// What is no longer as [`prepare`] left it, in words that say the remedy: a package may run `sysctl --system`.
///
/// # Errors
///
/// Names the setting that cannot be read.
pub fn warnings(gateway: &Gateway) -> Result<Vec<String>> {
    let mut warnings = Vec::new();
    let mut warn = |wrong: bool, interface: &str, setting: &str, to: &str, what: &str| {
        if wrong {
            let name = name(interface, setting);
            warnings.push(format!("{what}, because of {name}: run `sysctl -w {name}={to}`"));
        }
    };
    for interface in gateway.interfaces() {
        let forwarding = read(interface, "forwarding")?;
        warn(forwarding != "1", interface, "forwarding", "1", "packets to clients are dropped");
        let accept_local = read(interface, "accept_local")?;
        warn(accept_local != "1", interface, "accept_local", "1", "the first replies to new clients are dropped");
        warn(is_strict(interface)?, interface, "rp_filter", "2", "the first replies to new clients are dropped");
    }
    if gateway.one_arm() {
        for interface in ["all", &gateway.back] {
            let wrong = read(interface, "send_redirects")? != "0";
            warn(wrong, interface, "send_redirects", "0", "servers learn to go around the gateway");
        }
    }
    Ok(warnings)
}

/// The kernel uses the larger of the interface's own value and that of `all`.
fn is_strict(interface: &str) -> Result<bool> {
    Ok(read("all", "rp_filter")?.max(read(interface, "rp_filter")?) == "1")
}

fn set(interface: &str, setting: &str, to: &'static str) -> Result<Option<Changed>> {
    let from = read(interface, setting)?;
    if from == to {
        return Ok(None);
    }
    let path = path(interface, setting);
    fs::write(&path, to).with_context(|| format!("cannot write {to} to {path}"))?;
    Ok(Some(Changed { name: name(interface, setting), from, to }))
}

fn read(interface: &str, setting: &str) -> Result<String> {
    let path = path(interface, setting);
    let value = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    Ok(value.trim().to_owned())
}

/// As `sysctl` takes it: a dot of a VLAN's name is a slash there.
fn name(interface: &str, setting: &str) -> String {
    format!("net.ipv4.conf.{}.{setting}", interface.replace('.', "/"))
}

fn path(interface: &str, setting: &str) -> String {
    format!("/proc/sys/net/ipv4/conf/{interface}/{setting}")
}
