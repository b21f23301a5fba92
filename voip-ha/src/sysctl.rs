//! The kernel settings that forwarding needs, per interface, set at the start and named in the log.
//!
//! | setting | value | why |
//! |---|---|---|
//! | `ipv4` `forwarding` | 1 | without it the routing table refuses every packet (`BPF_FIB_LKUP_RET_FWD_DISABLED`) |
//! | `ipv4` `accept_local` | 1 | a reply to a client that is not in the neighbour table yet goes through the stack with the VIP, a local address, as its source |
//! | `ipv4` `rp_filter` | 2 if it is 1 | strict reverse path filtering would drop the same packet; loose accepts it |
//! | `ipv4` `send_redirects` | 0, one-arm only, and on `all` too | or the kernel tells servers to go around the gateway |
//! | `ipv6` `forwarding` | 1, and on `all` too | as for IPv4; the stack looks at `all` alone, which sets it for every interface |
//! | `ipv6` `accept_ra` | 2 if it is 1 | 1 means nothing once `forwarding` is on: addresses and default routes that a router announced would expire |
//!
//! On every interface of the gateway, on the VLAN interfaces on them, and on the tunnels that a way to a server leads by: a server may
//! be behind any. Those of IPv6 only
//! where a service has an IPv6 VIP; `accept_ra` then on every interface of the host that `all` is about to make one of a
//! router. IPv6 knows neither `accept_local` nor `rp_filter`: it does not look at where a source address belongs. Its redirects
//! have no switch; a server in one LAN with its clients needs one of its own, `accept_redirects = 0`.

use std::{fs, io, path::Path};

use anyhow::{Context as _, Result};

use crate::{
    config::{Config, Gateway},
    ids::Family,
};

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

/// What the settings are made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Needs {
    interfaces: Vec<String>,
    one_arm: bool,
    v6: bool,
}

/// One setting as it must be.
struct Setting {
    family: Family,
    interface: String,
    name: &'static str,
    to: &'static str,
    /// What goes wrong otherwise.
    harm: &'static str,
}

impl Needs {
    /// Those of a configuration.
    pub fn of(config: &Config) -> Self {
        let Gateway { front, back, .. } = &config.gateway;
        let mut interfaces = vec![front.clone(), back.clone()];
        interfaces.dedup();
        let v6 = config.services.iter().any(|service| service.vips.v6.is_some());
        Self { interfaces, one_arm: config.gateway.one_arm(), v6 }
    }

    /// The same with VLAN interfaces, which the stack sees packets come in by.
    pub fn with_vlans(mut self, names: Vec<String>) -> Self {
        self.interfaces.extend(names);
        self
    }

    /// The same with a tunnel, which packets of servers come in by.
    pub fn add_tunnel(&mut self, name: &str) {
        if !self.interfaces.iter().any(|known| known == name) {
            self.interfaces.push(name.to_owned());
        }
    }

    /// What one interface needs alone.
    pub fn only(&self, name: &str) -> Self {
        Self { interfaces: vec![name.to_owned()], one_arm: false, v6: self.v6 }
    }

    /// The settings, as far as they are not as they must be.
    fn lacking(&self) -> Result<Vec<(Setting, String)>> {
        let mut lacking = Vec::new();
        for setting in self.settings()? {
            let found = setting.read()?;
            if found != setting.to {
                lacking.push((setting, found));
            }
        }
        Ok(lacking)
    }

