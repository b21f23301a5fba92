//! What is on the disk, and how it is read: by the daemon when it starts, and by commands that need no daemon.

use std::{fs, io, path::Path};

use jiff::Timestamp;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::log;
use crate::{event::Event, receipt::Receipt};

/// Version of the records. A reader tells of records that it does not know.
pub const FORMAT: u32 = 1;
/// Receipts, outages and observed times: what availability is made of.
pub(super) const HISTORY: &str = "history";
/// All events.
pub(super) const EVENTS: &str = "events";
/// The time that the running controller, or one that was killed, has observed so far.
pub(super) const OBSERVED: &str = "observed.json";

/// One line of the history.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "kebab-case")]
pub enum Record {
    /// The first line of a file.
    Head {
        /// [`FORMAT`] of the writer.
        format: u32,
        /// When the file was begun: nothing in it or in later ones is older.
        at: Timestamp,
    },
    /// A flip, measured.
    Receipt(Box<Receipt>),
    /// A flip, the begin or end of an outage or of the time that a dead server is kept, or a start.
    Event(Box<Event>),
    /// A controller was there for this time.
    Observed(Observed),
    /// The disk failed for so long that records were dropped, about here.
    Lost {
        /// How many.
        records: u64,
    },
}

/// A time in which a controller watched and the recorder wrote down what happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    /// Its begin.
    pub from: Timestamp,
    /// Its end, or the latest sign of life of a controller that was killed.
    pub to: Timestamp,
}

/// Everything that the disk remembers, oldest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    /// The receipts.
    pub receipts: Vec<Receipt>,
    /// Flips, outages, dead servers that were kept, and starts.
    pub events: Vec<Event>,
    /// When a controller was there. Times may overlap.
    pub observed: Vec<Observed>,
    /// Nothing older than this is kept; `None` if nothing was dropped yet.
    pub complete_since: Option<Timestamp>,
    /// Records that were dropped because the disk failed for too long.
    pub lost: u64,
    /// Lines that could not be read: torn by a power cut, or of another version.
    pub unreadable: usize,
}

impl History {
    /// Reads what is in the directory. A directory that is not there is empty.
    ///
    /// # Errors
    ///
    /// Something is there and cannot be read.
    pub fn read(directory: &Path) -> io::Result<Self> {
        let mut history = Self::default();
        for (place, (sequence, path)) in log::files(directory, HISTORY)?.into_iter().enumerate() {
            let (records, unreadable) = lines::<Record>(&path)?;
            history.unreadable += unreadable;
            for record in records {
                match record {
                    Record::Head { at, .. } if place == 0 && sequence > 1 => history.complete_since = Some(at),
                    Record::Head { .. } => {}
                    Record::Receipt(receipt) => history.receipts.push(*receipt),
                    Record::Event(event) => history.events.push(*event),
                    Record::Observed(observed) => history.observed.push(observed),
                    Record::Lost { records } => history.lost += records,
                }
            }
        }
        history.observed.extend(latest_observed(directory)?);
        // A receipt is written seconds after its flip, and one of another flip may come before it.
        history.receipts.sort_by_key(|receipt| receipt.number);
        Ok(history)
    }

    /// The receipt with this number.
    pub fn receipt(&self, number: u64) -> Option<&Receipt> {
        // The last one, should the numbers have begun anew.
        self.receipts.iter().rev().find(|receipt| receipt.number == number)
    }
}

/// The latest events on the disk, at most `most`, oldest first. The last one has the highest number that any event or
/// receipt has there.
///
/// # Errors
///
/// Something is there and cannot be read.
pub fn latest_events(directory: &Path, most: usize) -> io::Result<Vec<Event>> {
    let mut events = Vec::new();
    for (_, path) in log::files(directory, EVENTS)? {
        events.extend(lines::<Event>(&path)?.0);
    }
    let last = events.iter().map(|event| event.number).max().unwrap_or(0);
    events.extend(later_history(directory, last)?);
    Ok(events.split_off(events.len().saturating_sub(most)))
}

/// The events of the history after the one with this number: those that the log of all events lacks, because the disk
/// failed when they were to be written there. A flip's receipt comes after its event and has the same number.
fn later_history(directory: &Path, last: u64) -> io::Result<Vec<Event>> {
    // The newest file that has any event is enough, and the others may be many megabytes.
    for (_, path) in log::files(directory, HISTORY)?.into_iter().rev() {
        let (records, _) = lines::<Record>(&path)?;
        let events = records
            .into_iter()
            .filter_map(|record| if let Record::Event(event) = record { Some(*event) } else { None });
        let events: Vec<_> = events.collect();
        if !events.is_empty() {
            return Ok(events.into_iter().filter(|event| event.number > last).collect());
        }
    }
    Ok(Vec::new())
}

/// What the running or killed controller has noted of its time. Nothing if it is torn: then the time is not known.
pub(super) fn latest_observed(directory: &Path) -> io::Result<Option<Observed>> {
    match fs::read(directory.join(OBSERVED)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        read => Ok(serde_json::from_slice(&read?).ok()),
    }
}

/// The lines of a file, and how many could not be read.
fn lines<T: DeserializeOwned>(path: &Path) -> io::Result<(Vec<T>, usize)> {
    let bytes = match fs::read(path) {
        // Removed by a rotation since the directory was read.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((Vec::new(), 0)),
        read => read?,
    };
    let mut records = Vec::new();
    let mut unreadable = 0;
    for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        match serde_json::from_slice(line) {
            Ok(record) => records.push(record),
            Err(_) => unreadable += 1,
        }
    }
    Ok((records, unreadable))
}
