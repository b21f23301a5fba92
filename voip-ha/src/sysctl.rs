//! The kernel settings that forwarding needs, per interface, set at the start and named in the log.
//!
//! | setting | value | why |
//! |---|---|---|
//! | `forwarding` | 1 | without it the routing table refuses every packet (`BPF_FIB_LKUP_RET_FWD_DISABLED`) |
//! | `accept_local` | 1 | a reply to a client that is not in the neighbour table yet goes through the stack with the VIP, a local address, as its source |
//! | `rp_filter` | 2 if it is 1 | strict reverse path filtering would drop the same packet; loose accepts it |

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
    }
    let back = &gateway.back;
    changed.extend(set(back, "accept_local", "1")?);
    // The kernel uses the larger of the interface's own value and that of `all`.
    if read("all", "rp_filter")?.max(read(back, "rp_filter")?) == "1" {
        changed.extend(set(back, "rp_filter", "2")?);
    }
    Ok(changed)
}

fn set(interface: &str, setting: &str, to: &'static str) -> Result<Option<Changed>> {
    let from = read(interface, setting)?;
    if from == to {
        return Ok(None);
    }
    let path = path(interface, setting);
    fs::write(&path, to).with_context(|| format!("cannot write {to} to {path}"))?;
    Ok(Some(Changed { name: format!("net.ipv4.conf.{interface}.{setting}"), from, to }))
}

fn read(interface: &str, setting: &str) -> Result<String> {
    let path = path(interface, setting);
    let value = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    Ok(value.trim().to_owned())
}

fn path(interface: &str, setting: &str) -> String {
    format!("/proc/sys/net/ipv4/conf/{interface}/{setting}")
}
