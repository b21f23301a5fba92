//! The program and the host's packet logic agree about every frame, and both keep a few promises that are checked
//! without either.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use fastrand::Rng;
use voip_ha::datapath::{self, Datapath as _};
use voip_ha_ebpf::abi::Outcome;

use super::{
    frame::{datagram_with, ip_header},
    generate,
    judge::{Servers, Steered, judge},
    model::{Memory, Model},
    net::{BACK, FRONT, Ipv4, OTHER_VIP, PHONE, VIP},
    noted::{Expected, compare_owners},
    rig::{Act, PBX, Rig, SERVICES, TRUNK, Tally, apart, with_rig},
};

const FRAMES: usize = 120_000;
/// Frames from one change of the active servers to the next, when the counters are compared too.
const BATCH: usize = 80;

/// Of the service `trunk`. What a sender has left is no matter for the model, so nobody reaches the limit.
const PROTECTION: &str = "
    [service.protection]
    sip_packets_per_s = 1_000_000
    sip_burst = 1_000_000
    allow = ['203.0.113.128/26', '2001:db8::cb00:7180/122', '2001:db8::c633:0/112']
    deny = ['203.0.113.0/24', '2001:db8::cb00:7100/120', '10.0.0.0/30', '100.64.0.1']";

pub(crate) const PBX_SERVERS: &Servers =
    &[("master", [10, 0, 0, 2]), ("cloud", [10, 8, 0, 2]), ("lost", [10, 0, 0, 4]), ("astray", [10, 0, 0, 5])];
pub(crate) const TRUNK_SERVERS: &Servers = &[("one", [10, 0, 0, 3]), ("two", [10, 0, 0, 6])];

pub(crate) fn steered_at_random(rng: &mut Rng, vip: Ipv4, servers: &'static Servers) -> Steered {
    let anyone = |rng: &mut Rng| servers.get(rng.usize(..=servers.len())).map(|(name, _)| *name);
    // The master is active half of the time: what is dropped for want of a server or a next hop says little.
    let signalling = if rng.bool() { Some(servers[0].0) } else { anyone(rng) };
    let media = if rng.bool() { signalling } else { anyone(rng) };
    Steered { vip, servers, signalling, media, draining: anyone(rng), affinity: rng.bool() }
}

/// What is remembered of calls, if anything is.
pub(crate) fn remembered_at_random(rng: &mut Rng, is_any: bool) -> datapath::Memory {
    use datapath::Memory::{AfterCensus, Calls, Census, Nothing};
    if is_any { [Calls, Census, AfterCensus][rng.usize(..3)] } else { Nothing }
}

/// Runs a frame in the kernel and on the host, compares and judges. Adds to the tally what the host would count.
fn compare(
    rig: &mut Rig,
    model: &Model,
    steered: &[Steered; 2],
    from: u32,
    frame: &[u8],
    (tally, expected): (&mut Tally, &mut Expected),
) -> Result<()> {
    let (wanted, place, noted) = model.run(from, frame);
    let found = rig.run(from, frame)?;
    ensure!(found == wanted, "{place:?}: the kernel makes it\n{found:02x?}, the host\n{wanted:02x?}");
    judge(frame, &found, steered)?;
    noted.map_or(Ok(()), |noted| expected.add(rig.datapath.tables(), &noted))?;
    let (packets, bytes) = tally.entry(place).or_default();
    (*packets, *bytes) = (*packets + 1, *bytes + frame.len() as u64);
    Ok(())
}

