//! What is wrong with a configuration, and where.

use std::fmt;
use std::io;

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{origin}: cannot be read: {source}")]
    Unreadable {
        /// The file.
        origin: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The file has mistakes; printed one per line as `FILE:LINE:COLUMN: key.path: what is wrong; remedy`.
    #[error("{}", print(origin, mistakes))]
    Refused {
        /// The file.
        origin: String,
        /// At least one, in the order of the file.
        mistakes: Vec<Mistake>,
    },
}

impl ConfigError {
    /// The mistakes of a refused file; none if it could not be read.
    pub fn mistakes(&self) -> &[Mistake] {
        match self {
            Self::Unreadable { .. } => &[],
            Self::Refused { mistakes, .. } => mistakes,
        }
    }
}

/// One mistake of a configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Counted from 1.
    pub line: usize,
    /// In characters, counted from 1.
    pub column: usize,
    /// Path of the key, for example `service[0].server[1].address`; elements are counted from 0. Empty if the mistake
    /// belongs to no key.
    pub key: String,
    /// What is wrong, and the remedy.
    pub message: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.line, self.column)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)
    }
}

/// The mistakes found so far in one text.
pub(super) struct Findings<'a> {
    text: &'a str,
    mistakes: Vec<Mistake>,
    excused: Vec<String>,
}

impl<'a> Findings<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, mistakes: Vec::new(), excused: Vec::new() }
    }

    /// Adds a mistake of `key` at byte `offset` of the text.
    pub(super) fn add(&mut self, key: &str, offset: usize, message: impl Into<String>) {
        let (line, column) = position(self.text, offset);
        // A quoted key may contain anything, a new line included.
        let key = key.escape_debug().to_string();
        self.mistakes.push(Mistake { line, column, key, message: message.into() });
    }

    /// Says that `key` is not to be reported as missing, because another mistake is the reason.
    pub(super) fn excuse(&mut self, key: String) {
        self.excused.push(key);
    }

    pub(super) fn is_excused(&self, key: &str) -> bool {
        self.excused.iter().any(|excused| excused == key)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.mistakes.is_empty()
    }

    pub(super) fn line(&self, offset: usize) -> usize {
        position(self.text, offset).0
    }

    pub(super) fn refuse(mut self, origin: &str) -> ConfigError {
        self.mistakes.sort_by_key(|mistake| (mistake.line, mistake.column));
        ConfigError::Refused { origin: origin.to_owned(), mistakes: self.mistakes }
    }
}

fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

fn print(origin: &str, mistakes: &[Mistake]) -> String {
    let lines: Vec<_> = mistakes.iter().map(|mistake| format!("{origin}:{mistake}")).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters_not_bytes() {
        let text = "a = 1\nname = 'fröhlich' x";
        let mut findings = Findings::new(text);
        findings.add("name", text.len() - 1, "has something behind it");
        let error = findings.refuse("gateway.toml");
        assert_eq!(error.to_string(), "gateway.toml:2:19: name: has something behind it");
    }

    #[test]
    fn mistakes_are_printed_in_the_order_of_the_file() {
        let mut findings = Findings::new("one\ntwo\n");
        findings.add("two", 4, "second");
        findings.add("", 0, "first");
        assert_eq!(findings.refuse("f").to_string(), "f:1:1: first\nf:2:1: two: second");
    }
}
