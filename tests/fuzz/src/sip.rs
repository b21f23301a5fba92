//! The scanner of SIP messages.
//!
//! An input is a message. What the scanner finds in it is compared with what a reader finds that takes the message apart line by
//! line, as RFC 3261 describes it, and knows nothing of words and steps.

mod judge;
mod messages;
mod mutate;

use anyhow::{Context as _, Result};
use voip_ha_ebpf::sip::{Scan, Text, scan};

pub use self::mutate::mutate;

/// Scans a message. An error says what did not hold.
pub fn check(message: &[u8]) -> Result<()> {
    scanned(message).map(drop)
}

/// What the scanner finds in a message, if that is right.
pub fn scanned(message: &[u8]) -> Result<Scan> {
    let found = scan(&Text::of(message));
    judge::judge(message, &found).with_context(|| format!("{found:x?} in {:?}", message.escape_ascii().to_string()))?;
    Ok(found)
}

/// Messages to begin with: each with line ends of both kinds.
pub fn seeds() -> Vec<Vec<u8>> {
    let all = messages::ALL.iter();
    all.flat_map(|example| [example.bytes("\r\n"), example.bytes("\n")]).collect()
}

#[cfg(test)]
mod tests;
