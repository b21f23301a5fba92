//! What happened, in words for people.

use std::fmt;

use super::{DrainWhy, FlipRecord, Happening};
use crate::{
    decision::{Cause, DrainEnd, Dropped, Scope},
    detector::Health,
    ids::Family,
};

impl fmt::Display for Happening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started { adopted: false } => write!(f, "started"),
            Self::Started { adopted: true } => write!(f, "started, and took over from an earlier controller"),
            Self::Health { server, from, to, evidence, fault } => match fault {
                Some(fault) if *to == Health::Down => {
                    write!(f, "{server} is {to}, {fault} (was {from}): {evidence}")
                }
                _ => write!(f, "{server} is {to} (was {from}): {evidence}"),
            },
            Self::Flip(flip) => flip.fmt(f),
            Self::Census { service, server, to, cause, reason, .. } => {
                write!(f, "{service}: {to} takes over from {server} as soon as its running calls are noted, {cause}")?;
                reason.as_ref().map_or(Ok(()), |reason| write!(f, ": {reason}"))
            }
            Self::NotSwitched { service, server, to, why } => {
                write!(f, "{service}: {to} does not take over from {server} as planned: ")?;
                match why {
                    Dropped::Down => write!(f, "{server} went down before its calls were noted"),
                    Dropped::NotEligible => write!(f, "{to} does not serve any more"),
                    Dropped::Overruled => write!(f, "another order came before its calls were noted"),
                }
            }
            Self::Fenced { service, server } => write!(f, "{service}: {server} is fenced"),
            Self::Draining { service, server, seconds, why, reason, asked_by } => {
                let by = asked_by.as_deref().unwrap_or("the operator");
                match why {
                    DrainWhy::GivenBack => {
                        write!(f, "{service}: {server} is back, and its running calls are its own again")?
                    }
                    DrainWhy::Adopted => write!(f, "{service}: {server} was draining when the controller started")?,
                    DrainWhy::Prolonged => write!(f, "{service}: {by} set the time of {server} to drain anew")?,
                }
                write!(f, "; it drains for {seconds} s at most")?;
                reason.as_ref().map_or(Ok(()), |reason| write!(f, ": {reason}"))
            }
            Self::DrainEnded { service, server, end, reason, asked_by } => {
                let by = asked_by.as_deref().unwrap_or("the operator");
                match end {
                    DrainEnd::Deadline => write!(f, "{service}: the time of {server} to drain is over; it is fenced")?,
                    DrainEnd::Down => {
                        write!(f, "{service}: {server} went down while it drained; its calls go to the active server")?;
                    }
                    DrainEnd::Operator => write!(f, "{service}: {by} ended the drain of {server}; it is fenced")?,
                }
                reason.as_ref().map_or(Ok(()), |reason| write!(f, ": {reason}"))
            }
            Self::DrainLeft { service, server, rtp_flows } => {
                write!(f, "{service}: {server} had {rtp_flows} RTP flows when its drain ended")
            }
            Self::NotBack { service, server } => {
                write!(f, "{service}: {server} did not prove alive in time; its calls are not given back")
            }
            Self::OutageBegan { service } => write!(f, "{service}: OUTAGE, no server is up"),
            Self::OutageEnded { service } => write!(f, "{service}: the outage is over"),
            Self::Choice { service, server, reason, asked_by } => {
                let by = asked_by.as_deref().unwrap_or("the operator");
                write!(f, "{service}: {by} chose {}", server.as_deref().unwrap_or("auto"))?;
                reason.as_ref().map_or(Ok(()), |reason| write!(f, ": {reason}"))
            }
            Self::Held { service, held, reason, asked_by } => {
                let by = asked_by.as_deref().unwrap_or("the operator");
                write!(f, "{service}: {by} {}", if *held { "holds it as it is" } else { "lets it go" })?;
                reason.as_ref().map_or(Ok(()), |reason| write!(f, ": {reason}"))
            }
            Self::Kept { service, server, held: true } => {
                write!(f, "{service}: {server} is DOWN AND STAYS ACTIVE: an operator holds the service")
            }
            Self::Kept { service, server, held: false } => write!(
                f,
                "{service}: {server} is DOWN AND STAYS ACTIVE: the failovers of this hour are used up \
                 (policy.failovers_per_hour); `voip-ha switch` still works"
            ),
            Self::KeptEnded { service } => write!(f, "{service}: its active server serves again"),
            Self::Suppressed { server, seconds } => {
                write!(f, "{server} fell too often: others are preferred for the next {seconds} s")
            }
            Self::NextHop { server, family, interface, mac } => {
                let by_ipv6 = if *family == Some(Family::V6) { " for IPv6" } else { "" };
                match mac {
                    Some(mac) => write!(f, "{server} is reached by {interface}, {mac}{by_ipv6}"),
                    None => write!(f, "{server} is reached by the stack, device {interface}{by_ipv6}"),
                }
            }
            Self::SecondAddress { server, fault: Some(fault), .. } => {
                write!(f, "{server} serves one family only: {fault}")
            }
            Self::SecondAddress { server, address, fault: None } => write!(f, "{server} serves at {address} again"),
            Self::Carrier { interface, up } => {
                write!(f, "{interface} has {} carrier", if *up { "a" } else { "no" })
            }
            Self::InterfaceLost { interface } => write!(
                f,
                "{interface} was removed, and the XDP program with it: once it is there again, restart voip-ha"
            ),
            Self::NetworkWatch { up: true, .. } => write!(f, "the network is followed again"),
            Self::NetworkWatch { up: false, why } => write!(
                f,
                "the network is not followed, next hops stay as they are and no loss of carrier is noticed: {}",
                why.as_deref().unwrap_or("no reason is known")
            ),
            Self::GatewayStall { late_ms, count } => {
                write!(
                    f,
                    "the gateway itself came {late_ms} ms late ({count} times so far); no server is blamed for it"
                )
            }
        }
    }
}

impl fmt::Display for FlipRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { service, from, to, scope, cause, evidence, reason, drain_s, evidence_to_flip_us, .. } = self;
        let census = if self.census_us.is_some() { " after the census" } else { "" };
        match scope {
            Scope::Both => write!(f, "{service}: {to} is active (was {from}), {cause}")?,
            Scope::Signalling => write!(f, "{service}: {to} has signalling (was {from}), {cause}")?,
            Scope::Media => write!(f, "{service}: {to} has media (was {from}), {cause}")?,
        }
        if let Some(evidence) = evidence {
            write!(f, ", {evidence}")?;
        }
        if let Some(reason) = reason {
            write!(f, ", {reason}")?;
        }
        if let Some(seconds) = drain_s {
            write!(f, ", {from} drains for {seconds} s at most")?;
        }
        write!(f, "; {evidence_to_flip_us:.0} µs to flip{census}")
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Start => "start",
            Self::Adopted => "adopted",
            Self::Failover => "failover",
            Self::Maintenance => "maintenance",
            Self::Failback => "failback",
            Self::Operator => "operator",
        })
    }
}
