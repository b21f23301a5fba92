//! The SIP side: a machine that is given datagrams and the time and says what to send. No sockets and no clock.

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use rsip::{
    Method, Request, Response,
    headers::{ToTypedHeader, UntypedHeader},
    prelude::HeadersExt,
};

use crate::sip::{self, T1, T2, TRANSACTION, sdp};

const DEFAULT_EXPIRES: u32 = 3600;
const ALLOW: &str = "INVITE, ACK, BYE, CANCEL, OPTIONS, REGISTER";

/// A datagram to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Outgoing {
    pub(super) bytes: Vec<u8>,
    pub(super) to: SocketAddr,
}

/// Registrations, transactions and dialogs.
#[derive(Debug)]
pub(super) struct Calls {
    contact: SocketAddr,
    options_status: u16,
    /// Whether OPTIONS are answered by 503.
    pub(super) in_maintenance: bool,
    free_ports: VecDeque<u16>,
    /// Contacts and their expiry by address of record.
    bindings: HashMap<String, HashMap<String, Instant>>,
    /// Last answers by branch, source and method, for requests that are repeated.
    answered: HashMap<(String, SocketAddr, String), Answered>,
    next_purge: Option<Instant>,
    /// By Call-ID and own tag.
    dialogs: HashMap<(String, String), Dialog>,
}

#[derive(Debug)]
struct Answered {
    bytes: Vec<u8>,
    until: Instant,
}

#[derive(Debug)]
struct Dialog {
    port: u16,
    /// The 200 that waits for its ACK (RFC 3261, 13.3.1.4).
    unacknowledged: Option<Unacknowledged>,
}

#[derive(Debug)]
struct Unacknowledged {
    answer: Outgoing,
    next: Instant,
    sent: Instant,
}

impl Calls {
    /// `contact` is what the server says its address is, `ports` are the RTP ports that it may offer.
    pub(super) fn new(contact: SocketAddr, ports: VecDeque<u16>, options_status: u16) -> Self {
        let (bindings, answered, dialogs) = Default::default();
        Self {
            contact,
            options_status,
            in_maintenance: false,
            free_ports: ports,
            bindings,
            answered,
            next_purge: None,
            dialogs,
        }
    }

    /// Takes a datagram and returns the answers. What is no SIP request is dropped, as are responses.
    pub(super) fn receive(&mut self, bytes: &[u8], from: SocketAddr, now: Instant) -> Vec<Outgoing> {
        let Ok(request) = Request::try_from(bytes) else {
            return sip::refuse_unknown_method(bytes).map(|bytes| Outgoing { bytes, to: from }).into_iter().collect();
        };
        self.purge(now);
        // A request that lacks what an answer is made of cannot be answered.
        self.serve(&request, from, now).unwrap_or_default()
    }

