//! Servers that get packets in the gateway's own name: the program and the host agree about every frame, either way, and about whose
//! every mapped port is.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use fastrand::Rng;
use voip_ha::{
    config::Forwarding,
    datapath::{Datapath as _, Mask, NextHop},
    ids::Family,
};
use voip_ha_ebpf::abi::{Address, MaskKey, MaskedKey, Outcome};

use super::{
    agreement::remembered_at_random,
    frame::{datagram_with, ip_header},
    generate::{self, six},
    model::{Memory, Model},
    net::{BACK, FRONT, GATEWAY, Ipv4, OTHER_VIP, PHONE, VIP, beside, is_beside},
    rig::{Act, PBX, Ran, Rig, SERVICES, TRUNK, Tally, apart, next_hop},
};

const FRAMES: usize = 40_000;
/// Frames from one change of the active servers to the next, when counters and mapped ports are compared too.
const BATCH: usize = 100;
/// So few that flows meet, and now and then one gets none.
const PORTS: [u16; 2] = [5060, 5091];
/// By name and address: `cloud` of the first service and both of the second.
const MASQUERADING: [(&str, Ipv4); 3] = [("cloud", [10, 8, 0, 2]), ("one", [10, 0, 0, 3]), ("two", [10, 0, 0, 6])];

/// The rig's services, some of whose servers masquerade.
fn services() -> String {
    MASQUERADING.iter().fold(SERVICES.to_owned(), |text, (name, _)| {
        let own = format!("name = '{name}',");
        text.replace(&own, &format!("{own} forwarding = 'masquerade',"))
    })
}

fn masked(hop: NextHop, family: Family) -> NextHop {
    let address = if family == Family::V4 { GATEWAY.into() } else { beside(GATEWAY).into() };
    NextHop { mask: Some(Mask { address, ports: PORTS }), ..hop }
}

fn rig() -> Result<Rig> {
    let mut rig = Rig::ready()?.restarted(&services())?;
    for (id, _, server) in rig.config.clone().servers() {
        let Some(hop) = next_hop(&server.name) else { continue };
        for family in Family::ALL {
            let masquerades = server.forwarding == Forwarding::Masquerade;
            let hop = if masquerades { masked(hop, family) } else { hop };
            rig.datapath.set_next_hop(id, family, hop)?;
        }
    }
    Ok(rig)
}

/// Who is active is one that masquerades, most of the time.
fn steer_at_random(rig: &mut Rig, rng: &mut Rng) -> Result<()> {
    let pbx = if rng.u8(..4) == 0 { "master" } else { "cloud" };
    let draining = [None, Some("master")][rng.usize(..2)].filter(|name| *name != pbx);
    let is_any = rng.bool();
    rig.steer_as(PBX, [Some(pbx), Some(pbx), draining], remembered_at_random(rng, is_any))?;
    let [one, two] = if rng.bool() { ["one", "two"] } else { ["two", "one"] };
    let (draining, is_any) = (Some(two).filter(|_| rng.bool()), rng.bool());
    rig.steer_as(TRUNK, [Some(one), Some(one), draining], remembered_at_random(rng, is_any))?;
    Ok(())
}

/// A frame as of [`generate::frame`], or one that a server, or somebody on the way to it, sends to the gateway's own name: to the port
/// of a flow, or beside it.
fn frame(rng: &mut Rng, flows: &[(MaskedKey, MaskKey)], rig: &Rig) -> Result<(u32, Vec<u8>)> {
    if flows.is_empty() || rng.u8(..3) == 0 {
        let (from, frame) = generate::frame(rng);
        return Ok((from, frame));
    }
    let (key, _) = flows[rng.usize(..flows.len())];
    let is_it = |(name, _): &&(&str, Ipv4)| rig.number(name).is_ok_and(|number| number.0 == u32::from(key.server));
    let (_, server) = *MASQUERADING.iter().find(is_it).context("a port of a server that does not masquerade")?;
    let port = if rng.u8(..8) == 0 { rng.u16(..) } else { key.port };
    let mut frame = if rng.u8(..3) == 0 {
        generate::error_about(rng, server, GATEWAY, (port, key.service_port))
    } else {
        generate::datagram(rng, server, GATEWAY, (key.service_port, port))
    };
    if key.family != 0 {
        frame = six::twin(rng, &frame).unwrap_or(frame);
    }
    while rng.u8(..4) == 0 {
        generate::garble(rng, &mut frame);
    }
    Ok((if rng.u8(..4) == 0 { FRONT } else { BACK }, frame))
}

