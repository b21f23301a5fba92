//! What the kernel noted about a flip, read from the pins for receipts: by the controller or by any other process.

use std::{net::IpAddr, time::Duration};

use anyhow::{Context as _, Result, ensure};
use voip_ha_ebpf::abi::{Class, ServerNumber, Stamp, flip_index, tally_index};

use super::{Heard, pins::Pins, tables::Tables};

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

    /// When the server with this address was last heard and refused.
    ///
    /// # Errors
    ///
    /// There is no such server, or a map cannot be read.
    pub fn seen(&self, server: IpAddr) -> Result<Heard> {
        let signs = self.tables.signs(self.number(server)?)?;
        Ok(Heard { heard: time(signs.heard_at), refused: time(signs.refused_at) })
    }

    /// The first packets after the flip that gave the service with this VIP the epoch. The kernel keeps the last four
    /// epochs; stamps of an older one are `None`.
    ///
    /// # Errors
    ///
    /// There is no such service, or the map cannot be read.
    pub fn flip_stamps(&self, vip: IpAddr, epoch: u16) -> Result<FlipStamps> {
        let service = self.service(vip)?;
        let stamps = |class| -> Result<Stamps> {
            let index = flip_index(service, epoch, class);
            let entry = self.tables.flips.get(&index, 0).with_context(|| format!("cannot read FLIPS[{index}]"))?;
            let at = |stamp: Stamp| (stamp.epoch == u64::from(epoch)).then_some(stamp.at).and_then(time);
            Ok(Stamps { first_to: at(entry.first_to), first_back: at(entry.first_back) })
        };
        Ok(FlipStamps { signalling: stamps(Class::Sip)?, media: stamps(Class::Rtp)? })
    }

    /// What the server with this address was sent since it was last heard.
    ///
    /// # Errors
    ///
    /// There is no such server, or a map cannot be read.
    pub fn sent_since_heard(&self, server: IpAddr) -> Result<SentSinceHeard> {
        let number = self.number(server)?;
        let heard_at = self.tables.signs(number)?.heard_at;
        let sent = |class| -> Result<u64> {
            let cpus = self.tables.tallies(tally_index(Some(number), class))?;
            Ok(cpus.iter().map(|cpu| cpu.pending).filter(|cpu| cpu.heard_at == heard_at).map(|cpu| cpu.packets).sum())
        };
        Ok(SentSinceHeard { sip: sent(Class::Sip)?, rtp: sent(Class::Rtp)?, heard_at: time(heard_at) })
    }

    /// How many RTP flows from clients of the service with this VIP are noted. They are forgotten then, so that the next
    /// flip begins with none, unless the kernel is to remember whose calls are whose; call it after
    /// [`end_census`](super::Datapath::end_census), and once more when that has ended.
    ///
    /// # Errors
    ///
    /// There is no such service, or a map cannot be read.
    pub fn take_flows(&mut self, vip: IpAddr) -> Result<u64> {
        let service = self.service(vip)?;
        let flows = self.tables.count_flows(|flow, _| flow.service == service)?;
        if !self.tables.word(service)?.is_affine() {
            self.tables.forget_calls(|of| of == service)?;
        }
        Ok(flows)
    }

    /// How many RTP flows from clients of the service with this VIP were seen since then (`CLOCK_MONOTONIC` since its zero;
    /// the kernel's notes are up to 0.5 s too old) and belong to the server with this address, which drains.
    ///
    /// # Errors
    ///
    /// There is no such service or server, or the map cannot be read.
    pub fn flows_left(&self, vip: IpAddr, server: IpAddr, since: Duration) -> Result<u64> {
        let (service, number) = (self.service(vip)?, self.number(server)?);
        self.tables.count_flows(|flow, entry| {
            let is_its_own = entry.server == 0 || entry.server == number.0 + 1;
            flow.service == service && is_its_own && u128::from(entry.seen_at) >= since.as_nanos()
        })
    }

    /// The number of the server with this address.
    ///
    /// # Errors
    ///
    /// There is no such server.
    pub fn number(&self, server: IpAddr) -> Result<ServerNumber> {
        let endpoint = self.tables.endpoints.get(server.into());
        ensure!(endpoint.is_server(), "{server} is no server in the kernel's tables");
        Ok(endpoint.number())
    }

    fn service(&self, vip: IpAddr) -> Result<u32> {
        let endpoint = self.tables.endpoints.get(vip.into());
        ensure!(endpoint.is_vip(), "{vip} is no VIP in the kernel's tables");
        Ok(endpoint.place().service())
    }
}

/// Nanoseconds as the kernel side writes them, where 0 means never.
fn time(nanoseconds: u64) -> Option<Duration> {
    (nanoseconds != 0).then(|| Duration::from_nanos(nanoseconds))
}
