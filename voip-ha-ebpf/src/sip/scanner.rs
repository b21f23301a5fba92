//! The scanner: a place in the text and what is expected there.

use super::{
    Kind, Scan,
    bytes::{self, all, equal, first, place, prefix},
    text::Text,
};

/// Bytes of empty lines before the start line that are passed over (RFC 3261, section 7.5). Only streams should have them at all.
const MOST_EMPTY: u64 = 8;
/// Words of a line that are looked at in one step.
const WORDS_IN_STEP: u64 = 8;
/// What [`Scanner::skip_blanks`] says if it is not through with them.
const ON_THE_WAY: u32 = 0x100;
/// In this place, a letter in either case is the small one.
const CASE: u8 = 0x20;

/// What the scanner is about to do.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Read the start line.
    Start,
    /// Go to the next line and see which header it is.
    Line,
    /// Behind the name `Call-ID`.
    CallColon,
    /// Before the value of `Call-ID`.
    CallSpace,
    /// In the value of `Call-ID`.
    CallValue,
    /// Behind the name `To`.
    ToColon,
    /// In the value of `To`, outside of quotation marks and angle brackets.
    ToOutside,
    /// In quotation marks.
    ToQuoted,
    /// In angle brackets.
    ToBracketed,
    /// Behind a semicolon of `To`.
    ToParameter,
    /// Behind the name of the parameter `tag`.
    ToEquals,
}

pub(super) struct Scanner {
    at: u64,
    hash: u64,
    /// Where the value of `Call-ID` begins.
    value_at: u64,
    call: u64,
    mode: Mode,
    kind: Kind,
    to_seen: bool,
    to_tag: bool,
    /// Not zero at the end. A word, because the verifier does not believe that a byte is 0 or 1.
    done: u32,
}

impl Scanner {
    #[inline(always)]
    pub(super) fn new() -> Self {
        Self {
            at: 0,
            hash: 0,
            value_at: 0,
            call: 0,
            mode: Mode::Start,
            kind: Kind::None,
            to_seen: false,
            to_tag: false,
            done: 0,
        }
    }

    #[inline(always)]
    pub(super) fn scan(&self) -> Scan {
        Scan { call: self.call, kind: self.kind, to_tag: self.to_tag, gave_up: self.done == 0 }
    }

    /// Takes one step. Says whether there is another one to take.
    #[inline(always)]
    pub(super) fn step(&mut self, text: &Text) -> bool {
        match self.mode {
            Mode::Line => self.line(text),
            Mode::Start => self.start(text),
            Mode::CallColon => self.colon(text, Mode::CallSpace),
            Mode::CallSpace => self.call_space(text),
            Mode::CallValue => self.call_value(text),
            Mode::ToColon => self.colon(text, Mode::ToOutside),
            Mode::ToOutside => self.outside(text),
            Mode::ToQuoted => self.quoted(text),
            Mode::ToBracketed => self.bracketed(text),
            Mode::ToParameter => self.parameter(text),
            Mode::ToEquals => self.equals(text),
        }
        self.done == 0
    }

    #[inline(always)]
    fn start(&mut self, text: &Text) {
        let word = text.word(self.at);
        let byte = word as u8;
        if self.at >= text.length() {
            self.done = 1;
        } else if (byte == b'\r' || byte == b'\n') && self.at < MOST_EMPTY {
            self.at += 1;
        } else {
            self.kind = kind(word, text.byte(self.at + 8));
            self.done = u32::from(self.kind == Kind::None);
            self.mode = Mode::Line;
        }
    }

    #[inline(always)]
    fn line(&mut self, text: &Text) {
        let start = self.at & !7;
        // What is before is made something else: masked out afterwards, it could leave a byte that only looks like an end.
        let mut before = !(u64::MAX << ((self.at & 7) * 8));
        for number in 0..WORDS_IN_STEP {
            let at = start + number * 8;
            let ends = equal(text.aligned(at) | before, b'\n');
            if ends != 0 {
                self.at = at + place(ends) + 1;
                return self.header(text);
            }
            before = 0;
        }
        self.at = start + WORDS_IN_STEP * 8;
    }

