//! What can keep a flood from a server, and let calls through.

use anyhow::Result;
use aya::Ebpf;

use super::{
    Running,
    forwarder::{NFT, protected, translate},
    network::Network,
    programs::{ATTACKER, drop_attacker},
};
use crate::{gateway::Protection, process::Process};

/// One of them, before it runs.
pub(super) struct Dropper {
    pub(super) name: &'static str,
    /// Programs that must be installed: name and Debian package.
    pub(super) needs: &'static [(&'static str, &'static str)],
    /// Starts it and the server behind it.
    pub(super) start: for<'network> fn(&'network Network) -> Result<Box<dyn Running + 'network>>,
}

/// In the order in which they are shown. Another one is a line here and a function that starts it.
pub(super) static ALL: [Dropper; 3] = [
    Dropper { name: super::BARE_DROP, needs: &[NFT], start: bare_drop },
    Dropper { name: "voip-ha-limit", needs: &[], start: limit },
    Dropper { name: "voip-ha-deny", needs: &[], start: deny },
];

struct BareDrop {
    _object: Ebpf,
    server: Process,
}

impl Running for BareDrop {
    fn must_run(&mut self) -> Result<()> {
        self.server.must_run()
    }
}

/// A program that knows one address, which it drops. The kernel's DNAT carries the calls.
fn bare_drop(network: &Network) -> Result<Box<dyn Running + '_>> {
    let server = network.start_server()?;
    translate(network)?;
    Ok(Box::new(BareDrop { _object: drop_attacker(network.lab.gateway())?, server }))
}

/// More than the phones behind one address of the lab send, and next to nothing of a flood.
fn limit(network: &Network) -> Result<Box<dyn Running + '_>> {
    let (sip_packets_per_s, sip_burst) = (Some(1000), Some(1000));
    protected(network, Some(Protection { sip_packets_per_s, sip_burst, ..Protection::default() }))
}

fn deny(network: &Network) -> Result<Box<dyn Running + '_>> {
    protected(network, Some(Protection { deny: vec![ATTACKER.ip().to_string()], ..Protection::default() }))
}
