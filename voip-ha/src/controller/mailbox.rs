//! What other threads tell the controller, and the bell that wakes it.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{
        Arc,
        mpsc::{Receiver, Sender, TryRecvError, channel},
    },
};

use rustix::event::{EventfdFlags, eventfd};
use tokio::sync::oneshot;

use super::Order;
use crate::{event::Happening, nexthop::News};

/// A letter to the controller.
#[derive(Debug)]
pub(super) enum Letter {
    Order(Order),
    News(News),
    Event(Happening),
}

/// The other threads' end.
#[derive(Debug, Clone)]
pub struct Orders {
    // Dropped before the bell is rung for the last time.
    sender: Option<Sender<Letter>>,
    bell: Arc<OwnedFd>,
}

/// The controller's end.
#[derive(Debug)]
pub struct Mailbox {
    receiver: Receiver<Letter>,
    bell: Arc<OwnedFd>,
}

impl Orders {
    /// A mailbox, and the end to fill it by.
    ///
    /// # Errors
    ///
    /// The process has too many open files.
    pub fn channel() -> io::Result<(Self, Mailbox)> {
        let (sender, receiver) = channel();
        let bell = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        Ok((Self { sender: Some(sender), bell: Arc::clone(&bell) }, Mailbox { receiver, bell }))
    }

    /// Gives an order and waits for the answer. `None` if the controller has ended.
    pub async fn ask<T>(&self, order: impl FnOnce(oneshot::Sender<T>) -> Order) -> Option<T> {
        let (sender, receiver) = oneshot::channel();
        self.post(Letter::Order(order(sender)));
        receiver.await.ok()
    }

    /// Tells what is new in the network.
    pub fn tell(&self, news: News) {
        self.post(Letter::News(news));
    }

    /// Adds to the events what another thread has found out.
    pub fn note(&self, happening: Happening) {
        self.post(Letter::Event(happening));
    }

    fn post(&self, letter: Letter) {
        // A controller that has ended reads nothing: whoever asked learns that by the answer that never comes.
        if self.sender.as_ref().is_some_and(|sender| sender.send(letter).is_ok()) {
            self.ring();
        }
    }

    fn ring(&self) {
        // It can fail only if it has been rung 2⁶⁴ times and nobody came.
        let _ = rustix::io::write(&*self.bell, &1_u64.to_ne_bytes());
    }
}

impl Drop for Orders {
    fn drop(&mut self) {
        self.sender = None;
        self.ring();
    }
}

impl Mailbox {
    /// Becomes readable when there is something to take.
    pub(super) fn bell(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    /// Silences the bell. Letters that come after this ring it again.
    pub(super) fn answer_bell(&self) {
        let _ = rustix::io::read(&*self.bell, &mut [0_u8; 8]);
    }

    /// Takes a letter.
    ///
    /// # Errors
    ///
    /// There is none, or nobody is left who could send one.
    pub(super) fn take(&self) -> Result<Letter, TryRecvError> {
        self.receiver.try_recv()
    }
}
