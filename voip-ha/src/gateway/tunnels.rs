//! What is new in the network, on its way to the controller: a way by a tunnel is told when the tunnel is ready for it, which takes the
//! kernel's verifier a while. Nothing else waits for that.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use rtnetlink::Handle;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::Observer;
use crate::{
    controller::Orders,
    datapath::Tunnels,
    ids::{Family, ServerId},
    network,
    nexthop::News,
};

/// How long a tunnel that was refused is not tried again.
const REFUSED: Duration = Duration::from_secs(30);

/// Passes news on until there are no more.
pub(super) async fn pass_on(mut heard: UnboundedReceiver<News>, orders: Orders, workshop: Workshop) {
    let (done, mut finished) = unbounded_channel();
    let mut desk = Desk::default();
    loop {
        let told = tokio::select! {
            news = heard.recv() => {
                let Some(news) = news else { break };
                let (told, wanted) = desk.take(news, Instant::now());
                wanted.into_iter().for_each(|ifindex| workshop.begin(ifindex, done.clone()));
                Vec::from_iter(told)
            }
            Some((ifindex, result)) = finished.recv() => desk.prepared(ifindex, result, Instant::now()),
        };
        told.into_iter().for_each(|news| orders.tell(news));
    }
}

/// Makes tunnels ready.
pub(super) struct Workshop {
    pub(super) handle: Handle,
    pub(super) tunnels: Arc<Mutex<Tunnels>>,
    pub(super) observer: Arc<Observer>,
}

/// The index of a tunnel, and why it is not ready.
type Done = (u32, Result<(), String>);

impl Workshop {
    fn begin(&self, ifindex: u32, done: UnboundedSender<Done>) {
        let Self { handle, tunnels, observer } = self;
        let work = prepare(handle.clone(), Arc::clone(tunnels), Arc::clone(observer), ifindex);
        tokio::spawn(async move {
            let result = work.await.map_err(|error| format!("{error:#}"));
            // Whoever waited may have ended.
            let _ = done.send((ifindex, result));
        });
    }
}

/// Makes the settings of a tunnel and puts the program on it.
async fn prepare(handle: Handle, tunnels: Arc<Mutex<Tunnels>>, observer: Arc<Observer>, ifindex: u32) -> Result<()> {
    let tunnel = network::tunnel_at(&handle, ifindex).await?.context("the tunnel is gone")?;
    observer.prepare_tunnel(&tunnel.name)?;
    let put = move || tunnels.lock().unwrap_or_else(PoisonError::into_inner).put(&tunnel);
    tokio::task::spawn_blocking(put).await?
}

/// What waits, and what is known of the tunnels.
#[derive(Default)]
struct Desk {
    waiting: HashMap<(ServerId, Family), News>,
    working: HashSet<u32>,
    ready: HashSet<u32>,
    refused: HashMap<u32, (Instant, String)>,
}

impl Desk {
    /// What to tell of this now, and a tunnel that is to be made ready.
    fn take(&mut self, news: News, now: Instant) -> (Option<News>, Option<u32>) {
        if let News::Way { server, family, .. } | News::NoWay { server, family, .. } = &news {
            self.waiting.remove(&(*server, *family));
        }
        let News::Way { server, family, hop, .. } = &news else { return (Some(news), None) };
        if !hop.by_stack || self.ready.contains(&hop.ifindex) {
            return (Some(news), None);
        }
        let ifindex = hop.ifindex;
        if let Some((since, why)) = self.refused.get(&ifindex)
            && now - *since < REFUSED
        {
            return (Some(News::NoWay { server: *server, family: *family, why: why.clone() }), None);
        }
        self.waiting.insert((*server, *family), news);
        (None, self.working.insert(ifindex).then_some(ifindex))
    }

    /// What to tell now that a tunnel is ready, or was refused.
    fn prepared(&mut self, ifindex: u32, result: Result<(), String>, now: Instant) -> Vec<News> {
        self.working.remove(&ifindex);
        match &result {
            Ok(()) => _ = self.ready.insert(ifindex),
            Err(why) => _ = self.refused.insert(ifindex, (now, why.clone())),
        }
        let leads_by_it = |news: &News| matches!(news, News::Way { hop, .. } if hop.ifindex == ifindex);
        let waited = self.waiting.extract_if(|_, news| leads_by_it(news));
        let told = waited.map(|((server, family), news)| match &result {
            Ok(()) => news,
            Err(why) => News::NoWay { server, family, why: why.clone() },
        });
        told.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datapath::NextHop;

    const MASTER: ServerId = ServerId(0);
    const CLOUD: ServerId = ServerId(1);

    fn way(server: ServerId, by_stack: bool) -> News {
        let hop = NextHop { by_stack, ..NextHop::by_stack(7, 1420) };
        News::Way { server, family: Family::V4, hop, interface: "wg0".to_owned() }
    }

    fn no_way(server: ServerId, why: &str) -> News {
        News::NoWay { server, family: Family::V4, why: why.to_owned() }
    }

    #[test]
    fn a_way_by_a_tunnel_is_told_when_that_is_ready_and_later_ones_at_once() {
        let (mut desk, now) = (Desk::default(), Instant::now());
        assert_eq!(desk.take(way(CLOUD, true), now), (None, Some(7)));
        assert_eq!(desk.take(way(MASTER, true), now), (None, None), "it is being made ready");
        let mut told = desk.prepared(7, Ok(()), now);
        told.sort_by_key(|news| *news == way(CLOUD, true));
        assert_eq!(told, [way(MASTER, true), way(CLOUD, true)]);
        assert_eq!(desk.take(way(CLOUD, true), now), (Some(way(CLOUD, true)), None));
    }

    #[test]
    fn what_is_told_meanwhile_takes_the_place_of_what_waits() {
        for later in [way(CLOUD, false), no_way(CLOUD, "no route")] {
            let (mut desk, now) = (Desk::default(), Instant::now());
            desk.take(way(CLOUD, true), now);
            assert_eq!(desk.take(later.clone(), now), (Some(later), None));
            assert_eq!(desk.prepared(7, Ok(()), now), []);
        }
    }

    #[test]
    fn a_tunnel_that_is_refused_is_no_way_and_is_tried_again_after_a_while() {
        let (mut desk, now) = (Desk::default(), Instant::now());
        desk.take(way(CLOUD, true), now);
        assert_eq!(desk.prepared(7, Err("too old".to_owned()), now), [no_way(CLOUD, "too old")]);
        assert_eq!(desk.take(way(CLOUD, true), now), (Some(no_way(CLOUD, "too old")), None));
        assert_eq!(desk.take(way(CLOUD, true), now + REFUSED), (None, Some(7)));
    }
}