/// Whoever a datagram is from or to, it is in the gateway's name at the server's side and in the VIP's at the client's. Read by another
/// parser than the program's.
fn judge(before: &[u8], ran: &Ran) -> Result<()> {
    let (Some(old), Some(new)) = (ends(before), ends(&ran.frame)) else { return Ok(()) };
    let masquerades = |address| MASQUERADING.iter().any(|(_, server)| *server == address);
    // A server that calls its own VIP answers itself, by way of the gateway's own name.
    if ran.act == Act::Redirect && masquerades(new.1) && old.1 != GATEWAY {
        ensure!(new.0 == GATEWAY, "to a server that masquerades, as {:?}", new.0);
        ensure!((PORTS[0]..=PORTS[1]).contains(&new.2) && new.2 % 2 == old.2 % 2, "from port {}", new.2);
        ensure!(new.3 == old.3, "to another port of the server");
    }
    // What is for a VIP goes to a server again, and all of those are in one network.
    if ran.act == Act::Redirect && masquerades(old.0) && !matches!(new.1, [10, ..]) {
        ensure!([VIP, OTHER_VIP].contains(&new.0) && new.2 == old.2, "from {:?}", new.0);
        ensure!(new.1 != GATEWAY, "to the gateway itself");
    }
    Ok(())
}

/// Addresses and ports of a datagram, those of IPv6 by the address of IPv4 beside.
fn ends(frame: &[u8]) -> Option<(Ipv4, Ipv4, u16, u16)> {
    let ends = voip_ha::trace::ends(frame)?;
    let (source_port, destination_port) = ends.ports?;
    Some((is_beside(ends.source)?, is_beside(ends.destination)?, source_port, destination_port))
}

/// Whose each mapped port is in the kernel.
fn kernel_flows(rig: &Rig) -> BTreeSet<(u32, Address, u16, u16, u16)> {
    let flow = |mapping: voip_ha::datapath::Mapping| {
        (mapping.server.0, mapping.client.ip().into(), mapping.client.port(), mapping.service_port, mapping.port)
    };
    rig.datapath.tables().mappings.all().into_iter().map(flow).collect()
}

fn model_flows(memory: &Memory) -> BTreeSet<(u32, Address, u16, u16, u16)> {
    let flow =
        |(key, flow): (MaskedKey, MaskKey)| (flow.server, flow.client, flow.client_port, flow.service_port, key.port);
    memory.flows().into_iter().map(flow).collect()
}

#[test]
fn kernel_and_host_agree_about_every_frame_of_servers_that_masquerade_and_about_every_port() -> Result<()> {
    apart(|| {
        let rig = &mut rig()?;
        let seed = generate::seed()?;
        let mut rng = Rng::with_seed(seed);
        let (mut tally, memory) = (Tally::new(), Memory::default());
        for batch in 0..FRAMES / BATCH {
            if batch % 20 == 0 {
                memory.forget_fragments(rig)?;
            }
            steer_at_random(rig, &mut rng)?;
            let model = Model::of(rig.datapath.tables(), &memory)?;
            for number in 0..BATCH {
                let (from, frame) = frame(&mut rng, &memory.flows(), rig)?;
                let at = || format!("VOIP_HA_SEED={seed}, batch {batch}, frame {number} on {from}: {frame:02x?}");
                let (wanted, place, _) = model.run(from, &frame);
                let found = rig.run(from, &frame).with_context(at)?;
                ensure!(
                    found == wanted,
                    "{place:?}: the kernel makes it\n{found:02x?}, the host\n{wanted:02x?}\n{}",
                    at()
                );
                judge(&frame, &found).with_context(at)?;
                let (packets, bytes) = tally.entry(place).or_default();
                (*packets, *bytes) = (*packets + 1, *bytes + frame.len() as u64);
            }
            let found = rig.tally()?;
            ensure!(found == tally, "VOIP_HA_SEED={seed}, batch {batch}: counted {found:#?}, should be {tally:#?}");
            ensure!(kernel_flows(rig) == model_flows(&memory), "VOIP_HA_SEED={seed}, batch {batch}: other ports");
        }
        let flows = memory.flows();
        ensure!(flows.iter().any(|(key, _)| key.family == 1), "none of IPv6: what is tested?");
        let of = |outcome: Outcome| -> u64 {
            tally.iter().filter(|((_, _, name), _)| *name == outcome.name()).map(|(_, (packets, _))| packets).sum()
        };
        let reached = [Outcome::ToServer, Outcome::ToClient, Outcome::NoPort, Outcome::ToldTooBig].map(of);
        println!("{} flows, {reached:?}", flows.len());
        ensure!(reached.iter().all(|count| *count > 20), "{reached:?}: what is tested?");
        Ok(())
    })
}

