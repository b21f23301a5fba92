//! What one server is asked and when, and when its silence becomes evidence.
//!
//! Pure: the time, what came back and when the server was last heard are arguments; what is to be sent is a result.
//!
//! ```text
//!                a probe is missed, or traffic stops
//!        Calm ────────────────────────────────────────▶ Confirming ── no sign of life ──▶ Unreachable
//!         ▲ ▲                                            │     ▲
//!         │ └────────────── OPTIONS answered ────────────┤     │ an echo is missed, or traffic stops
//!         │                                              ▼     │
//!         └──────────────── OPTIONS answered ─────────── Busy ─┘
//!                                                          └── OPTIONS unanswered for `hang` ──▶ Hung
//! ```
//!
//! - *Calm*: OPTIONS every `interval`, an echo every second to know that the host answers it, and how fast.
//! - *Confirming*: `confirm` pairs of OPTIONS and echo, `confirm_gap` apart. Any sign of life since then ends it: an answer
//!   of either kind, or a packet to a client.
//! - *Busy*: the host lives and SIP does not answer. OPTIONS and echo every `interval`. Traffic excuses it for `patience`.
//!
//! # How often this is wrong
//!
//! *Unreachable* takes `confirm` echoes in a row without an answer, no answer to as many OPTIONS in the same time, and no
//! packet to a client. It takes `timeout_min` more of them ([`Probe::confirm_alone`]) unless dense traffic has stopped:
//! what is missed first may be lost by chance, and then a way that is disturbed for a moment must not swallow all pairs. The echo is answered by the host's kernel, whatever its processes do, and is stamped by the
//! gateway's kernel on arrival, so neither a busy server nor a busy gateway delays it. Let each packet be lost with
//! probability p by itself; a question fails if it or its answer is lost, with about 2p. A confirmation then fails with
//! (2p)^(2·pairs) while SIP answers, and with (2p)^pairs while the SIP process pauses and only echoes speak. For the
//! preset `lan` and p = 0.5 % the latter is 10⁻²² for the 11 pairs that a missed probe begins, and 10⁻¹⁴ for the 7 after
//! dense traffic has stopped: with one of these every second all the time, once in three million years.
//!
//! So what is left is not loss but a pause of the whole way: longer than `quiet + (confirm − 1) · confirm_gap + timeout` for
//! packets that are kept back, 8 ms for `lan`, and as much more as the measured round trips vary. A host that stands still
//! for longer than that now and then, such as a virtual machine that is moved, wants the preset `cautious`.
//!
//! A phi-accrual detector would turn the same variation of round trips into a level of suspicion. It needs a history that
//! fits the present, and its threshold is a number that nobody can check against a packet trace. Confirmation spends fourteen
//! packets and a few milliseconds, and every step of it is in the receipt.

mod incoming;
mod quiet;
mod rtt;
mod track;

use std::time::{Duration, Instant};

use self::{quiet::Quiet, track::Track};
use crate::{config::Probe, evidence::Evidence};

/// Time from one echo to the next while all is well.
const ECHO_INTERVAL: Duration = Duration::from_secs(1);
/// Echoes that go with every OPTIONS until one is answered; a host that has not answered so many filters them.
const FIRST_ECHOES: u32 = 50;

/// A kind of probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProbeKind {
    /// SIP OPTIONS, answered by the server's SIP process.
    Options,
    /// ICMP echo, answered by the kernel of its host.
    Echo,
}

/// Fewest unanswered OPTIONS of a hang: a gateway that was delayed itself may have sent but one in all of `hang_ms`.
const HANG_MISSES: u32 = 4;

/// What a tick brings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Step {
    /// Send the probe with this number.
    Ask(ProbeKind, u64),
    /// Something was observed.
    Observed(Evidence),
}

