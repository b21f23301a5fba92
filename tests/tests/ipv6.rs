//! The same by IPv6: the lab, the next hops, the probes and what the kernel is told.

use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    path::Path,
    time::Duration,
};

use anyhow::{Context as _, Result};
use lab::{
    Lab, Layout, Options,
    gateway::{Config, Gateway},
    meter::{Meter, Stream},
    netns::Namespace,
    phone::Phones,
    real::RealServer,
    server,
    topology::SIP_PORT,
    wait,
};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use voip_ha::{
    config,
    datapath::NextHop,
    ids::{Family, ServerId},
    nexthop::{self, News},
};

const SECOND: Duration = Duration::from_secs(1);

fn lab(layout: Layout) -> Result<Lab> {
    Lab::new(Options { layout, ipv6: true, ..Options::default() })
}

#[test]
fn servers_and_phones_reach_each_other_by_ipv6_in_both_layouts() -> Result<()> {
    for layout in [Layout::TwoArm, Layout::OneArm] {
        let lab = lab(layout)?;
        lab.gateway().sysctl("net/ipv6/conf/all/forwarding", "1")?;
        let vip = lab::topology::VIP6.into();
        assert!(arrives(lab.phones(), lab.gateway(), vip)?, "{layout:?}: from phones to the VIP");
        let phone = lab.phone_addresses_for(vip)?[0];
        for host in lab.servers() {
            assert!(arrives(&host.namespace, lab.phones(), phone)?, "{layout:?}: from the {} to phones", host.name);
            let address = host.address6.context("an IPv6 address")?.into();
            assert!(arrives(lab.gateway(), &host.namespace, address)?, "{layout:?}: to the {}", host.name);
        }
    }
    Ok(())
}

fn arrives(from: &Namespace, to: &Namespace, address: IpAddr) -> Result<bool> {
    let receiver = to.run(move || UdpSocket::bind((address, 0)))?;
    receiver.set_read_timeout(Some(5 * SECOND))?;
    let sender = from.run(|| UdpSocket::bind("[::]:0"))?;
    sender.send_to(b"?", receiver.local_addr()?)?;
    Ok(receiver.recv(&mut [0]).is_ok())
}

#[test]
fn phones_register_call_and_send_rtp_by_ipv6_over_plain_routing() -> Result<()> {
    let lab = lab(Layout::TwoArm)?;
    lab.gateway().sysctl("net/ipv6/conf/all/forwarding", "1")?;
    let _servers = [server::start(&lab, "master", &[])?, server::start(&lab, "backup", &[])?];
    for name in ["master", "backup"] {
        let address: IpAddr = lab.server(name)?.address6.context("an IPv6 address")?.into();
        let mut phones = Phones::new(&lab, (address, SIP_PORT), 4)?;
        assert_eq!(phones.register()?.succeeded, 4, "{name}");
        let called = phones.call(4)?;
        assert_eq!(called.succeeded, 4, "{name}: {called:?}");
        let vip: IpAddr = lab::topology::VIP6.into();
        assert!(phones.streams()?.iter().all(|stream| stream.remote.ip() == vip), "audio is wanted at the VIP");
        let meter = Meter::start(Stream::open(&lab, (address, 10_000), 4)?)?;
        let total = meter.settled(Duration::ZERO..SECOND)?.total;
        assert_eq!((total.lost, total.strays, total.answered_by.get(name)), (0, 0, Some(&total.sent)), "{total:?}");
        assert_eq!(phones.hang_up()?.succeeded, 4, "{name}");
    }
    Ok(())
}

#[test]
fn kamailio_answers_at_both_addresses() -> Result<()> {
    let lab = lab(Layout::TwoArm)?;
    lab.gateway().sysctl("net/ipv6/conf/all/forwarding", "1")?;
    let _master = RealServer::start(&lab, "master")?;
    let address = lab.server("master")?.address6.context("an IPv6 address")?;
    let registered = Phones::new(&lab, (IpAddr::from(address), SIP_PORT), 20)?.register()?;
    assert_eq!(registered.succeeded, 20, "{registered:?}");
    Ok(())
}

#[test]
fn a_dead_ipv6_path_is_told_while_the_server_stays_up_and_the_kernel_forwards_ipv6() -> Result<()> {
    let lab = lab(Layout::TwoArm)?;
    // As on a host that listens to a router.
    lab.gateway().ip("link add name mgmt type veth peer name other")?;
    let _servers = [server::start(&lab, "master", &[])?, server::start(&lab, "backup", &[])?];
    let mut gateway = Gateway::start(&lab, Config::of(&lab))?;
    for (setting, value) in [("all/forwarding", "1"), ("back/accept_ra", "2"), ("mgmt/accept_ra", "2")] {
        assert_eq!(ipv6_setting(&lab, setting)?, value, "{setting}");
    }
    let up = |status: &lab::gateway::Status| status.health("master") == "up" && status.health("backup") == "up";
    gateway.wait_until("both are up", 10 * SECOND, up)?;
    assert!(!gateway.cli(&["status"])?.stdout.contains("serves one family only"));

    let master = &lab.server("master")?.namespace;
    master.ip("address del 2001:db8:1::2/64 dev eth0")?;
    wait::until(10 * SECOND, "the dead address to be told", || {
        let events = gateway.cli(&["events"])?.stdout;
        Ok(events.contains("master serves one family only: 2001:db8:1::2 leaves OPTIONS unanswered").then_some(()))
    })?;
    let status = gateway.status()?;
    assert_eq!((status.active(), status.health("master")), ("master", "up"));
    master.ip("address add 2001:db8:1::2/64 dev eth0 nodad\nroute replace default via 2001:db8:1::1")?;
    wait::until(10 * SECOND, "the address to serve again", || {
        let events = gateway.cli(&["events"])?.stdout;
        Ok(events.contains("master serves at 2001:db8:1::2 again").then_some(()))
    })
}