#[test]
fn an_answer_goes_to_the_client_it_is_for_whoever_else_has_the_same_port_or_gets_none() -> Result<()> {
    apart(|| {
        let rig = &mut rig()?;
        rig.steer(TRUNK, Some("one"), None)?;
        let clients: Vec<Ipv4> = (0..6).map(|host| [203, 0, 113, host]).collect();
        let mut ports = BTreeMap::new();
        for client in &clients {
            let ran = rig.run(FRONT, &datagram_with(ip_header(*client, OTHER_VIP), (5060, 5060), b"REGISTER"))?;
            let (source, _, port, _) = ends(&ran.frame).context("a datagram")?;
            ensure!(ran.act == Act::Redirect && source == GATEWAY, "{ran:?}");
            ports.insert(port, *client);
        }
        ensure!(ports.len() == clients.len(), "two clients with one port: {ports:?}");
        ensure!(ports[&5060] == clients[0], "the first one keeps its own");
        // There are 16 even ports.
        let one_more = |host: u8| {
            let frame = datagram_with(ip_header([203, 0, 113, host], OTHER_VIP), (5060, 5060), b"REGISTER");
            rig.observe(FRONT, &frame).map(|(ran, (_, _, outcome))| (ran.act, outcome))
        };
        let more = (6..60).map(one_more).collect::<Result<Vec<_>>>()?;
        let refused = more.iter().filter(|found| **found == (Act::Drop, Outcome::NoPort.name())).count();
        let served = more.iter().filter(|found| **found == (Act::Redirect, Outcome::ToServer.name())).count();
        ensure!(served + refused == more.len() && (1..=10).contains(&served), "{more:?}");
        for (port, client) in &ports {
            let answer = datagram_with(ip_header([10, 0, 0, 3], GATEWAY), (5060, *port), b"SIP/2.0 200 OK");
            let ran = rig.run(BACK, &answer)?;
            ensure!(ends(&ran.frame) == Some((OTHER_VIP, *client, 5060, 5060)), "{ran:?}");
        }
        Ok(())
    })
}

#[test]
fn a_server_begins_and_ends_to_masquerade_without_a_packet_that_goes_nowhere() -> Result<()> {
    apart(|| {
        let request = |port| datagram_with(ip_header(PHONE, OTHER_VIP), (port, 5060), b"REGISTER");
        let source = |rig: &mut Rig, port| -> Result<Ipv4> {
            let ran = rig.run(FRONT, &request(port))?;
            ensure!(ran.act == Act::Redirect, "{ran:?}");
            Ok(ends(&ran.frame).context("a datagram")?.0)
        };
        let mut rig = Rig::ready()?;
        ensure!(source(&mut rig, 5080)? == PHONE);
        // A controller with another configuration, which does not know yet in whose name.
        let mut rig = rig.restarted(&services())?;
        ensure!(source(&mut rig, 5080)? == PHONE);
        let (one, hop) = (rig.server("one")?, next_hop("one").context("a next hop")?);
        rig.datapath.set_next_hop(one, Family::V4, masked(hop, Family::V4))?;
        ensure!(source(&mut rig, 5080)? == GATEWAY);
        // The next one knows what this one wrote.
        let mut rig = rig.restarted(&services())?;
        ensure!(source(&mut rig, 5080)? == GATEWAY);
        let answer = datagram_with(ip_header([10, 0, 0, 3], GATEWAY), (5060, 5080), b"SIP/2.0 200 OK");
        let is_phones = |rig: &mut Rig| -> Result<bool> {
            Ok(ends(&rig.run(BACK, &answer)?.frame).is_some_and(|ends| ends.1 == PHONE))
        };
        ensure!(is_phones(&mut rig)?);
        // What is on its way when it ends still arrives.
        let mut rig = rig.restarted(SERVICES)?;
        ensure!(source(&mut rig, 5080)? == PHONE && is_phones(&mut rig)?);
        // Then nobody knows the gateway by that name any more.
        let one = rig.server("one")?;
        for mac in [1, 2] {
            rig.datapath.set_next_hop(one, Family::V4, NextHop { destination: [2, 0, 0, 0, 0, mac], ..hop })?;
        }
        ensure!(!is_phones(&mut rig)?);
        Ok(())
    })
}

#[test]
fn an_answer_to_the_gateways_own_probe_passes_and_so_does_what_strangers_send_there() -> Result<()> {
    apart(|| {
        let rig = &mut rig()?;
        for (from, ports, outcome) in
            [([10, 0, 0, 3], (5060, 40_000), Outcome::NotForwarded), (PHONE, (5060, 40_000), Outcome::NotService)]
        {
            let frame = datagram_with(ip_header(from, GATEWAY), ports, b"SIP/2.0 200 OK");
            let (ran, (_, _, found)) = rig.observe(BACK, &frame)?;
            ensure!((ran.act, found) == (Act::Pass, outcome.name()) && ran.frame == frame, "{found}");
        }
        Ok(())
    })
}
