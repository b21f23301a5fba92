//! The program of tunnels and the host's packet logic agree about every frame. Only of tunnels with Ethernet headers: BPF_PROG_TEST_RUN
//! makes no other packets.

use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use aya::{
    TestRunOptions,
    maps::{Map, MapData, ProgramArray},
    programs::{SchedClassifier, TestRun as _},
};
use fastrand::Rng;
use voip_ha::{
    datapath::{Pins, TunnelHook, Tunnels},
    network::Tunnel,
};
use voip_ha_ebpf::{
    abi::{ANY_CALL, ANY_ERROR, ANY_MESSAGE, ANY_PACKET, ANY_VERDICT, Outcome},
    packet::{Frame, Network},
    rewrite,
    steer::{Action, Kind},
};

use super::{
    agreement::{PBX_SERVERS, TRUNK_SERVERS, remembered_at_random, steered_at_random},
    generate,
    model::{Memory, Model},
    net::{OTHER_VIP, SIDE, VIP},
    noted::Expected,
    rig::{Act, PBX, Ran, Rig, TRUNK, Tally, apart, with_rig},
};

const FRAMES: usize = 40_000;
/// Frames from one change of the active servers to the next.
const BATCH: usize = 80;

const ENTRY: &str = "voip_ha_tunnel_ethernet";
const OTHERS: [(u32, &str); 5] = [
    (ANY_PACKET, "voip_ha_tunnel_any"),
    (ANY_CALL, "voip_ha_tunnel_calls"),
    (ANY_MESSAGE, "voip_ha_tunnel_scan"),
    (ANY_ERROR, "voip_ha_tunnel_errors"),
    (ANY_VERDICT, "voip_ha_tunnel_act"),
];

fn load(rig: &mut Rig) -> Result<()> {
    let pin = Pins::new(rig.pin_dir()).map("TUNNEL_PROGRAMS");
    let mut programs = ProgramArray::try_from(Map::from_map_data(MapData::from_pin(pin)?)?)?;
    let object = rig.datapath.object();
    for name in [ENTRY].into_iter().chain(OTHERS.map(|(_, name)| name)) {
        let program: &mut SchedClassifier = object.program_mut(name).context("no such program")?.try_into()?;
        program.load()?;
    }
    for (index, name) in OTHERS {
        let program: &SchedClassifier = object.program(name).context("no such program")?.try_into()?;
        programs.set(index, program.fd()?, 0)?;
    }
    Ok(())
}

/// The kernel makes no packet of a frame that ends in the middle of an IP header.
fn is_packet(frame: &[u8]) -> bool {
    match frame[12..14] {
        [0x08, 0x00] => frame.len() >= 14 + 20,
        [0x86, 0xdd] => frame.len() >= 14 + 40,
        _ => true,
    }
}

/// Gives the program a frame as if it came in by `ifindex`.
fn run(rig: &mut Rig, ifindex: u32, frame: &[u8]) -> Result<Ran> {
    let program: &SchedClassifier = rig.datapath.object().program(ENTRY).context("no such program")?.try_into()?;
    let mut out = vec![0; frame.len()];
    // The device is the eleventh word of struct __sk_buff.
    let context: Vec<u8> = [0u32; 10].into_iter().chain([ifindex]).flat_map(u32::to_ne_bytes).collect();
    let result = program.test_run(TestRunOptions {
        data_in: Some(frame),
        data_out: Some(&mut out),
        ctx_in: Some(&context),
        ..TestRunOptions::default()
    })?;
    out.truncate(result.data_size_out as usize);
    let act = match result.return_value as i32 {
        -1 => Act::Pass,
        2 => Act::Drop,
        other => bail!("the program answers {other}"),
    };
    Ok(Ran { act, frame: out })
}

/// What a tunnel makes of a verdict.
fn carry_out(bytes: &mut [u8], network: &Network, action: &Action) -> (Act, Outcome) {
    let outcome = match action.outcome {
        Outcome::ToServer if action.rewrite.destination == network.destination => {
            return (Act::Drop, Outcome::NoDevice);
        }
        Outcome::ToServer => Outcome::ToServerByStack,
        Outcome::ToClient => Outcome::ToClientByStack,
        Outcome::ToldTooBig => Outcome::TooLarge,
        other => other,
    };
    match action.kind {
        Kind::Pass => (Act::Pass, outcome),
        Kind::Redirect | Kind::ByStack => {
            let mut frame = Frame::from_slice(bytes);
            rewrite::addresses(&mut frame, network, &action.rewrite).expect("steer looked at the headers");
            (Act::Pass, outcome)
        }
        Kind::Drop | Kind::TellTooBig => (Act::Drop, outcome),
        Kind::AskCalls => unreachable!("the tables have calls"),
    }
}

