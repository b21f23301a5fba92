//! SIP OPTIONS (RFC 3261, section 11) as a question to a server's own SIP process: "can you still answer?"
//!
//! The request URI is `sip:ADDRESS:PORT` without a user part, the server's own address: Kamailio's usual `uri==myself`
//! test, Asterisk and FreeSWITCH then answer it themselves. Max-Forwards is the usual 70 and not 0. With 0 a
//! proxy refuses the probe with 483 in the first lines of its script, and a 503 for overload or maintenance further down
//! would never be heard.

mod answer;

use std::io;
use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use rsip::headers::{Accept, CallId, ContentLength, MaxForwards, UntypedHeader, UserAgent};
use rsip::param::{Branch, OtherParam, Tag};
use rsip::typed;
use rsip::{Domain, Headers, Host, HostWithPort, Method, Param, Port, Request, Scheme, Transport, Uri, Version};
use rustix::rand::{GetRandomFlags, getrandom};

pub use answer::{Answer, AnswerError, AnswerKind, read_answer, verdict};

/// RFC 3261, section 8.1.1.5: a CSeq number is below 2³¹.
const CSEQ_LIMIT: u32 = 1 << 31;

/// What makes one probe different from every other and its answer impossible to guess.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token([u64; 3]);

impl Token {
    /// A token from the kernel's random numbers.
    ///
    /// # Errors
    /// If the kernel gives none; since Linux 3.17 it always does.
    pub fn random() -> io::Result<Self> {
        let mut bytes = [0; 24];
        getrandom(&mut bytes, GetRandomFlags::empty())?;
        Ok(Self::from_bytes(bytes))
    }

    /// A token with known contents, so that a probe can be repeated in a test.
    pub fn from_bytes(bytes: [u8; 24]) -> Self {
        let word = |n: usize| std::array::from_fn(|i| bytes[8 * n + i]);
        Self([0, 1, 2].map(|n| u64::from_be_bytes(word(n))))
    }

    /// The branch of the probe's Via.
    pub fn branch(&self) -> String {
        format!("z9hG4bK{:016x}", self.0[0])
    }

    /// The probe's Call-ID.
    pub fn call_id(&self) -> String {
        format!("{:016x}@voip-ha", self.0[1])
    }

    fn tag(&self) -> String {
        format!("{:016x}", self.0[2])
    }
}

/// Writes the probes for one server.
#[derive(Debug)]
pub struct OptionsProbe {
    target: Uri,
    local: HostWithPort,
    /// The headers that are the same in every probe.
    constant: Headers,
    cseq: u32,
}

impl OptionsProbe {
    /// Probes of `target` from a socket bound to `local`, where the answers are to go.
    pub fn new(target: SocketAddr, local: SocketAddr) -> Self {
        let (target, local) = (sip_uri(host_with_port(target)), host_with_port(local));
        let contact = typed::Contact { display_name: None, uri: sip_uri(local.clone()), params: Vec::new() };
        let constant = vec![
            MaxForwards::default().into(),
            typed::To { display_name: None, uri: target.clone(), params: Vec::new() }.into(),
            contact.into(),
            Accept::new("application/sdp").into(),
            UserAgent::new(concat!("voip-ha/", env!("CARGO_PKG_VERSION"))).into(),
            ContentLength::default().into(),
        ];
        Self { target, local, constant: constant.into(), cseq: 0 }
    }

    /// The next probe. Its answer has [`Token::branch`] and [`Token::call_id`] of `token`.
    pub fn request(&mut self, token: Token) -> Bytes {
        self.cseq = (self.cseq + 1) % CSEQ_LIMIT;
        let via = typed::Via {
            version: Version::V2,
            transport: Transport::Udp,
            uri: Uri { host_with_port: self.local.clone(), ..Uri::default() },
            params: vec![
                Param::Branch(Branch::new(token.branch())),
                // RFC 3581: the answer goes to the port that the probe came from.
                Param::Other(OtherParam::new("rport"), None),
            ],
        };
        let from = typed::From {
            display_name: None,
            uri: Uri { auth: Some(("probe".to_owned(), None::<String>).into()), ..sip_uri(self.local.clone()) },
            params: vec![Param::Tag(Tag::new(token.tag()))],
        };
        let mut headers: Headers = vec![via.into(), from.into()].into();
        headers.push(CallId::new(token.call_id()).into());
        headers.push(typed::CSeq { seq: self.cseq, method: Method::Options }.into());
        headers.extend(self.constant.iter().cloned().collect());
        let request = Request {
            method: Method::Options,
            uri: self.target.clone(),
            version: Version::V2,
            headers,
            body: Vec::new(),
        };
        request.into()
    }
}

fn sip_uri(host_with_port: HostWithPort) -> Uri {
    Uri { scheme: Some(Scheme::Sip), host_with_port, ..Uri::default() }
}

fn host_with_port(address: SocketAddr) -> HostWithPort {
    let host = match address.ip() {
        v4 @ IpAddr::V4(_) => Host::IpAddr(v4),
        // rsip writes an IPv6 address without its brackets.
        IpAddr::V6(v6) => Host::Domain(Domain::from(format!("[{v6}]"))),
    };
    HostWithPort { host, port: Some(Port::from(address.port())) }
}

#[cfg(test)]
mod tests;
