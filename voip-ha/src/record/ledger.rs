//! What the recorder reads from the kernel, behind a seam for tests.

use std::time::Duration;

use anyhow::Result;
use voip_ha_ebpf::abi::{Class, Outcome, ServerNumber};

use crate::{
    config::{Addresses, Config},
    datapath::{self, FlipStamps, Pins, SentSinceHeard},
    ids::{ServerId, ServiceId},
};

/// Bytes since the maps were made, Ethernet headers included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct Bytes {
    /// SIP and RTP from clients to servers.
    pub(super) to_servers: u64,
    /// SIP and RTP from servers to clients.
    pub(super) to_clients: u64,
}

/// The kernel's notes.
pub(super) trait Ledger {
    /// The first packets after the flip that gave a service this epoch.
    fn flip_stamps(&self, service: ServiceId, epoch: u16) -> Result<FlipStamps>;

    /// What a server was sent since it was last heard.
    fn sent_since_heard(&self, server: ServerId) -> Result<SentSinceHeard>;

    /// The RTP flows noted of a service. They are then forgotten, unless calls are remembered.
    fn take_flows(&mut self, service: ServiceId) -> Result<u64>;

    /// The RTP flows of a server that drains, or did so until now, that were seen since then.
    fn flows_left(&self, service: ServiceId, server: ServerId, since: Duration) -> Result<u64>;

    /// What the servers of a service were sent, and sent.
    fn bytes(&self, service: ServiceId) -> Result<Bytes>;
}

/// The kernel's notes, read from the pins.
pub(super) struct KernelLedger {
    ledger: datapath::Ledger,
    /// By [`ServiceId`].
    services: Vec<KernelService>,
    /// By [`ServerId`].
    servers: Vec<Addresses>,
}

struct KernelService {
    vips: Addresses,
    numbers: Vec<ServerNumber>,
}

impl KernelLedger {
    /// Opens the pinned maps.
    ///
    /// # Errors
    ///
    /// They are not there, or hold another configuration.
    pub(super) fn open(config: &Config) -> Result<Self> {
        let ledger = datapath::Ledger::open(&Pins::new(&config.gateway.pin_dir))?;
        let services = config.services.iter().map(|service| {
            let numbers = service.servers.iter().map(|server| ledger.number(server.addresses.first()));
            Ok(KernelService { vips: service.vips, numbers: numbers.collect::<Result<_>>()? })
        });
        let services = services.collect::<Result<_>>()?;
        let servers = config.servers().map(|(_, _, server)| server.addresses).collect();
        Ok(Self { ledger, services, servers })
    }

    /// Bytes that became one of these of a server.
    fn sum(&self, number: ServerNumber, wanted: [Outcome; 2]) -> Result<u64> {
        let mut sum = 0;
        for class in [Class::Sip, Class::Rtp] {
            let outcomes = self.ledger.tables().outcomes(Some(number), class)?;
            sum += outcomes.iter().filter(|(of, _)| wanted.contains(of)).map(|(_, counter)| counter.bytes).sum::<u64>();
        }
        Ok(sum)
    }
}

impl Ledger for KernelLedger {
    fn flip_stamps(&self, service: ServiceId, epoch: u16) -> Result<FlipStamps> {
        self.ledger.flip_stamps(self.services[service.0].vips.first(), epoch)
    }

    fn sent_since_heard(&self, server: ServerId) -> Result<SentSinceHeard> {
        self.ledger.sent_since_heard(self.servers[server.0].first())
    }

    fn take_flows(&mut self, service: ServiceId) -> Result<u64> {
        self.ledger.take_flows(self.services[service.0].vips.first())
    }

    fn flows_left(&self, service: ServiceId, server: ServerId, since: Duration) -> Result<u64> {
        self.ledger.flows_left(self.services[service.0].vips.first(), self.servers[server.0].first(), since)
    }

    fn bytes(&self, service: ServiceId) -> Result<Bytes> {
        let mut bytes = Bytes::default();
        for number in &self.services[service.0].numbers {
            bytes.to_servers += self.sum(*number, [Outcome::ToServer, Outcome::ToServerByStack])?;
            bytes.to_clients += self.sum(*number, [Outcome::ToClient, Outcome::ToClientByStack])?;
        }
        Ok(bytes)
    }
}
