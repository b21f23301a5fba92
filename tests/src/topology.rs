//! The networks of the lab.
//!
//! ```text
//!   phones ── 192.0.2.0/24 ── front gateway back ── 10.66.1.0/24 ──┬── router ── 10.66.2.0/24 ── backup
//!   .100 …                    .1, VIP .10    .1                   .254   .254                     .2
//!                                                                  └── master .2
//! ```
//!
//! Servers reach phones through the gateway only: it is the default route of the master and of the router.
//!
//! One-arm: the gateway has a single interface, and the phones' own router (`edge`) hands it what is for the VIP:
//!
//! ```text
//!   phones ── 192.0.2.0/24 ── edge ── 10.66.1.0/24 ──┬── router ── 10.66.2.0/24 ── backup
//!                             .1     .253            ├── gateway .1, VIP 192.0.2.10
//!                                                    └── master .2
//! ```
//!
//! Cloud by the front: the cloud's router stands on the phones' side, and `back` leads to the master alone. `street` is a
//! switch. A fault of the gateway's own cable to the master leaves the way to the backup whole:
//!
//! ```text
//!   phones ── 192.0.2.0/24 ──┐
//!                         street ── front gateway back ── 10.66.1.0/24 ── master .2
//!   router ── 10.66.3.0/24 ──┘      .1, VIP      .1
//!     └────── 10.66.2.0/24 ── backup .2
//! ```
//!
//! One LAN: the gateway is a plain router without VIP, and both servers are hosts of one LAN, of which one has the VIP:
//!
//! ```text
//!   phones ── 192.0.2.0/24 ── front gateway back ── 10.66.1.0/24 ──┬── master .2
//!                             .1            .1                     └── backup .3
//! ```
//!
//! rp_filter is left as the kernel sets it, which is off (0) in a new namespace. ICMP rate limits are the kernel's too.

mod six;

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddrV4},
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use rustix::process::{Resource, getrlimit, setrlimit};

pub use self::six::{SIP6, VIP6};
use crate::{
    netns::{Namespace, ip, join},
    site::Site,
    wait,
};

/// The virtual address that phones call.
pub const VIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
/// The SIP port of the VIP and of every server.
pub const SIP_PORT: u16 = 5060;
/// Where phones call: the VIP's SIP port.
pub const SIP: SocketAddrV4 = SocketAddrV4::new(VIP, SIP_PORT);
/// First and last RTP port of the service.
pub const RTP_PORTS: (u16, u16) = (10000, 19999);

const FIRST_PHONE: u8 = 100;
const MAX_PHONES: u8 = 150;
/// How long the kernel may take to bring up a link.
const LINK: Duration = Duration::from_secs(5);

/// How the gateway stands between phones and servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Layout {
    /// One interface towards phones, one towards servers.
    #[default]
    TwoArm,
    /// One interface for both.
    OneArm,
    /// No gateway program: the VIP is an address of every server, and kernel routing leads to one of them
    /// ([`Lab::route_vip_to`]). What the lab itself can do is tested on this.
    Routed,
    /// As [`Layout::TwoArm`], but the backup is reached by the front interface, and the back one leads to the master only.
    CloudByFront,
    /// No gateway program: both servers are in one LAN, and who has the VIP is their own business.
    OneLan,
}

/// What kind of lab to build.
#[derive(Debug, Clone)]
pub struct Options {
    /// The place of the gateway.
    pub layout: Layout,
    /// Number of addresses in the phones' namespace, 1 to 150.
    pub phone_addresses: u8,
    /// IPv6 beside IPv4; in the two-arm and the one-arm layout.
    pub ipv6: bool,
    /// Wait until no other such lab lives on this machine. Two labs at once spoil each other's measurements, so only what
    /// measures nothing turns this off; a thread that holds one such lab must not ask for a second.
    pub alone: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { layout: Layout::default(), phone_addresses: 4, ipv6: false, alone: true }
    }
}

