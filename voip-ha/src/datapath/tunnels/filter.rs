//! A program on a tunnel by a filter of its queueing discipline (`clsact`), for kernels before 6.6.
//!
//! The filter belongs to the device and needs nobody to hold it. That it is ours is remembered by a pin of the program, under the index
//! of the device.

use std::{
    net::{Ipv4Addr, UdpSocket},
    path::Path,
};

use anyhow::{Context as _, Result};
use aya::programs::{
    Link as _, SchedClassifier, TcAttachType,
    tc::{self, NlOptions, SchedClassifierLink, TcAttachOptions, TcHandle},
};

use super::{exists, remove};
use crate::datapath::object::TunnelProgram;

/// The filter's place among others: by these it is found again, and its program replaced in one step.
const PRIORITY: u16 = 7500;
const HANDLE: TcHandle = TcHandle::new(0, 1);

/// Puts the program on the tunnel with this name, or into the place of an earlier controller's.
pub(super) fn put(program: &mut SchedClassifier, name: &str, pin: &Path) -> Result<()> {
    let known = if exists(pin)? { program.attach_to_link(filter(name)?).ok() } else { None };
    let link = match known {
        Some(link) => link,
        None => attach(program, name)?,
    };
    // Dropping it would take the program off.
    std::mem::forget(program.take_link(link)?);
    remove(pin)?;
    program.pin(pin).with_context(|| format!("cannot pin the program of {name} at {}", pin.display()))
}

fn attach(program: &mut SchedClassifier, name: &str) -> Result<tc::SchedClassifierLinkId> {
    // It may be there, and have filters of others; below it is seen whether it works.
    let _ = tc::qdisc_add_clsact(name);
    for kind in [TunnelProgram::Bare, TunnelProgram::Ethernet] {
        // Of a gateway whose pins were removed by hand.
        let _ = tc::qdisc_detach_program(name, TcAttachType::Ingress, kind.name());
    }
    let options = TcAttachOptions::Netlink(NlOptions { priority: PRIORITY, handle: HANDLE, classid: None });
    program
        .attach_with_options(name, TcAttachType::Ingress, options)
        .with_context(|| format!("{name}: cannot attach the program as a filter of clsact"))
}

/// Takes the program off again. The queueing discipline stays, because others may use it.
pub(in crate::datapath) fn take_off(ifindex: u32) -> Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).context("cannot ask for the name of a tunnel")?;
    // A tunnel that is gone has taken it along.
    let Ok(name) = rustix::net::netdevice::index_to_name(&socket, ifindex) else { return Ok(()) };
    if let Err(error) = filter(&name)?.detach() {
        tracing::warn!("{name}: the program was not there any more: {error}");
    }
    Ok(())
}

fn filter(name: &str) -> Result<SchedClassifierLink> {
    SchedClassifierLink::attached(name, TcAttachType::Ingress, PRIORITY, HANDLE, None)
        .with_context(|| format!("there is no device {name}"))
}
