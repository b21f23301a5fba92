//! The programs on tunnels, by which packets of servers come back that only the kernel's stack can send to.
//!
//! They are classifiers at ingress, by the kernel's links for such (TCX), which are pinned as those of XDP are: Linux 6.6. Before that
//! they are filters of the device's queueing discipline. They are loaded when the first tunnel is used, because the verifier takes
//! as long for them as for all other programs.

pub(super) mod filter;

use std::{fs, io::ErrorKind, path::Path};

use anyhow::{Context as _, Result, anyhow};
use aya::{
    Ebpf,
    programs::{
        LinkOrder, SchedClassifier, TcAttachType,
        links::{FdLink, PinnedLink},
        tc::{SchedClassifierLink, TcAttachOptions},
    },
    util::KernelVersion,
};
use rustix::io::Errno;

use super::{
    link::errno,
    object::{self, TunnelProgram},
    pins::{Pins, exists},
};
use crate::network::Tunnel;

/// How programs are put on tunnels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TunnelHook {
    /// By a link of the kernel's: from Linux 6.6 on.
    Link,
    /// By a filter of `clsact`.
    Filter,
}

impl TunnelHook {
    /// The better one that the running kernel has.
    ///
    /// # Errors
    ///
    /// It does not tell its version.
    pub fn of_kernel() -> Result<Self> {
        let version = KernelVersion::current().context("the kernel's version is not known")?;
        Ok(if version >= KernelVersion::new(6, 6, 0) { Self::Link } else { Self::Filter })
    }
}

/// The controller's hand on the programs of tunnels. Dropping it detaches nothing.
pub struct Tunnels {
    pins: Pins,
    hook: TunnelHook,
    /// From the first one on.
    object: Option<Ebpf>,
}

impl Tunnels {
    /// Nothing is loaded yet. The programs of an earlier controller stay as they are.
    pub fn new(pins: Pins, hook: TunnelHook) -> Self {
        Self { pins, hook, object: None }
    }

    /// Takes the programs of an earlier controller off all tunnels but these.
    ///
    /// # Errors
    ///
    /// A pin cannot be removed.
    pub fn remove_others(&self, wanted: &[u32]) -> Result<()> {
        for ifindex in self.pins.tunnels()?.into_iter().filter(|ifindex| !wanted.contains(ifindex)) {
            take_off(&self.pins, ifindex)?;
        }
        Ok(())
    }

    /// Puts the program on a tunnel, or into the place of an earlier controller's. It stays there until `unload`, or a start
    /// without need of it: packets may come by the tunnel for a while after the way to the server has left it.
    ///
    /// # Errors
    ///
    /// The kernel refuses a program, or the device.
    pub fn put(&mut self, tunnel: &Tunnel) -> Result<()> {
        let object = match &mut self.object {
            Some(object) => object,
            none => none.insert(object::load_for_tunnels(&self.pins)?),
        };
        let kind = if tunnel.has_ethernet { TunnelProgram::Ethernet } else { TunnelProgram::Bare };
        let program = object::tunnel_program(object, kind)?;
        match self.hook {
            TunnelHook::Link => {
                let pin = self.pins.tunnel(tunnel.index);
                if adopt(program, &pin)? { Ok(()) } else { attach(program, &tunnel.name, &pin) }
            }
            TunnelHook::Filter => filter::put(program, &tunnel.name, &self.pins.filter(tunnel.index)),
        }
    }
}

fn take_off(pins: &Pins, ifindex: u32) -> Result<()> {
    let pin = pins.filter(ifindex);
    if exists(&pin)? {
        filter::take_off(ifindex)?;
        remove(&pin)?;
    }
    remove(&pins.tunnel(ifindex))
}

/// Replaces the program of a pinned link in one step. Says `false` if there is no link, or one of a tunnel that is gone.
fn adopt(program: &mut SchedClassifier, path: &Path) -> Result<bool> {
    if !exists(path)? {
        return Ok(false);
    }
    let pinned = PinnedLink::from_pin(path).with_context(|| format!("cannot open {}", path.display()))?;
    let link: SchedClassifierLink =
        FdLink::from(pinned).try_into().with_context(|| format!("{} is no link of a classifier", path.display()))?;
    match program.attach_to_link(link) {
        Ok(_) => Ok(true),
        Err(error) if errno(&error) == Some(Errno::NOLINK) => remove(path).map(|()| false),
        Err(error) => Err(error).with_context(|| format!("cannot put the new program into {}", path.display())),
    }
}

fn attach(program: &mut SchedClassifier, name: &str, path: &Path) -> Result<()> {
    // Last: what others have put there sees packets as they came.
    let options = TcAttachOptions::TcxOrder(LinkOrder::default());
    let link = program
        .attach_with_options(name, TcAttachType::Ingress, options)
        .with_context(|| format!("{name}: cannot attach the program"))?;
    let link: FdLink = program
        .take_link(link)?
        .try_into()
        .map_err(|_| anyhow!("{name}: the kernel gave no link that can be pinned"))?;
    link.pin(path).with_context(|| format!("cannot pin the link of {name} at {}", path.display()))?;
    Ok(())
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}
