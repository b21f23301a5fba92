//! Reads what comes back on a probe's socket, believing nothing of it.
//!
//! Only four headers matter, and they are found by hand: rsip refuses a whole message for one line it does not know,
//! such as a folded header, and does not know compact names. What is in them is checked strictly: a probe that
//! is answered by something garbled is not answered.

use std::borrow::Cow;

use rsip::headers::{CSeq, ToTypedHeader, UntypedHeader};
use rsip::{Method, StatusCode};

const VERSION: &[u8] = b"SIP/2.0";

/// A response to an OPTIONS request, so far to anyone's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Branch of its only Via.
    pub branch: String,
    /// Call-ID, byte for byte.
    pub call_id: String,
    /// Number of the CSeq.
    pub cseq: u32,
    /// Status code, 100 to 699.
    pub status: u16,
}

/// Why a datagram is no answer to a probe.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// The first line is not a status line of SIP/2.0.
    #[error("the datagram is not a SIP response")]
    NotSip,
    /// The first line is a request line.
    #[error("the datagram is a SIP request, not a response")]
    Request,
    /// The header has no end, or the body is shorter than Content-Length says.
    #[error("the response is cut short")]
    CutShort,
    /// A line of the header is not `Name: value`.
    #[error("the response has a line that is no header")]
    NoHeader,
    /// This header is not there.
    #[error("the response has no {0}")]
    Missing(&'static str),
    /// This header is there more than once. RFC 3261, section 8.1.3.3: a response with a second Via went astray.
    #[error("the response has more than one {0}")]
    Repeated(&'static str),
    /// The value of this header cannot be read.
    #[error("the {0} of the response is garbled")]
    Garbled(&'static str),
    /// It answers a request of another method.
    #[error("the response is to {0}, not to OPTIONS")]
    OtherMethod(String),
}

/// What an answer says about the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnswerKind {
    /// Any final answer but the two below: the SIP process works.
    Alive,
    /// 503: it works, and wants no new calls.
    Overloaded,
    /// 408: somebody on the way gave up waiting for it. This is no sign of life.
    TimedOut,
    /// 1xx: no evidence yet, the final answer is to come. The probe stays outstanding.
    Provisional,
}

/// What `status` says about the server.
pub fn verdict(status: u16) -> AnswerKind {
    match StatusCode::from(status) {
        StatusCode::RequestTimeout => AnswerKind::TimedOut,
        StatusCode::ServiceUnavailable => AnswerKind::Overloaded,
        _ if status < 200 => AnswerKind::Provisional,
        _ => AnswerKind::Alive,
    }
}

/// Reads a datagram from a probe's socket.
///
/// The answer is evidence only if its branch and Call-ID are those of an outstanding probe.
///
/// # Errors
/// If it is anything but one whole response to an OPTIONS request with one Via.
pub fn read_answer(datagram: &[u8]) -> Result<Answer, AnswerError> {
    let status = status(datagram)?;
    let end = find(datagram, b"\r\n\r\n").ok_or(AnswerError::CutShort)?;
    let fields = Fields::scan(&unfolded(&datagram[..end]))?;
    if let Some(length) = fields.content_length {
        let length: usize = length.parse().map_err(|_| AnswerError::Garbled("Content-Length"))?;
        if datagram.len() - (end + 4) < length {
            return Err(AnswerError::CutShort);
        }
    }
    let via = fields.via.ok_or(AnswerError::Missing("Via"))?;
    let branch = branch(&via).ok_or(AnswerError::Garbled("Via"))?.to_owned();
    let call_id = fields.call_id.ok_or(AnswerError::Missing("Call-ID"))?;
    let cseq = cseq(&fields.cseq.ok_or(AnswerError::Missing("CSeq"))?)?;
    Ok(Answer { branch, call_id, cseq, status })
}

/// `SIP/2.0 200 OK`; the reason may be empty.
fn status(datagram: &[u8]) -> Result<u16, AnswerError> {
    let line = &datagram[..find(datagram, b"\r\n").unwrap_or(datagram.len())];
    let code = match line.strip_prefix(VERSION) {
        Some([b' ', code @ ..]) if code.len() == 3 || code.get(3) == Some(&b' ') => &code[..3],
        _ if line.ends_with(b" SIP/2.0") => return Err(AnswerError::Request),
        _ => return Err(AnswerError::NotSip),
    };
    match code {
        [b'1'..=b'6', b'0'..=b'9', b'0'..=b'9'] => {
            Ok(code.iter().fold(0, |number, digit| 10 * number + u16::from(digit - b'0')))
        }
        _ => Err(AnswerError::NotSip),
    }
}

/// RFC 3261, section 7.3.1: a line that starts with a space or tab goes on with the one before.
fn unfolded(header: &[u8]) -> Cow<'_, [u8]> {
    let folds = |window: &[u8]| window[..2] == *b"\r\n" && matches!(window[2], b' ' | b'\t');
    if !header.windows(3).any(folds) {
        return Cow::Borrowed(header);
    }
    let mut header = header.to_vec();
    for at in 0..header.len().saturating_sub(2) {
        if folds(&header[at..at + 3]) {
            header[at..at + 2].fill(b' ');
        }
    }
    Cow::Owned(header)
}

