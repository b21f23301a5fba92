//! Which addresses a rewritten packet may have.

use anyhow::{Context as _, Result, ensure};
use voip_ha_ebpf::steer::Hop;

use super::{wire::Packet, world::World};

/// It goes from a VIP to the server that packets of its class go to, by that server's next hop.
pub(super) fn to_server(world: &World, old: &Packet<'_>, new: &Packet<'_>, hop: Option<&Hop>) -> Result<()> {
    let vip = old.ip.destination();
    let service = world.service(vip).context("not to a VIP, and sent to a server")?;
    let server = new.ip.destination();
    let quoted = old.quoted();
    let port = match &quoted {
        Some(quoted) => quoted.ports().map(|(port, _)| port),
        None => old.ports().map(|(_, port)| port),
    };
    let targets = match port {
        Some(port) => vec![service.target(port)],
        None => vec![service.signalling, service.media, world.first_server()],
    };
    ensure!(targets.contains(&Some(server)), "sent to {server:?}, and should be to one of {targets:?}");
    let source = if old.ip.source() == server { vip } else { old.ip.source() };
    ensure!(new.ip.source() == source, "from {:?}, and should be from {source:?}", new.ip.source());
    if let Some(hop) = hop {
        ensure!(Some(*hop) == world.next_hop(server), "by another next hop than that of {server:?}");
        ensure!(old.ip.total_len() <= world.mtu(), "larger than the MTU");
    }
    if let (Some(old), Some(new)) = (&quoted, &new.quoted()) {
        ensure!((old.ip.source(), new.ip.source()) == (vip, server), "about a packet that {server:?} did not send");
        ensure!(old.ip.destination() == new.ip.destination(), "about a packet to somebody else");
    }
    Ok(())
}

/// It comes from a server that may send to clients, and has the VIP where that server was.
pub(super) fn to_client(world: &World, old: &Packet<'_>, new: &Packet<'_>, hop: Option<&Hop>) -> Result<()> {
    ensure!(old.ip.destination() == new.ip.destination(), "to somebody else");
    ensure!(hop.is_none_or(|hop| Some(*hop) == world.client_hop()), "by another next hop than the route's");
    let quoted = old.quoted();
    let server = quoted.as_ref().map_or(old.ip.source(), |quoted| quoted.ip.destination());
    let service = world.owner(server).context("neither from a server nor about one, and sent to a client")?;
    ensure!(service.may_send(server), "{server:?} got through the fence");
    let source = world.owner(old.ip.source()).map_or(old.ip.source(), |reporter| reporter.vip);
    ensure!(new.ip.source() == source, "from {:?}, and should be from {source:?}", new.ip.source());
    if let (Some(old), Some(new)) = (&quoted, &new.quoted()) {
        ensure!(new.ip.destination() == service.vip, "about a packet to {:?}", new.ip.destination());
        ensure!(old.ip.source() == new.ip.source(), "about a packet of somebody else");
    } else if let Some((port, _)) = old.ports() {
        ensure!(service.is_port(port), "from a port that is none of the service");
    }
    Ok(())
}
