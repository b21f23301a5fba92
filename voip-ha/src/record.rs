//! The recorder: makes a receipt of each flip, and remembers on the disk what must outlive the controller.
//!
//! ```text
//!   controller ──events──► recorder's thread ──receipts, events──► disk's thread ──► state_dir
//!                              ▲   reads the kernel's notes            writes, waits for the disk
//! ```
//!
//! It runs beside the controller and hands nothing back to it but an event: what was left when a drain ended. Its two threads are its own: reading the flows of a busy
//! gateway takes milliseconds, and a disk may take seconds, which neither the controller nor the thread that follows the
//! network may wait for.
//!
//! The state directory (`gateway.state_dir`):
//!
//! | file | what | limit |
//! |---|---|---|
//! | `history-NNNNNN.jsonl` | receipts, flips, outages, dead servers that were kept, starts, observed times; on the disk before anything else is done | 8 files of 4 MiB, the oldest dropped |
//! | `events-NNNNNN.jsonl` | all events | 2 files of 1 MiB |
//! | `observed.json` | how far the running controller has observed; written every 10 s | 128 bytes |

mod collection;
mod collector;
mod history;
mod ledger;
mod log;
mod looks;
mod store;
mod watch;

use std::{
    path::Path,
    sync::mpsc::{self, SyncSender, TrySendError},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow};
use tokio::{
    sync::{
        broadcast::{self, error::RecvError},
        oneshot,
    },
    time::sleep,
};

pub use self::history::{FORMAT, History, Observed, Record, latest_events};
use self::{
    collector::Collector,
    ledger::{Bytes, KernelLedger, Ledger},
    store::Store,
};
use crate::{
    config::Config,
    controller::{Order, Orders},
    datapath::{FlipStamps, SentSinceHeard},
    event::{Event, Happening},
    ids::{ServerId, ServiceId},
    journal::monotonic,
    receipt::Receipt,
};

/// How often the observed time is noted.
const BEAT: Duration = Duration::from_secs(10);
/// How long the end of the program waits for the disk.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// Notes that wait for the disk; more are dropped, and that is told.
const QUEUE: usize = 1024;

/// A running recorder.
pub struct Recorder {
    stop: oneshot::Sender<()>,
    stopped: oneshot::Receiver<()>,
}

/// What the disk's thread is given.
enum Note {
    Event(Box<Event>),
    Receipt(Box<Receipt>),
}

impl Recorder {
    /// Starts to record what the controller does from now on.
    ///
    /// # Errors
    ///
    /// A thread cannot be started.
    pub fn start(config: &Config, orders: Orders) -> Result<Self> {
        let (stop, stopping) = oneshot::channel();
        let (ended, stopped) = oneshot::channel();
        let (notes, writing) = mpsc::sync_channel(QUEUE);
        let directory = config.gateway.state_dir.clone();
        thread::Builder::new().name("disk".to_owned()).spawn(move || {
            write(&directory, &writing);
            // Nobody may be waiting for it.
            let _ = ended.send(());
        })?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let config = config.clone();
        thread::Builder::new().name("recorder".to_owned()).spawn(move || {
            if let Err(error) = runtime.block_on(record(&config, &orders, notes, stopping)) {
                tracing::error!("nothing is recorded any more: {error:#}");
            }
        })?;
        Ok(Self { stop, stopped })
    }

    /// Writes receipts that are not done yet with what is known, and returns when all is on the disk, or after 2 s.
    pub async fn end(self) {
        drop(self.stop);
        if tokio::time::timeout(LAST_WORDS, self.stopped).await.is_err() {
            tracing::warn!("the disk takes longer than {} s: the latest receipts may be lost", LAST_WORDS.as_secs());
        }
    }
}

/// The recorder's thread.
async fn record(
    config: &Config,
    orders: &Orders,
    notes: SyncSender<Note>,
    mut stopping: oneshot::Receiver<()>,
) -> Result<()> {
    let mut ledger = open_ledger(config);
    let mut collector = Collector::new(config, monotonic());
    let (past, mut events) = orders.ask(Order::Events).await.context("the controller has ended")?;
    let mut desk = Desk { notes, dropped: 0, orders: orders.clone() };
    // What an earlier controller recorded is on the disk already.
    let started = past.iter().rposition(|event| matches!(event.happening, Happening::Started { .. })).unwrap_or(0);
    for event in past.into_iter().skip(started) {
        take_down(event, &mut collector, &mut *ledger, &mut desk);
    }
    loop {
        let rest = collector.next_deadline().saturating_sub(monotonic());
        tokio::select! {
            biased;
            _ = &mut stopping => break,
            event = events.recv() => match event {
                Ok(event) => take_down(event, &mut collector, &mut *ledger, &mut desk),
                Err(RecvError::Lagged(missed)) => tracing::warn!("{missed} events are not recorded: the recorder came too late"),
                Err(RecvError::Closed) => break,
            },
            () = sleep(rest) => desk.receipts(collector.tick(&mut *ledger, monotonic())),
        }
    }
    drain(&mut events, &mut collector, &mut *ledger, &mut desk);
    desk.receipts(collector.end(&mut *ledger, monotonic()));
    Ok(())
}