/// What a server is at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Role {
    /// Whether any traffic goes to it.
    pub active: bool,
    /// Whether it is down already.
    pub down: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Calm,
    /// `wanted` pairs must go unanswered.
    Confirming {
        since: Instant,
        asked: u32,
        wanted: u32,
        next: Instant,
    },
    Busy {
        since: Instant,
    },
}

/// The watch over one server.
#[derive(Clone, Debug)]
pub struct Monitor {
    settings: Probe,
    /// All monitors send on one grid, so that the gateway wakes once for all of them.
    origin: Instant,
    phase: Phase,
    options: Track,
    echo: Track,
    quiet: Quiet,
    next_options: Instant,
    next_echo: Instant,
    provoked: Option<Instant>,
    /// Whether the host answers echoes at all.
    echo_works: bool,
    echoes_lost: u32,
    /// Whether it was down at the last tick. When it comes back, the kernel sends all at once what waited for its neighbour
    /// entry: those answers are late, and no measure of the way.
    down: bool,
    last_sign: Option<Instant>,
    last_heard: Option<Instant>,
    last_answer: Option<Instant>,
    last_echo: Option<Instant>,
    /// When the first of the OPTIONS was sent that were missed since the last answer, and how many were.
    unserved: Option<(Instant, u32)>,
    no_way_since: Option<Instant>,
    /// Whether its port was refused since the last answer.
    refused: bool,
    silent_since: Option<Instant>,
    close_calls: u64,
}

impl Monitor {
    /// A monitor whose first probes are due now.
    pub fn new(settings: Probe, now: Instant) -> Self {
        let track = || Track::new(settings.timeout_min, settings.timeout_max);
        Self {
            settings,
            origin: now,
            phase: Phase::Calm,
            options: track(),
            echo: track(),
            quiet: Quiet::new(settings.quiet),
            next_options: now,
            next_echo: now,
            provoked: None,
            echo_works: false,
            echoes_lost: 0,
            down: false,
            last_sign: None,
            last_heard: None,
            last_answer: None,
            last_echo: None,
            unserved: None,
            no_way_since: None,
            refused: false,
            silent_since: None,
            close_calls: 0,
        }
    }

    /// When it last gave a sign of life, of whatever kind.
    pub fn last_sign(&self) -> Option<Instant> {
        self.last_sign
    }

    /// From when on it was asked in vain, for the last verdict about its silence.
    pub fn silent_since(&self) -> Option<Instant> {
        self.silent_since
    }

    /// When it last sent to a client.
    pub fn last_heard(&self) -> Option<Instant> {
        self.last_heard
    }

    /// Whether it is being confirmed that the server is out of reach.
    pub fn is_confirming(&self) -> bool {
        matches!(self.phase, Phase::Confirming { .. })
    }

    /// Since when OPTIONS stay unanswered.
    pub fn unanswered_since(&self) -> Option<Instant> {
        self.unserved.map(|(since, _)| since)
    }

    /// How often a confirmation had to ask more than once, and the server was well after all.
    pub fn close_calls(&self) -> u64 {
        self.close_calls
    }

    /// Whether the host answers echoes. If not, a dead host is told from a hung process by nothing, and takes as long.
    pub fn echo_works(&self) -> bool {
        self.echo_works
    }

    /// Smoothed round-trip time of OPTIONS, and how long an answer is waited for.
    pub fn round_trip(&self) -> (Option<Duration>, Duration) {
        (self.options.rtt().smoothed(), self.options.timeout())
    }

    /// Does what is due. `heard` is when the server last sent to a client.
    pub fn tick(&mut self, role: Role, heard: Option<Instant>, now: Instant) -> Vec<Step> {
        if let Some(heard) = heard {
            self.quiet.heard(heard);
            self.last_heard = self.last_heard.max(Some(heard));
            self.gave_sign(heard);
        }
        if !role.active || role.down {
            // What it sent in an earlier turn has not just stopped when it gets another one.
            self.quiet.ignore();
        }
        self.down = role.down;
        let mut steps = Vec::new();
        let alarmed = self.look_for_silence(now, &mut steps);
        if role.down {
            self.phase = Phase::Calm;
        } else {
            self.proceed(alarmed, now, &mut steps);
            self.look_for_a_hang(now, &mut steps);
        }
        self.ask(role, now, &mut steps);
        steps
    }

