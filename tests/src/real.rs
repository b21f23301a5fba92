//! The same lab with Debian's Kamailio and sipp in place of the built-in server and phones.
//!
//! Each server runs Kamailio as registrar and proxy, and sipp as the application behind it, which answers calls and echoes
//! RTP unchanged on one port. Both say that the VIP is their address. Media is measured by the lab's own meter.

mod kamailio;
mod sipp;

use std::{
    collections::BTreeSet,
    net::SocketAddrV4,
    time::{Duration, Instant},
};

use anyhow::Result;
use rustix::process::Signal;
pub use sipp::{Counts, Run};

use crate::{
    process::Process,
    rtp,
    topology::{Lab, VIP},
    wait,
};

/// Where the application behind Kamailio listens, in its own namespace.
const APPLICATION: &str = "127.0.0.1:5070";

/// The address that every call's RTP goes to, as the session descriptions say.
pub const RTP: SocketAddrV4 = SocketAddrV4::new(VIP, 18_000);

/// Over how long a rate of packets is measured.
const RATE: Duration = Duration::from_millis(500);
/// How long calls may take until all of them have audio.
const AUDIO: Duration = Duration::from_secs(5);

/// Kamailio and its application on one server. Both are killed on drop.
#[derive(Debug)]
pub struct RealServer {
    kamailio: Process,
    application: Process,
}

impl RealServer {
    /// Starts both on a server of the lab and returns when Kamailio answers OPTIONS, which takes seconds.
    pub fn start(lab: &Lab, server: &str) -> Result<Self> {
        let host = lab.server(server)?;
        let address = lab.listen_address(host);
        let mut application = sipp::start_application(lab, host, address)?;
        let kamailio = kamailio::start(lab, host, address)?;
        // It was given the time that Kamailio takes; an address in use would have ended it.
        application.must_run()?;
        Ok(Self { kamailio, application })
    }

    /// Kills Kamailio with all its children and the application, as `kill -9` does.
    pub fn kill9(&mut self) -> Result<()> {
        // Both at once: Kamailio takes some ms to die, in which the application would still echo RTP.
        self.application.signal(Signal::KILL)?;
        self.kamailio.kill9()?;
        self.application.kill9()
    }

    /// The Call-IDs of the requests of this method, INVITE or BYE, that its Kamailio has seen.
    pub fn calls_of(&self, method: &str) -> BTreeSet<String> {
        kamailio::calls_of(&self.kamailio.log(), method)
    }

    /// The Kamailio processes.
    pub fn kamailio(&mut self) -> &mut Process {
        &mut self.kamailio
    }
}

/// Registers `users` users with Kamailio at the VIP, all at once.
pub fn register(lab: &Lab, users: u32) -> Result<Run> {
    sipp::register(lab, users)
}

/// Begins `calls` calls to the VIP at once, each with RTP from sipp, which last `hold_ms` and then end with BYE.
pub fn call(lab: &Lab, calls: u32, hold_ms: u32) -> Result<Run> {
    sipp::call(lab, calls, hold_ms)
}

/// Waits until phones receive the echoes of so many of sipp's calls: packets come in at 95 % of their rate or more. For
/// as long as nothing else sends RTP.
pub fn wait_for_rtp(lab: &Lab, calls: u32) -> Result<()> {
    let enough = 0.95 * f64::from(calls) * 1000.0 / rtp::INTERVAL_MS as f64;
    let mut last = (Instant::now(), lab.phones().packets_received("eth0")?);
    wait::until(AUDIO, "RTP of the calls", || {
        let elapsed = last.0.elapsed();
        if elapsed < RATE {
            return Ok(None);
        }
        let now = (Instant::now(), lab.phones().packets_received("eth0")?);
        let rate = (now.1 - last.1) as f64 / elapsed.as_secs_f64();
        last = now;
        Ok((rate >= enough).then_some(()))
    })
}
