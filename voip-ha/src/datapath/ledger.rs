//! What the kernel noted about a flip, read from the pins for receipts: by the controller or by any other process.

use std::{net::Ipv4Addr, time::Duration};

use anyhow::{Result, bail};

use super::{pins::Pins, tables::Tables};

/// The kernel's notes, opened.
pub struct Ledger {
    tables: Tables,
}

/// The first packets of one flip, each kind apart. All times are `CLOCK_MONOTONIC` since its zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct FlipStamps {
    /// Of SIP.
    pub signalling: Stamps,
    /// Of RTP.
    pub media: Stamps,
}

/// The first packets of one kind. `None`: there was none yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Stamps {
    /// The first packet to the server that is active since the flip.
    pub first_to: Option<Duration>,
    /// The first packet from that server to a client.
    pub first_back: Option<Duration>,
}

/// The packets that a server was sent and has not been heard since.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct SentSinceHeard {
    /// Packets of SIP.
    pub sip: u64,
    /// Packets of RTP and RTCP.
    pub rtp: u64,
    /// When it last sent to a client, as `CLOCK_MONOTONIC` since its zero; up to 0.5 ms too early. `None`: never.
    pub heard_at: Option<Duration>,
}

impl FlipStamps {
    /// The earlier ones of both kinds.
    pub fn either(&self) -> Stamps {
        let earlier = |a: Option<Duration>, b: Option<Duration>| a.into_iter().chain(b).min();
        Stamps {
            first_to: earlier(self.signalling.first_to, self.media.first_to),
            first_back: earlier(self.signalling.first_back, self.media.first_back),
        }
    }
}

impl Ledger {
    /// Opens the pinned maps.
    ///
    /// # Errors
    ///
    /// They are not there, have another layout, or may not be opened.
    pub fn open(pins: &Pins) -> Result<Self> {
        Ok(Self { tables: Tables::open(pins)? })
    }

    /// The maps, for everything else: counters, services, servers.
    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    /// The first packets after the flip that gave the service with this VIP the epoch. The kernel keeps the last four
    /// epochs; stamps of an older one are `None`.
    ///
    /// # Errors
    ///
    /// There is no such service, or the map cannot be read.
    pub fn flip_stamps(&self, vip: Ipv4Addr, epoch: u16) -> Result<FlipStamps> {
        bail!("the kernel keeps no stamps of flips yet ({vip}, epoch {epoch})")
    }

    /// What the server with this address was sent since it was last heard.
    ///
    /// # Errors
    ///
    /// There is no such server, or a map cannot be read.
    pub fn sent_since_heard(&self, server: Ipv4Addr) -> Result<SentSinceHeard> {
        bail!("the kernel does not count what {server} was sent yet")
    }

    /// How many RTP flows from clients of the service with this VIP were seen since its last flip. They are forgotten,
    /// so that the next flip begins with none; call it after [`end_census`](super::Datapath::end_census).
    ///
    /// # Errors
    ///
    /// There is no such service, or the map cannot be read.
    pub fn take_flows(&mut self, vip: Ipv4Addr) -> Result<u64> {
        bail!("the kernel does not count flows of {vip} yet")
    }
}