    /// At the beginning of a line: sees which header it is.
    #[inline(always)]
    fn header(&mut self, text: &Text) {
        const CALL_ID: u64 = prefix(b"call-id");
        const CALL_ID_CASE: u64 = prefix(&[CASE, CASE, CASE, CASE, 0, CASE, CASE]);
        let word = text.word(self.at);
        let (byte, next) = (word as u8, (word >> 8) as u8);
        match byte {
            b'\n' => self.done = 1,
            b'\r' => self.done = u32::from(next == b'\n'),
            b'c' | b'C' if (word | CALL_ID_CASE) & first(7) == CALL_ID => self.call_named(7),
            b'i' | b'I' => self.call_named(1),
            b't' | b'T' if !self.to_seen => {
                self.at += if next | CASE == b'o' { 2 } else { 1 };
                self.mode = Mode::ToColon;
            }
            _ => {}
        }
    }

    #[inline(always)]
    fn call_named(&mut self, length: u64) {
        if self.call == 0 {
            self.at += length;
            self.mode = Mode::CallColon;
        }
    }

    /// Behind a name. If it is only the beginning of a longer one, no colon is next.
    #[inline(always)]
    fn colon(&mut self, text: &Text, then: Mode) {
        let byte = self.skip_blanks(text);
        if byte == u32::from(b':') {
            self.at += 1;
            self.mode = then;
        } else if byte != ON_THE_WAY {
            self.mode = Mode::Line;
        }
    }

    #[inline(always)]
    fn call_space(&mut self, text: &Text) {
        let byte = self.skip_blanks(text);
        if byte == u32::from(b'\n') {
            self.fold_or(text, Mode::Line);
        } else if byte != ON_THE_WAY {
            self.value_at = self.at;
            self.hash = 0;
            self.mode = Mode::CallValue;
        }
    }

    #[inline(always)]
    fn call_value(&mut self, text: &Text) {
        for _ in 0..WORDS_IN_STEP {
            let word = text.word(self.at);
            let ends = bytes::up_to_space(word);
            if ends != 0 {
                let rest = place(ends);
                self.at += rest;
                if self.at > self.value_at && self.at < text.length() {
                    self.call = call(mixed(self.hash, word & first(rest)));
                    self.done = u32::from(self.to_seen);
                }
                self.mode = Mode::Line;
                return;
            }
            self.hash = mixed(self.hash, word);
            self.at += 8;
        }
    }

    #[inline(always)]
    fn outside(&mut self, text: &Text) {
        const TAG: u64 = prefix(b"tag=");
        const TAG_CASE: u64 = prefix(&[CASE, CASE, CASE, 0]);
        let word = text.word(self.at);
        let found = equal(word, b'"') | equal(word, b'<') | equal(word, b';') | equal(word, b'\n');
        if found == 0 {
            self.at += 8;
            return;
        }
        self.at += place(found) + 1;
        match text.byte(self.at - 1) {
            b'"' => self.mode = Mode::ToQuoted,
            b'<' => self.mode = Mode::ToBracketed,
            b';' if (text.word(self.at) | TAG_CASE) & first(4) == TAG => self.end_to(true),
            b';' => self.mode = Mode::ToParameter,
            _ => self.next_line_of_to(text),
        }
    }

    #[inline(always)]
    fn quoted(&mut self, text: &Text) {
        let word = text.word(self.at);
        let found = equal(word, b'"') | equal(word, b'\\') | equal(word, b'\n');
        if found == 0 {
            self.at += 8;
            return;
        }
        self.at += place(found) + 1;
        match text.byte(self.at - 1) {
            b'"' => self.mode = Mode::ToOutside,
            // What follows means itself, unless the line ends (RFC 3261, section 25.1, quoted-pair).
            b'\\' => self.at += u64::from(text.byte(self.at) != b'\n'),
            _ => self.next_line_of_to(text),
        }
    }

    #[inline(always)]
    fn bracketed(&mut self, text: &Text) {
        let word = text.word(self.at);
        let found = equal(word, b'>') | equal(word, b'\n');
        if found == 0 {
            self.at += 8;
            return;
        }
        self.at += place(found) + 1;
        match text.byte(self.at - 1) {
            b'>' => self.mode = Mode::ToOutside,
            _ => self.next_line_of_to(text),
        }
    }

