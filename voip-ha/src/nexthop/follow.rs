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
    pub(super) async fn follow(
        &mut self,
        mut messages: impl Stream<Item = NetlinkPayload<RouteNetlinkMessage>> + Unpin,
        read: impl AsyncFn(Questions) -> Result<Reading>,
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
            if need < Need::Everything {
                for news in self.view()?.found(reading?) {
                    self.tell(news);
                }
                if std::mem::replace(&mut self.lost, false) {
                    self.tell(News::Watching { up: true, why: None });
                }
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
