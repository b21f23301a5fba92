//! What the bench asks of a system that moves a service between two servers.

use std::time::Duration;

use anyhow::{Result, bail};

use super::{bfdd::Bfdd, dispatcher::Dispatcher, fault::Fault, keepalived::Keepalived, nginx::Nginx, voip_ha::VoipHa};
use crate::{
    Lab,
    topology::{Layout, ServerHost},
};

/// A system under test, before it runs.
pub(super) trait System: Sync {
    /// As in the data.
    fn name(&self) -> &'static str;

    /// The network that it works in, with this fault.
    fn layout(&self, fault: Fault) -> Layout {
        if fault == Fault::Link { Layout::CloudByFront } else { Layout::TwoArm }
    }

    /// What the streams are made of.
    fn carries(&self) -> Carries {
        Carries::Rtp
    }

    /// Programs that must be installed: name and Debian package.
    fn needs(&self) -> &'static [(&'static str, &'static str)] {
        &[]
    }

    /// The address that a server's program listens on. If it is the VIP, every server has it on its loopback.
    fn listens_on(&self, host: &ServerHost) -> std::net::Ipv4Addr {
        host.address
    }

    /// A period of its probes: a fault comes at a random moment of it.
    fn period(&self) -> Duration;

    /// Why this fault is not measured at all.
    fn cannot(&self, _fault: Fault) -> Option<&'static str> {
        None
    }

    /// What there is to know about its figures for a fault, above all where it sees nothing.
    fn remark(&self, _fault: Fault) -> Option<&'static str> {
        None
    }

    /// What there is to know about its soak.
    fn remark_on_soak(&self) -> Option<&'static str> {
        None
    }

    /// Starts it. The servers run already.
    fn start<'lab>(&self, lab: &'lab Lab) -> Result<Box<dyn Running + 'lab>>;
}

/// A system that runs.
pub(super) trait Running {
    /// The server that new traffic goes to, once the system sees both servers in order; None before.
    fn settled(&mut self) -> Result<Option<String>>;

    /// Makes a server the active one, as an operator does. Returns when the order is given.
    fn switch(&mut self, to: &str) -> Result<()>;

    /// Called when a fault is undone, for what an operator does then.
    fn repaired(&mut self) -> Result<()> {
        Ok(())
    }

    /// Moments of the system's own flips so far, in µs of `CLOCK_MONOTONIC`; None if it does not tell.
    fn flips(&mut self) -> Result<Option<Vec<u64>>> {
        Ok(None)
    }
}

/// What the streams are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Carries {
    /// RTP, a port for each stream.
    Rtp,
    /// RTP, all streams to one port.
    RtpToOnePort,
    /// SIP only.
    Sip,
}

/// Names of all systems, in the order in which they are measured and shown.
pub const NAMES: [&str; 6] =
    ["voip-ha", "keepalived-default", "keepalived-fast", "bfdd", "kamailio-dispatcher", "nginx"];

/// The system of that name.
pub(super) fn by_name(name: &str) -> Result<Box<dyn System>> {
    Ok(match name {
        "voip-ha" => Box::new(VoipHa),
        "keepalived-default" => Box::new(Keepalived::DEFAULT),
        "keepalived-fast" => Box::new(Keepalived::FAST),
        "bfdd" => Box::new(Bfdd),
        "kamailio-dispatcher" => Box::new(Dispatcher),
        "nginx" => Box::new(Nginx),
        _ => bail!("no system {name}; there are {}", NAMES.join(", ")),
    })
}
