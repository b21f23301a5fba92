//! Promises about a frame that is not as it was, checked with another parser than the program's: whatever the tables and the code
//! say, these hold.

mod six;

use anyhow::{Context as _, Result, bail, ensure};
use etherparse::{Icmpv4Type, IpNumber, Ipv4HeaderSlice, SlicedPacket, TransportSlice, icmpv4::DestUnreachableHeader};

use super::{
    frame::{Datagram, ETHERNET, sum},
    net::{BACK, Ipv4, MTU, OTHER_VIP, VIP},
    rig::{Act, Ran, next_hop},
};

/// The servers of a service with their addresses, as the configuration has them.
pub(crate) type Servers = [(&'static str, Ipv4)];

/// One service as the test steered it.
pub(crate) struct Steered {
    pub(crate) vip: Ipv4,
    pub(crate) servers: &'static Servers,
    pub(crate) signalling: Option<&'static str>,
    pub(crate) media: Option<&'static str>,
    pub(crate) draining: Option<&'static str>,
    /// Whether calls are remembered.
    pub(crate) affinity: bool,
}

impl Steered {
    /// Where a packet to this port goes. All RTP ports of the services are above all SIP ports.
    fn target(&self, port: u16) -> Option<&'static str> {
        if port >= 10_000 { self.media } else { self.signalling }
    }

    /// Whether calls that are not the active server's may go to this one.
    fn may_keep(&self, name: &'static str) -> bool {
        self.affinity && self.draining == Some(name)
    }

    fn name_of(&self, address: Ipv4) -> Option<&'static str> {
        self.servers.iter().find(|server| server.1 == address).map(|server| server.0)
    }

    fn may_send(&self, name: &'static str) -> bool {
        [self.signalling, self.media, self.draining].contains(&Some(name))
    }
}

/// What a changed packet is, by its protocol and its fragment field.
enum Kind {
    /// A datagram or the first fragment of one, with its destination port and the offset of its UDP checksum.
    Ports(u16, usize),
    LaterFragment,
    /// An ICMP error, with the offsets of its header and of the quoted UDP header.
    Error {
        icmp: usize,
        udp: usize,
    },
}

impl Kind {
    fn of(frame: &[u8], ip: &Ipv4HeaderSlice<'_>) -> Result<Self> {
        let inside = ETHERNET + ip.slice().len();
        let port = |at: usize| Some(u16::from_be_bytes([*frame.get(at + 2)?, *frame.get(at + 3)?]));
        Ok(match (ip.protocol(), ip.fragments_offset().value()) {
            (IpNumber::UDP, 0) => Self::Ports(port(inside).context("no ports")?, inside + 6),
            (IpNumber::UDP, _) => Self::LaterFragment,
            (IpNumber::ICMP, 0) if !ip.more_fragments() => {
                let quoted = Ipv4HeaderSlice::from_slice(frame.get(inside + 8..).context("no quotation")?)?;
                ensure!(quoted.protocol() == IpNumber::UDP, "about no datagram, and changed");
                Self::Error { icmp: inside, udp: inside + 8 + quoted.slice().len() }
            }
            other => bail!("{other:?} was changed"),
        })
    }

    /// Ethernet addresses, time to live with the checksum and the addresses behind it, and what covers the addresses.
    fn may_change(&self, offset: usize) -> bool {
        let pair = |at: usize| (at..at + 2).contains(&offset);
        matches!(offset, 0..12 | 22 | 24..34)
            || match *self {
                Self::Ports(_, checksum) => pair(checksum),
                Self::LaterFragment => false,
                Self::Error { icmp, udp } => {
                    pair(icmp + 2) || (icmp + 18..icmp + 28).contains(&offset) || pair(udp + 6)
                }
            }
    }
}

/// Judges what the program did to a frame.
pub(crate) fn judge(before: &[u8], ran: &Ran, steered: &[Steered; 2]) -> Result<()> {
    let after = ran.frame.as_slice();
    if after == before {
        ensure!(ran.act != Act::Redirect, "redirected to where it came from");
        return Ok(());
    }
    ensure!(ran.act != Act::Drop, "changed, then dropped");
    // No server of the rig is behind a VLAN: what is redirected has no tags. What the stack gets, or the sender, has them still.
    let (tags, before) = without_tags(before);
    let (kept, after) = without_tags(after);
    ensure!(kept == if ran.act == Act::Redirect { &[] } else { tags }, "tags {tags:02x?} became {kept:02x?}");
    if before.get(12..14) == Some(&[0x86, 0xdd]) {
        return six::judge(&before, ran.act, &after, steered);
    }
    let (before, after) = (before.as_slice(), after.as_slice());
    if ran.act == Act::Transmit {
        return told_too_big(before, after);
    }
    let header = |frame| Ipv4HeaderSlice::from_slice(frame).context("no IPv4 header");
    let (old, new) = (header(&before[ETHERNET..])?, header(&after[ETHERNET..])?);
    let kind = Kind::of(before, &old)?;
    ensure!((0..before.len()).all(|at| before[at] == after[at] || kind.may_change(at)), "changed where it must not be");
    checksums(before, after, &kind)?;
    let down = old.ttl().wrapping_sub(new.ttl());
    ensure!(down == u8::from(ran.act == Act::Redirect), "time to live from {} to {}", old.ttl(), new.ttl());
    ensure!(new.ttl() > 0 || ran.act == Act::Pass, "redirected with no time to live");
    match steered.iter().find(|service| service.vip == old.destination()) {
        Some(service) => to_target(after, (ran.act, old.source()), &new, &kind, service),
        None => to_client(after, &old, &new, &kind, steered),
    }
}