    /// The time of the next retransmission.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.dialogs.values().filter_map(|dialog| Some(dialog.unacknowledged.as_ref()?.next)).min()
    }

    /// Repeats the 200s that are due.
    pub(super) fn retransmit(&mut self, now: Instant) -> Vec<Outgoing> {
        let mut due = Vec::new();
        for dialog in self.dialogs.values_mut() {
            let Some(waiting) = dialog.unacknowledged.as_mut().filter(|waiting| waiting.next <= now) else { continue };
            let age = now - waiting.sent;
            if age >= TRANSACTION {
                dialog.unacknowledged = None;
                continue;
            }
            due.push(waiting.answer.clone());
            // At 0.5, 1.5, 3.5, 7.5 s after the first sending, then every 4 s.
            waiting.next = now + (age + T1).min(T2);
        }
        due
    }

    fn serve(&mut self, request: &Request, from: SocketAddr, now: Instant) -> Result<Vec<Outgoing>> {
        let branch = request.via_header()?.typed()?.branch().context("no branch")?.to_string();
        let key = (branch, from, request.method.to_string());
        if request.method == Method::Ack {
            self.acknowledge(request)?;
            return Ok(Vec::new());
        }
        if let Some(answered) = self.answered.get(&key) {
            return Ok(vec![Outgoing { bytes: answered.bytes.clone(), to: from }]);
        }
        let tag = sip::token();
        let response = match request.method {
            Method::Options => self.options(request, &tag, from)?,
            Method::Register => self.register(request, &tag, from, now)?,
            Method::Invite => self.invite(request, &tag, from, now)?,
            Method::Bye => finished(sip::answer(request, self.bye(request)?, &tag, from)?, None),
            Method::Cancel => {
                // An INVITE is answered at once, so there is never one left to cancel (RFC 3261, 9.2).
                let invite = (key.0.clone(), from, Method::Invite.to_string());
                let status = if self.answered.contains_key(&invite) { 200 } else { 481 };
                finished(sip::answer(request, status, &tag, from)?, None)
            }
            _ => {
                let mut response = sip::answer(request, 405, &tag, from)?;
                response.headers.push(rsip::headers::Allow::new(ALLOW).into());
                finished(response, None)
            }
        };
        let mut answers = Vec::new();
        if request.method == Method::Invite && response.status_code.code() == 200 {
            // After a provisional answer the phone repeats its INVITE no more. That is for the 200 only, which is
            // repeated by this side until its ACK comes.
            for status in [100, 180] {
                answers.push(finished(sip::answer(request, status, &tag, from)?, None).into());
            }
        }
        let last = Vec::from(response);
        self.answered.insert(key, Answered { bytes: last.clone(), until: now + TRANSACTION });
        answers.push(last);
        Ok(answers.into_iter().map(|bytes| Outgoing { bytes, to: from }).collect())
    }

    /// Once a second forgets answers that are too old to be asked for again.
    fn purge(&mut self, now: Instant) {
        if self.next_purge.is_none_or(|next| next <= now) {
            self.answered.retain(|_, answered| answered.until > now);
            self.next_purge = Some(now + Duration::from_secs(1));
        }
    }

    fn options(&self, request: &Request, tag: &str, from: SocketAddr) -> Result<Response> {
        let status = if self.in_maintenance { 503 } else { self.options_status };
        let mut response = sip::answer(request, status, tag, from)?;
        response.headers.push(rsip::headers::Allow::new(ALLOW).into());
        Ok(finished(response, None))
    }

    /// RFC 3261, 10.3: adds, renews or removes bindings and answers with all that are left.
    fn register(&mut self, request: &Request, tag: &str, from: SocketAddr, now: Instant) -> Result<Response> {
        let aor = request.to_header()?.typed()?.uri.to_string();
        let asked = request.expires_header().map_or(Ok(DEFAULT_EXPIRES), |expires| expires.seconds())?;
        let bindings = self.bindings.entry(aor).or_default();
        for contact in request.contact_headers() {
            if contact.value().trim() == "*" {
                bindings.clear();
                continue;
            }
            let contact = contact.typed()?;
            let seconds = contact.expires().map_or(Ok(asked), |expires| expires.value().parse())?;
            bindings.insert(contact.uri.to_string(), now + Duration::from_secs(seconds.into()));
        }
        bindings.retain(|_, until| *until > now);
        let mut response = sip::answer(request, 200, tag, from)?;
        for (contact, until) in bindings {
            let value = format!("<{contact}>;expires={}", (*until - now).as_secs());
            response.headers.push(rsip::headers::Contact::new(value).into());
        }
        Ok(finished(response, None))
    }

    fn invite(&mut self, request: &Request, tag: &str, from: SocketAddr, now: Instant) -> Result<Response> {
        let to = request.to_header()?.value().to_owned();
        let tag = sip::tag_of(&to).unwrap_or(tag).to_owned();
        let known = self.dialogs.get(&key(request, &tag)?).map(|dialog| dialog.port);
        let port = if sip::tag_of(&to).is_some() { known } else { self.free_ports.pop_front() };
        let Some(port) = port else {
            // No such dialog, or no port left for a new one.
            let status = if sip::tag_of(&to).is_some() { 481 } else { 486 };
            return Ok(finished(sip::answer(request, status, &tag, from)?, None));
        };
        let mut response = sip::answer(request, 200, &tag, from)?;
        response.headers.push(rsip::headers::Contact::new(format!("<{}>", sip::uri(None, self.contact))).into());
        let response = finished(response, Some(sdp::describe(SocketAddr::new(self.contact.ip(), port))));
        let answer = Outgoing { bytes: response.clone().into(), to: from };
        let unacknowledged = Some(Unacknowledged { answer, next: now + T1, sent: now });
        self.dialogs.insert(key(request, &tag)?, Dialog { port, unacknowledged });
        Ok(response)
    }

    fn acknowledge(&mut self, request: &Request) -> Result<()> {
        if let Some(tag) = sip::tag_of(request.to_header()?.value())
            && let Some(dialog) = self.dialogs.get_mut(&key(request, tag)?)
        {
            dialog.unacknowledged = None;
        }
        Ok(())
    }

    /// Ends the dialog and returns the status of the answer.
    fn bye(&mut self, request: &Request) -> Result<u16> {
        let tag = sip::tag_of(request.to_header()?.value()).unwrap_or_default().to_owned();
        Ok(match self.dialogs.remove(&key(request, &tag)?) {
            Some(dialog) => {
                self.free_ports.push_back(dialog.port);
                200
            }
            None => 481,
        })
    }
}

