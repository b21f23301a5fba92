//! Detection and decision under a clock that nobody waits for, in a network that does not exist.
//!
//! The engine is the one that the controller runs; what is simulated is what the controller, the kernel and the servers do
//! around it. Every run follows from its seed. `VOIP_HA_SEED=n cargo test -p voip-ha --test simulation NAME -- --nocapture`
//! runs that seed alone and prints what happened when. `VOIP_HA_HOURS=n` sets the simulated hours of the false-failover
//! test, which are few by default.
//!
//! # The stated noise
//!
//! Under this no server may be left that is well. For each run, at random:
//! - *Loss* of 0 to 2 % of all packets, each way, probes, answers, refusals and media alike.
//! - *Disturbances* of the way to each server, 6 to 61 s apart on average and never less than one, in which it loses
//!   everything in both directions, or keeps everything back and delivers it at the end. They last for as long as leaves a
//!   confirmation two pairs of its own: up to 4.5 ms for `lan`, 48 ms for `wan`, 450 ms for `cautious`.
//! - *Delay* of 20 to 150 µs one way for `lan`, 1 to 8 ms for the others; jitter with a mean of 5 to 35 % of it; up to 0.2 %
//!   of packets late by up to 15 times `timeout_min`, so that answers are reordered; up to 0.5 % doubled.
//! - *Pauses* of a server's processes for up to 50 ms, 20 to 120 s apart. Its kernel goes on answering echoes; OPTIONS are
//!   answered at the end, and no media is sent meanwhile.
//! - *Stalls* of the gateway for up to 300 ms, 10 to 120 s apart, and timers that are late by 20 to 300 µs on average. The
//!   kernel's stamps stay right, and sockets lose nothing.
//! - *Steps* of the gateway's wall clock by up to 12 s either way, 10 to 600 s apart: answers that wait in a socket at that
//!   moment get a wrong time. The servers' clocks appear nowhere.
//! - 0, 1 or 50 streams of media, a packet every 20 ms each, that go where the service's media goes, and as many that stay
//!   with a server that drains. Calls end 2 to 60 s apart, and the server refuses the last packets for them.
//!
//! Not in it: servers whose kernels stand still, and failures of the network that are longer than the
//! disturbances. Those are faults.

#[path = "simulation/host.rs"]
mod host;
#[path = "simulation/noise.rs"]
mod noise;
#[path = "simulation/script.rs"]
mod script;
#[path = "simulation/watch.rs"]
mod watch;
#[path = "simulation/world.rs"]
mod world;

use std::{env, time::Duration};

use self::{
    host::State,
    noise::Noise,
    script::{CALM, PRESETS, STREAMS, bound, config, delay, noisy, plague, probe},
    world::World,
};

const MINUTE: Duration = Duration::from_secs(60);
const FAULTS: [State; 5] = [State::Crashed, State::Silent, State::Hung, State::HungSip, State::Unplugged];

/// Runs a test for these seeds, or for the one that the environment names, which is then told about. Gives what was wrong.
fn seeds(most: u64, run: impl Fn(u64, bool) -> Vec<String>) -> Vec<String> {
    let seed = env::var("VOIP_HA_SEED").ok().map(|seed| seed.parse().expect("VOIP_HA_SEED is a number"));
    let (seeds, loud) = seed.map_or((0..most, false), |seed| (seed..seed + 1, true));
    let wrong = |seed| run(seed, loud).into_iter().map(move |wrong| format!("VOIP_HA_SEED={seed}: {wrong}"));
    seeds.flat_map(wrong).collect()
}

fn assert_none(wrong: &[String]) {
    assert!(wrong.is_empty(), "{} in all, such as\n{}", wrong.len(), wrong[..wrong.len().min(10)].join("\n"));
}

fn any<T: Copy>(rng: &mut fastrand::Rng, of: &[T]) -> T {
    of[rng.usize(..of.len())]
}

/// One fault of the master at a random moment.
fn one_fault(seed: u64, quiet: bool, loud: bool) -> Vec<String> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let (preset, streams, fault) = (any(&mut rng, &PRESETS), any(&mut rng, &STREAMS), any(&mut rng, &FAULTS));
    let config = config(preset, "", "failback = 'manual'");
    let settings = probe(&config);
    let delay = delay(preset, &mut rng);
    let noise = if quiet { Noise::none(delay) } else { Noise::stated(settings, delay, &mut rng) };
    // A gateway that stands still sees nothing meanwhile; no setting bounds that.
    let noise = Noise { stalls: (Duration::ZERO, Duration::ZERO), ..noise };
    let mut world = World::new(&config, noise, streams, &mut rng, loud);
    let at = CALM + Duration::from_secs(3).mul_f64(rng.f64());
    world.script(0, at, fault);
    let bound = bound(settings, fault, streams, &noise, quiet);
    world.run(at + bound + Duration::from_secs(30));
    let mut wrong = std::mem::take(&mut world.watch.broken);
    let after = world.flips.first().and_then(|(when, _)| when.checked_duration_since(world.start + at));
    let what = format!("{preset}, {streams} streams, {fault:?}");
    match after {
        Some(time) if time <= bound => {}
        Some(time) => wrong.push(format!("(a) {what}: seen after {time:?}, later than {bound:?}")),
        None => wrong.push(format!("(a) {what}: not seen, or seen before it was there")),
    }
    if world.flips.len() > 1 {
        wrong.push(format!("(b) {what}: {} flips for one fault", world.flips.len()));
    }
    wrong
}

