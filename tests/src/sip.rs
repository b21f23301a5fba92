//! What phone and server share of SIP (RFC 3261): answers, tags, random tokens, session descriptions.
//!
//! Messages are read and built by rsip; plain code answers methods that rsip does not know.

pub mod brackets;
pub mod sdp;

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, Result};
use rsip::{
    Header, Method, Param, Request, Response, Uri,
    headers::{ToTypedHeader, UntypedHeader},
    prelude::HeadersExt,
};

/// The estimate of a round trip from which all retransmission times follow (RFC 3261, 17.1.1.1).
pub const T1: Duration = Duration::from_millis(500);
/// The longest time between two retransmissions.
pub const T2: Duration = Duration::from_secs(4);
/// How long a transaction may last.
pub const TRANSACTION: Duration = Duration::from_millis(64 * 500);

/// The beginning of every branch parameter (RFC 3261, 8.1.1.7).
const BRANCH: &str = "z9hG4bK";

/// A token that no other message has: for tags, branches and Call-IDs.
pub fn token() -> String {
    format!("{:016x}", fastrand::u64(..))
}

/// A fresh branch parameter.
pub fn branch() -> String {
    format!("{BRANCH}{}", token())
}

/// `sip:user@address:port`
pub fn uri(user: Option<&str>, address: SocketAddr) -> Uri {
    let host_with_port = match address {
        SocketAddr::V4(_) => address.into(),
        SocketAddr::V6(_) => rsip::Domain::from(brackets::host_port(address)).into(),
    };
    Uri {
        scheme: Some(rsip::Scheme::Sip),
        auth: user.map(|user| (user, Option::<String>::None).into()),
        host_with_port,
        ..Uri::default()
    }
}

/// The tag of a From or To header's value.
pub fn tag_of(value: &str) -> Option<&str> {
    let (_, parameters) = value.rsplit_once('>').unwrap_or(("", value));
    parameters.split(';').find_map(|parameter| parameter.trim().strip_prefix("tag="))
}

/// An answer to a request that came from `source`: its Via, From, To, Call-ID and CSeq, with `tag` in To unless it has
/// one, and with the source in the top Via (RFC 3261, 18.2.1 and RFC 3581).
pub fn answer(request: &Request, status: u16, tag: &str, source: SocketAddr) -> Result<Response> {
    let mut headers = rsip::Headers::default();
    let mut top = true;
    for header in request.headers.iter() {
        match header {
            Header::Via(via) if std::mem::take(&mut top) => headers.push(with_source(via, source)?.into()),
            Header::To(to) if status != 100 && tag_of(to.value()).is_none() => {
                headers.push(rsip::headers::To::new(format!("{};tag={tag}", to.value())).into());
            }
            Header::Via(_)
            | Header::From(_)
            | Header::To(_)
            | Header::CallId(_)
            | Header::CSeq(_)
            | Header::RecordRoute(_) => headers.push(header.clone()),
            _ => {}
        }
    }
    Ok(Response { status_code: status.into(), headers, ..Response::default() })
}

fn with_source(via: &rsip::headers::Via, source: SocketAddr) -> Result<rsip::typed::Via> {
    let mut via = via.typed().context("Via")?;
    let mut asked = false;
    for parameter in &mut via.params {
        if let Param::Other(name, value) = parameter
            && name.value() == "rport"
        {
            *value = Some(source.port().to_string().into());
            asked = true;
        }
    }
    if asked || via.uri.host_with_port.host != rsip::Host::IpAddr(source.ip()) {
        via.params.push(Param::Received(source.ip().to_string().into()));
    }
    Ok(via)
}

/// Ends the headers with Content-Length and sets the body, if any, as a session description.
pub fn finish(headers: &mut rsip::Headers, body: Option<String>) -> Vec<u8> {
    let body = body.unwrap_or_default().into_bytes();
    if !body.is_empty() {
        headers.push(rsip::headers::ContentType::new("application/sdp").into());
    }
    headers.push(rsip::headers::ContentLength::from(body.len() as u32).into());
    body
}

