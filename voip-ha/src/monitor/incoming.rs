//! What comes back, and what others say.

use std::time::{Duration, Instant};

use super::{Monitor, ProbeKind};
use crate::{
    evidence::Evidence,
    probe::sip_options::{AnswerKind, verdict},
};

/// Shortest time from one question that refused traffic provokes to the next. Refusals are normal at the end of a call.
const PROVOKED_GAP: Duration = Duration::from_millis(5);

impl Monitor {
    /// The answer to a probe, received at `at`; `status` is the SIP status of an answer to OPTIONS. `None`: it is no final
    /// answer, or belongs to no probe.
    pub fn answered(&mut self, kind: ProbeKind, number: u64, status: u16, at: Instant) -> Option<Evidence> {
        if kind == ProbeKind::Echo {
            let reply = self.echo.answered(number, at, !self.down)?;
            (self.echo_works, self.echoes_lost) = (true, 0);
            self.last_echo = self.last_echo.max(Some(at));
            self.gave_sign(at);
            return Some(Evidence::Echo { rtt: reply.rtt });
        }
        let kind = verdict(status);
        if kind == AnswerKind::Provisional {
            return None;
        }
        let reply = self.options.answered(number, at, !self.down)?;
        self.gave_sign(at);
        if reply.missed {
            return Some(Evidence::Late { rtt: reply.rtt });
        }
        self.last_answer = self.last_answer.max(Some(at));
        (self.unserved, self.no_way_since, self.refused) = (None, None, false);
        // A host that answers OPTIONS and no echo filters echoes. Then their loss says nothing.
        self.echo_works &= self.echoes_lost < 2 * self.settings.confirm_alone();
        Some(match kind {
            AnswerKind::Alive => Evidence::Answer { status, rtt: reply.rtt },
            _ => Evidence::NoService { status },
        })
    }

    /// The port was refused: an answer to all that was asked so far. Whoever sends the next probe sends it from another
    /// port, and that one is asked at once.
    pub fn refused(&mut self, now: Instant) -> Evidence {
        self.options.forget();
        if std::mem::replace(&mut self.refused, true) {
            return Evidence::Refused;
        }
        self.confirm(self.settings.confirm, now);
        Evidence::RefusedOnce
    }

    /// Somebody on the way said that the host cannot be reached. It may be a passing trouble of routes, so it is no more
    /// than a reason to look.
    pub fn host_unreachable(&mut self, now: Instant) -> Evidence {
        self.suspect(now);
        Evidence::HostUnreachable
    }

    /// An ICMP error about a packet to the server was seen. It may be the end of a call, or forged: a reason to ask, no
    /// more. `None` if the last one was a moment ago.
    pub fn traffic_refused(&mut self, now: Instant) -> Option<Evidence> {
        if self.provoked.is_some_and(|last| now.saturating_duration_since(last) < PROVOKED_GAP) {
            return None;
        }
        self.provoked = Some(now);
        self.next_options = now;
        Some(Evidence::TrafficRefused)
    }

    /// A probe could not be sent, because there is no way to the server.
    pub fn cannot_send(&mut self, kind: ProbeKind, number: u64, now: Instant) -> Option<Evidence> {
        self.take_back(kind, number);
        if kind == ProbeKind::Echo {
            return None;
        }
        self.no_way_since.get_or_insert(now);
        Some(Evidence::NoWay)
    }

    /// A probe was not sent, because the gateway is short of something. That is nobody's fault.
    pub fn take_back(&mut self, kind: ProbeKind, number: u64) {
        self.track(kind).take_back(number);
    }

    /// Asks at once: somebody depends on the answer.
    pub fn ask_now(&mut self, now: Instant) {
        (self.next_options, self.next_echo) = (now, now);
    }

    /// The gateway itself stood still for `late`, or lost what it had received: what waits is waited for anew, and the time
    /// counts for no silence.
    pub fn forgive(&mut self, late: Duration, now: Instant) {
        self.options.postpone(now);
        self.echo.postpone(now);
        if let Some((since, _)) = &mut self.unserved {
            *since = now.min(*since + late);
        }
        self.no_way_since = self.no_way_since.map(|since| now.min(since + late));
    }

    /// The sockets were made anew: answers to what was asked by the old ones never come.
    pub fn reopened(&mut self) {
        self.options.forget();
        self.echo.forget();
    }
}