    /// When [`Monitor::tick`] is due.
    pub fn next_deadline(&self, role: Role, now: Instant) -> Instant {
        let mut next = self.next_options.min(self.next_echo_due());
        if let Phase::Confirming { asked, wanted, next: next_pair, .. } = self.phase
            && asked < wanted
        {
            next = next.min(next_pair);
        }
        let quiet = if role.active && !role.down { self.quiet.due(now) } else { None };
        let hang = self.unserved.map(|(since, _)| since + self.settings.hang).filter(|hang| !role.down && *hang > now);
        let waiting = [self.options.next_deadline(), self.echo.next_deadline(), quiet, hang];
        waiting.into_iter().flatten().fold(next, Instant::min)
    }

    fn track(&mut self, kind: ProbeKind) -> &mut Track {
        match kind {
            ProbeKind::Options => &mut self.options,
            ProbeKind::Echo => &mut self.echo,
        }
    }

    fn gave_sign(&mut self, at: Instant) {
        self.last_sign = self.last_sign.max(Some(at));
    }

    fn suspect(&mut self, now: Instant) {
        if !self.is_confirming() {
            self.confirm(self.settings.confirm_alone(), now);
        }
    }

    fn confirm(&mut self, wanted: u32, now: Instant) {
        self.phase = Phase::Confirming { since: now, asked: 0, wanted, next: now };
    }

    /// Counts what was missed. Returns whether it is a reason to confirm.
    fn look_for_silence(&mut self, now: Instant, steps: &mut Vec<Step>) -> bool {
        let mut alarmed = false;
        for sent in self.options.expired(now) {
            steps.push(Step::Observed(Evidence::Missed));
            let (since, missed) = self.unserved.unwrap_or((sent, 0));
            self.unserved = Some((since, missed + 1));
            alarmed |= self.phase == Phase::Calm;
        }
        for _ in self.echo.expired(now) {
            steps.push(Step::Observed(Evidence::EchoMissed));
            self.echoes_lost = self.echoes_lost.saturating_add(1);
            alarmed |= self.echo_works;
        }
        if self.quiet.due(now).is_some_and(|due| due <= now) {
            steps.push(Step::Observed(Evidence::Quiet { pause: self.quiet.asked(now) }));
            self.suspect(now);
            self.take_quiet_for_evidence(now);
        }
        alarmed
    }

    /// Traffic that is dense and stops is evidence: it has gone on for as long as more pairs would take.
    fn take_quiet_for_evidence(&mut self, now: Instant) {
        if let Phase::Confirming { asked, wanted, .. } = &mut self.phase
            && self.quiet.is_dense(now)
        {
            // The last pair that was asked is the first of these.
            *wanted = (*wanted).min(self.settings.confirm + asked.saturating_sub(1));
        }
    }

    /// From one phase to the next.
    fn proceed(&mut self, alarmed: bool, now: Instant, steps: &mut Vec<Step>) {
        match self.phase {
            Phase::Calm | Phase::Busy { .. } if alarmed => self.suspect(now),
            Phase::Busy { since } if self.last_answer > Some(since) => self.phase = Phase::Calm,
            // The host lives, or whoever forged the refusal: OPTIONS alone tell which.
            Phase::Confirming { since, asked, wanted, .. }
                if self.refused && asked >= wanted && self.options.newest_waiting() < Some(since) =>
            {
                steps.push(Step::Observed(Evidence::Refused));
                self.phase = Phase::Busy { since };
            }
            Phase::Confirming { .. } if self.refused => {}
            Phase::Confirming { since, asked, .. } if self.last_sign > Some(since) => {
                self.close_calls += u64::from(asked > 1);
                self.quiet.was_well(now);
                let is_asked = self.unserved.is_some() || self.options.newest_waiting().is_some();
                let owes = self.last_answer <= Some(since) && is_asked;
                self.phase = if owes { Phase::Busy { since } } else { Phase::Calm };
            }
            Phase::Confirming { since, asked, wanted, .. } if asked >= wanted && !self.waits_since(since) => {
                if self.echo_works {
                    let silence = now.saturating_duration_since(self.last_sign.unwrap_or(since));
                    steps.push(Step::Observed(Evidence::Unreachable { probes: asked, silence }));
                    self.silent_since = Some(since);
                }
                self.phase = Phase::Busy { since };
            }
            _ => {}
        }
    }

