//! The programs on tunnels, by which packets of servers come back that only the kernel's stack can send to.
//!
//! They are classifiers at ingress, by the kernel's links for such (TCX), which are pinned as those of XDP are: Linux 6.6. Before that
//! a classifier belongs to the device's queueing discipline, and a new one would take the old one's place in two steps. They are
//! loaded when the first tunnel is used, because the verifier takes as long for them as for all other programs.

use std::{fs, io::ErrorKind, path::Path};

use anyhow::{Context as _, Result, anyhow};
use aya::{
    Ebpf,
    programs::{
        LinkOrder, ProgramError, SchedClassifier, TcAttachType,
        links::{FdLink, PinnedLink},
        tc::{SchedClassifierLink, TcAttachOptions},
    },
};
use rustix::io::Errno;

use super::{
    link::errno,
    object::{self, TunnelProgram},
    pins::{Pins, exists},
};
use crate::network::Tunnel;

/// The controller's hand on the programs of tunnels. Dropping it detaches nothing.
pub struct Tunnels {
    pins: Pins,
    /// From the first one on.
    object: Option<Ebpf>,
}

impl Tunnels {
    /// Nothing is loaded yet. The programs of an earlier controller stay as they are.
    pub fn new(pins: Pins) -> Self {
        Self { pins, object: None }
    }

    /// Takes the programs of an earlier controller off all tunnels but these.
    ///
    /// # Errors
    ///
    /// A pin cannot be removed.
    pub fn remove_others(&self, wanted: &[u32]) -> Result<()> {
        for ifindex in self.pins.tunnels()?.into_iter().filter(|ifindex| !wanted.contains(ifindex)) {
            remove(&self.pins.tunnel(ifindex))?;
        }
        Ok(())
    }

    /// Puts the program on a tunnel, or into the place of an earlier controller's. It stays there until `unload`, or a start
    /// without need of it: packets may come by the tunnel for a while after the way to the server has left it.
    ///
    /// # Errors
    ///
    /// The kernel refuses the programs, which need Linux 6.6, or the device.
    pub fn put(&mut self, tunnel: &Tunnel) -> Result<()> {
        let object = match &mut self.object {
            Some(object) => object,
            none => none.insert(object::load_for_tunnels(&self.pins)?),
        };
        let kind = if tunnel.has_ethernet { TunnelProgram::Ethernet } else { TunnelProgram::Bare };
        let program = object::tunnel_program(object, kind)?;
        let path = self.pins.tunnel(tunnel.index);
        if adopt(program, &path)? { Ok(()) } else { attach(program, &tunnel.name, &path) }
    }
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
    let link =
        program.attach_with_options(name, TcAttachType::Ingress, options).map_err(|error| refusal(error, name))?;
    let link: FdLink = program
        .take_link(link)?
        .try_into()
        .map_err(|_| anyhow!("{name}: the kernel gave no link that can be pinned; Linux 6.6 or later is needed"))?;
    link.pin(path).with_context(|| format!("cannot pin the link of {name} at {}", path.display()))?;
    Ok(())
}

fn refusal(error: ProgramError, name: &str) -> anyhow::Error {
    let old = errno(&error) == Some(Errno::INVAL);
    let hint = if old { "; packets from a tunnel need Linux 6.6 or later" } else { "" };
    anyhow!(error).context(format!("{name}: cannot attach the program{hint}"))
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}
