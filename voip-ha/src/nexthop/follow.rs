//! One conversation with the kernel: notifications are taken at once, whatever else is waited for.

use std::{convert::Infallible, pin::pin, time::Duration};

use anyhow::{Context as _, Result};
use futures_util::{Stream, StreamExt as _};
use rtnetlink::{packet_core::NetlinkPayload, packet_route::RouteNetlinkMessage};

use super::{
    News, Watcher,
    reading::{Questions, Reading, in_time},
    view::{Need, View},
};

/// Notifications that come close together are answered by one reading.
const SETTLE: Duration = Duration::from_millis(5);

impl Watcher {
    /// Reads the network by `read`, tells what it is like, and keeps that right by `messages`.
    pub(super) async fn follow<R: Future<Output = Result<Reading>>>(
        &mut self,
        mut messages: impl Stream<Item = NetlinkPayload<RouteNetlinkMessage>> + Unpin,
        read: impl Fn(Questions) -> R,
    ) -> Result<Infallible> {
        // Before this conversation anything may have changed.
        let mut need = Need::Everything;
        loop {
            while need == Need::Nothing {
                need = self.take(&mut messages).await?;
            }
            need = need.max(self.taking(&mut messages, tokio::time::sleep(SETTLE)).await?.1);
            let questions = self.view()?.questions(need);
            let reading;
            (reading, need) = self.taking(&mut messages, in_time(read(questions))).await?;
            for news in self.view()?.found(&reading?) {
                self.tell(news);
            }
            if std::mem::replace(&mut self.lost, false) {
                self.tell(News::Watching { up: true, why: None });
            }
        }
    }

    /// Waits for `work` and takes notifications meanwhile. Also says what they ask to read again.
    async fn taking<T>(
        &mut self,
        messages: &mut (impl Stream<Item = NetlinkPayload<RouteNetlinkMessage>> + Unpin),
        work: impl Future<Output = T>,
    ) -> Result<(T, Need)> {
        let mut work = pin!(work);
        let mut need = Need::Nothing;
        loop {
            tokio::select! {
                taken = self.take(messages) => need = need.max(taken?),
                done = &mut work => return Ok((done, need)),
            }
        }
    }

    async fn take(
        &mut self,
        messages: &mut (impl Stream<Item = NetlinkPayload<RouteNetlinkMessage>> + Unpin),
    ) -> Result<Need> {
        let message = messages.next().await.context("rtnetlink ended the conversation")?;
        let (news, need) = self.view()?.take(&message);
        for news in news {
            self.tell(news);
        }
        Ok(need)
    }

    fn view(&mut self) -> Result<&mut View> {
        self.view.as_mut().context("the interfaces are not known yet")
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use futures_util::stream;
    use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

    use super::*;
    use crate::network::Interface;

    const LIMIT: Duration = Duration::from_secs(5);

    fn back() -> Interface {
        Interface { index: 7, name: "back".to_owned(), mac: [2, 0, 0, 0, 0, 1], mtu: 1500, carrier: true, xdp: None }
    }

    fn watcher(lost: bool) -> (Watcher, UnboundedReceiver<News>) {
        let (news, heard) = unbounded_channel();
        (Watcher { news, view: Some(View::new(vec![back()], std::iter::empty())), lost }, heard)
    }

    fn without_carrier() -> NetlinkPayload<RouteNetlinkMessage> {
        let mut link = LinkMessage::default();
        link.header.index = back().index;
        link.header.flags = LinkFlags::Up;
        link.attributes = vec![
            LinkAttribute::IfName(back().name),
            LinkAttribute::Address(back().mac.to_vec()),
            LinkAttribute::Mtu(back().mtu),
        ];
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link))
    }

    fn run<T>(test: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async { tokio::time::timeout(LIMIT, test).await.expect("it ends in time") })
    }

    #[test]
    fn a_lost_carrier_is_told_while_the_kernel_is_asked() {
        run(async {
            let (mut watcher, mut heard) = watcher(false);
            let (asked, mut is_asked) = unbounded_channel();
            let messages = stream::once(async move {
                is_asked.recv().await;
                without_carrier()
            });
            let messages = Box::pin(messages.chain(stream::pending()));
            let following = watcher.follow(messages, |_| {
                let _ = asked.send(());
                pending()
            });
            tokio::select! {
                ended = following => panic!("it ended before the carrier was told: {ended:?}"),
                news = heard.recv() => {
                    assert_eq!(news, Some(News::Carrier { interface: back().name, up: false, servers: Vec::new() }));
                }
            }
        });
    }

    #[test]
    fn an_answer_that_never_comes_ends_the_conversation() {
        run(async {
            let (mut watcher, _heard) = watcher(false);
            let ended = watcher.follow(stream::pending(), |_| pending()).await;
            let Err(error) = ended;
            assert!(format!("{error:#}").contains("unanswered"), "{error:#}");
        });
    }

    #[test]
    fn lost_notifications_make_everything_be_read_again() {
        run(async {
            let (mut watcher, _heard) = watcher(false);
            let (asked, mut questions) = unbounded_channel();
            let (loses, lost) = unbounded_channel();
            let messages =
                Box::pin(stream::unfold(lost, async |mut lost: UnboundedReceiver<_>| Some((lost.recv().await?, lost))));
            let following = watcher.follow(messages, |questions| {
                let _ = asked.send(questions.links);
                ready(Ok(Reading::default()))
            });
            tokio::select! {
                ended = following => panic!("it ended: {ended:?}"),
                () = async {
                    assert_eq!(questions.recv().await, Some(true));
                    tokio::time::sleep(2 * SETTLE).await;
                    let _ = loses.send(NetlinkPayload::Overrun(Vec::new()));
                    assert_eq!(questions.recv().await, Some(true));
                } => {}
            }
        });
    }

    #[test]
    fn the_first_reading_after_a_failure_says_that_the_network_is_followed_again() {
        run(async {
            let (mut watcher, mut heard) = watcher(true);
            let following = watcher.follow(stream::pending(), |_| ready(Ok(Reading::default())));
            tokio::select! {
                ended = following => panic!("it ended: {ended:?}"),
                news = heard.recv() => assert_eq!(news, Some(News::Watching { up: true, why: None })),
            }
        });
    }
}