/// A server's namespace and where the router's cable to it ends.
#[derive(Debug)]
pub struct ServerHost {
    /// `master` or `backup`.
    pub name: &'static str,
    /// Its address behind the gateway.
    pub address: Ipv4Addr,
    /// Its IPv6 address there.
    pub address6: Option<Ipv6Addr>,
    /// Where its programs run.
    pub namespace: Namespace,
}

/// The namespaces, wired and up. On drop all programs in them are killed and everything is removed.
#[derive(Debug)]
pub struct Lab {
    // First, so that the namespaces' programs are dead before their threads are joined.
    site: Site,
    options: Options,
    phones: Namespace,
    gateway: Namespace,
    router: Namespace,
    /// The phones' router in the one-arm layout.
    edge: Option<Namespace>,
    servers: [ServerHost; 2],
}

impl Lab {
    /// Builds a lab after removing what crashed ones left behind.
    pub fn new(options: Options) -> Result<Self> {
        crate::require_root()?;
        ensure!((1..=MAX_PHONES).contains(&options.phone_addresses), "phone_addresses must be 1 to {MAX_PHONES}");
        open_many_files()?;
        let site = Site::claim(options.alone)?;
        let namespace = |role| {
            let namespace = Namespace::create(&site.namespace(role))?;
            if options.ipv6 {
                six::prepare(&namespace)?;
            }
            anyhow::Ok(namespace)
        };
        let host = |name, address| {
            let address6 = options.ipv6.then(|| six::address(name));
            anyhow::Ok(ServerHost { name, address, address6, namespace: namespace(name)? })
        };
        let (phones, gateway, router) = (namespace("phones")?, namespace("gateway")?, namespace("router")?);
        let edge = (options.layout == Layout::OneArm).then(|| namespace("edge")).transpose()?;
        let one_lan = options.layout == Layout::OneLan;
        let backup = if one_lan { Ipv4Addr::new(10, 66, 1, 3) } else { Ipv4Addr::new(10, 66, 2, 2) };
        let servers = [host("master", Ipv4Addr::new(10, 66, 1, 2))?, host("backup", backup)?];

        wire_router(&router)?;
        wire_servers(&router, &servers, one_lan)?;
        wire_gateway(&gateway, &router)?;
        if options.layout == Layout::CloudByFront {
            wire_street(&phones, &gateway, &router)?;
        } else {
            join((&phones, "eth0"), (edge.as_ref().unwrap_or(&gateway), "front"))?;
        }
        wire_phones(&phones, edge.as_ref().unwrap_or(&gateway), options.phone_addresses)?;
        if let Some(edge) = &edge {
            wire_edge(edge, &router)?;
            gateway.ip("route add 192.0.2.0/24 via 10.66.1.253")?;
        }
        let lab = Self { site, options, phones, gateway, router, edge, servers };
        lab.place_vip()?;
        if lab.options.ipv6 {
            six::wire(&lab, lab.edge.as_ref())?;
        }
        let street: &[&str] = if lab.options.layout == Layout::CloudByFront { &["phones", "front"] } else { &[] };
        for port in ["gateway", "master", "backup"].iter().chain(street) {
            wait_until_forwarding(&lab.router, port)?;
        }
        Ok(lab)
    }

    /// The directory of configuration, logs and sockets; gone when the lab is.
    pub fn dir(&self) -> PathBuf {
        self.site.dir()
    }

    /// Where this lab's gateway pins its maps; removed with the lab.
    pub fn pin_dir(&self) -> PathBuf {
        self.site.pin_dir()
    }

    /// The layout it was built with.
    pub fn layout(&self) -> Layout {
        self.options.layout
    }

    /// The gateway's interfaces: towards phones, towards servers.
    pub fn interfaces(&self) -> (&'static str, &'static str) {
        if self.options.layout == Layout::OneArm { ("back", "back") } else { ("front", "back") }
    }