#[test]
fn kernel_and_host_agree_about_every_random_frame_and_its_counter() -> Result<()> {
    apart(|| {
        let rig = &mut Rig::ready()?.restarted(&format!("{SERVICES}{PROTECTION}"))?;
        let seed = generate::seed()?;
        let mut rng = Rng::with_seed(seed);
        let (mut tally, mut expected, memory) = (Tally::new(), Expected::default(), Memory::default());
        for batch in 0..FRAMES / BATCH {
            if batch % 20 == 0 {
                memory.forget_fragments(rig)?;
            }
            let steered =
                [steered_at_random(&mut rng, VIP, PBX_SERVERS), steered_at_random(&mut rng, OTHER_VIP, TRUNK_SERVERS)];
            for (service, steered) in [PBX, TRUNK].into_iter().zip(&steered) {
                let servers = [steered.signalling, steered.media, steered.draining];
                rig.steer_as(service, servers, remembered_at_random(&mut rng, steered.affinity))?;
                if rng.bool() {
                    rig.datapath.end_census(service);
                }
            }
            let model = Model::of(rig.datapath.tables(), &memory)?;
            for number in 0..BATCH {
                let (from, frame) = generate::frame(&mut rng);
                compare(rig, &model, &steered, from, &frame, (&mut tally, &mut expected)).with_context(|| {
                    format!("VOIP_HA_SEED={seed}, batch {batch}, frame {number} on {from}: {frame:02x?}")
                })?;
            }
            let found = rig.tally()?;
            ensure!(found == tally, "VOIP_HA_SEED={seed}, batch {batch}: counted {found:#?}, should be {tally:#?}");
            let at = || format!("VOIP_HA_SEED={seed}, batch {batch}");
            expected.check(rig).with_context(at)?;
            // They grow all the time, and take long to read.
            if batch % 10 == 9 {
                compare_owners(rig.datapath.tables(), &memory).with_context(at)?;
            }
        }
        ensure!(expected.has_seen_everything(), "what is tested?");
        let (flows, calls) = memory.owners();
        let owners = [flows.into_values().collect::<BTreeSet<_>>(), calls.into_values().collect()];
        ensure!(owners[0].len() > 4 && owners[1].len() > 3, "flows and calls of {owners:?} only: what is tested?");
        let reached: BTreeSet<_> = tally.keys().map(|(_, _, outcome)| *outcome).collect();
        // No limit is reached, and no server masquerades.
        let in_time = |outcome: &&Outcome| ![Outcome::RateLimited, Outcome::NoPort].contains(outcome);
        let all: BTreeSet<_> = Outcome::ALL.iter().filter(in_time).map(|outcome| outcome.name()).collect();
        ensure!(reached == all, "{FRAMES} frames reach only {reached:?}: what is tested?");
        Ok(())
    })
}

#[test]
fn kernel_and_host_agree_about_a_frame_cut_at_every_length() -> Result<()> {
    with_rig(|rig| {
        let steered = [
            Steered {
                vip: VIP,
                servers: PBX_SERVERS,
                signalling: Some("master"),
                media: Some("master"),
                draining: None,
                affinity: false,
            },
            Steered {
                vip: OTHER_VIP,
                servers: TRUNK_SERVERS,
                signalling: Some("one"),
                media: Some("one"),
                draining: None,
                affinity: false,
            },
        ];
        let model = Model::of(rig.datapath.tables(), &Memory::default())?;
        for options in 0..=10 {
            for (arm, from, to, ports) in
                [(FRONT, PHONE, VIP, (4000, 5060)), (BACK, [10, 0, 0, 2], PHONE, (5060, 4000))]
            {
                let mut header = ip_header(from, to);
                header.options = [7; 4].repeat(options).as_slice().try_into()?;
                let whole = datagram_with(header, ports, b"OPTIONS");
                for length in 14..=whole.len() {
                    let frame = &whole[..length];
                    compare(rig, &model, &steered, arm, frame, (&mut Tally::new(), &mut Expected::default()))
                        .with_context(|| format!("{options} words of options, cut at {length}"))?;
                    let act = rig.run(arm, frame)?.act;
                    ensure!((act == Act::Redirect) == (length == whole.len()), "cut at {length}: {act:?}");
                }
            }
        }
        Ok(())
    })
}
