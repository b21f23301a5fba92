use std::time::{Duration, Instant};

use super::*;
use crate::{
    decision::{Refusal, Scope},
    event::FlipRecord,
    evidence::Fault,
};

mod drains;
mod lab;
mod orders;
mod random;

use self::lab::{Host, Lab};

const GRACE: Duration = Duration::from_millis(500);
const HOLD_DOWN: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);
const SERVICE: ServiceId = ServiceId(0);
const MASTER: ServerId = ServerId(0);
const CLOUD: ServerId = ServerId(1);
/// Without a memory of calls, which has tests of its own.
const MANUAL: &str = "failback = 'manual', give_back_s = 0";
const AUTO: &str = "failback = 'auto', hold_down_s = 60, give_back_s = 0, failback_drains = false";
/// Fifty calls.
const BUSY: Option<Duration> = Some(Duration::from_micros(400));

fn config(policy: &str, preset: &str) -> Config {
    let text = format!(
        "gateway = {{ front = 'eth0', back = 'eth1' }}
         policy = {{ {policy}, switch_grace_ms = {} }}
         probe = {{ preset = '{preset}' }}
         service = [
           {{ name = 'pbx', vip = '192.0.2.10', sip_ports = [5060], rtp_ports = '10000-19999', server = [
             {{ name = 'master', address = '10.0.0.2' }}, {{ name = 'cloud', address = '10.8.0.2' }} ] }},
           {{ name = 'fax', vip = '192.0.2.11', sip_ports = [5060], rtp_ports = '10000-19999', server = [
             {{ name = 'fax-a', address = '10.0.0.3' }}, {{ name = 'fax-b', address = '10.8.0.3' }} ] }} ]",
        GRACE.as_millis()
    );
    Config::parse("test", &text).unwrap_or_else(|error| panic!("{error}"))
}

fn lab(policy: &str) -> Lab {
    Lab::calm(&config(policy, "lan"))
}

fn steered<'a>(outputs: impl IntoIterator<Item = &'a (Instant, Output)>) -> Vec<(ServiceId, Steering)> {
    let steers = outputs.into_iter().filter_map(|(_, output)| match output {
        Output::Steer(service, steering, _) => Some((*service, *steering)),
        _ => None,
    });
    steers.collect()
}

fn flips(lab: &Lab) -> Vec<&FlipRecord> {
    let flips = lab.outputs.iter().filter_map(|(_, output)| match output {
        Output::Steer(_, _, Happening::Flip(flip)) => Some(flip),
        _ => None,
    });
    flips.collect()
}

fn told(lab: &Lab, is_it: impl Fn(&Happening) -> bool) -> usize {
    lab.outputs.iter().filter(|(_, output)| matches!(output, Output::Tell(told) if is_it(told))).count()
}

/// From the fault to the flip, for each of many moments at which the fault may come. Returns the longest.
fn longest(preset: &str, calls: Option<Duration>, host: Host, most: Duration) -> Duration {
    let calm = |calls| {
        let mut lab = Lab::new(&config(MANUAL, preset));
        lab.calls[MASTER.0] = calls;
        lab.run(10 * SECOND);
        lab
    };
    let mut longest = Duration::ZERO;
    for step in 0..20 {
        let mut lab = calm(calls);
        lab.forget();
        lab.run(Duration::from_micros(5_300) * step);
        lab.host(MASTER, host);
        let Some((time, steering)) = lab.until_steered(most * 2) else { panic!("{preset}: {host:?} is not seen") };
        assert_eq!(steering, Steering::to(CLOUD), "{preset}: {host:?}");
        longest = longest.max(time);
    }
    longest
}

#[test]
fn every_preset_flips_within_the_time_that_its_settings_promise() {
    for preset in ["lan", "wan", "cautious"] {
        let probe = config(MANUAL, preset).services[0].servers[0].probe;
        let margin = Duration::from_millis(1);
        let burst = |pairs: u32| probe.confirm_gap * (pairs - 1) + probe.timeout_min;
        let crash = probe.interval;
        let silence = probe.interval + probe.timeout_min + burst(probe.confirm_alone());
        let hush = probe.quiet + burst(probe.confirm);
        let hang = probe.interval + probe.hang;
        for (calls, host, promised) in [
            (None, Host::Crashed, crash),
            (BUSY, Host::Crashed, crash),
            (None, Host::Silent, silence),
            (BUSY, Host::Silent, hush),
            (None, Host::Hung, hang),
            (BUSY, Host::Hung, hang),
        ] {
            let time = longest(preset, calls, host, promised + margin);
            assert!(time <= promised + margin, "{preset}, {host:?}, calls {calls:?}: {time:?} of {promised:?}");
        }
    }
}

