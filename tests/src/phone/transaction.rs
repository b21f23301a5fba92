//! One phone's SIP socket: requests, their repetition, and the answers that belong to them.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use rsip::{Method, Request, Response, headers::UntypedHeader, prelude::HeadersExt};
use tokio::{
    net::UdpSocket,
    time::{Instant, timeout_at},
};

use super::Failure;
use crate::sip::{self, T1, T2, TRANSACTION, brackets};

const EXPIRES: u32 = 600;

/// A phone as a SIP client.
#[derive(Debug)]
pub(super) struct Client {
    user: String,
    address: SocketAddr,
    server: SocketAddr,
    socket: UdpSocket,
    registration: (String, u32),
    retransmissions: usize,
    /// The ACK of the call in progress: its 200 may come again (RFC 3261, 13.2.2.4).
    pub(super) acknowledgement: Option<Vec<u8>>,
}

impl Client {
    /// Must be called inside a tokio runtime.
    pub(super) fn new(
        user: String,
        address: IpAddr,
        socket: std::net::UdpSocket,
        server: SocketAddr,
    ) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let address = SocketAddr::new(address, socket.local_addr()?.port());
        let socket = UdpSocket::from_std(socket)?;
        let registration = (sip::token(), 0);
        Ok(Self { user, address, server, socket, registration, retransmissions: 0, acknowledgement: None })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn server(&self) -> SocketAddr {
        self.server
    }

    pub(super) fn contact(&self) -> String {
        format!("<{}>", sip::uri(Some(&self.user), self.address))
    }

    /// The phone's address of record, with a tag.
    pub(super) fn from(&self) -> String {
        format!("<{}>;tag={}", sip::uri(Some(&self.user), self.server), sip::token())
    }

    /// How many requests were repeated since the last call.
    pub(super) fn take_retransmissions(&mut self) -> usize {
        std::mem::take(&mut self.retransmissions)
    }

    /// Adds or renews the binding of the phone's contact.
    pub(super) async fn register(&mut self) -> Result<(), Failure> {
        self.registration.1 += 1;
        let (call, number) = self.registration.clone();
        let to = format!("<{}>", sip::uri(Some(&self.user), self.server));
        let (from, target) = (self.from(), sip::uri(None, self.server));
        let mut request = self.request(Method::Register, target, (&from, &to), (&call, number));
        request.headers.push(rsip::headers::Contact::new(self.contact()).into());
        request.headers.push(rsip::headers::Expires::from(EXPIRES).into());
        self.transact(request, None).await.map(|_| ())
    }

    /// A request without Contact, body and Content-Length, with a branch of its own.
    pub(super) fn request(
        &self,
        method: Method,
        target: rsip::Uri,
        (from, to): (&str, &str),
        (call, number): (&str, u32),
    ) -> Request {
        let via = format!("SIP/2.0/UDP {};rport;branch={}", brackets::host_port(self.address), sip::branch());
        let headers = vec![
            rsip::headers::Via::new(via).into(),
            rsip::headers::MaxForwards::default().into(),
            rsip::headers::From::new(from).into(),
            rsip::headers::To::new(to).into(),
            rsip::headers::CallId::new(call).into(),
            rsip::headers::CSeq::new(format!("{number} {method}")).into(),
        ];
        Request { method, uri: target, version: rsip::Version::V2, headers: headers.into(), body: Vec::new() }
    }

    /// Sends a request, repeats it as RFC 3261, 17.1 says, and returns its 2xx answer.
    pub(super) async fn transact(&mut self, mut request: Request, body: Option<String>) -> Result<Response, Failure> {
        request.body = sip::finish(&mut request.headers, body);
        let bytes = Vec::from(request.clone());
        let invite = request.method == Method::Invite;
        let end = Instant::now() + TRANSACTION;
        let (mut interval, mut proceeding) = (T1, false);
        let mut next = Instant::now() + interval;
        self.send(&bytes).await;
        loop {
            match self.answer(&request, next.min(end)).await {
                Some(answer) if answer.status_code.code() >= 200 => return self.conclude(&request, answer).await,
                Some(_) => {
                    proceeding = true;
                    next = if invite { end } else { Instant::now() + T2 };
                }
                None if Instant::now() >= end => return Err(Failure::Timeout),
                None => {
                    self.send(&bytes).await;
                    self.retransmissions += 1;
                    interval = if invite { interval * 2 } else { (interval * 2).min(T2) };
                    next += if proceeding { T2 } else { interval };
                }
            }
        }
    }

    /// A datagram that cannot be sent is lost; it is repeated like any other.
    pub(super) async fn send(&self, bytes: &[u8]) {
        let _ = self.socket.send_to(&brackets::show(bytes), self.server).await;
    }

    /// The next answer to this request, or None when it is `until`.
    async fn answer(&self, request: &Request, until: Instant) -> Option<Response> {
        let mut buffer = [0; 65_536];
        loop {
            let (length, from) = timeout_at(until, self.socket.recv_from(&mut buffer)).await.ok()?.ok()?;
            let Ok(response) = Response::try_from(&brackets::hide(&buffer[..length])[..]) else { continue };
            if from != self.server {
                continue;
            }
            if belongs(&response, request) {
                return Some(response);
            }
            let repeated = sip::cseq(&response).is_ok_and(|(_, method)| method == Method::Invite);
            if let Some(acknowledgement) = self.acknowledgement.as_ref().filter(|_| repeated) {
                self.send(acknowledgement).await;
            }
        }
    }

    async fn conclude(&self, request: &Request, answer: Response) -> Result<Response, Failure> {
        let status = answer.status_code.code();
        if status < 300 {
            return Ok(answer);
        }
        if request.method == Method::Invite {
            // The ACK of a failure belongs to the INVITE's transaction: same branch, and To as answered.
            let acknowledgement = refusal_acknowledged(request, &answer).ok_or(Failure::Malformed)?;
            self.send(&acknowledgement).await;
        }
        Err(Failure::Status(status))
    }
}

fn belongs(response: &Response, request: &Request) -> bool {
    let key = |branch: Option<rsip::param::Branch>, cseq| Some((branch?, cseq));
    let of_response = || key(response.transaction_id().ok()?, sip::cseq(response).ok()?);
    let of_request = || key(request.transaction_id().ok()?, sip::cseq(request).ok()?);
    of_response().is_some_and(|response| Some(response) == of_request())
}

fn refusal_acknowledged(request: &Request, answer: &Response) -> Option<Vec<u8>> {
    let (number, _) = sip::cseq(request).ok()?;
    let headers = vec![
        request.via_header().ok()?.clone().into(),
        rsip::headers::MaxForwards::default().into(),
        request.from_header().ok()?.clone().into(),
        answer.to_header().ok()?.clone().into(),
        request.call_id_header().ok()?.clone().into(),
        rsip::typed::CSeq { seq: number, method: Method::Ack }.into(),
        rsip::headers::ContentLength::from(0).into(),
    ];
    let request = Request { method: Method::Ack, headers: headers.into(), body: Vec::new(), ..request.clone() };
    Some(request.into())
}