/// The CSeq of a message, or an error if it has none.
pub fn cseq(message: &impl HeadersExt) -> Result<(u32, Method)> {
    let cseq = message.cseq_header()?.typed()?;
    Ok((cseq.seq, cseq.method))
}

/// The 501 answer to a request whose method rsip does not know, or None if `bytes` are no request.
pub fn refuse_unknown_method(bytes: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (first, rest) = text.split_once("\r\n")?;
    let mut words = first.split(' ');
    let method =
        words.next().filter(|word| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric()))?;
    let request = words.nth(1) == Some("SIP/2.0");
    if !request || method == "ACK" || method.parse::<Method>().is_ok() {
        return None;
    }
    let copied = ["via:", "from:", "to:", "call-id:", "cseq:"];
    let kept = rest.split("\r\n").take_while(|line| !line.is_empty()).filter(|line| {
        let line = line.to_ascii_lowercase();
        copied.iter().any(|name| line.starts_with(name))
    });
    let headers: String = kept.map(|line| format!("{line}\r\n")).collect();
    Some(format!("SIP/2.0 501 Not Implemented\r\n{headers}Content-Length: 0\r\n\r\n").into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(via: &str) -> Request {
        let text = format!(
            "OPTIONS sip:x@192.0.2.10 SIP/2.0\r\nVia: {via}\r\nVia: SIP/2.0/UDP 10.0.0.9;branch=z9hG4bKb\r\n\
             From: <sip:a@x>;tag=1\r\nTo: <sip:x@192.0.2.10>\r\nCall-ID: c\r\nCSeq: 1 OPTIONS\r\nContact: <sip:a@x>\r\n\
             Content-Length: 0\r\n\r\n"
        );
        Request::try_from(text.as_bytes()).unwrap()
    }

    #[test]
    fn an_answer_tells_the_source_in_the_top_via_only() {
        let source = "192.0.2.100:4000".parse().unwrap();
        let text = |via| answer(&request(via), 200, "t", source).unwrap().to_string();
        let rport = text("SIP/2.0/UDP 10.1.1.1:5060;rport;branch=z9hG4bKa");
        assert!(rport.contains("Via: SIP/2.0/UDP 10.1.1.1:5060;rport=4000;branch=z9hG4bKa;received=192.0.2.100\r\n"));
        assert!(rport.contains("Via: SIP/2.0/UDP 10.0.0.9;branch=z9hG4bKb\r\n"));
        assert!(rport.contains("To: <sip:x@192.0.2.10>;tag=t\r\n") && !rport.contains("Contact"), "{rport}");
        let same = text("SIP/2.0/UDP 192.0.2.100:4000;branch=z9hG4bKa");
        assert!(same.contains("Via: SIP/2.0/UDP 192.0.2.100:4000;branch=z9hG4bKa\r\n"), "{same}");
    }

    #[test]
    fn a_tag_is_found_outside_the_brackets_only() {
        assert_eq!(tag_of("\"A\" <sip:a@x;tag=no>;x=y;tag=yes"), Some("yes"));
        assert_eq!(tag_of("<sip:a@x;tag=no>"), None);
        assert_eq!(tag_of("sip:a@x;tag=yes"), Some("yes"));
    }

    #[test]
    fn an_unknown_method_is_refused_by_501_and_nothing_else_is() {
        let text = request("SIP/2.0/UDP 10.1.1.1;branch=z9hG4bKa").to_string();
        let unknown = refuse_unknown_method(text.replace("OPTIONS", "DANCE").as_bytes()).unwrap();
        let answer = Response::try_from(unknown).unwrap();
        assert_eq!(answer.status_code.code(), 501);
        assert_eq!(answer.cseq_header().unwrap().value(), "1 DANCE");
        for known in ["OPTIONS", "ACK", "SIP/2.0", ""] {
            assert_eq!(refuse_unknown_method(text.replace("OPTIONS", known).as_bytes()), None, "{known}");
        }
    }
}
