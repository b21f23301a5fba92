//! What the packet path wants to know of a SIP message: whether it may begin a call, and to which call it belongs.
//!
//! Only the start line, `To` and `Call-ID` (RFC 3261, section 20) are looked at, and nothing is checked that these do not need.
//! Header names in any case and in their compact forms, white space before the colon, folded values, and lines that end with LF
//! alone are read as RFC 3261, section 7.3.1, and RFC 4475 want it. A CR counts as white space.
//!
//! ```text
//! Start ──> Line <──────────────────────┐        each arrow is one step or more, and takes at least one byte
//!            ├─ Call-ID ─> colon ─> value ┤
//!            ├─ To ──────> colon ─> value ┴─> tag?
//!            └─ empty line: the end
//! ```
//!
//! A step does a bounded amount of work, and there are at most [`MOST_STEPS`] of them, so a message that is made for it costs no
//! more than a few ordinary ones. What is not found then counts as not there.

mod bytes;
#[cfg(feature = "kernel")]
mod kernel;
mod scanner;
mod text;

#[cfg(feature = "kernel")]
pub use self::kernel::Desk;
pub use self::text::{TEXT_BYTES, Text};

use self::scanner::Scanner;

/// Most steps for one message. A line takes one, and one more for each 64 bytes; the value of `To` one for eight bytes and for each
/// quotation mark, bracket and semicolon.
pub const MOST_STEPS: u32 = 256;

/// What a message is, by its start line.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// No SIP: something to keep a mapping alive, or anything else.
    None,
    /// A request that may begin a call or be none of a call: INVITE, REGISTER, OPTIONS, and what is unknown. With a tag in its
    /// `To` it is of a running one.
    Initial,
    /// A request that never begins a call: ACK, CANCEL, PRACK, UPDATE and INFO.
    Inside,
    /// BYE, which ends one.
    Bye,
    /// A response that more will follow: 1xx.
    Provisional,
    /// The last response to a request.
    Final,
}

/// What was found in a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scan {
    /// Hash of the first `Call-ID` with a value; 0 if none was found. The value is what is between white space, in its own case, and
    /// something must follow it: a value that the end of the text may have cut is none.
    pub call: u64,
    /// What the message is.
    pub kind: Kind,
    /// The first `To` has a tag.
    pub to_tag: bool,
    /// There was more to look at than [`MOST_STEPS`] allow.
    pub gave_up: bool,
}

impl Scan {
    /// Of what is no message.
    pub const NOTHING: Self = Self { call: 0, kind: Kind::None, to_tag: false, gave_up: false };
}

/// Looks at a message.
#[inline]
pub fn scan(text: &Text) -> Scan {
    let mut scanner = Scanner::new();
    for _ in 0..MOST_STEPS {
        if !scanner.step(text) {
            break;
        }
    }
    scanner.scan()
}

#[cfg(test)]
mod tests;