#[test]
fn the_program_of_tunnels_and_the_host_agree_about_every_random_frame_and_its_counter() -> Result<()> {
    with_rig(|rig| {
        load(rig)?;
        let seed = generate::seed()?;
        let mut rng = Rng::with_seed(seed);
        let (mut tally, mut expected, memory) = (Tally::new(), Expected::default(), Memory::default());
        for batch in 0..FRAMES / BATCH {
            if batch % 20 == 0 {
                memory.forget_fragments(rig)?;
            }
            for (service, vip, servers) in [(PBX, VIP, PBX_SERVERS), (TRUNK, OTHER_VIP, TRUNK_SERVERS)] {
                let steered = steered_at_random(&mut rng, vip, servers);
                let servers = [steered.signalling, steered.media, steered.draining];
                rig.steer_as(service, servers, remembered_at_random(&mut rng, steered.affinity))?;
            }
            let model = Model::of(rig.datapath.tables(), &memory)?;
            for number in 0..BATCH {
                let (from, frame) = generate::frame(&mut rng);
                if !is_packet(&frame) {
                    continue;
                }
                let (wanted, place, noted) =
                    model.run_by(from, &frame, |bytes, network, action| carry_out(bytes, network, action));
                let found = run(rig, from, &frame)?;
                ensure!(
                    found == wanted,
                    "VOIP_HA_SEED={seed}, batch {batch}, frame {number} on {from}: {frame:02x?}\n{place:?}: the kernel makes it\n\
                     {found:02x?}, the host\n{wanted:02x?}"
                );
                noted.map_or(Ok(()), |noted| expected.add(rig.datapath.tables(), &noted))?;
                let (packets, bytes) = tally.entry(place).or_default();
                (*packets, *bytes) = (*packets + 1, *bytes + frame.len() as u64);
            }
            let found = rig.tally()?;
            ensure!(found == tally, "VOIP_HA_SEED={seed}, batch {batch}: counted {found:#?}, should be {tally:#?}");
            expected.check(rig).with_context(|| format!("VOIP_HA_SEED={seed}, batch {batch}"))?;
        }
        for outcome in ["to-client-by-stack", "to-server-by-stack", "fenced", "too-large", "not-forwarded"] {
            ensure!(tally.keys().any(|(_, _, reached)| *reached == outcome), "no frame is {outcome}: what is tested?");
        }
        Ok(())
    })
}

/// Ids of our programs among the filters at the ingress of the device `side`.
fn filters() -> Result<Vec<String>> {
    let output = Command::new("tc").args(["filter", "show", "dev", "side", "ingress"]).output().context("tc")?;
    let text = String::from_utf8(output.stdout)?;
    let ours = text.lines().filter(|line| line.contains(ENTRY) && line.contains("direct-action"));
    ours.map(|line| Ok(line.split(" id ").nth(1).context("no id")?.to_owned())).collect()
}

#[test]
fn by_a_filter_the_program_outlives_the_controller_is_replaced_by_the_next_one_and_goes_with_unload() -> Result<()> {
    apart(|| {
        let rig = Rig::ready()?;
        let side = Tunnel { index: SIDE, name: "side".to_owned(), mtu: 1500, has_ethernet: true, carrier: true };
        let pins = Pins::new(rig.pin_dir());
        let controller = || Tunnels::new(pins.clone(), TunnelHook::Filter);
        let mut seen: Vec<String> = Vec::new();
        for _ in 0..3 {
            controller().put(&side)?;
            let [found] = &filters()?[..] else { bail!("{:?}", filters()?) };
            ensure!(!seen.contains(found), "{found} is that of an earlier controller");
            seen.push(found.clone());
        }
        controller().remove_others(&[SIDE])?;
        ensure!(filters()?.len() == 1, "it is wanted");
        controller().remove_others(&[])?;
        ensure!(filters()?.is_empty(), "it is not wanted any more");
        controller().put(&side)?;
        ensure!(filters()?.len() == 1 && pins.tunnels()? == [SIDE], "{:?}", pins.tunnels()?);
        drop(rig);
        ensure!(filters()?.is_empty(), "unload leaves it behind");
        Ok(())
    })
}
