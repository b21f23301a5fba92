//! What is played: which settings, which noise, which faults, and when they have to be noticed.

use std::time::Duration;

use voip_ha::{
    config::{Config, Probe},
    decision::Scope,
    engine::{Wish, Words},
    ids::ServerId,
};

use super::{
    host::State,
    noise::Noise,
    world::{SERVICE, World},
};

pub(crate) const PRESETS: [&str; 3] = ["lan", "wan", "cautious"];
pub(crate) const STREAMS: [usize; 3] = [0, 1, 50];
/// What a wake of the gateway adds, at the most, when it does not stall: lateness for each step of a confirmation.
const WAKES: Duration = Duration::from_micros(500);
/// Time for which everybody is well before a fault: round trips are known then.
pub(crate) const CALM: Duration = Duration::from_secs(5);

pub(crate) fn config(preset: &str, keys: &str, policy: &str) -> Config {
    let text = format!(
        "gateway = {{ front = 'eth0', back = 'eth1' }}
         policy = {{ {policy} }}
         probe = {{ preset = '{preset}'{keys} }}
         service = [ {{ name = 'pbx', vip = '192.0.2.10', sip_ports = [5060], rtp_ports = '10000-19999', server = [
           {{ name = 'master', address = '10.0.0.2' }}, {{ name = 'cloud', address = '10.8.0.2' }} ] }} ]"
    );
    Config::parse("simulation", &text).unwrap_or_else(|error| panic!("{error}"))
}

pub(crate) fn probe(config: &Config) -> &Probe {
    &config.services[0].servers[0].probe
}

/// One way to a server.
pub(crate) fn delay(preset: &str, rng: &mut fastrand::Rng) -> Duration {
    let microseconds = if preset == "lan" { 20..150 } else { 1_000..8_000 };
    Duration::from_micros(rng.u64(microseconds))
}

/// A world with the noise that its preset is made for.
pub(crate) fn noisy(preset: &str, keys: &str, streams: usize, rng: &mut fastrand::Rng, loud: bool) -> World {
    let config = config(preset, keys, "failback = 'manual'");
    let delay = delay(preset, rng);
    let noise = Noise::stated(probe(&config), delay, rng);
    World::new(&config, noise, streams, rng, loud)
}

/// Longest time from a fault to the flip, from the settings. `noise` is `None` if the way is quiet: then nothing but the
/// shortest time is waited for an answer.
pub(crate) fn bound(settings: &Probe, fault: State, streams: usize, noise: &Noise, quiet: bool) -> Duration {
    let Probe { interval, standby_interval, confirm_gap, hang, patience, .. } = *settings;
    let round_trip = noise.round_trip();
    let wait = if quiet { settings.timeout_min.max(round_trip * 2) } else { settings.timeout_max };
    // One answer too many on the way to the gateway; then the standby has to answer, too.
    let slack = round_trip * 2
        + WAKES * (settings.confirm_alone() + 2)
        + if quiet { Duration::ZERO } else { standby_interval + wait };
    // The burst that traffic's silence starts, or a missed probe.
    let (doubt, pairs) = if quiet && streams == 50 {
        (settings.quiet, settings.confirm)
    } else {
        (interval + wait, settings.confirm_alone())
    };
    let silent = doubt + confirm_gap * (pairs - 1) + wait;
    slack
        + match fault {
            State::Crashed if quiet => interval,
            State::Silent => silent,
            State::Unplugged => Duration::from_micros(500),
            // Every refusal may be lost; then it is as if it hung.
            State::Crashed | State::Hung => interval * 2 + wait + hang,
            State::HungSip if streams > 0 => interval * 2 + wait + patience.max(hang),
            State::HungSip => interval * 2 + wait + hang,
            State::Well | State::Refusing => interval * 4,
        }
}

/// Faults of both servers for this long, at random.
pub(crate) fn plague(world: &mut World, time: Duration, mean: Duration, rng: &mut fastrand::Rng) {
    let faults =
        [State::Crashed, State::Silent, State::Hung, State::HungSip, State::Refusing, State::Unplugged, State::Crashed];
    for server in 0..2 {
        let mut at = CALM;
        loop {
            at += super::noise::exponential(mean, rng) + Duration::from_millis(1);
            if at >= time {
                break;
            }
            world.script(server, at, faults[rng.usize(..faults.len())]);
            // Short ones and long ones.
            at += super::noise::exponential(mean.mul_f64(rng.f64() * rng.f64()), rng);
            world.script(server, at, State::Well);
        }
    }
    for _ in 0..rng.usize(..3) {
        let scope = [Scope::Both, Scope::Signalling, Scope::Media][rng.usize(..3)];
        let server = [None, Some(ServerId(0)), Some(ServerId(1))][rng.usize(..3)];
        let drain = (rng.usize(..3) == 0).then(|| time.mul_f64(rng.f64()));
        let force = rng.usize(..8) == 0;
        let wish = Wish { service: SERVICE, server, scope, force, drain, words: Words::default() };
        world.order(time.mul_f64(rng.f64()), wish);
    }
}
