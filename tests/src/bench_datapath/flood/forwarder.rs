//! What can stand between phones and a server and forward what comes.

use anyhow::{Context as _, Result};
use aya::Ebpf;

use super::{
    Running,
    network::{CABLE, Network, SERVER},
    nginx,
    programs::{Receiver, redirect_all},
};
use crate::{
    bench::nft,
    gateway::{Config, Gateway, Protection, ServerSection},
    process::Process,
    topology::{RTP_PORTS, SIP_PORT, VIP},
};

/// One of them, before it runs.
pub(super) struct Forwarder {
    pub(super) name: &'static str,
    pub(super) receiver: Receiver,
    /// Programs that must be installed: name and Debian package.
    pub(super) needs: &'static [(&'static str, &'static str)],
    pub(super) start: for<'network> fn(&'network Network) -> Result<Box<dyn Running + 'network>>,
}

pub(super) const NFT: (&str, &str) = ("/usr/sbin/nft", "nftables");

/// In the order in which they are shown.
static ALL: [Forwarder; 5] = [
    Forwarder { name: super::BARE_REDIRECT, receiver: Receiver::Server, needs: &[], start: bare_redirect },
    Forwarder { name: "voip-ha", receiver: Receiver::Vip, needs: &[], start: voip_ha },
    Forwarder { name: "kernel-routing", receiver: Receiver::Server, needs: &[], start: kernel_routing },
    Forwarder { name: super::NFT_DNAT, receiver: Receiver::Vip, needs: &[NFT], start: nft_dnat },
    Forwarder { name: "nginx", receiver: Receiver::Vip, needs: &nginx::NEEDS, start: nginx::start },
];

/// Names of all of them.
pub const NAMES: [&str; 5] = [super::BARE_REDIRECT, "voip-ha", "kernel-routing", super::NFT_DNAT, "nginx"];

pub(super) fn by_name(name: &str) -> Result<&'static Forwarder> {
    ALL.iter().find(|system| system.name == name).with_context(|| format!("no system {name}"))
}

struct Attached {
    _object: Ebpf,
}

impl Running for Attached {}

fn bare_redirect(network: &Network) -> Result<Box<dyn Running + '_>> {
    Ok(Box::new(Attached { _object: redirect_all(network.lab.gateway())? }))
}

struct VoipHa<'network> {
    gateway: Gateway<'network>,
    server: Process,
}

/// The daemon with its probes, as it is shipped.
fn voip_ha(network: &Network) -> Result<Box<dyn Running + '_>> {
    protected(network, None)
}

/// The same with limits or lists.
pub(super) fn protected(network: &Network, protection: Option<Protection>) -> Result<Box<dyn Running + '_>> {
    let server = network.start_server()?;
    let mut config = Config::of(&network.lab);
    config.gateway.back = CABLE.to_owned();
    for service in &mut config.service {
        let (name, forwarding) = ("master".to_owned(), "nat".to_owned());
        service.protection.clone_from(&protection);
        service.server = vec![ServerSection { name, address: vec![SERVER.into()], forwarding, probe: None }];
    }
    Ok(Box::new(VoipHa { gateway: Gateway::start(&network.lab, config)?, server }))
}

impl Running for VoipHa<'_> {
    fn must_run(&mut self) -> Result<()> {
        self.server.must_run()?;
        self.gateway.process().must_run()
    }
}

/// What the kernel itself does, without rules.
struct Kernel;

impl Running for Kernel {}

/// The lab's gateway has forwarding on.
fn kernel_routing(_network: &Network) -> Result<Box<dyn Running + '_>> {
    Ok(Box::new(Kernel))
}

/// With connection tracking, which DNAT needs.
fn nft_dnat(network: &Network) -> Result<Box<dyn Running + '_>> {
    translate(network)?;
    Ok(Box::new(Kernel))
}

/// Lets the kernel's DNAT lead the whole service to the server.
pub(super) fn translate(network: &Network) -> Result<()> {
    let (first, last) = RTP_PORTS;
    let rules = format!(
        "table ip bench {{\n    chain prerouting {{\n        type nat hook prerouting priority dstnat; policy accept;\n        \
         ip daddr {VIP} udp dport {{ {SIP_PORT}, {first}-{last} }} dnat to {SERVER}\n    }}\n}}\n"
    );
    nft(network.lab.gateway(), &["-f", "-"], &rules)?;
    Ok(())
}
