//! The program and the host's packet logic agree about every frame, and both keep a few promises that are checked
//! without either.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use fastrand::Rng;
use voip_ha::datapath::Datapath as _;
use voip_ha_ebpf::abi::{Address, Outcome};

use super::{
    frame::{Datagram, datagram_with, ip_header},
    generate,
    model::Model,
    net::{BACK, FRONT, OTHER_VIP, PHONE, VIP},
    noted::Expected,
    rig::{Act, PBX, Ran, Rig, TRUNK, Tally, next_hop, with_rig},
};

const FRAMES: usize = 40_000;
/// Frames from one change of the active servers to the next, when the counters are compared too.
const BATCH: usize = 80;

/// The servers of a service with their addresses, as the configuration has them.
type Servers = [(&'static str, Address)];
const PBX_SERVERS: &Servers =
    &[("master", [10, 0, 0, 2]), ("cloud", [10, 8, 0, 2]), ("lost", [10, 0, 0, 4]), ("astray", [10, 0, 0, 5])];
const TRUNK_SERVERS: &Servers = &[("one", [10, 0, 0, 3]), ("two", [10, 0, 0, 6])];

/// One service as the test steered it.
struct Steered {
    vip: Address,
    servers: &'static Servers,
    signalling: Option<&'static str>,
    media: Option<&'static str>,
    draining: Option<&'static str>,
}

impl Steered {
    fn at_random(rng: &mut Rng, vip: Address, servers: &'static Servers) -> Self {
        // The master is active half of the time: what is dropped for want of a server or a next hop says little.
        let signalling = if rng.bool() { Some(servers[0].0) } else { Self::anyone(rng, servers) };
        let media = if rng.bool() { signalling } else { Self::anyone(rng, servers) };
        Self { vip, servers, signalling, media, draining: Self::anyone(rng, servers) }
    }

    /// One of the servers, or none of them.
    fn anyone(rng: &mut Rng, servers: &Servers) -> Option<&'static str> {
        servers.get(rng.usize(..=servers.len())).map(|(name, _)| *name)
    }

    /// Where a packet to this port goes. All RTP ports of the services are above all SIP ports.
    fn target(&self, port: u16) -> Option<&'static str> {
        if port >= 10_000 { self.media } else { self.signalling }
    }

    fn name_of(&self, address: Address) -> Option<&'static str> {
        self.servers.iter().find(|server| server.1 == address).map(|server| server.0)
    }
}

/// What must be true of a frame that is not as it was, whatever the tables and the code say.
fn judge(before: &[u8], ran: &Ran, steered: &[Steered; 2]) -> Result<()> {
    let after = ran.frame.as_slice();
    if after == before {
        ensure!(ran.act != Act::Redirect, "redirected to where it came from");
        return Ok(());
    }
    ensure!(ran.act != Act::Drop, "changed, then dropped");
    let old = Datagram::read(before).context("this is no whole datagram, and was changed")?;
    let new = Datagram::read(after).context("this is no whole datagram any more")?;
    ensure!(old.checksums_hold() == new.checksums_hold(), "a checksum was broken, or a broken one was hidden");
    // Ethernet addresses, time to live with the checksum and the addresses behind it, and the checksum of UDP.
    let checksum = old.checksum_offset();
    let may_change =
        |offset: usize| matches!(offset, 0..12 | 22 | 24..34) || (checksum..checksum + 2).contains(&offset);
    ensure!((0..before.len()).all(|at| before[at] == after[at] || may_change(at)), "changed where it must not be");
    ensure!(old.udp.checksum() != 0 || new.udp.checksum() == 0, "a checksum out of nothing");
    let down = old.ip.ttl().wrapping_sub(new.ip.ttl());
    ensure!(down == u8::from(ran.act == Act::Redirect), "time to live from {} to {}", old.ip.ttl(), new.ip.ttl());
    ensure!(new.ip.ttl() > 0 || ran.act == Act::Pass, "redirected with no time to live");
    let [from, to] = [old.ip.source(), old.ip.destination()];
    match steered.iter().find(|service| service.vip == to) {
        Some(service) => to_target(&new, after, from, service),
        None => {
            let sender = steered.iter().find_map(|service| Some((service, service.name_of(from)?)));
            let (service, name) = sender.context("neither to a VIP nor from a server, and changed")?;
            let may_send = [service.signalling, service.media, service.draining].contains(&Some(name));
            ensure!(may_send, "{name} got through the fence");
            ensure!((new.ip.source(), new.ip.destination()) == (service.vip, to), "not from the VIP to {to:?}");
            Ok(())
        }
    }
}

fn to_target(new: &Datagram<'_>, after: &[u8], from: Address, service: &Steered) -> Result<()> {
    let target = new.ip.destination();
    let name = service.name_of(target).with_context(|| format!("to {target:?}, which is no server of the service"))?;
    ensure!(service.target(new.udp.destination_port()) == Some(name), "to {name}, which is not active");
    let hop = next_hop(name).context("to a server without a next hop")?;
    ensure!(hop.ifindex == BACK, "to a device that is not ours");
    ensure!(after[..12] == [hop.destination, hop.source].concat(), "to {name} by the wrong next hop");
    let peer = if from == target { service.vip } else { from };
    ensure!(new.ip.source() == peer, "with {:?} as its source", new.ip.source());
    Ok(())
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
    let (wanted, place, noted) = model.run(frame);
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
    with_rig(|rig| {
        let seed = generate::seed()?;
        let mut rng = Rng::with_seed(seed);
        let (mut tally, mut expected) = (Tally::new(), Expected::default());
        for batch in 0..FRAMES / BATCH {
            let steered = [
                Steered::at_random(&mut rng, VIP, PBX_SERVERS),
                Steered::at_random(&mut rng, OTHER_VIP, TRUNK_SERVERS),
            ];
            for (service, steered) in [PBX, TRUNK].into_iter().zip(&steered) {
                rig.steer_apart(service, [steered.signalling, steered.media], steered.draining)?;
                if rng.bool() {
                    rig.datapath.end_census(service);
                }
            }
            let model = Model::of(rig.datapath.tables())?;
            for number in 0..BATCH {
                let (from, frame) = generate::frame(&mut rng);
                compare(rig, &model, &steered, from, &frame, (&mut tally, &mut expected)).with_context(|| {
                    format!("VOIP_HA_SEED={seed}, batch {batch}, frame {number} on {from}: {frame:02x?}")
                })?;
            }
            let found = rig.tally()?;
            ensure!(found == tally, "VOIP_HA_SEED={seed}, batch {batch}: counted {found:#?}, should be {tally:#?}");
            expected.check(rig).with_context(|| format!("VOIP_HA_SEED={seed}, batch {batch}"))?;
        }
        ensure!(expected.has_seen_everything(), "what is tested?");
        let reached: BTreeSet<_> = tally.keys().map(|(_, _, outcome)| *outcome).collect();
        let all: BTreeSet<_> = Outcome::ALL.iter().map(|outcome| outcome.name()).collect();
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
            },
            Steered {
                vip: OTHER_VIP,
                servers: TRUNK_SERVERS,
                signalling: Some("one"),
                media: Some("one"),
                draining: None,
            },
        ];
        let model = Model::of(rig.datapath.tables())?;
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
