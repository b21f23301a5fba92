//! The lab with a cable of its own from the gateway to the master: no bridge between, which is not what is measured.
//!
//! ```text
//!   phones eth0 ── 192.0.2.0/24 ── front gateway cable ── 10.66.4.0/24 ── cable master
//!                                  VIP            .1                      .2
//! ```

use std::{net::Ipv4Addr, process::Command, time::Duration};

use anyhow::{Context as _, Result};
use voip_ha_ebpf::abi::Mac;

use super::{calls, processor::Processor};
use crate::{
    Lab, Options,
    netns::{Namespace, join},
    process::Process,
    program,
    topology::{RTP_PORTS, VIP},
};

/// The server at the end of the cable.
pub(super) const SERVER: Ipv4Addr = Ipv4Addr::new(10, 66, 4, 2);
/// Name of the cable at both of its ends.
pub(super) const CABLE: &str = "cable";
/// Ethernet addresses of the cable between phones and gateway.
pub(super) const PHONES_MAC: Mac = [2, 0, 0, 0, 66, 1];
pub(super) const FRONT_MAC: Mac = [2, 0, 0, 0, 66, 2];

const START: Duration = Duration::from_secs(10);

pub(super) struct Network {
    pub(super) lab: Lab,
    /// Where floods are made.
    pub(super) processor: Processor,
}

impl Network {
    /// As many as there are systems. The first one keeps other labs away; those beside it must not wait for it.
    pub(super) fn build_for_each<T>(systems: &[T], processor: Processor) -> Result<Vec<Self>> {
        (0..systems.len()).map(|number| Self::build(number == 0, processor)).collect()
    }

    fn build(first: bool, processor: Processor) -> Result<Self> {
        let lab = Lab::new(Options { alone: first, ..Options::default() })?;
        let network = Self { lab, processor };
        let (phones, gateway, server) = (network.lab.phones(), network.lab.gateway(), network.server()?);
        join((gateway, CABLE), (server, CABLE))?;
        gateway.ip(&format!("address add 10.66.4.1/24 dev {CABLE}\nlink set dev front address {}", text(FRONT_MAC)))?;
        server.ip(&format!("address add {SERVER}/24 dev {CABLE}\nroute replace default via 10.66.4.1"))?;
        phones.ip(&format!("link set dev eth0 address {}", text(PHONES_MAC)))?;
        // Or frames that are sent into the cable by XDP are dropped where no XDP program receives them.
        gateway.ethtool("front", &["gro", "on"])?;
        Ok(network)
    }

    pub(super) fn server(&self) -> Result<&Namespace> {
        Ok(&self.lab.server("master")?.namespace)
    }

    /// Packets that have come to the gateway's front, whatever became of them.
    pub(super) fn offered(&self) -> Result<u64> {
        self.lab.gateway().packets_received("front")
    }

    /// Starts the lab's SIP and RTP server at the end of the cable.
    pub(super) fn start_server(&self) -> Result<Process> {
        let last = RTP_PORTS.0 + 2 * calls::COUNT as u16;
        let mut command = Command::new(program("lab-server")?);
        command.args(["--name", "master", "--address", &SERVER.to_string(), "--advertise", &VIP.to_string()]);
        command.args(["--rtp-ports", &format!("{}-{last}", RTP_PORTS.0)]);
        let mut process = Process::start(&self.lab, self.server()?, "master", command)?;
        process.wait_for_log("ready", START).context("the server at the end of the cable")?;
        Ok(process)
    }
}

fn text(mac: Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}