    /// Whether an answer to a question asked at or after `since` may still come in time. Where the host answers echoes, its
    /// echo says more than SIP does, and sooner: an answer to OPTIONS counts until then.
    fn waits_since(&self, since: Instant) -> bool {
        let track = if self.echo_works { &self.echo } else { &self.options };
        track.newest_waiting() >= Some(since)
    }

    fn look_for_a_hang(&mut self, now: Instant, steps: &mut Vec<Step>) {
        let Probe { hang, patience, .. } = self.settings;
        if let Some(since) = self.no_way_since {
            let silence = now.saturating_duration_since(since);
            if silence >= hang && self.last_sign.is_none_or(|sign| now.saturating_duration_since(sign) >= hang) {
                steps.push(Step::Observed(Evidence::CutOff { silence }));
                self.silent_since = Some(since);
                return;
            }
        }
        let Some((since, missed)) = self.unserved else { return };
        let silence = now.saturating_duration_since(since);
        let sends = self.last_heard.is_some_and(|heard| now.saturating_duration_since(heard) < hang);
        if missed >= HANG_MISSES && silence >= hang && !(sends && silence < patience) {
            let host_answers = self.last_echo > Some(since);
            steps.push(Step::Observed(Evidence::Hung { silence, host_answers }));
            self.silent_since = Some(since);
        }
    }

    /// Sends what is due.
    fn ask(&mut self, role: Role, now: Instant, steps: &mut Vec<Step>) {
        let (mut options, mut echo) = (now >= self.next_options, now >= self.next_echo_due());
        match &mut self.phase {
            Phase::Confirming { asked, wanted, next, .. } if *asked < *wanted && now >= *next => {
                *asked += 1;
                *next = now + self.settings.confirm_gap;
                (options, echo) = (true, true);
            }
            // The pairs are enough; more would only put off the end.
            Phase::Confirming { .. } => (options, echo) = (false, false),
            Phase::Busy { .. } => echo |= options,
            Phase::Calm => {}
        }
        let interval = if role.active { self.settings.interval } else { self.settings.standby_interval };
        if now >= self.next_options {
            self.next_options = self.on_grid(now, interval);
        }
        if options {
            steps.push(Step::Ask(ProbeKind::Options, self.options.send(now)));
        }
        if echo && self.settings.echo {
            self.next_echo = self.on_grid(now, ECHO_INTERVAL);
            steps.push(Step::Ask(ProbeKind::Echo, self.echo.send(now)));
        }
    }

    fn next_echo_due(&self) -> Instant {
        // As long as it is not known how long the way is, a dead host would be waited for as long as the longest one takes.
        let is_unknown = self.echo.rtt().smoothed().is_none() && self.echoes_lost < FIRST_ECHOES;
        // Together with OPTIONS, so that there is one wake for both.
        if is_unknown { self.next_options } else { self.next_echo.max(self.next_options) }
    }

    /// The next moment after `now` that is a multiple of `interval` from the origin.
    fn on_grid(&self, now: Instant, interval: Duration) -> Instant {
        let passed = now.saturating_duration_since(self.origin).as_nanos();
        let into = Duration::from_nanos((passed % interval.as_nanos()) as u64);
        now + (interval - into)
    }
}

#[cfg(test)]
mod tests;
