use super::*;

mod doubts;
mod parts;

const ACTIVE: Role = Role { active: true, down: false };
const STANDBY: Role = Role { active: false, down: false };
const RTT: Duration = Duration::from_micros(200);

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// As the preset `lan`, with fewer pairs further apart.
fn settings() -> Probe {
    Probe {
        interval: ms(20),
        standby_interval: ms(100),
        timeout_min: ms(2),
        timeout_max: ms(100),
        confirm: 4,
        confirm_gap: ms(1),
        quiet: ms(3),
        hang: ms(200),
        patience: ms(2000),
        rise: 3,
        echo: true,
        port: 5060,
    }
}

/// A monitor, its server and a clock.
struct Bench {
    monitor: Monitor,
    role: Role,
    start: Instant,
    now: Instant,
    /// Which kinds of probes are answered.
    options: bool,
    echo: bool,
    /// Time from one packet to a client to the next; `None`: there is none.
    period: Option<Duration>,
    heard: Option<Instant>,
    waiting: Vec<(ProbeKind, u64, Instant)>,
    asked: Vec<(Duration, ProbeKind)>,
    seen: Vec<(Duration, Evidence)>,
}

impl Bench {
    fn new(settings: Probe) -> Self {
        let now = Instant::now();
        Self {
            monitor: Monitor::new(settings, now),
            role: ACTIVE,
            start: now,
            now,
            options: true,
            echo: true,
            period: None,
            heard: None,
            waiting: Vec::new(),
            asked: Vec::new(),
            seen: Vec::new(),
        }
    }

    /// One that has been well for 5 s and something. What was seen until now is forgotten.
    fn calm() -> Self {
        let mut bench = Self::new(settings());
        bench.run(ms(5005));
        bench.forget();
        bench
    }

    fn forget(&mut self) {
        (self.asked, self.seen, self.start) = (Vec::new(), Vec::new(), self.now);
    }

    fn die(&mut self) {
        (self.options, self.echo, self.period) = (false, false, None);
    }

    /// Ticks when it is due, for this long.
    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.monitor.next_deadline(self.role, self.now) <= end {
            self.now = self.now.max(self.monitor.next_deadline(self.role, self.now));
            self.tick();
        }
        self.now = end;
    }

    fn tick(&mut self) {
        let now = self.now;
        let (come, waiting) = std::mem::take(&mut self.waiting).into_iter().partition(|(_, _, at)| *at <= now);
        self.waiting = waiting;
        let come: Vec<_> = come;
        for (kind, number, at) in come {
            let evidence = self.monitor.answered(kind, number, 200, at);
            self.note(evidence);
        }
        if let Some(period) = self.period {
            let whole = now.duration_since(self.start).as_nanos() / period.as_nanos();
            self.heard = Some(self.start + period * whole as u32);
        }
        for step in self.monitor.tick(self.role, self.heard, now) {
            match step {
                Step::Observed(evidence) => self.note(Some(evidence)),
                Step::Ask(kind, number) => {
                    self.asked.push((now - self.start, kind));
                    if if kind == ProbeKind::Echo { self.echo } else { self.options } {
                        self.waiting.push((kind, number, now + RTT));
                    }
                }
            }
        }
    }

    fn note(&mut self, evidence: Option<Evidence>) {
        self.seen.extend(evidence.map(|evidence| (self.now - self.start, evidence)));
    }

    fn first(&self, is_it: impl Fn(&Evidence) -> bool) -> Option<(Duration, Evidence)> {
        self.seen.iter().find(|(_, evidence)| is_it(evidence)).copied()
    }

    fn verdict(&self) -> Option<(Duration, Evidence)> {
        self.first(|evidence| evidence.fault().is_some())
    }
}

fn asked(bench: &Bench, kind: ProbeKind) -> Vec<Duration> {
    bench.asked.iter().filter(|(_, asked)| *asked == kind).map(|(at, _)| *at).collect()
}

#[test]
fn a_calm_server_is_asked_every_interval_and_its_host_every_second() {
    for (role, count) in [(ACTIVE, 101), (STANDBY, 21)] {
        let mut bench = Bench::new(settings());
        bench.role = role;
        bench.run(ms(2000));
        assert_eq!(asked(&bench, ProbeKind::Options).len(), count);
        assert_eq!(asked(&bench, ProbeKind::Echo), [ms(0), ms(1000), ms(2000)]);
        assert_eq!(bench.first(|evidence| matches!(evidence, Evidence::Missed | Evidence::EchoMissed)), None);
    }
}

#[test]
fn a_late_tick_does_not_shift_the_ones_that_follow() {
    let mut bench = Bench::calm();
    bench.now += ms(28);
    bench.tick();
    let next = bench.monitor.next_options;
    assert_eq!((next - bench.start + ms(5005)).as_nanos() % ms(20).as_nanos(), 0);
}

