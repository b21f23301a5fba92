//! Servers that answer an engine under a clock of its own.

use super::*;

/// From a probe to its answer.
const RTT: Duration = Duration::from_micros(200);

/// How a server behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Host {
    Well,
    /// Its SIP process answers with this status.
    Says(u16),
    /// Its kernel answers echoes, and OPTIONS by port unreachable.
    Crashed,
    /// Its kernel answers echoes.
    Hung,
    Silent,
}

enum Came {
    Answer(ProbeKind, u64, u16),
    Refused,
}

pub(super) struct Lab {
    pub(super) engine: Engine,
    pub(super) start: Instant,
    pub(super) now: Instant,
    pub(super) hosts: Vec<Host>,
    /// Time from one packet to a client to the next, for each server that has calls.
    pub(super) calls: Vec<Option<Duration>>,
    heard: Vec<Option<Instant>>,
    under_way: Vec<(Instant, ServerId, Came)>,
    /// What the engine put out, but for probes.
    pub(super) outputs: Vec<(Instant, Output)>,
    pub(super) asked: Vec<(Instant, ServerId, ProbeKind)>,
}

impl Lab {
    /// Everybody is well.
    pub(super) fn new(config: &Config) -> Self {
        let now = Instant::now();
        let servers = config.servers().count();
        let found = vec![Steering::default(); config.services.len()];
        Self {
            engine: Engine::new(config, &found, now, Duration::from_secs(1000)).0,
            start: now,
            now,
            hosts: vec![Host::Well; servers],
            calls: vec![None; servers],
            heard: vec![None; servers],
            under_way: Vec::new(),
            outputs: Vec::new(),
            asked: Vec::new(),
        }
    }

    /// Everybody has been well for ten seconds. What happened meanwhile is forgotten.
    pub(super) fn calm(config: &Config) -> Self {
        let mut lab = Self::new(config);
        lab.run(Duration::from_secs(10));
        lab.forget();
        lab
    }

    pub(super) fn forget(&mut self) {
        self.outputs.clear();
        self.asked.clear();
    }

    pub(super) fn host(&mut self, server: ServerId, host: Host) {
        self.hosts[server.0] = host;
        if host != Host::Well {
            self.calls[server.0] = None;
        }
    }

    /// Lets time pass.
    pub(super) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let due = self.engine.next_deadline(self.now).expect("there are servers").max(self.now);
            let refusals = self.under_way.iter().filter(|(_, _, came)| matches!(came, Came::Refused));
            let refused = refusals.map(|(at, ..)| *at).min();
            let wake = refused.map_or(due, |at| at.min(due));
            if wake > end {
                break;
            }
            self.now = wake;
            self.read();
            if due <= wake {
                self.tick();
            }
        }
        self.now = end;
    }

    /// Runs until a service was steered, at most this long. Returns after how long, and how.
    pub(super) fn until_steered(&mut self, most: Duration) -> Option<(Duration, Steering)> {
        let (start, end) = (self.now, self.now + most);
        let before = self.outputs.len();
        while self.now < end {
            self.run(Duration::from_micros(100));
            let steered = self.outputs[before..].iter().find_map(|(at, output)| match output {
                Output::Steer(_, steering, _) => Some((*at - start, *steering)),
                _ => None,
            });
            if steered.is_some() {
                return steered;
            }
        }
        None
    }

    pub(super) fn note(&mut self, outputs: Vec<Output>) {
        let now = self.now;
        self.outputs.extend(outputs.into_iter().map(|output| (now, output)));
    }

    fn read(&mut self) {
        let now = self.now;
        let (come, under_way) = std::mem::take(&mut self.under_way).into_iter().partition(|(at, ..)| *at <= now);
        self.under_way = under_way;
        let come: Vec<_> = come;
        for (at, server, came) in come {
            let outputs = match came {
                Came::Answer(kind, number, status) => self.engine.answered(server, kind, number, status, at, now),
                Came::Refused => self.engine.refused(server, now),
            };
            self.note(outputs);
        }
    }

    fn tick(&mut self) {
        for (heard, period) in self.heard.iter_mut().zip(&self.calls) {
            let Some(period) = period else { continue };
            let packets = self.now.duration_since(self.start).as_nanos() / period.as_nanos();
            *heard = Some(self.start + *period * packets as u32);
        }
        let heard = self.heard.clone();
        for output in self.engine.tick(|server| heard[server.0], self.now) {
            match output {
                Output::Ask(server, kind, number) => self.ask(server, kind, number),
                output => self.note(vec![output]),
            }
        }
        let due = self.engine.next_deadline(self.now).expect("there are servers");
        assert!(due > self.now, "nothing that is due is left undone");
    }

    fn ask(&mut self, server: ServerId, kind: ProbeKind, number: u64) {
        self.asked.push((self.now, server, kind));
        let came = match (self.hosts[server.0], kind) {
            (Host::Silent, _) | (Host::Hung, ProbeKind::Options) => return,
            (Host::Crashed, ProbeKind::Options) => Came::Refused,
            (Host::Says(status), ProbeKind::Options) => Came::Answer(kind, number, status),
            _ => Came::Answer(kind, number, 200),
        };
        self.under_way.push((self.now + RTT, server, came));
    }
}