/// The tags of a frame, and the frame without them.
fn without_tags(frame: &[u8]) -> (&[u8], Vec<u8>) {
    let is_tag = |at: usize| matches!(frame.get(at..at + 2), Some([0x81, 0x00] | [0x88, 0xa8]));
    let end = (12..).step_by(4).find(|at| !is_tag(*at)).unwrap_or(12);
    (&frame[12..end], [&frame[..12], &frame[end..]].concat())
}

/// A checksum that was right is right, and one that was wrong is not hidden.
fn checksums(before: &[u8], after: &[u8], kind: &Kind) -> Result<()> {
    let hold = |frame: &[u8]| -> Option<bool> {
        let ip = Ipv4HeaderSlice::from_slice(&frame[ETHERNET..]).ok()?;
        let ip_holds = sum(&[ip.slice()]) == 0xffff;
        Some(match *kind {
            Kind::Ports(..) if ip.more_fragments() => ip_holds,
            Kind::Ports(..) => Datagram::read(frame)?.checksums_hold(),
            Kind::LaterFragment => ip_holds,
            Kind::Error { icmp, .. } => {
                let message = &frame[icmp..ETHERNET + usize::from(ip.total_len())];
                ip_holds && sum(&[message]) == 0xffff
            }
        })
    };
    ensure!(hold(before).is_some() && hold(before) == hold(after), "a checksum was broken, or a broken one was hidden");
    if let Kind::Ports(_, at) = *kind {
        ensure!(before[at..at + 2] != [0, 0] || after[at..at + 2] == [0, 0], "a checksum out of nothing");
    }
    Ok(())
}

fn to_target(
    after: &[u8],
    (act, from): (Act, Ipv4),
    new: &Ipv4HeaderSlice<'_>,
    kind: &Kind,
    service: &Steered,
) -> Result<()> {
    let target = new.destination();
    let name = service.name_of(target).with_context(|| format!("to {target:?}, which is no server of the service"))?;
    let is_target = |port| service.target(port) == Some(name);
    match *kind {
        Kind::Ports(port, _) => {
            let may_get = service.target(port).is_some() && service.may_keep(name);
            ensure!(is_target(port) || may_get, "to {name}, which is not active");
        }
        // It follows the first one, wherever that went when it did.
        Kind::LaterFragment => {}
        Kind::Error { icmp, udp } => {
            ensure!(
                is_target(u16::from_be_bytes([after[udp], after[udp + 1]])),
                "an error to {name}, which is not active"
            );
            ensure!(after[icmp + 20..icmp + 24] == target, "an error to {name} about somebody else's packet");
        }
    }
    let hop = next_hop(name).context("to a server without a next hop")?;
    if act == Act::Redirect {
        ensure!(u32::from(new.total_len()) <= MTU, "larger than the way to {name} takes");
        ensure!(hop.ifindex == BACK, "to a device that is not ours");
        ensure!(after[..12] == [hop.destination, hop.source].concat(), "to {name} by the wrong next hop");
    }
    let peer = if from == target { service.vip } else { from };
    ensure!(new.source() == peer, "with {:?} as its source", new.source());
    Ok(())
}

fn to_client(
    after: &[u8],
    old: &Ipv4HeaderSlice<'_>,
    new: &Ipv4HeaderSlice<'_>,
    kind: &Kind,
    steered: &[Steered; 2],
) -> Result<()> {
    ensure!(new.destination() == old.destination(), "to another client");
    let by_address = |address| steered.iter().find_map(|service| Some((service, service.name_of(address)?)));
    if let Kind::Error { icmp, .. } = *kind {
        let quoted: Ipv4 = after[icmp + 24..icmp + 28].try_into()?;
        ensure!(steered.iter().any(|service| service.vip == quoted), "about a packet to no VIP");
        let server = by_address(old.source());
        ensure!(server.is_none_or(|(service, name)| service.may_send(name)), "an error got through the fence");
        let reporter = server.map_or(old.source(), |(service, _)| service.vip);
        ensure!(new.source() == reporter, "from {:?}", new.source());
        return Ok(());
    }
    let (service, name) = by_address(old.source()).context("neither to a VIP nor from a server, and changed")?;
    ensure!(service.may_send(name), "{name} got through the fence");
    ensure!(new.source() == service.vip, "not from the VIP");
    Ok(())
}

/// The answer to a packet that is too large and must not be fragmented.
fn told_too_big(before: &[u8], after: &[u8]) -> Result<()> {
    let old = Ipv4HeaderSlice::from_slice(&before[ETHERNET..])?;
    ensure!(u32::from(old.total_len()) > MTU && old.dont_fragment(), "an answer to what was not too big");
    let packet = SlicedPacket::from_ethernet(after)?;
    let (Some(net), Some(TransportSlice::Icmpv4(icmp))) = (&packet.net, &packet.transport) else { bail!("no ICMP") };
    let ip = net.ipv4_ref().context("no IPv4")?.header();
    ensure!(sum(&[ip.slice()]) == 0xffff && sum(&[icmp.slice()]) == 0xffff, "a wrong checksum");
    ensure!(
        [VIP, OTHER_VIP].contains(&ip.source()) && ip.destination() == old.source(),
        "not from the VIP to the sender"
    );
    let wanted = DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: MTU as u16 };
    ensure!(icmp.icmp_type() == Icmpv4Type::DestinationUnreachable(wanted), "{:?}", icmp.icmp_type());
    ensure!(icmp.payload() == &before[ETHERNET..ETHERNET + 28], "about another packet");
    ensure!(after[..12] == [&before[6..12], &before[..6]].concat(), "not back to where it came from");
    Ok(())
}