#[test]
fn a_missed_probe_starts_a_burst_of_pairs_one_gap_apart_and_silence_ends_in_a_verdict() {
    let mut bench = Bench::calm();
    bench.die();
    bench.run(ms(40));
    // The grid is at 15 ms from here: OPTIONS there, missed 2 ms later.
    assert_eq!(bench.first(|evidence| *evidence == Evidence::Missed), Some((ms(17), Evidence::Missed)));
    assert_eq!(asked(&bench, ProbeKind::Echo)[..4], [ms(17), ms(18), ms(19), ms(20)]);
    assert_eq!(asked(&bench, ProbeKind::Options)[..5], [ms(15), ms(17), ms(18), ms(19), ms(20)]);
    let (at, verdict) = bench.verdict().expect("it is dead");
    assert_eq!(at, ms(24));
    assert!(matches!(verdict, Evidence::Unreachable { probes: 6, .. }), "{verdict}");
}

#[test]
fn traffic_that_stops_starts_the_burst_before_any_probe_is_due() {
    let mut bench = Bench::calm();
    bench.period = Some(Duration::from_micros(400));
    bench.run(ms(4000));
    bench.forget();
    bench.die();
    bench.run(ms(30));
    let (at, _) = bench.first(|evidence| matches!(evidence, Evidence::Quiet { .. })).expect("it fell silent");
    assert!(at <= ms(4), "{at:?}");
    // Quiet for three, three gaps, and the time of the last pair: dense traffic that stops needs no more pairs.
    assert!(bench.verdict().expect("it is dead").0 <= ms(9), "{:?}", bench.seen);
}

#[test]
fn one_sign_of_life_after_the_doubt_ends_it_and_counts_as_a_close_call_if_more_than_one_pair_was_needed() {
    for (pairs_lost, close_calls) in [(0, 0), (1, 1), (2, 1), (3, 1)] {
        for (options, echo) in [(true, false), (false, true)] {
            let mut bench = Bench::calm();
            bench.die();
            // A pair is sent with the doubt itself, 17 ms from here.
            bench.run(ms(16 + pairs_lost));
            (bench.options, bench.echo) = (options, echo);
            bench.run(ms(3));
            bench.options = true;
            bench.echo = true;
            bench.run(ms(150));
            assert_eq!(bench.verdict(), None, "{pairs_lost} lost, OPTIONS {options}, echo {echo}");
            assert_eq!(bench.monitor.close_calls(), close_calls, "{pairs_lost} lost, OPTIONS {options}");
        }
    }
}

#[test]
fn a_packet_to_a_client_ends_the_doubt_as_well_and_silence_after_it_is_a_new_one() {
    let mut bench = Bench::calm();
    bench.die();
    bench.run(ms(19));
    assert!(bench.monitor.is_confirming());
    bench.heard = Some(bench.now);
    bench.run(ms(20));
    let (at, _) = bench.verdict().expect("nothing more is heard");
    assert!(at >= ms(19 + 3 + 2), "three gaps and the time of the last pair after the packet: {at:?}");
}

#[test]
fn a_host_that_lives_while_options_stay_unanswered_is_hung_after_that_time_and_not_before() {
    let mut bench = Bench::calm();
    bench.options = false;
    bench.run(ms(400));
    let (at, verdict) = bench.verdict().expect("it hangs");
    // The first unanswered OPTIONS was sent after 15 ms.
    assert_eq!(at, ms(215));
    assert_eq!(verdict, Evidence::Hung { silence: ms(200), host_answers: true });
}

#[test]
fn traffic_excuses_unanswered_options_until_patience_ends() {
    let mut bench = Bench::calm();
    bench.period = Some(ms(1));
    bench.options = false;
    bench.run(ms(2500));
    let (at, verdict) = bench.verdict().expect("patience ends");
    assert!(at >= ms(2015) && at <= ms(2036), "{at:?}");
    assert!(matches!(verdict, Evidence::Hung { host_answers: true, .. }));
}

#[test]
fn an_answer_gives_new_patience() {
    let mut bench = Bench::calm();
    bench.period = Some(ms(1));
    for _ in 0..5 {
        bench.options = false;
        bench.run(ms(1900));
        bench.options = true;
        bench.run(ms(50));
    }
    assert_eq!(bench.verdict(), None);
}

#[test]
fn a_host_that_filters_echoes_is_not_unreachable_and_its_death_takes_as_long_as_a_hang() {
    let mut bench = Bench::new(settings());
    bench.echo = false;
    bench.run(ms(5005));
    assert!(!bench.monitor.echo_works());
    assert_eq!(bench.monitor.close_calls(), 0, "echoes that never came are no reason for doubt");
    bench.forget();
    bench.die();
    bench.run(ms(400));
    let (at, verdict) = bench.verdict().expect("it is dead");
    assert_eq!((at, verdict), (ms(215), Evidence::Hung { silence: ms(200), host_answers: false }));
}

#[test]
fn a_host_that_begins_to_filter_echoes_is_doubted_for_a_while_and_never_judged_by_them_again() {
    let mut bench = Bench::calm();
    bench.echo = false;
    bench.run(ms(20_000));
    assert!(!bench.monitor.echo_works());
    assert_eq!(bench.verdict(), None);
    bench.forget();
    bench.run(ms(10_000));
    assert_eq!(asked(&bench, ProbeKind::Echo).len(), 10, "no burst any more");
    assert_eq!(asked(&bench, ProbeKind::Options).len(), 500);
}

