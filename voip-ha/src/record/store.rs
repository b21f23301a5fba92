//! The writing end of the state directory. A disk that fails disturbs nobody: it is told once, the latest receipts are
//! kept in memory, and they are written when it works again.

use std::{
    collections::VecDeque,
    fs::{DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::Timestamp;
use rustix::fs::{FlockOperation, flock};
use serde::Serialize;

use super::{
    history::{EVENTS, FORMAT, HISTORY, OBSERVED, Observed, Record, latest_observed},
    log::{Limits, Log},
    watch::Watch,
};
use crate::{
    event::{Event, Happening},
    receipt::Receipt,
};

/// Receipts have about 2 kB: some ten thousand flips.
const HISTORY_LIMITS: Limits = Limits { bytes: 4 << 20, files: 8 };
/// Twice as many events as the journal keeps, and more.
const EVENT_LIMITS: Limits = Limits { bytes: 1 << 20, files: 2 };
/// Records that wait for a disk that fails; the oldest go first.
const MOST_WAITING: usize = 256;
/// The file of the observed time has always this length, so that writing it anew is one write into one sector.
const OBSERVED_BYTES: usize = 128;

/// The state directory of a running controller.
pub(super) struct Store {
    directory: PathBuf,
    opened: Option<Opened>,
    waiting: VecDeque<Record>,
    /// Records that waited for too long, and are not told of in the history yet.
    lost: u64,
    watch: Watch,
    failing: bool,
}

struct Opened {
    history: Log,
    events: Log,
    observed: File,
    /// Goes with the process, however it ends.
    _lock: File,
}

impl Store {
    /// A store whose observed time begins now. A directory that cannot be used is told of, and tried again with each
    /// [`Store::beat`].
    pub(super) fn new(directory: &Path, wall: Timestamp, monotonic: Duration) -> Self {
        let watch = Watch::new(wall, monotonic);
        let (directory, waiting) = (directory.to_owned(), VecDeque::new());
        let mut store = Self { directory, opened: None, waiting, lost: 0, watch, failing: false };
        let written = store.write_all();
        store.judge(written);
        store
    }

    /// Remembers an event.
    pub(super) fn event(&mut self, event: Event) {
        let written = self.opened.as_mut().map_or(Ok(()), |opened| append(&mut opened.events, &event, event.at));
        if matters(&event.happening) {
            self.record(Record::Event(Box::new(event)));
        }
        if written.is_err() {
            self.judge(written);
        }
    }

    /// Remembers a receipt. It is on the disk when this returns, if the disk works.
    pub(super) fn receipt(&mut self, receipt: Receipt) {
        self.record(Record::Receipt(Box::new(receipt)));
    }

    /// The controller is still there.
    pub(super) fn beat(&mut self, wall: Timestamp, monotonic: Duration) {
        if let Some(before) = self.watch.beat(wall, monotonic) {
            self.wait(Record::Observed(before));
        }
        let written = self.write_all();
        self.judge(written);
    }

    /// The controller ends now.
    pub(super) fn end(&mut self, wall: Timestamp, monotonic: Duration) {
        self.beat(wall, monotonic);
        self.record(Record::Observed(self.watch.observed()));
        let lost = self.lost + self.waiting.len() as u64;
        if lost > 0 {
            tracing::warn!("{}: {lost} records are lost: the disk still fails", self.directory.display());
        }
    }

    fn record(&mut self, record: Record) {
        self.wait(record);
        let written = self.write_all();
        self.judge(written);
    }

    fn wait(&mut self, record: Record) {
        if self.waiting.len() == MOST_WAITING {
            self.waiting.pop_front();
            if self.lost == 0 {
                let directory = self.directory.display();
                tracing::warn!("{directory}: {MOST_WAITING} records wait for the disk: the oldest are dropped");
            }
            self.lost += 1;
        }
        self.waiting.push_back(record);
    }

    /// Writes all that waits, and the observed time.
    fn write_all(&mut self) -> io::Result<()> {
        let opened = match &mut self.opened {
            Some(opened) => opened,
            closed => closed.insert(Opened::open(&self.directory)?),
        };
        if self.lost > 0 {
            append(&mut opened.history, &Record::Lost { records: self.lost }, self.watch.observed().to)?;
            tracing::warn!("{}: {} records were dropped while the disk failed", self.directory.display(), self.lost);
            self.lost = 0;
        }
        while let Some(record) = self.waiting.front() {
            append(&mut opened.history, record, self.watch.observed().to)?;
            opened.history.sync()?;
            self.waiting.pop_front();
        }
        opened.note_observed(self.watch.observed())?;
        opened.events.sync()
    }

    /// Warns when the disk begins to fail, and tells when that is over. Nothing in between.
    fn judge(&mut self, written: io::Result<()>) {
        let directory = self.directory.display();
        match written {
            Err(error) if !self.failing => {
                self.failing = true;
                tracing::warn!("{directory}: cannot record receipts and events: {error}; the gateway goes on");
            }
            Ok(()) if self.failing => {
                self.failing = false;
                tracing::info!("{directory}: receipts and events are recorded again");
            }
            _ => {}
        }
    }
}

impl Opened {
    fn open(directory: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o750).create(directory)?;
        let lock = File::open(directory)?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
            io::Error::new(io::ErrorKind::ResourceBusy, "another voip-ha records there; set another gateway.state_dir")
        })?;
        // What an earlier controller observed until it was killed is in a file that is about to be written anew.
        let earlier = latest_observed(directory)?;
        let path = directory.join(OBSERVED);
        let observed = OpenOptions::new().create(true).write(true).truncate(false).mode(0o640).open(path)?;
        let mut opened = Self {
            history: Log::open(directory, HISTORY, HISTORY_LIMITS)?,
            events: Log::open(directory, EVENTS, EVENT_LIMITS)?,
            observed,
            _lock: lock,
        };
        if let Some(earlier) = earlier {
            append(&mut opened.history, &Record::Observed(earlier), earlier.to)?;
            opened.history.sync()?;
        }
        Ok(opened)
    }

    fn note_observed(&self, observed: Observed) -> io::Result<()> {
        let mut bytes = serde_json::to_vec(&observed)?;
        bytes.resize(OBSERVED_BYTES - 1, b' ');
        bytes.push(b'\n');
        self.observed.write_all_at(&bytes, 0)?;
        self.observed.sync_data()
    }
}

/// Appends a value as a line; in a new file after a head that says when it was begun.
fn append(log: &mut Log, value: &impl Serialize, now: Timestamp) -> io::Result<()> {
    log.rotate_if_full()?;
    if log.is_fresh() {
        log.append(&serde_json::to_vec(&Record::Head { format: FORMAT, at: now })?)?;
    }
    log.append(&serde_json::to_vec(value)?)
}

/// Whether availability depends on it.
fn matters(happening: &Happening) -> bool {
    matches!(
        happening,
        Happening::Started { .. }
            | Happening::Flip(_)
            | Happening::OutageBegan { .. }
            | Happening::OutageEnded { .. }
            | Happening::Kept { .. }
            | Happening::KeptEnded { .. }
    )
}

/// Makes the directory's state unusable for tests that want that.
#[cfg(test)]
pub(super) fn fill_the_disk(directory: &Path) {
    std::fs::create_dir_all(directory).unwrap();
    std::os::unix::fs::symlink("/dev/full", directory.join(format!("{HISTORY}-000001.jsonl"))).unwrap();
}

#[cfg(test)]
mod tests;