fn ipv6_setting(lab: &Lab, name: &str) -> Result<String> {
    let path = format!("/proc/sys/net/ipv6/conf/{name}");
    let shown = path.clone();
    let text = lab.gateway().run(move || std::fs::read_to_string(Path::new(&path))).context(shown)?;
    Ok(text.trim().to_owned())
}

#[test]
fn next_hops_by_ipv6_follow_neighbours_routers_and_link_local_routers() -> Result<()> {
    let lab = lab(Layout::TwoArm)?;
    lab.router().ip("address add fe80::254/64 dev lan nodad")?;
    lab.server("master")?.namespace.ip("link set dev eth0 address 02:00:00:00:00:aa")?;
    let mut news = follow(&lab)?;
    // Nobody else asks for the neighbours here.
    ask(&lab, "[2001:db8:1::2]:9")?;
    let hop = wait_for(&mut news, (0, Family::V6), |hop| hop.destination == [2, 0, 0, 0, 0, 0xaa])?;
    assert_eq!((hop.mtu, hop.vlans), (1500, Default::default()));
    ask(&lab, "[2001:db8:2::2]:9")?;
    let by_router = wait_for(&mut news, (1, Family::V6), |_| true)?;
    assert_eq!((by_router.ifindex, by_router.source), (hop.ifindex, hop.source));

    lab.server("master")?.namespace.sysctl("net/ipv6/conf/all/forwarding", "1")?;
    lab.gateway().ip("route replace 2001:db8:2::/64 via 2001:db8:1::2")?;
    wait_for(&mut news, (1, Family::V6), |hop| hop.destination == [2, 0, 0, 0, 0, 0xaa])?;
    lab.gateway().ip("route replace 2001:db8:2::/64 via fe80::254 dev back")?;
    ask(&lab, "[2001:db8:2::2]:9")?;
    wait_for(&mut news, (1, Family::V6), |hop| hop == by_router)?;
    Ok(())
}

#[test]
fn a_next_hop_of_ipv4_may_be_a_router_of_ipv6() -> Result<()> {
    let lab = lab(Layout::TwoArm)?;
    let master = &lab.server("master")?.namespace;
    master.ip("link set dev eth0 address 02:00:00:00:00:aa\naddress add fe80::aa/64 dev eth0 nodad")?;
    lab.gateway().ip("route replace 10.66.2.0/24 via inet6 fe80::aa dev back")?;
    let mut news = follow(&lab)?;
    ask(&lab, "10.66.2.2:9")?;
    wait_for(&mut news, (1, Family::V4), |hop| hop.destination == [2, 0, 0, 0, 0, 0xaa])?;
    Ok(())
}

/// What the gateway would be told of the network.
fn follow(lab: &Lab) -> Result<UnboundedReceiver<News>> {
    let text = "gateway = { front = 'front', back = 'back' }
        service = [{ name = 'pbx', vip = ['192.0.2.10', '2001:db8::10'], sip_ports = [5060], rtp_ports = '10000-10999', server = [
          { name = 'master', address = ['10.66.1.2', '2001:db8:1::2'] },
          { name = 'backup', address = ['10.66.2.2', '2001:db8:2::2'] } ] }]";
    let config = config::Config::parse("lab", text)?;
    let (tell, news) = unbounded_channel();
    lab.gateway().run(move || -> Result<()> {
        // A new thread is in the network namespace of the one that started it.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().spawn(move || runtime.block_on(nexthop::watch(&config, tell)))?;
        Ok(())
    })?;
    Ok(news)
}

fn ask(lab: &Lab, address: &str) -> Result<()> {
    let address: SocketAddr = address.parse()?;
    let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    lab.gateway().run(move || UdpSocket::bind(any)?.send_to(b"?", address))?;
    Ok(())
}

fn wait_for(
    news: &mut UnboundedReceiver<News>,
    (number, wanted): (usize, Family),
    is_it: impl Fn(NextHop) -> bool,
) -> Result<NextHop> {
    wait::until(10 * SECOND, &format!("the next hop of server {number}"), || {
        while let Ok(told) = news.try_recv() {
            match told {
                News::Way { server: ServerId(server), family, hop, .. }
                    if (server, family) == (number, wanted) && is_it(hop) =>
                {
                    return Ok(Some(hop));
                }
                _ => {}
            }
        }
        Ok(None)
    })
}