#[test]
fn a_stall_of_the_gateway_is_no_silence_of_the_server() {
    for (forgiven, missed) in [(true, false), (false, true)] {
        let mut bench = Bench::calm();
        bench.run(ms(15));
        // OPTIONS is out, its answer is in the socket and is not read; the timer comes 50 ms late.
        let unread = std::mem::take(&mut bench.waiting);
        bench.now += ms(50);
        if forgiven {
            bench.monitor.forgive(ms(50), bench.now);
        }
        bench.tick();
        bench.waiting.extend(unread);
        bench.run(ms(10));
        let is_missed = bench.first(|evidence| *evidence == Evidence::Missed).is_some();
        assert_eq!(is_missed, missed, "forgiven: {forgiven}");
    }
}

#[test]
fn refused_traffic_provokes_one_question_and_a_storm_of_it_no_more_than_one_each_5_ms() {
    let mut bench = Bench::calm();
    let mut provoked = 0;
    for _ in 0..100 {
        let evidence = bench.monitor.traffic_refused(bench.now);
        provoked += usize::from(evidence == Some(Evidence::TrafficRefused));
        bench.run(Duration::from_micros(100));
    }
    assert_eq!(provoked, 2);
    assert_eq!(asked(&bench, ProbeKind::Options)[..2], [ms(0), ms(5)]);
    assert_eq!(bench.verdict(), None);
}

#[test]
fn without_a_way_for_as_long_as_a_hang_takes_a_server_is_cut_off_and_not_before() {
    let mut bench = Bench::calm();
    let mut verdict = None;
    for millis in (15..400).step_by(20) {
        bench.now = bench.start + ms(millis);
        let steps = bench.monitor.tick(ACTIVE, None, bench.now);
        verdict = verdict.or_else(|| {
            let cut_off = |step: &Step| matches!(step, Step::Observed(Evidence::CutOff { .. }));
            steps.iter().any(cut_off).then_some(millis)
        });
        for step in steps {
            match step {
                Step::Ask(kind, number) => {
                    let expected = (kind == ProbeKind::Options).then_some(Evidence::NoWay);
                    assert_eq!(bench.monitor.cannot_send(kind, number, bench.now), expected);
                }
                Step::Observed(evidence) => assert!(matches!(evidence, Evidence::CutOff { .. }), "{evidence}"),
            }
        }
    }
    assert_eq!(verdict, Some(215));
}

#[test]
fn answers_that_mean_nothing_are_nothing_and_late_ones_do_not_end_a_silence() {
    let mut bench = Bench::calm();
    bench.options = false;
    bench.run(ms(30));
    let now = bench.now;
    let newest = bench.monitor.options.send(now);
    assert_eq!(bench.monitor.answered(ProbeKind::Options, newest, 100, now), None, "100 Trying");
    assert_eq!(bench.monitor.answered(ProbeKind::Options, newest + 1, 200, now), None, "never asked");
    let first_missed = newest - bench.asked.iter().filter(|(_, kind)| *kind == ProbeKind::Options).count() as u64;
    let evidence = bench.monitor.answered(ProbeKind::Options, first_missed, 200, now);
    assert!(matches!(evidence, Some(Evidence::Late { .. })), "{evidence:?}");
    assert_eq!(bench.monitor.answered(ProbeKind::Options, first_missed, 200, now), None, "a duplicate");
    bench.run(ms(200));
    assert_eq!(bench.verdict().expect("it hangs").0, ms(215), "as without the late answer");
}

#[test]
fn service_refused_is_an_answer_all_the_same() {
    let mut bench = Bench::calm();
    let number = bench.monitor.options.send(bench.now);
    let evidence = bench.monitor.answered(ProbeKind::Options, number, 503, bench.now + RTT);
    assert_eq!(evidence, Some(Evidence::NoService { status: 503 }));
    assert_eq!(bench.monitor.last_sign(), Some(bench.now + RTT));
}

#[test]
fn a_server_that_becomes_active_again_is_not_asked_about_the_calls_it_had_before() {
    let mut bench = Bench::calm();
    bench.period = Some(ms(1));
    bench.run(ms(500));
    (bench.role, bench.period) = (STANDBY, None);
    bench.run(ms(100));
    bench.role = ACTIVE;
    assert!(bench.monitor.next_deadline(ACTIVE, bench.now) > bench.now);
    bench.forget();
    bench.run(ms(900));
    assert_eq!(bench.first(|evidence| matches!(evidence, Evidence::Quiet { .. })), None);
}

#[test]
fn a_server_that_is_down_is_asked_on_and_not_judged_again() {
    let mut bench = Bench::calm();
    bench.die();
    bench.run(ms(30));
    bench.role.down = true;
    bench.forget();
    bench.run(ms(1000));
    assert_eq!(bench.verdict(), None);
    assert_eq!(asked(&bench, ProbeKind::Options).len(), 50, "no burst");
}
