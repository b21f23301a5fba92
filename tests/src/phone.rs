//! Phones: user agents that register, call, and hand their RTP sockets to the meter.
//!
//! Each has its own SIP and RTP socket, not connected, so an ICMP error does not shorten a time-out: like a phone on a
//! desk it repeats its request at 0.5, 1.5, 3.5, 7.5 s … and gives up after 32 s. All requests go to the one address it
//! was told, as with an outbound proxy.

mod dialog;
mod transaction;

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr, UdpSocket},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use tokio::{runtime::Runtime, task::JoinSet};

use crate::{meter::Stream, topology::Lab};
use dialog::Dialog;
use transaction::Client;

/// Why a request failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Failure {
    /// The final answer's status.
    Status(u16),
    /// No final answer within 32 s.
    Timeout,
    /// An answer that lacks what it must have, such as an address for the audio.
    Malformed,
}

/// What became of the same request of many phones.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outcome {
    /// How many got a 2xx.
    pub succeeded: usize,
    /// How many did not, by reason.
    pub failed: BTreeMap<Failure, usize>,
    /// Requests sent again because no answer had come.
    pub retransmissions: usize,
    /// The longest time from a request to its final answer.
    pub slowest: Duration,
}

/// A number of phones that talk to one address.
#[derive(Debug)]
pub struct Phones {
    runtime: Runtime,
    phones: Vec<Phone>,
}

#[derive(Debug)]
struct Phone {
    client: Client,
    rtp: UdpSocket,
    dialog: Option<Dialog>,
}

#[derive(Debug, Clone, Copy)]
enum Action {
    Register,
    Call,
    HangUp,
}

impl Phones {
    /// `count` phones, spread over the lab's phone addresses, all of which use the server at `server`, by
    /// its family.
    pub fn new(lab: &Lab, server: impl Into<SocketAddr>, count: usize) -> Result<Self> {
        let server = server.into();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let addresses = lab.phone_addresses_for(server.ip())?;
        let open = move || -> Result<Vec<(IpAddr, UdpSocket, UdpSocket)>> {
            let one = |address| Ok((address, UdpSocket::bind((address, 0))?, UdpSocket::bind((address, 0))?));
            addresses.into_iter().cycle().take(count).map(one).collect()
        };
        let sockets = lab.phones().run(open).context("sockets of the phones")?;
        let _inside = runtime.enter();
        let phone = |(number, (address, sip, rtp))| {
            let client = Client::new(format!("phone{number}"), address, sip, server)?;
            Ok(Phone { client, rtp, dialog: None })
        };
        let phones = sockets.into_iter().enumerate().map(phone).collect::<Result<_>>()?;
        Ok(Self { runtime, phones })
    }

    /// Registers every phone, all at once. Doing it again renews the registration.
    pub fn register(&mut self) -> Result<Outcome> {
        self.all(Action::Register, |_| true)
    }

    /// Makes `count` idle phones call, all at once. Fails if fewer are idle.
    pub fn call(&mut self, count: usize) -> Result<Outcome> {
        let idle = self.phones.iter().filter(|phone| phone.dialog.is_none()).count();
        ensure!(idle >= count, "{count} calls need as many idle phones; there are {idle}");
        let mut left = count;
        self.all(Action::Call, |phone| {
            let chosen = phone.dialog.is_none() && left > 0;
            left -= usize::from(chosen);
            chosen
        })
    }

    /// Ends all calls. A call is over for its phone whatever the answer is.
    pub fn hang_up(&mut self) -> Result<Outcome> {
        self.all(Action::HangUp, |phone| phone.dialog.is_some())
    }

    /// Number of calls in progress.
    pub fn calls(&self) -> usize {
        self.phones.iter().filter(|phone| phone.dialog.is_some()).count()
    }

    /// The RTP streams of the calls in progress, each from its phone's RTP socket to the address that was negotiated.
    pub fn streams(&self) -> Result<Vec<Stream>> {
        let stream = |phone: &Phone| -> Option<Result<Stream>> {
            let remote = phone.dialog.as_ref()?.media();
            Some(phone.rtp.try_clone().map(|socket| Stream { socket, remote }).map_err(Into::into))
        };
        self.phones.iter().filter_map(stream).collect()
    }

    fn all(&mut self, action: Action, mut chosen: impl FnMut(&Phone) -> bool) -> Result<Outcome> {
        let (busy, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.phones).into_iter().enumerate().partition(|(_, phone)| chosen(phone));
        let mut back = rest;
        let mut outcome = Outcome::default();
        self.runtime.block_on(async {
            let mut tasks = JoinSet::new();
            for (number, mut phone) in busy {
                tasks.spawn(async move {
                    let result = phone.act(action).await;
                    (number, phone, result)
                });
            }
            while let Some(done) = tasks.join_next().await {
                let (number, mut phone, result) = done.context("a phone panicked")?;
                outcome.add(result, phone.client.take_retransmissions());
                back.push((number, phone));
            }
            anyhow::Ok(())
        })?;
        back.sort_by_key(|(number, _)| *number);
        self.phones = back.into_iter().map(|(_, phone)| phone).collect();
        Ok(outcome)
    }
}

impl Phone {
    async fn act(&mut self, action: Action) -> Result<Duration, Failure> {
        let start = tokio::time::Instant::now();
        match action {
            Action::Register => self.client.register().await?,
            Action::Call => {
                let rtp = self.rtp.local_addr().map_err(|_| Failure::Malformed)?.port();
                self.dialog = Some(Dialog::invite(&mut self.client, rtp).await?);
            }
            Action::HangUp => {
                if let Some(dialog) = self.dialog.take() {
                    dialog.bye(&mut self.client).await?;
                }
            }
        }
        Ok(start.elapsed())
    }
}

impl Outcome {
    fn add(&mut self, result: Result<Duration, Failure>, retransmissions: usize) {
        self.retransmissions += retransmissions;
        match result {
            Ok(time) => {
                self.succeeded += 1;
                self.slowest = self.slowest.max(time);
            }
            Err(failure) => *self.failed.entry(failure).or_default() += 1,
        }
    }
}
