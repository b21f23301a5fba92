//! Keeps the way to every server known, so that the packet path never has to look for it.
//!
//! The way is the kernel's own: route, interface and neighbour are read through rtnetlink and followed by its
//! notifications, for each address of a server. Where the route leaves by a VLAN interface, frames leave by the interface
//! below, with the tags that it would have given them. The probes, which take the same way, keep the neighbour resolved. A neighbour that fails to resolve
//! is not forgotten: whether the server is dead is for the detector to say.
//!
//! Notifications and requests have a socket each. When more notifications come than the kernel keeps for us it drops
//! what comes next, and that must not be the answer that we wait for.

mod follow;
mod mask;
mod reading;
mod view;

use std::{
    convert::Infallible,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use futures_util::StreamExt as _;
use rtnetlink::{MulticastGroup, new_connection, new_multicast_connection};
use tokio::{sync::mpsc::UnboundedSender, task::JoinSet};

use self::{reading::read, view::View};
use crate::{
    config::Config,
    datapath::NextHop,
    ids::{Family, ServerId},
};

const GROUPS: [MulticastGroup; 6] = [
    MulticastGroup::Link,
    MulticastGroup::Neigh,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Route,
    MulticastGroup::Ipv6Ifaddr,
];
/// Between the end of one conversation with the kernel and the next, at first.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
/// The pause doubles up to this while conversations keep failing.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// News about the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// The way to a server. Told after every change in the network, whether it concerns this server or not: what was not
    /// put to use the first time gets another chance.
    Way {
        /// The server.
        server: ServerId,
        /// Of the address that it leads to.
        family: Family,
        /// The way.
        hop: NextHop,
        /// Name of the interface that the route leaves by.
        interface: String,
    },
    /// There is no way to a server that could be used now. A way that was known before stays in use. Told as often as
    /// [`News::Way`].
    NoWay {
        /// The server.
        server: ServerId,
        /// Of the address that there is no way to.
        family: Family,
        /// Why.
        why: String,
    },
    /// The carrier of an interface changed, or is missing at the start.
    Carrier {
        /// Name of the interface.
        interface: String,
        /// Whether it has one now.
        up: bool,
        /// The servers behind it.
        servers: Vec<ServerId>,
    },
    /// An interface was removed, and the XDP program with it. One that is made anew under its name is another one.
    /// [`News::Carrier`] comes first.
    InterfaceLost {
        /// Name of the interface.
        interface: String,
    },
    /// The kernel's notifications are no longer followed, or are again. What is known stays in use meanwhile.
    Watching {
        /// Whether they are followed now.
        up: bool,
        /// Why not.
        why: Option<String>,
    },
}

/// Follows the network until the receiver of the news is gone. A conversation with the kernel that fails is begun again.
pub async fn watch(config: &Config, news: UnboundedSender<News>) {
    let mut watcher = Watcher { news: news.clone(), view: None, lost: false };
    tokio::select! {
        () = news.closed() => {}
        never = watcher.keep_watching(config) => match never {},
    }
}

struct Watcher {
    news: UnboundedSender<News>,
    /// Kept from one conversation to the next: an interface that was made anew in between must not be taken for the old
    /// one.
    view: Option<View>,
    /// Whether it was told that nothing is followed.
    lost: bool,
}

impl Watcher {
    async fn keep_watching(&mut self, config: &Config) -> Infallible {
        let mut pause = SHORTEST_PAUSE;
        loop {
            let start = Instant::now();
            let Err(error) = self.converse(config).await;
            if !std::mem::replace(&mut self.lost, true) {
                self.tell(News::Watching { up: false, why: Some(format!("{error:#}")) });
            }
            if start.elapsed() > LONGEST_PAUSE {
                pause = SHORTEST_PAUSE;
            }
            tokio::time::sleep(pause).await;
            pause = LONGEST_PAUSE.min(pause * 2);
        }
    }

    async fn converse(&mut self, config: &Config) -> Result<Infallible> {
        let mut connections = JoinSet::new();
        let (connection, _, messages) =
            new_multicast_connection(&GROUPS).context("cannot follow the kernel's routes and neighbours")?;
        connections.spawn(connection);
        let (connection, handle, _) = new_connection().context("cannot ask the kernel for routes and neighbours")?;
        connections.spawn(connection);
        if self.view.is_none() {
            self.view = Some(reading::in_time(View::open(config, &handle)).await?);
        }
        let messages = messages.map(|(message, _)| message.payload);
        self.follow(messages, |questions| read(&handle, questions)).await
    }

    fn tell(&self, news: News) {
        // The receiver may be gone by now; that is no error.
        let _ = self.news.send(news);
    }
}