#[test]
fn a_refusal_that_is_repeated_flips_the_service_at_once_fences_the_dead_server_and_leaves_other_services_alone() {
    let mut lab = lab(MANUAL);
    let outputs = lab.engine.refused(MASTER, lab.now);
    assert_eq!(outputs, [], "one may be forged");
    assert_eq!(lab.engine.next_deadline(lab.now), Some(lab.now), "it is asked again at once");
    let outputs = lab.engine.refused(MASTER, lab.now);
    assert!(
        matches!(&outputs[0], Output::Steer(SERVICE, steering, Happening::Flip(flip))
        if *steering == Steering::to(CLOUD) && flip.cause == Cause::Failover && flip.evidence == Some(Evidence::Refused)),
        "{outputs:?}"
    );
    assert_eq!(lab.engine.steering(ServiceId(1)), Steering::to(ServerId(2)));
    lab.note(outputs);
    lab.host(MASTER, Host::Crashed);
    lab.run(10 * SECOND);
    assert_eq!(steered(&lab.outputs).len(), 1);
}

#[test]
fn the_record_of_a_flip_says_what_was_wrong_and_lists_all_that_led_to_it_in_order() {
    let mut lab = lab(MANUAL);
    lab.host(MASTER, Host::Silent);
    lab.run(SECOND);
    let flips = flips(&lab);
    let [flip] = flips[..] else { panic!("{flips:?}") };
    assert_eq!((flip.fault, flip.scope, flip.from.as_str()), (Some(Fault::Unreachable), Scope::Both, "master"));
    let count = |is_it: fn(&Evidence) -> bool| flip.trail.iter().filter(|witness| is_it(&witness.evidence)).count();
    assert!(matches!(flip.trail[0].evidence, Evidence::Answer { .. }), "it begins with the last answer");
    assert_eq!(count(|evidence| *evidence == Evidence::Missed), 12, "the first, and those of eleven pairs");
    assert_eq!(count(|evidence| *evidence == Evidence::EchoMissed), 11);
    assert!(matches!(flip.trail.last().unwrap().evidence, Evidence::Unreachable { probes: 11, .. }));
    assert!(flip.trail.is_sorted_by_key(|witness| witness.monotonic_us));
    assert_eq!(flip.decided_us, flip.trail.last().unwrap().monotonic_us);
    assert!(flip.decided_us > 1_000_000_000, "on the clock of the kernel's stamps");
}

#[test]
fn the_trail_of_a_long_silence_keeps_its_beginning_and_its_end() {
    let mut lab = Lab::calm(&config(MANUAL, "cautious"));
    lab.host(MASTER, Host::Hung);
    lab.run(10 * SECOND);
    let flip = flips(&lab)[0];
    assert!(flip.trail.len() <= 64);
    assert!(matches!(flip.trail[0].evidence, Evidence::Answer { .. }));
    assert!(matches!(flip.trail.last().unwrap().evidence, Evidence::Hung { host_answers: true, .. }));
}

#[test]
fn the_standby_is_asked_at_once_when_the_active_server_is_doubted() {
    for (active, standby) in [(MASTER, CLOUD), (CLOUD, MASTER)] {
        let mut lab = lab(MANUAL);
        if active == CLOUD {
            lab.engine.wish(&orders::wish(Some(CLOUD)), lab.now).unwrap();
        }
        lab.run(SECOND);
        lab.forget();
        lab.host(active, Host::Silent);
        lab.run(Duration::from_millis(40));
        let doubted = lab.asked.iter().find(|(_, server, kind)| *server == active && *kind == ProbeKind::Echo);
        let (doubted, ..) = doubted.expect("it is doubted");
        for kind in [ProbeKind::Options, ProbeKind::Echo] {
            assert!(lab.asked.contains(&(*doubted, standby, kind)), "{kind:?} of {standby:?}: {:?}", lab.asked);
        }
    }
}

#[test]
fn a_hung_media_relay_is_given_patience_and_a_working_one_no_flip_at_all() {
    let mut lab = lab(MANUAL);
    lab.hosts[MASTER.0] = Host::Hung;
    lab.calls[MASTER.0] = BUSY;
    lab.run(Duration::from_millis(1900));
    assert_eq!(steered(&lab.outputs), [], "it sends to clients");
    lab.run(Duration::from_millis(200));
    assert_eq!(steered(&lab.outputs), [(SERVICE, Steering::to(CLOUD))]);
}