/// What happened before the end, and was not read yet.
fn drain(events: &mut broadcast::Receiver<Event>, collector: &mut Collector, ledger: &mut dyn Ledger, desk: &mut Desk) {
    while let Ok(event) = events.try_recv() {
        take_down(event, collector, ledger, desk);
    }
}

fn take_down(event: Event, collector: &mut Collector, ledger: &mut dyn Ledger, desk: &mut Desk) {
    match &event.happening {
        Happening::Flip(flip) => desk.receipts(collector.flip(&event, flip, ledger, monotonic())),
        other => {
            collector.hear(other);
            if let Some(left) = collector.forget(other, ledger, monotonic()) {
                desk.orders.note(left);
            }
        }
    }
    desk.note(Note::Event(Box::new(event)));
}

/// Where notes are handed to the disk's thread, and what was found out to the controller.
struct Desk {
    orders: Orders,
    notes: SyncSender<Note>,
    dropped: u64,
}

impl Desk {
    fn receipts(&mut self, receipts: Vec<Receipt>) {
        for receipt in receipts {
            self.note(Note::Receipt(Box::new(receipt)));
        }
    }

    fn note(&mut self, note: Note) {
        match self.notes.try_send(note) {
            Ok(()) if self.dropped > 0 => {
                tracing::warn!("{} receipts and events were dropped: the disk did not keep up", self.dropped);
                self.dropped = 0;
            }
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                if self.dropped == 0 {
                    tracing::warn!("the disk does not keep up: receipts and events are dropped");
                }
                self.dropped += 1;
            }
            // The disk's thread ends after this one only.
            Err(TrySendError::Disconnected(_)) => {}
        }
    }
}

/// The disk's thread: ends when the recorder's has.
fn write(directory: &Path, notes: &mpsc::Receiver<Note>) {
    let mut store = Store::new(directory, jiff::Timestamp::now(), monotonic());
    let mut next_beat = monotonic() + BEAT;
    loop {
        match notes.recv_timeout(next_beat.saturating_sub(monotonic())) {
            Ok(Note::Event(event)) => store.event(*event),
            Ok(Note::Receipt(receipt)) => {
                store.receipt(*receipt);
                // Whoever measured it was there.
                next_beat = monotonic();
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
        }
        // Not only when nothing else is to do: a gateway with much to tell is there as well.
        if monotonic() >= next_beat {
            store.beat(jiff::Timestamp::now(), monotonic());
            next_beat = monotonic() + BEAT;
        }
    }
    store.end(jiff::Timestamp::now(), monotonic());
}

fn open_ledger(config: &Config) -> Box<dyn Ledger> {
    match KernelLedger::open(config) {
        Ok(ledger) => Box::new(ledger),
        Err(error) => {
            tracing::warn!("receipts will lack what the kernel measures: {error:#}");
            Box::new(NoLedger(format!("{error:#}")))
        }
    }
}

/// Stands for a kernel whose notes cannot be read.
struct NoLedger(String);

impl Ledger for NoLedger {
    fn flip_stamps(&self, _: ServiceId, _: u16) -> Result<FlipStamps> {
        Err(anyhow!(self.0.clone()))
    }

    fn sent_since_heard(&self, _: ServerId) -> Result<SentSinceHeard> {
        Err(anyhow!(self.0.clone()))
    }

    fn take_flows(&mut self, _: ServiceId) -> Result<u64> {
        Err(anyhow!(self.0.clone()))
    }

    fn flows_left(&self, _: ServiceId, _: ServerId, _: Duration) -> Result<u64> {
        Err(anyhow!(self.0.clone()))
    }

    fn bytes(&self, _: ServiceId) -> Result<Bytes> {
        Err(anyhow!(self.0.clone()))
    }
}
