//! Lines of JSON in files that are only appended to, numbered in the order of their making.
//!
//! ```text
//! history-000001.jsonl   oldest; removed when there are more than `Limits::files`
//! history-000002.jsonl   appended to, until it has `Limits::bytes`
//! ```
//!
//! A power cut may leave half a line at the end of a file. Such a line is ended before the next one is written, and a
//! reader skips it.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

const ENDING: &str = ".jsonl";

/// How much a log may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// A file that has this many bytes is followed by another.
    pub(super) bytes: u64,
    /// Files that are kept, the one that is written to included.
    pub(super) files: usize,
}

/// The writing end of a log.
pub(super) struct Log {
    directory: PathBuf,
    name: &'static str,
    limits: Limits,
    sequence: u64,
    file: File,
    size: u64,
    /// The last byte of the file is no end of a line.
    torn: bool,
}

impl Log {
    /// Opens the newest file of the log, or makes the first one.
    ///
    /// # Errors
    ///
    /// The file cannot be made, or not be written to.
    pub(super) fn open(directory: &Path, name: &'static str, limits: Limits) -> io::Result<Self> {
        let sequence = files(directory, name)?.last().map_or(1, |(sequence, _)| *sequence);
        let mut file = open(&path(directory, name, sequence))?;
        let size = file.seek(SeekFrom::End(0))?;
        let torn = size > 0 && last_byte(&mut file)? != b'\n';
        Ok(Self { directory: directory.to_owned(), name, limits, sequence, file, size, torn })
    }

    /// Whether nothing is in the file yet.
    pub(super) fn is_fresh(&self) -> bool {
        self.size == 0
    }

    /// Goes on in another file if this one is full, and removes what is too much. Says whether it did.
    ///
    /// # Errors
    ///
    /// The next file cannot be made; this one is then written to further.
    pub(super) fn rotate_if_full(&mut self) -> io::Result<bool> {
        if self.size < self.limits.bytes {
            return Ok(false);
        }
        self.file.sync_data()?;
        self.file = open(&path(&self.directory, self.name, self.sequence + 1))?;
        (self.sequence, self.size, self.torn) = (self.sequence + 1, 0, false);
        let present = files(&self.directory, self.name)?;
        for (_, path) in present.iter().take(present.len().saturating_sub(self.limits.files)) {
            fs::remove_file(path)?;
        }
        Ok(true)
    }

    /// Appends a line, without its end. It is with the kernel, and not yet with the disk.
    ///
    /// # Errors
    ///
    /// Not all of it could be written.
    pub(super) fn append(&mut self, line: &[u8]) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(line.len() + 2);
        if self.torn {
            bytes.push(b'\n');
        }
        bytes.extend_from_slice(line);
        bytes.push(b'\n');
        // Whatever goes wrong, half a line may be there.
        self.torn = true;
        self.file.write_all(&bytes)?;
        self.torn = false;
        self.size += bytes.len() as u64;
        Ok(())
    }

    /// Returns when all is on the disk.
    ///
    /// # Errors
    ///
    /// The disk failed.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

/// The files of a log, oldest first. None if there is no such directory.
///
/// # Errors
///
/// The directory cannot be read.
pub(super) fn files(directory: &Path, name: &str) -> io::Result<Vec<(u64, PathBuf)>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        let file_name = entry.file_name();
        let sequence = file_name
            .to_str()
            .and_then(|text| text.strip_prefix(name)?.strip_prefix('-')?.strip_suffix(ENDING)?.parse::<u64>().ok());
        found.extend(sequence.map(|sequence| (sequence, entry.path())));
    }
    found.sort_unstable();
    Ok(found)
}

fn path(directory: &Path, name: &str, sequence: u64) -> PathBuf {
    directory.join(format!("{name}-{sequence:06}{ENDING}"))
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).read(true).append(true).mode(0o640).open(path)
}

fn last_byte(file: &mut File) -> io::Result<u8> {
    let mut byte = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut byte)?;
    Ok(byte[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { bytes: 100, files: 3 };

    fn text(directory: &Path) -> Vec<String> {
        let files = files(directory, "test").unwrap();
        files.iter().map(|(_, path)| fs::read_to_string(path).unwrap()).collect()
    }

    #[test]
    fn a_torn_line_is_ended_before_the_next_one() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("test-000007.jsonl"), "whole\nha").unwrap();
        let mut log = Log::open(directory.path(), "test", LIMITS).unwrap();
        log.append(b"next").unwrap();
        assert_eq!(text(directory.path()), ["whole\nha\nnext\n"]);
    }

    #[test]
    fn a_full_file_is_followed_by_another_and_the_oldest_goes() {
        let directory = tempfile::tempdir().unwrap();
        let mut log = Log::open(directory.path(), "test", LIMITS).unwrap();
        for number in 0..100 {
            log.rotate_if_full().unwrap();
            log.append(format!("line {number:04}").as_bytes()).unwrap();
        }
        let texts = text(directory.path());
        assert_eq!(texts.len(), 3);
        assert!(texts.iter().all(|text| text.len() <= 110), "{texts:?}");
        let lines: Vec<_> = texts.iter().flat_map(|text| text.lines()).collect();
        assert_eq!(lines.first().unwrap()[..4], *"line");
        assert_eq!(lines.last(), Some(&"line 0099"));
        let reopened = Log::open(directory.path(), "test", LIMITS).unwrap();
        assert_eq!(reopened.sequence, log.sequence);
    }

    #[test]
    fn a_full_disk_is_an_error_and_what_follows_begins_a_line() {
        let directory = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/dev/full", directory.path().join("test-000001.jsonl")).unwrap();
        let mut log = Log::open(directory.path(), "test", LIMITS).unwrap();
        assert_eq!(log.append(b"line").unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert!(log.torn);
    }
}