#[test]
fn when_nobody_is_up_nothing_changes_and_the_outage_is_told_once() {
    let mut lab = lab(MANUAL);
    lab.host(CLOUD, Host::Crashed);
    lab.run(SECOND);
    lab.host(MASTER, Host::Crashed);
    lab.run(10 * SECOND);
    assert_eq!(steered(&lab.outputs), []);
    assert_eq!(told(&lab, |told| matches!(told, Happening::OutageBegan { service } if service == "pbx")), 1);
    assert_eq!(lab.engine.steering(SERVICE), Steering::to(MASTER));

    lab.host(CLOUD, Host::Well);
    lab.run(2 * SECOND);
    assert_eq!(steered(&lab.outputs), [(SERVICE, Steering::to(CLOUD))]);
    assert_eq!(told(&lab, |told| matches!(told, Happening::OutageEnded { .. })), 1);
}

#[test]
fn silence_of_all_servers_at_once_moves_nothing_and_neither_does_their_return() {
    for first in [MASTER, CLOUD] {
        let mut lab = lab(MANUAL);
        for server in [MASTER, CLOUD] {
            lab.host(server, Host::Silent);
        }
        lab.run(2 * SECOND);
        assert!(lab.engine.services()[0].outage);
        lab.host(first, Host::Well);
        lab.run(Duration::from_millis(300));
        for server in [MASTER, CLOUD] {
            lab.host(server, Host::Well);
        }
        lab.run(HOLD_DOWN);
        assert_eq!(steered(&lab.outputs), [], "{first:?} came back first");
    }
}

#[test]
fn a_flap_of_the_gateways_own_link_does_not_move_the_service() {
    let mut lab = lab(MANUAL);
    for server in [MASTER, CLOUD] {
        lab.host(server, Host::Silent);
    }
    let outputs = lab.engine.no_carrier(&[MASTER, CLOUD], lab.now);
    lab.note(outputs);
    lab.run(2 * SECOND);
    for server in [MASTER, CLOUD] {
        lab.host(server, Host::Well);
    }
    lab.run(HOLD_DOWN);
    assert_eq!(steered(&lab.outputs), []);
    assert_eq!(told(&lab, |told| matches!(told, Happening::OutageBegan { .. })), 1);
}

#[test]
fn a_lost_link_of_one_server_flips_at_once() {
    let mut lab = lab(MANUAL);
    let outputs = lab.engine.no_carrier(&[MASTER], lab.now);
    assert!(
        matches!(outputs[0], Output::Steer(SERVICE, steering, _) if steering == Steering::to(CLOUD)),
        "{outputs:?}"
    );
}

#[test]
fn automatic_failback_is_a_planned_switch_after_the_hold_down() {
    let mut lab = lab(AUTO);
    lab.host(MASTER, Host::Crashed);
    lab.run(SECOND);
    lab.host(MASTER, Host::Well);
    lab.forget();
    let (time, steering) = lab.until_steered(HOLD_DOWN * 2).expect("it is the master");
    assert!(time >= HOLD_DOWN && time < HOLD_DOWN + SECOND, "{time:?}");
    assert_eq!(steering, Steering { draining: Some(CLOUD), ..Steering::to(MASTER) });
}

#[test]
fn a_server_that_falls_three_times_is_told_to_be_suppressed_and_not_returned_to() {
    let mut lab = lab(AUTO);
    for _ in 0..3 {
        lab.host(MASTER, Host::Crashed);
        lab.run(SECOND);
        lab.host(MASTER, Host::Well);
        lab.run(HOLD_DOWN + SECOND);
    }
    assert_eq!(told(&lab, |told| matches!(told, Happening::Suppressed { server, .. } if server == "master")), 1);
    assert_eq!(lab.engine.steering(SERVICE), Steering::to(CLOUD));
    assert!(lab.engine.suppressed_until(MASTER, lab.now).is_some());
    lab.run(HOLD_DOWN * 40);
    assert_eq!(lab.engine.steering(SERVICE), Steering::to(MASTER), "all is forgiven");
}

#[test]
fn a_dead_server_that_is_kept_for_want_of_budget_is_told_once_and_left_when_there_is_one_again() {
    let mut lab = lab(&format!("{MANUAL}, failovers_per_hour = 2"));
    for (dead, well) in [(MASTER, CLOUD), (CLOUD, MASTER), (MASTER, CLOUD)] {
        lab.host(well, Host::Well);
        lab.run(2 * SECOND);
        lab.host(dead, Host::Crashed);
        lab.run(2 * SECOND);
    }
    assert_eq!(steered(&lab.outputs).len(), 2);
    lab.run(600 * SECOND);
    assert_eq!(told(&lab, |told| matches!(told, Happening::Kept { server, held: false, .. } if server == "master")), 1);
    lab.run(3000 * SECOND);
    assert_eq!(lab.engine.steering(SERVICE), Steering::to(CLOUD));
}
