//! Asking the kernel.

use std::{collections::HashMap, net::IpAddr, time::Duration};

use anyhow::{Context as _, Result};
use rtnetlink::Handle;

use super::mask;
use crate::network::{self, Interface, Neighbours, Stack, StackError, Way};

/// The kernel answers within microseconds, or the answer is lost.
const LIMIT: Duration = Duration::from_secs(1);

/// What is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Questions {
    /// Addresses that the way to is asked for.
    pub(super) addresses: Vec<IpAddr>,
    /// Indexes of the interfaces whose names are known.
    pub(super) known: Vec<u32>,
    /// Whether these are to be read again as well.
    pub(super) links: bool,
    /// Whether ports are needed that may stand for clients.
    pub(super) mask_ports: bool,
}

/// What the kernel said.
#[derive(Clone, Debug, Default)]
pub(super) struct Reading {
    /// By index; `None` if it is gone. Empty if not asked for.
    pub(super) links: Vec<(u32, Option<Interface>)>,
    /// In the order of [`Questions::addresses`].
    pub(super) ways: Vec<Result<Way, String>>,
    pub(super) neighbours: Neighbours,
    /// What the interfaces are that ways lead by, but for those that are known.
    pub(super) strangers: HashMap<u32, Result<Stack, StackError>>,
    /// First and last port that may stand for clients; nothing if not asked for.
    pub(super) mask_ports: Option<Result<[u16; 2], String>>,
}

/// Asks the questions one after the other.
///
/// # Errors
///
/// The kernel does not answer. That there is no way to a server is an answer.
pub(super) async fn read(handle: &Handle, questions: Questions) -> Result<Reading> {
    let mut reading = Reading { neighbours: network::neighbours(handle).await?, ..Reading::default() };
    if questions.mask_ports {
        reading.mask_ports = Some(mask::ports());
    }
    if questions.links {
        for &index in &questions.known {
            reading.links.push((index, network::interface_at(handle, index).await?));
        }
    }
    for address in questions.addresses {
        let way = network::way_to(handle, address).await.map_err(|error| format!("{error:#}"));
        if let Some(index) = way.as_ref().ok().map(|way| way.ifindex).filter(|index| !questions.known.contains(index)) {
            reading.strangers.insert(index, network::stack_at(handle, index, &questions.known).await?);
        }
        reading.ways.push(way);
    }
    Ok(reading)
}

/// Waits for what the kernel should answer at once.
///
/// # Errors
///
/// It does not, or says why not.
pub(super) async fn in_time<T>(asked: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(LIMIT, asked).await.context("the kernel left a question about the network unanswered")?
}