    fn settings(&self) -> Result<Vec<Setting>> {
        const FIRST: &str = "the first replies to new clients are dropped";
        let mut settings = Vec::new();
        let mut add = |family, interface: &str, name, to, harm| {
            settings.push(Setting { family, interface: interface.to_owned(), name, to, harm });
        };
        let interfaces: Vec<_> = self.interfaces.iter().filter(|name| is_there(name)).collect();
        for interface in interfaces.iter().copied() {
            add(Family::V4, interface, "forwarding", "1", "packets to clients are dropped");
            add(Family::V4, interface, "accept_local", "1", FIRST);
            if is_strict(interface)? {
                add(Family::V4, interface, "rp_filter", "2", FIRST);
            }
        }
        if self.one_arm {
            for interface in interfaces.iter().map(|name| name.as_str()).chain(["all"]) {
                add(Family::V4, interface, "send_redirects", "0", "servers learn to go around the gateway");
            }
        }
        for interface in self.hosts()? {
            // Before forwarding, which would end what a router announced.
            if read(Family::V6, &interface, "accept_ra")? == "1" {
                let harm = "addresses and routes that a router announces are no longer taken";
                add(Family::V6, &interface, "accept_ra", "2", harm);
            }
        }
        for interface in ["all"].into_iter().chain(interfaces.iter().map(|name| name.as_str())).filter(|_| self.v6) {
            add(Family::V6, interface, "forwarding", "1", "IPv6 packets to clients are dropped");
        }
        Ok(settings)
    }

    /// Interfaces that forwarding by IPv6 may keep from listening to routers.
    fn hosts(&self) -> Result<Vec<String>> {
        if !self.v6 || read(Family::V6, "all", "forwarding")? == "1" {
            return Ok(self.interfaces.iter().filter(|name| self.v6 && is_there(name)).cloned().collect());
        }
        let path = "/proc/sys/net/ipv6/conf";
        let names = fs::read_dir(path)
            .and_then(|entries| entries.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>())
            .with_context(|| format!("cannot read {path}"))?;
        let names = names.into_iter().filter_map(|name| name.into_string().ok());
        Ok(names.filter(|name| !["all", "default", "lo"].contains(&name.as_str())).collect())
    }
}

/// Makes the settings. Returns what was changed.
///
/// # Errors
///
/// Names the setting that cannot be read or written.
pub fn prepare(needs: &Needs) -> Result<Vec<Changed>> {
    let mut changed = Vec::new();
    for (setting, from) in needs.lacking()? {
        let path = path(setting.family, &setting.interface, setting.name);
        fs::write(&path, setting.to).with_context(|| format!("cannot write {} to {path}", setting.to))?;
        changed.push(Changed { name: setting.name(), from, to: setting.to });
    }
    Ok(changed)
}

/// What is no longer as [`prepare`] left it, in words that say the remedy: a package may run `sysctl --system`.
///
/// # Errors
///
/// Names the setting that cannot be read.
pub fn warnings(needs: &Needs) -> Result<Vec<String>> {
    let warning = |(setting, _): (Setting, String)| {
        let (name, harm, to) = (setting.name(), setting.harm, setting.to);
        format!("{harm}, because of {name}: run `sysctl -w {name}={to}`")
    };
    Ok(needs.lacking()?.into_iter().map(warning).collect())
}

impl Setting {
    fn read(&self) -> Result<String> {
        read(self.family, &self.interface, self.name)
    }

    /// As `sysctl` takes it: a dot of a VLAN's name is a slash there.
    fn name(&self) -> String {
        format!("net.{}.conf.{}.{}", directory(self.family), self.interface.replace('.', "/"), self.name)
    }
}

/// One that was removed needs nothing; that it is missing is told elsewhere.
fn is_there(interface: &str) -> bool {
    Path::new("/proc/sys/net/ipv4/conf").join(interface).exists()
}

/// The kernel uses the larger of the interface's own value and that of `all`.
fn is_strict(interface: &str) -> Result<bool> {
    Ok(read(Family::V4, "all", "rp_filter")?.max(read(Family::V4, interface, "rp_filter")?) == "1")
}

fn read(family: Family, interface: &str, setting: &str) -> Result<String> {
    let path = path(family, interface, setting);
    let value = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    Ok(value.trim().to_owned())
}

fn path(family: Family, interface: &str, setting: &str) -> String {
    format!("/proc/sys/net/{}/conf/{interface}/{setting}", directory(family))
}

fn directory(family: Family) -> &'static str {
    match family {
        Family::V4 => "ipv4",
        Family::V6 => "ipv6",
    }
}
