//! Which addresses a rewritten packet may have.

use std::net::IpAddr;

use anyhow::{Context as _, Result, ensure};
use voip_ha_ebpf::{
    abi::{Family, Forwarding},
    steer::Hop,
};

use super::{
    wire::Packet,
    world::{GATEWAY, SERVERS, Server, World},
};

/// It goes from a VIP to the server that packets of its class go to, by that server's next hop.
pub(super) fn to_server(world: &World, old: &Packet<'_>, new: &Packet<'_>, hop: Option<&Hop>) -> Result<()> {
    let vip = old.destination;
    let service = world.service(vip).context("not to a VIP, and sent to a server")?;
    let quoted = old.quoted();
    let port = match &quoted {
        Some(quoted) => quoted.ports().map(|(port, _)| port),
        None => old.ports().map(|(_, port)| port),
    };
    let targets = match port {
        Some(port) => vec![service.target(port)],
        None => vec![service.signalling, service.media, world.first_server()],
    };
    let servers = targets.iter().flatten().filter_map(|number| SERVERS.get(*number));
    let is_one = servers.clone().any(|server| is_sent_to(server, old, new, hop));
    ensure!(is_one, "from {:?} to {:?} by {hop:?}, and should be to one of {targets:?}", new.source, new.destination);
    ensure!(hop.is_none() || old.len() <= world.mtu(), "larger than the MTU");
    let is_by_stack = servers.clone().any(|server| server.by_stack) || old.ports().is_none();
    ensure!(hop.is_some() || is_by_stack || old.len() > world.mtu(), "given to the stack for no reason");
    let receiver = new.destination;
    if let (Some(old), Some(new)) = (&quoted, &new.quoted()) {
        ensure!((old.source, new.source) == (vip, receiver), "about a packet that {receiver:?} did not send");
        let is_masked = masquerades(receiver) && GATEWAY.has(new.destination);
        ensure!(old.destination == new.destination || is_masked, "about a packet to somebody else");
    }
    Ok(())
}

fn masquerades(server: IpAddr) -> bool {
    let has = |known: &Server| known.address(Family::of(server)) == Some(server);
    SERVERS.iter().any(|known| has(known) && known.masquerades())
}

/// Whether these are the addresses and the way of a packet to this server.
fn is_sent_to(server: &Server, old: &Packet<'_>, new: &Packet<'_>, hop: Option<&Hop>) -> bool {
    let family = Family::of(old.destination);
    let Some(address) = server.address(family) else { return false };
    let is_dsr = server.forwarding == Forwarding::Dsr;
    let destination = if is_dsr { old.destination } else { address };
    let source = match server.forwarding {
        Forwarding::Masquerade => GATEWAY.by(family),
        Forwarding::Nat if old.source == address => old.destination,
        _ => old.source,
    };
    let is_by_hop = hop.is_none_or(|hop| Some(*hop) == server.hop(family) && !server.by_stack);
    server.hop(family).is_some() && is_by_hop && (new.source, new.destination) == (source, destination)
}

/// It comes from a server that may send to clients, and has the VIP where that server was.
pub(super) fn to_client(world: &World, old: &Packet<'_>, new: &Packet<'_>, hop: Option<&Hop>) -> Result<()> {
    let family = Family::of(old.destination);
    ensure!(old.destination == new.destination, "to somebody else");
    ensure!(hop.is_none_or(|hop| Some(*hop) == world.client_hop()), "by another next hop than the route's");
    let quoted = old.quoted();
    let server = quoted.as_ref().map_or(old.source, |quoted| quoted.destination);
    let (service, number) = world.owner(server).context("neither from a server nor about one, and sent to a client")?;
    ensure!(service.may_send(number), "{server:?} got through the fence");
    let reporter = world.owner(old.source);
    ensure!(reporter.is_none_or(|(_, reporter)| reporter == number), "one server speaks for another");
    let source = reporter.map_or(old.source, |(reporter, _)| reporter.vip.by(family));
    ensure!(new.source == source, "from {:?}, and should be from {source:?}", new.source);
    if let (Some(old), Some(new)) = (&quoted, &new.quoted()) {
        ensure!(new.destination == service.vip.by(family), "about a packet to {:?}", new.destination);
        ensure!(old.source == new.source, "about a packet of somebody else");
    } else if let Some((port, _)) = old.ports() {
        ensure!(service.is_port(port), "from a port that is none of the service");
    }
    Ok(())
}