    /// Where phones run.
    pub fn phones(&self) -> &Namespace {
        &self.phones
    }

    /// The addresses of the phones.
    pub fn phone_addresses(&self) -> impl Iterator<Item = Ipv4Addr> + use<> {
        (FIRST_PHONE..FIRST_PHONE + self.options.phone_addresses).map(|last| Ipv4Addr::new(192, 0, 2, last))
    }

    /// Where the gateway program runs.
    pub fn gateway(&self) -> &Namespace {
        &self.gateway
    }

    /// The router between the gateway, the master and the cloud.
    pub fn router(&self) -> &Namespace {
        &self.router
    }

    /// Both servers, the master first.
    pub fn servers(&self) -> &[ServerHost] {
        &self.servers
    }

    /// The server of that name.
    pub fn server(&self, name: &str) -> Result<&ServerHost> {
        self.servers.iter().find(|server| server.name == name).with_context(|| format!("no server {name}"))
    }

    /// The address that a server's programs listen on: its own, or the VIP in the routed layout.
    pub fn listen_address(&self, server: &ServerHost) -> Ipv4Addr {
        if self.options.layout == Layout::Routed { VIP } else { server.address }
    }

    /// Pulls the server's cable at the router: packets vanish in both directions, and nobody is told. The gateway's own
    /// link stays up.
    pub fn cut(&self, server: &str) -> Result<()> {
        self.router.ip(&format!("link set dev {} down", self.server(server)?.name))
    }

    /// Plugs the cable in again and returns when packets pass.
    pub fn mend(&self, server: &str) -> Result<()> {
        let port = self.server(server)?.name;
        self.router.ip(&format!("link set dev {port} up"))?;
        wait_until_forwarding(&self.router, port)
    }

    /// Plugs the gateway's own cable to the servers in again and returns when packets pass.
    pub fn mend_back(&self) -> Result<()> {
        self.router.ip("link set dev gateway up")?;
        wait_until_forwarding(&self.router, "gateway")
    }

    /// In the routed layout: leads the VIP to this server.
    pub fn route_vip_to(&self, server: &str) -> Result<()> {
        ensure!(self.options.layout == Layout::Routed, "only the routed layout routes the VIP");
        let next_hop = if server == "master" { "10.66.1.2" } else { "10.66.1.254" };
        if server != "master" {
            self.router.ip("route replace 192.0.2.10/32 via 10.66.2.2")?;
        }
        self.gateway.ip(&format!("route replace 192.0.2.10/32 via {next_hop}"))
    }

    fn place_vip(&self) -> Result<()> {
        if !matches!(self.options.layout, Layout::TwoArm | Layout::CloudByFront) {
            // The VIP lies in the phones' network but is not on their link.
            self.phones.ip("route add 192.0.2.10/32 via 192.0.2.1")?;
        }
        match self.options.layout {
            Layout::TwoArm | Layout::CloudByFront => self.gateway.ip("address add 192.0.2.10/32 dev front"),
            Layout::OneArm => self.gateway.ip("address add 192.0.2.10/32 dev back"),
            Layout::OneLan => self.gateway.ip("route add 192.0.2.10/32 dev back"),
            Layout::Routed => {
                for server in &self.servers {
                    server.namespace.ip("address add 192.0.2.10/32 dev lo")?;
                }
                self.route_vip_to("master")
            }
        }
    }
}

fn wire_router(router: &Namespace) -> Result<()> {
    forward(router)?;
    router.ip("link add name lan type bridge stp_state 0 forward_delay 0 mcast_snooping 0\n\
         link add name cloud type bridge stp_state 0 forward_delay 0 mcast_snooping 0\n\
         address add 10.66.1.254/24 dev lan\n\
         address add 10.66.2.254/24 dev cloud\n\
         link set lan up\n\
         link set cloud up\n\
         route add default via 10.66.1.1")
}