fn key(request: &Request, tag: &str) -> Result<(String, String)> {
    Ok((request.call_id_header()?.value().to_owned(), tag.to_owned()))
}

fn finished(mut response: Response, body: Option<String>) -> Response {
    response.body = sip::finish(&mut response.headers, body);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    const PHONE: &str = "192.0.2.100:4000";

    struct Bench {
        calls: Calls,
        now: Instant,
    }

    impl Bench {
        fn new() -> Self {
            let calls = Calls::new("192.0.2.10:5060".parse().unwrap(), [10_000, 10_002].into(), 200);
            Self { calls, now: Instant::now() }
        }

        /// Sends a request of its own branch and returns the answers.
        fn send(&mut self, method: &str, call: &str, to_tag: &str, extra: &str) -> Vec<Response> {
            let branch = format!("{method}{call}{to_tag}{extra}").replace(|c: char| !c.is_ascii_alphanumeric(), "");
            self.send_as(&branch, method, call, to_tag, extra)
        }

        fn send_as(&mut self, branch: &str, method: &str, call: &str, tag: &str, extra: &str) -> Vec<Response> {
            let tag = if tag.is_empty() { String::new() } else { format!(";tag={tag}") };
            let text = format!(
                "{method} sip:a@192.0.2.10 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.100:4000;branch=z9hG4bK{branch}\r\n\
                 From: <sip:p@192.0.2.10>;tag=f\r\nTo: <sip:a@192.0.2.10>{tag}\r\nCall-ID: {call}\r\n\
                 CSeq: 1 {method}\r\n{extra}Content-Length: 0\r\n\r\n"
            );
            let answers = self.calls.receive(text.as_bytes(), PHONE.parse().unwrap(), self.now);
            answers.into_iter().map(|answer| Response::try_from(answer.bytes).unwrap()).collect()
        }

        fn status(&mut self, method: &str, call: &str, to_tag: &str) -> Vec<u16> {
            codes(&self.send(method, call, to_tag, ""))
        }
    }

    fn codes(answers: &[Response]) -> Vec<u16> {
        answers.iter().map(|answer| answer.status_code.code()).collect()
    }

    fn tag(answer: &Response) -> String {
        sip::tag_of(answer.to_header().unwrap().value()).unwrap().to_owned()
    }

    #[test]
    fn a_call_is_answered_with_the_advertised_address_and_ends_with_its_bye() {
        let mut bench = Bench::new();
        let answers = bench.send("INVITE", "c", "", "");
        assert_eq!(codes(&answers), [100, 180, 200]);
        assert_eq!(sdp::media(&answers[2].body), Some("192.0.2.10:10000".parse().unwrap()));
        assert_eq!(tag(&answers[1]), tag(&answers[2]));
        let tag = tag(&answers[2]);
        assert!(bench.status("ACK", "c", &tag).is_empty());
        assert_eq!(bench.status("BYE", "c", "another"), [481]);
        assert_eq!(bench.status("BYE", "c", &tag), [200]);
        assert_eq!(bench.status("BYE", "c", &tag), [200], "a repeated BYE");
        assert_eq!(codes(&bench.send("BYE", "c", &tag, "X: new\r\n")), [481], "a second BYE");
    }

    #[test]
    fn a_repeated_request_gets_the_same_answer_byte_for_byte() {
        let mut bench = Bench::new();
        let first = bench.send("INVITE", "c", "", "");
        let again = bench.send("INVITE", "c", "", "");
        assert_eq!(again, first[2..]);
        for method in ["OPTIONS", "REGISTER", "BYE", "CANCEL", "INFO"] {
            assert_eq!(bench.send(method, "c", "", ""), bench.send(method, "c", "", ""), "{method}");
        }
    }

    #[test]
    fn a_200_is_repeated_until_its_ack_for_32_s() {
        let mut bench = Bench::new();
        let start = bench.now;
        let answers = bench.send("INVITE", "c", "", "");
        let mut times = Vec::new();
        while let Some(next) = bench.calls.next_deadline() {
            let due = bench.calls.retransmit(next);
            times.extend(due.iter().map(|_| (next - start).as_millis()));
            assert!(due.iter().all(|message| message.bytes == Vec::from(answers[2].clone())));
        }
        assert_eq!(times, [500, 1500, 3500, 7500, 11500, 15500, 19500, 23500, 27500, 31500]);
        let tag = tag(&bench.send("INVITE", "d", "", "")[2]);
        bench.send("ACK", "d", &tag, "");
        assert_eq!(bench.calls.next_deadline(), None);
    }

    #[test]
    fn bindings_are_listed_renewed_and_removed() {
        let mut bench = Bench::new();
        let contacts = |answers: Vec<Response>| {
            let mut values: Vec<_> =
                answers[0].contact_headers().iter().map(|contact| contact.value().to_owned()).collect();
            values.sort();
            values
        };
        let contact = "Contact: <sip:p@192.0.2.100:4000>";
        let both = format!("{contact}\r\nContact: <sip:p@192.0.2.101:4000>;expires=60\r\nExpires: 600\r\n");
        let expected = ["<sip:p@192.0.2.100:4000>;expires=600", "<sip:p@192.0.2.101:4000>;expires=60"];
        assert_eq!(contacts(bench.send("REGISTER", "1", "", &both)), expected);
        bench.now += Duration::from_secs(60);
        assert_eq!(contacts(bench.send("REGISTER", "2", "", "")), ["<sip:p@192.0.2.100:4000>;expires=540"]);
        assert!(contacts(bench.send("REGISTER", "3", "", &format!("{contact};expires=0\r\n"))).is_empty());
        bench.send("REGISTER", "4", "", &both);
        assert!(contacts(bench.send("REGISTER", "5", "", "Contact: *\r\nExpires: 0\r\n")).is_empty());
    }

    #[test]
    fn every_other_request_is_refused_by_the_status_that_fits() {
        let mut bench = Bench::new();
        assert_eq!(bench.status("INFO", "c", ""), [405]);
        assert_eq!(bench.status("DANCE", "c", ""), [501]);
        assert_eq!(bench.status("INVITE", "c", "unknown"), [481]);
        assert_eq!(bench.status("CANCEL", "c", ""), [481]);
        assert_eq!(codes(&bench.send_as("one", "INVITE", "d", "", "")), [100, 180, 200]);
        assert_eq!(codes(&bench.send_as("one", "CANCEL", "d", "", "")), [200]);
        assert_eq!(bench.status("INVITE", "e", ""), [100, 180, 200]);
        assert_eq!(bench.status("INVITE", "f", ""), [486], "no port is left");
        for garbage in [&b"\0"[..], b"SIP/2.0 200 OK\r\n\r\n", b"OPTIONS sip:a SIP/2.0\r\n\r\n"] {
            assert_eq!(bench.calls.receive(garbage, PHONE.parse().unwrap(), bench.now), []);
        }
    }
}