#[derive(Default)]
struct Fields {
    via: Option<String>,
    call_id: Option<String>,
    cseq: Option<String>,
    content_length: Option<String>,
}

impl Fields {
    /// Collects the four headers from an unfolded header with its status line.
    fn scan(header: &[u8]) -> Result<Self, AnswerError> {
        let mut fields = Self::default();
        let mut rest = header;
        while let Some(at) = find(rest, b"\r\n") {
            rest = &rest[at + 2..];
            let line = &rest[..find(rest, b"\r\n").unwrap_or(rest.len())];
            let colon = line.iter().position(|byte| *byte == b':').ok_or(AnswerError::NoHeader)?;
            let name = without_blanks(&line[..colon]);
            if name.is_empty() || !name.iter().all(|byte| is_token(*byte)) {
                return Err(AnswerError::NoHeader);
            }
            fields.note(name, without_blanks(&line[colon + 1..]))?;
        }
        Ok(fields)
    }

    fn note(&mut self, name: &[u8], value: &[u8]) -> Result<(), AnswerError> {
        let is = |long: &str, compact: &str| {
            name.eq_ignore_ascii_case(long.as_bytes()) || name.eq_ignore_ascii_case(compact.as_bytes())
        };
        let (field, long) = match () {
            () if is("Via", "v") => (&mut self.via, "Via"),
            () if is("Call-ID", "i") => (&mut self.call_id, "Call-ID"),
            () if is("CSeq", "CSeq") => (&mut self.cseq, "CSeq"),
            () if is("Content-Length", "l") => (&mut self.content_length, "Content-Length"),
            () => return Ok(()),
        };
        let printable = value.iter().all(|byte| matches!(byte, b' '..=b'~' | b'\t'));
        let value = std::str::from_utf8(value).ok().filter(|value| printable && !value.is_empty());
        match field.replace(value.ok_or(AnswerError::Garbled(long))?.to_owned()) {
            None => Ok(()),
            Some(_) => Err(AnswerError::Repeated(long)),
        }
    }
}

/// The branch of `SIP/2.0/UDP HOST:PORT;branch=…;…`. `None` if any part of the value is not as it should be, a comma
/// with a second Via behind it included.
fn branch(via: &str) -> Option<&str> {
    let mut parts = via.split(';').map(str::trim);
    let (protocol, sent_by) = parts.next()?.rsplit_once([' ', '\t'])?;
    let protocol: String = protocol.split_ascii_whitespace().collect();
    if !protocol.eq_ignore_ascii_case("SIP/2.0/UDP") || !sent_by.bytes().all(is_host_or_token) {
        return None;
    }
    let mut branch = None;
    for part in parts {
        let (name, value) = part.split_once('=').map_or((part, None), |(name, value)| (name, Some(value.trim_start())));
        let (name, given) = (name.trim_end(), value.unwrap_or_default());
        if name.is_empty() || !name.bytes().all(is_token) || !given.bytes().all(is_host_or_token) {
            return None;
        }
        if name.eq_ignore_ascii_case("branch") && branch.replace(value?).is_some() {
            return None;
        }
    }
    branch.filter(|branch| !branch.is_empty())
}

fn cseq(value: &str) -> Result<u32, AnswerError> {
    // rsip wants exactly one space.
    let value: Vec<_> = value.split_ascii_whitespace().collect();
    let cseq = CSeq::new(value.join(" ")).typed().map_err(|_| AnswerError::Garbled("CSeq"))?;
    if value.iter().any(|part| !part.bytes().all(is_token)) || value[0].starts_with('+') {
        return Err(AnswerError::Garbled("CSeq"));
    }
    match cseq.method {
        Method::Options => Ok(cseq.seq),
        other => Err(AnswerError::OtherMethod(other.to_string())),
    }
}

/// RFC 3261, section 25.1: `token`.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&byte)
}

/// `host`, `hostport` and `token`: also the colons and brackets of addresses.
fn is_host_or_token(byte: u8) -> bool {
    is_token(byte) || b":[]".contains(&byte)
}

/// Without the spaces and tabs at its ends. A lone CR or LF is not white space but garbage.
fn without_blanks(bytes: &[u8]) -> &[u8] {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = bytes.iter().position(|byte| !blank(byte)).unwrap_or(bytes.len());
    let end = bytes.iter().rposition(|byte| !blank(byte)).map_or(start, |last| last + 1);
    &bytes[start..end]
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}
