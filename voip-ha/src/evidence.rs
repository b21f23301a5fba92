//! What speaks for or against a server.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

/// One observation about a server.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Evidence {
    /// A final answer to OPTIONS, with a status that means service.
    Answer {
        /// SIP status code.
        status: u16,
        /// From sending to receiving.
        rtt: Duration,
    },
    /// A final answer that means no service: 503 or 408.
    NoService {
        /// SIP status code.
        status: u16,
    },
    /// No answer to OPTIONS in time.
    Missed,
    /// An answer to an OPTIONS that was counted as missed already.
    Late {
        /// From sending to receiving.
        rtt: Duration,
    },
    /// The server's kernel answered an ICMP echo.
    Echo {
        /// From sending to receiving.
        rtt: Duration,
    },
    /// It did not, in time.
    EchoMissed,
    /// Somebody said that nobody listens on the probed port (ICMP port unreachable). It may be forged, by who guesses the
    /// port that the probe came from: a reason to ask at once from another port.
    RefusedOnce,
    /// Verdict: nobody listens on the probed port. It was said again of the next probe, or a row of them stayed unanswered.
    Refused,
    /// A router, or the gateway's own ARP, said that the server's host cannot be reached.
    HostUnreachable,
    /// The XDP program saw an ICMP error about a packet to the server, a client's or the gateway's.
    TrafficRefused,
    /// The server was sending to clients, and has stopped.
    Quiet {
        /// For how long.
        pause: Duration,
    },
    /// The gateway cannot send: no route, or the neighbour does not resolve.
    NoWay,
    /// The gateway's interface towards the server has no carrier, or is gone.
    NoCarrier,
    /// Verdict: no sign of life at all, though it was asked again and again.
    Unreachable {
        /// Echo requests in a row without an answer.
        probes: u32,
        /// Since the last sign of life.
        silence: Duration,
    },
    /// Verdict: OPTIONS stay unanswered.
    Hung {
        /// Since the first one that did.
        silence: Duration,
        /// Whether the server's host answers by echo.
        host_answers: bool,
    },
    /// Verdict: the gateway has had no way to ask for too long.
    CutOff {
        /// For how long.
        silence: Duration,
    },
}

/// What is wrong with a server that is down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// Nobody listens on its SIP port; its host lives.
    Crashed,
    /// Its host, or the way to it, gives no sign of life.
    Unreachable,
    /// Its SIP process does not answer.
    Hung,
    /// It answers that it gives no service: overload or maintenance.
    Maintenance,
    /// The gateway's own link or routing is at fault.
    GatewaySide,
}

/// A piece of evidence with its place and time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Witness {
    /// `CLOCK_MONOTONIC` in microseconds.
    pub monotonic_us: u64,
    /// Name of the server that it is about.
    pub server: String,
    /// What was observed.
    pub evidence: Evidence,
}

impl Evidence {
    /// What it proves the server to suffer from, if it proves anything.
    pub fn fault(&self) -> Option<Fault> {
        match self {
            Self::Refused => Some(Fault::Crashed),
            Self::Unreachable { .. } => Some(Fault::Unreachable),
            Self::Hung { .. } => Some(Fault::Hung),
            Self::NoCarrier | Self::CutOff { .. } => Some(Fault::GatewaySide),
            _ => None,
        }
    }

    /// Whether it proves a fault of this server, or of its own link, that a fault common to all servers cannot look
    /// like. Silence proves no such thing.
    pub fn is_certain(&self) -> bool {
        matches!(self, Self::Refused | Self::NoCarrier | Self::Hung { host_answers: true, .. })
    }
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |time: &Duration| time.as_secs_f64() * 1e3;
        match self {
            Self::Answer { status, rtt } => write!(f, "answered {status} after {:.2} ms", ms(rtt)),
            Self::NoService { status } => write!(f, "answered {status}"),
            Self::Missed => write!(f, "no answer to OPTIONS"),
            Self::Late { rtt } => write!(f, "answered too late, after {:.2} ms", ms(rtt)),
            Self::Echo { rtt } => write!(f, "host answered after {:.2} ms", ms(rtt)),
            Self::EchoMissed => write!(f, "no answer of the host"),
            Self::RefusedOnce => write!(f, "port unreachable, asked again"),
            Self::Refused => write!(f, "port unreachable"),
            Self::HostUnreachable => write!(f, "host unreachable"),
            Self::TrafficRefused => write!(f, "an ICMP error about a packet to it"),
            Self::Quiet { pause } => write!(f, "traffic from it stopped {:.1} ms ago", ms(pause)),
            Self::NoWay => write!(f, "no way to send a probe"),
            Self::NoCarrier => write!(f, "no carrier on the interface towards it"),
            Self::Unreachable { probes, silence } => {
                write!(f, "no sign of life for {:.1} ms, {probes} probes unanswered", ms(silence))
            }
            Self::Hung { silence, host_answers } => {
                let host = if *host_answers { "host answers" } else { "nothing is known of its host" };
                write!(f, "OPTIONS unanswered for {:.0} ms, {host}", ms(silence))
            }
            Self::CutOff { silence } => write!(f, "no way to send a probe for {:.0} ms", ms(silence)),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Crashed => "crashed",
            Self::Unreachable => "unreachable",
            Self::Hung => "hung",
            Self::Maintenance => "maintenance",
            Self::GatewaySide => "gateway-side",
        })
    }
}