    #[inline(always)]
    fn parameter(&mut self, text: &Text) {
        const TAG: u64 = prefix(b"tag");
        let byte = self.skip_blanks(text);
        if byte == u32::from(b'\n') {
            self.at += 1;
            self.next_line_of_to(text);
        } else if byte != ON_THE_WAY {
            let is_tag = (text.word(self.at) | all(CASE)) & first(3) == TAG;
            self.at += if is_tag { 3 } else { 0 };
            self.mode = if is_tag { Mode::ToEquals } else { Mode::ToOutside };
        }
    }

    #[inline(always)]
    fn equals(&mut self, text: &Text) {
        let byte = self.skip_blanks(text);
        if byte == u32::from(b'\n') {
            self.at += 1;
            self.next_line_of_to(text);
        } else if byte == u32::from(b'=') {
            self.end_to(true);
        } else if byte != ON_THE_WAY {
            self.mode = Mode::ToOutside;
        }
    }

    /// Behind the end of a line of `To`: the value goes on, in the same mode, if the next one begins with white space.
    #[inline(always)]
    fn next_line_of_to(&mut self, text: &Text) {
        if !is_folded(text.byte(self.at)) {
            // The line is to be seen as any other.
            self.at -= 1;
            self.end_to(false);
        }
    }

    #[inline(always)]
    fn end_to(&mut self, tag: bool) {
        self.to_seen = true;
        self.to_tag = tag;
        self.mode = Mode::Line;
        self.done = u32::from(self.call != 0);
    }

    /// At the end of a line: goes on behind it, if the next one begins with white space, and else another way.
    #[inline(always)]
    fn fold_or(&mut self, text: &Text, mode: Mode) {
        if is_folded(text.byte(self.at + 1)) {
            self.at += 1;
        } else {
            self.mode = mode;
        }
    }

    /// Goes to the next byte that is no white space and says which it is.
    #[inline(always)]
    fn skip_blanks(&mut self, text: &Text) -> u32 {
        let word = text.word(self.at);
        let other = bytes::not_blank(word);
        if other == 0 {
            self.at += 8;
            return ON_THE_WAY;
        }
        let blanks = place(other);
        self.at += blanks;
        (word >> (blanks * 8)) as u32 & 0xff
    }
}

#[inline(always)]
const fn is_folded(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

/// By the first eight bytes of a message, and the one behind them. Methods are in upper case, `SIP` is in any (RFC 3261, sections
/// 7.1 and 25.1).
#[inline(always)]
fn kind(word: u64, next: u8) -> Kind {
    const RESPONSE: u64 = prefix(b"sip/2.0 ");
    const RESPONSE_CASE: u64 = prefix(&[CASE, CASE, CASE, 0, 0, 0, 0, 0]);
    const ACK: u64 = prefix(b"ACK ");
    const BYE: u64 = prefix(b"BYE ");
    const INFO: u64 = prefix(b"INFO ");
    const PRACK: u64 = prefix(b"PRACK ");
    const CANCEL: u64 = prefix(b"CANCEL ");
    const UPDATE: u64 = prefix(b"UPDATE ");
    if word | RESPONSE_CASE == RESPONSE {
        return match next {
            b'1' => Kind::Provisional,
            b'2'..=b'6' => Kind::Final,
            _ => Kind::None,
        };
    }
    match (word & first(4), word & first(5), word & first(6), word & first(7)) {
        (BYE, ..) => Kind::Bye,
        (ACK, ..) | (_, INFO, ..) | (.., PRACK, _) | (.., CANCEL | UPDATE) => Kind::Inside,
        // A method is a token: it begins with something visible.
        _ if matches!(word as u8, b'!'..=b'~') => Kind::Initial,
        _ => Kind::None,
    }
}

/// The hash of a value with one word more. What a value has too few bytes for is zero, as no byte of a value is.
#[inline(always)]
const fn mixed(hash: u64, word: u64) -> u64 {
    let product = (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    product ^ product >> 32
}

/// The hash of a whole value.
#[inline(always)]
const fn call(hash: u64) -> u64 {
    if hash == 0 { 1 } else { hash }
}
