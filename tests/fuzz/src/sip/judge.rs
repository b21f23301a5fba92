//! What is in a message, read without haste.

use anyhow::{Result, ensure};
use voip_ha_ebpf::sip::{Kind, MOST_STEPS, Scan, TEXT_BYTES, Text, scan};

/// What was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Read {
    pub(super) kind: Kind,
    pub(super) call: Option<Vec<u8>>,
    pub(super) to_tag: bool,
    /// No fewer steps than the scanner may take.
    steps: usize,
}

/// Fails if the scanner found something else, or gave up although there was not much to look at.
pub(super) fn judge(message: &[u8], found: &Scan) -> Result<()> {
    let read = read(message);
    let call = read.call.as_deref().map_or(0, plainly);
    ensure!(found.kind == read.kind, "it is {:?}", read.kind);
    if found.gave_up {
        ensure!(read.steps > MOST_STEPS as usize, "gave up after no more than {} steps", read.steps);
        ensure!(found.call == 0 || found.call == call, "the call is {call:x}: {read:?}");
        ensure!(!found.to_tag || read.to_tag, "there is no tag");
    } else {
        ensure!(found.call == call, "the call is {call:x}: {read:?}");
        ensure!(found.to_tag == read.to_tag, "a tag: {}", read.to_tag);
    }
    Ok(())
}

/// The hash of a value that is found in the plainest of messages.
pub(super) fn plainly(value: &[u8]) -> u64 {
    scan(&Text::of(&[b"A\ni:", value, b"\n"].concat())).call
}

/// Reads a message as far as the scanner looks.
pub(super) fn read(message: &[u8]) -> Read {
    let all = &message[..message.len().min(TEXT_BYTES)];
    // No SIP begins with more empty lines than that.
    let empty = all.iter().take(8).take_while(|byte| b"\r\n".contains(byte)).count();
    let lines: Vec<_> = all[empty..].split_inclusive(|byte| *byte == b'\n').collect();
    let mut read =
        Read { kind: lines.first().map_or(Kind::None, |line| kind(line)), call: None, to_tag: false, steps: 0 };
    if read.kind == Kind::None {
        return read;
    }
    let mut to = None;
    for header in headers(&lines) {
        let Some((name, value)) = split(&header) else { continue };
        match &*name {
            b"call-id" | b"i" => read.call = read.call.or_else(|| call(value)),
            b"to" | b"t" => to = to.or_else(|| Some(value.to_vec())),
            _ => {}
        }
    }
    read.to_tag = to.is_some_and(|value| has_tag(&value));
    read.steps =
        empty + all.len() / 8 + lines.len() * 8 + all.iter().filter(|byte| b"\"\\<>;".contains(byte)).count() * 3;
    read
}

fn kind(line: &[u8]) -> Kind {
    let space = line.iter().position(|byte| *byte == b' ');
    let (first, rest) = space.map_or((line, &b""[..]), |space| (&line[..space], &line[space + 1..]));
    if space.is_some() && first.eq_ignore_ascii_case(b"SIP/2.0") {
        return match rest.first() {
            Some(b'1') => Kind::Provisional,
            Some(b'2'..=b'6') => Kind::Final,
            _ => Kind::None,
        };
    }
    match first {
        b"BYE" if space.is_some() => Kind::Bye,
        b"ACK" | b"CANCEL" | b"PRACK" | b"UPDATE" | b"INFO" if space.is_some() => Kind::Inside,
        _ if line.first().is_some_and(u8::is_ascii_graphic) => Kind::Initial,
        _ => Kind::None,
    }
}

/// Whole headers up to the empty line: what begins with white space goes on with the one before.
fn headers(lines: &[&[u8]]) -> Vec<Vec<u8>> {
    let mut headers: Vec<Vec<u8>> = Vec::new();
    for line in lines {
        match line {
            // Not the start line, which has something visible in it.
            [b'\n'] | [b'\r'] | [b'\r', b'\n'] => break,
            [b' ' | b'\t', ..] if !headers.is_empty() => headers.last_mut().expect("not empty").extend_from_slice(line),
            _ => headers.push(line.to_vec()),
        }
    }
    headers.split_off(1)
}

/// Name in lower case, and value with all white space.
fn split(header: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let colon = header.iter().position(|byte| *byte == b':')?;
    let mut name = header[..colon].to_ascii_lowercase();
    while name.last().is_some_and(|byte| b" \t\r".contains(byte)) {
        name.pop();
    }
    Some((name, &header[colon + 1..]))
}

fn trimmed(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t' | b'\r' | b'\n', rest @ ..] = value {
        value = rest;
    }
    value
}

fn call(value: &[u8]) -> Option<Vec<u8>> {
    let value = trimmed(value);
    // What nothing follows may be cut.
    let end = value.iter().position(|byte| *byte <= b' ')?;
    (end > 0).then(|| value[..end].to_vec())
}

fn has_tag(value: &[u8]) -> bool {
    let (mut quoted, mut bracketed) = (false, false);
    let mut bytes = value.iter().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'\\' if quoted && value.get(at + 1).is_some_and(|next| *next != b'\n') => drop(bytes.next()),
            b'"' if !bracketed => quoted = !quoted,
            b'<' if !quoted => bracketed = true,
            b'>' if bracketed => bracketed = false,
            b';' if !quoted && !bracketed && is_tag(&value[at + 1..]) => return true,
            _ => {}
        }
    }
    false
}

fn is_tag(parameter: &[u8]) -> bool {
    let Some((name, rest)) = trimmed(parameter).split_at_checked(3) else { return false };
    name.eq_ignore_ascii_case(b"tag") && trimmed(rest).first() == Some(&b'=')
}