#[test]
fn a_fault_on_a_quiet_way_is_seen_within_the_time_that_the_settings_promise() {
    assert_none(&seeds(1000, |seed, loud| one_fault(seed, true, loud)));
}

#[test]
fn a_fault_in_the_stated_noise_is_seen_within_the_time_that_the_settings_promise() {
    assert_none(&seeds(1000, |seed, loud| one_fault(seed, false, loud)));
}

/// Ten minutes without a fault. Gives the flips.
fn ten_minutes(seed: u64, preset: &str, keys: &str, loud: bool) -> Vec<String> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let streams = any(&mut rng, &STREAMS);
    let mut world = noisy(preset, keys, streams, &mut rng, loud);
    world.run(MINUTE * 10);
    let mut wrong = std::mem::take(&mut world.watch.broken);
    wrong.extend(world.flips.iter().map(|(_, flip)| format!("(b) {preset}, {streams} streams: {flip}")));
    wrong
}

#[test]
fn no_server_that_is_well_is_left_for_the_stated_noise() {
    let hours = env::var("VOIP_HA_HOURS").ok().map_or(60, |hours| hours.parse().expect("VOIP_HA_HOURS is a number"));
    assert_none(&seeds(hours * 6, |seed, loud| ten_minutes(seed, PRESETS[seed as usize % 3], "", loud)));
}

#[test]
fn one_unanswered_pair_would_be_too_little_to_leave_a_server() {
    let wrong = (0..24).flat_map(|seed| ten_minutes(seed, "lan", ", confirm = 1", false)).count();
    assert!(wrong > 0, "the noise is too weak to say anything");
}

/// All servers fall silent at the same moment, and come back at the same moment: a switch was restarted. It takes longer
/// than the standby needs to be found silent, too. One that ends between the two verdicts is not told from a fault of the
/// active server: then the standby is the one that answers.
fn common_fault(seed: u64, loud: bool) -> Vec<String> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let (preset, streams) = (any(&mut rng, &PRESETS), any(&mut rng, &STREAMS));
    let fault = any(&mut rng, &[State::Silent, State::Silent, State::Unplugged]);
    let delay = delay(preset, &mut rng);
    let config = config(preset, "", "failback = 'manual'");
    let (settings, noise) = (probe(&config), Noise::none(delay));
    let mut world = World::new(&config, noise, streams, &mut rng, loud);
    let from = CALM + Duration::from_secs(3).mul_f64(rng.f64());
    let judged = settings.standby_interval + bound(settings, State::Silent, streams, &noise, true);
    let until = from + judged + Duration::from_secs(20).mul_f64(rng.f64() * rng.f64());
    for server in 0..2 {
        world.script(server, from, fault);
        world.script(server, until, State::Well);
    }
    world.run(until + Duration::from_secs(20));
    let mut wrong = std::mem::take(&mut world.watch.broken);
    wrong.extend(world.flips.iter().map(|(_, flip)| format!("{preset}, {streams} streams: {flip}")));
    wrong
}

#[test]
fn a_fault_that_all_servers_share_moves_nothing() {
    assert_none(&seeds(500, common_fault));
}

/// Both servers fail again and again, in many ways.
fn minutes_of_plague(seed: u64, loud: bool) -> Vec<String> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let preset = any(&mut rng, &PRESETS);
    let policy =
        any(&mut rng, &["failback = 'manual'", "failback = 'auto', hold_down_s = 3", "failovers_per_hour = 3"]);
    let config = config(preset, "", policy);
    let delay = delay(preset, &mut rng);
    let noise = Noise::stated(probe(&config), delay, &mut rng);
    let streams = any(&mut rng, &STREAMS);
    let mut world = World::new(&config, noise, streams, &mut rng, loud);
    let time = MINUTE;
    plague(&mut world, time, Duration::from_secs(8), &mut rng);
    world.run(time + Duration::from_secs(30));
    world.watch.broken
}

#[test]
fn no_dead_server_stays_active_beside_one_that_is_up_unless_somebody_is_told_why() {
    assert_none(&seeds(1000, minutes_of_plague));
}

/// A day on which the master flaps, and on some the backup too. Gives the most failovers in an hour.
fn day_of_flapping(seed: u64, policy: &str, loud: bool) -> (Vec<String>, usize) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let config = config("cautious", "", policy);
    let mut world = World::new(&config, Noise::none(Duration::from_micros(50)), 0, &mut rng, loud);
    let (time, period) = (MINUTE * 60 * 6, Duration::from_secs(rng.u64(10..90)));
    for server in 0..=rng.usize(..2) {
        let mut at = CALM + period.mul_f64(rng.f64());
        while at < time {
            world.script(server, at, any(&mut rng, &[State::Crashed, State::Silent]));
            world.script(server, at + period / 4, State::Well);
            at += period;
        }
    }
    world.run(time);
    (std::mem::take(&mut world.watch.broken), world.watch.most_failovers)
}

#[test]
fn damping_and_budget_bound_the_flips_of_an_hour() {
    let policy = "failback = 'auto', hold_down_s = 5";
    assert_none(&seeds(16, |seed, loud| day_of_flapping(seed, policy, loud).0));
}

#[test]
fn without_a_budget_two_flapping_servers_would_throw_calls_to_and_fro() {
    let policy = "failback = 'auto', hold_down_s = 5, failovers_per_hour = 0";
    let most = (0..6).map(|seed| day_of_flapping(seed, policy, false).1).max();
    assert!(most > Some(24), "{most:?} failovers in the worst hour");
}