fn wire_servers(router: &Namespace, servers: &[ServerHost; 2], one_lan: bool) -> Result<()> {
    let (lan, cloud) = (("lan", "10.66.1.1"), ("cloud", "10.66.2.254"));
    for (server, (bridge, gateway)) in [(&servers[0], lan), (&servers[1], if one_lan { lan } else { cloud })] {
        join((&server.namespace, "eth0"), (router, server.name))?;
        router.ip(&format!("link set dev {} master {bridge}", server.name))?;
        server.namespace.ip(&format!("address add {}/24 dev eth0\nroute add default via {gateway}", server.address))?;
    }
    Ok(())
}

fn wire_gateway(gateway: &Namespace, router: &Namespace) -> Result<()> {
    gateway.sysctl("net/ipv4/ip_forward", "1")?;
    join((gateway, "back"), (router, "gateway"))?;
    receive_redirected(router, "gateway")?;
    router.ip("link set dev gateway master lan")?;
    gateway.ip("address add 10.66.1.1/24 dev back\nroute add 10.66.2.0/24 via 10.66.1.254")
}

fn wire_street(phones: &Namespace, gateway: &Namespace, router: &Namespace) -> Result<()> {
    router.ip("link add name street type bridge stp_state 0 forward_delay 0 mcast_snooping 0\n\
         address add 10.66.3.254/24 dev street\n\
         link set street up\n\
         route replace default via 10.66.3.1")?;
    join((phones, "eth0"), (router, "phones"))?;
    join((gateway, "front"), (router, "front"))?;
    receive_redirected(router, "front")?;
    router.ip("link set dev phones master street\nlink set dev front master street")?;
    gateway.ip("address add 10.66.3.1/24 dev front\nroute replace 10.66.2.0/24 via 10.66.3.254")
}

/// `uplink` is the namespace the phones' cable leads to: the gateway, or the edge router in the one-arm layout.
fn wire_phones(phones: &Namespace, uplink: &Namespace, count: u8) -> Result<()> {
    receive_redirected(phones, "eth0")?;
    let addresses = (FIRST_PHONE..FIRST_PHONE + count).map(|last| format!("address add 192.0.2.{last}/24 dev eth0\n"));
    phones.ip(&format!("{}route add default via 192.0.2.1", addresses.collect::<String>()))?;
    uplink.ip("address add 192.0.2.1/24 dev front")
}

fn wire_edge(edge: &Namespace, router: &Namespace) -> Result<()> {
    forward(edge)?;
    join((edge, "core"), (router, "edge"))?;
    router.ip("link set dev edge master lan")?;
    edge.ip(
        "address add 10.66.1.253/24 dev core\nroute add 192.0.2.10/32 via 10.66.1.1\nroute add default via 10.66.1.1",
    )
}

/// ICMP redirects are off: in the one-arm layout they would teach hosts to go around the gateway. The gateway's own are its
/// business.
fn forward(namespace: &Namespace) -> Result<()> {
    namespace.sysctl("net/ipv4/ip_forward", "1")?;
    namespace.sysctl("net/ipv4/conf/all/send_redirects", "0")?;
    namespace.sysctl("net/ipv4/conf/default/send_redirects", "0")
}

/// A frame that XDP redirects into a veth is dropped unless the receiving end has GRO on or runs XDP itself.
fn receive_redirected(namespace: &Namespace, interface: &str) -> Result<()> {
    namespace.ethtool(interface, &["gro", "on"])
}

/// A bridge port forwards some time after `link set up` has returned: the kernel reports the carrier later.
fn wait_until_forwarding(router: &Namespace, port: &str) -> Result<()> {
    wait::until(LINK, &format!("port {port} of the router to forward"), || {
        let shown = ip(&["-n", router.name(), "-details", "link", "show", "dev", port])?;
        Ok(shown.contains("bridge_slave state forwarding").then_some(()))
    })
}

/// 500 streams need more files than the usual soft limit of 1024.
fn open_many_files() -> Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).context("raise the limit of open files")
}
