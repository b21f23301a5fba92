//! The streams that a fault is seen by, whatever they are made of.

use std::{
    ops::Range,
    time::{Duration, Instant},
};

use anyhow::Result;

use super::{sip_stream::SipStream, system::Carries};
use crate::{
    Lab,
    meter::{Meter, Stream},
    topology::{RTP_PORTS, VIP},
};

/// Running streams. Times are durations since their start.
#[derive(Debug)]
pub(super) enum Traffic {
    Rtp(Meter),
    Sip(SipStream),
}

/// What became of the packets that were sent in a window.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Account {
    pub(super) sent: u64,
    /// Answered by each server.
    pub(super) answered: Vec<(String, u64)>,
    /// Of what was sent, no answer came; what is in flight is not among it.
    pub(super) lost: u64,
    /// Longest silence of one stream.
    pub(super) gap: Duration,
}

impl Account {
    /// Whether a server alone has answered all that was sent.
    pub(super) fn all_by(&self, server: &str) -> bool {
        self.sent > 0 && matches!(&self.answered[..], [(name, count)] if name == server && *count == self.sent)
    }

    /// The names of the servers that have answered.
    pub(super) fn servers(&self) -> Vec<&str> {
        self.answered.iter().map(|(name, _)| name.as_str()).collect()
    }
}

impl Traffic {
    /// Starts so many streams; None for no streams.
    pub(super) fn start(lab: &Lab, carries: Carries, streams: u16) -> Result<Option<Self>> {
        if streams == 0 {
            return Ok(None);
        }
        let rtp = std::net::SocketAddrV4::new(VIP, RTP_PORTS.0);
        Ok(Some(match carries {
            Carries::Rtp => Self::Rtp(Meter::start(Stream::open(lab, rtp, streams)?)?),
            Carries::RtpToOnePort => Self::Rtp(Meter::start(Stream::open_to_one_port(lab, rtp, streams.into())?)?),
            Carries::Sip => Self::Sip(SipStream::start(lab, streams)?),
        }))
    }

    pub(super) fn now(&self) -> Duration {
        self.at(Instant::now())
    }

    pub(super) fn at(&self, instant: Instant) -> Duration {
        match self {
            Self::Rtp(meter) => meter.at(instant),
            Self::Sip(stream) => stream.at(instant),
        }
    }

    /// When the first answer by this server came, of the packets sent in the window.
    pub(super) fn first_by(&self, server: &str, window: Range<Duration>) -> Option<Duration> {
        match self {
            Self::Rtp(meter) => meter.first_echo_by(server, window),
            Self::Sip(stream) => stream.first_by(server, window),
        }
    }

    /// The account of a window as far as it is known now.
    pub(super) fn snapshot(&self, window: Range<Duration>) -> Account {
        match self {
            Self::Rtp(meter) => rtp_account(meter.snapshot(window)),
            Self::Sip(stream) => stream.account(window),
        }
    }

    /// The account of a window when all in it is answered or 1 s old.
    pub(super) fn account(&self, window: Range<Duration>) -> Result<Account> {
        match self {
            Self::Rtp(meter) => Ok(rtp_account(meter.settled(window)?.total)),
            Self::Sip(stream) => Ok(stream.account(window)),
        }
    }
}

fn rtp_account(tally: crate::meter::Tally) -> Account {
    let answered = tally.answered_by.into_iter().collect();
    Account { sent: tally.sent, answered, lost: tally.lost, gap: tally.max_gap }
}
