//! Calls beside a flood.

use std::{ops::AddAssign, panic::resume_unwind, thread, time::Duration};

use anyhow::{Result, ensure};

use super::{
    network::Network,
    processor::{Priority, Processor},
};
use crate::{meter::Meter, phone::Phones, topology::SIP};

/// Calls that run.
pub(super) const COUNT: usize = 50;

/// Between two registrations of all phones.
const PAUSE: Duration = Duration::from_millis(100);

/// What calls sent while a flood came, and what of it was not answered.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Beside {
    pub(super) rtp_sent: u64,
    pub(super) rtp_lost: u64,
    pub(super) sip_sent: u64,
    pub(super) sip_lost: u64,
}

impl AddAssign for Beside {
    fn add_assign(&mut self, other: Self) {
        self.rtp_sent += other.rtp_sent;
        self.rtp_lost += other.rtp_lost;
        self.sip_sent += other.sip_sent;
        self.sip_lost += other.sip_lost;
    }
}

/// Phones, each with a call. They send from the flood's processor: then it alone receives at the front. Or the other one would
/// be left with the flood, which comes faster than it can take it, and a full queue would lose packets that no program has seen.
pub(super) struct Calls {
    processor: Processor,
    phones: Phones,
    meter: Meter,
}

impl Calls {
    pub(super) fn begin(network: &Network) -> Result<Self> {
        let mut phones = Phones::new(&network.lab, SIP, COUNT)?;
        for answered in [phones.register()?, phones.call(COUNT)?] {
            ensure!(answered.succeeded == COUNT, "without a flood not every phone is answered: {answered:?}");
        }
        let (processor, streams) = (network.processor, phones.streams()?);
        let meter = processor.run(Priority::Calls, || Meter::start(streams))?;
        Ok(Self { processor, phones, meter })
    }

    /// All phones register again and again until the flood is over, and all calls go on.
    pub(super) fn beside<T: Send>(&mut self, flood: impl FnOnce() -> Result<T> + Send) -> Result<(T, Beside)> {
        let begin = self.meter.now();
        let mut beside = Beside::default();
        let flooded = thread::scope(|scope| {
            let flood = scope.spawn(flood);
            while !flood.is_finished() {
                let answered = self.processor.run(Priority::Calls, || self.phones.register())?;
                let failed: usize = answered.failed.values().sum();
                beside.sip_sent += (answered.succeeded + failed + answered.retransmissions) as u64;
                beside.sip_lost += (failed + answered.retransmissions) as u64;
                thread::sleep(PAUSE);
            }
            flood.join().unwrap_or_else(|panic| resume_unwind(panic))
        })?;
        let rtp = self.meter.settled(begin..self.meter.now())?.total;
        (beside.rtp_sent, beside.rtp_lost) = (rtp.sent, rtp.lost);
        Ok((flooded, beside))
    }
}
