//! What can keep a flood from a server, and let calls through.

use anyhow::Result;
use aya::Ebpf;

use super::{
    Running,
    forwarder::{NFT, translate},
    network::Network,
    programs::drop_attacker,
};
use crate::process::Process;

/// One of them, before it runs.
pub(super) struct Dropper {
    pub(super) name: &'static str,
    /// Programs that must be installed: name and Debian package.
    pub(super) needs: &'static [(&'static str, &'static str)],
    /// Starts it and the server behind it.
    pub(super) start: for<'network> fn(&'network Network) -> Result<Box<dyn Running + 'network>>,
}

/// In the order in which they are shown. Another one is a line here and a function that starts it.
pub(super) static ALL: [Dropper; 1] = [Dropper { name: super::BARE_DROP, needs: &[NFT], start: bare_drop }];

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
