//! The configuration file, read into a [`Config`] that can only be valid.
//!
//! Four steps, each in its file: `shape` turns the text into the tables of `raw` and refuses unknown keys and wrong
//! types, `check` turns those into the types below with the rules of `values`, and `findings` gathers what is wrong
//! on the way, so that one run shows every mistake of a file.

mod addresses;
mod check;
mod findings;
mod probe;
mod protection;
mod raw;
mod shape;
mod values;

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use addresses::Addresses;
pub use findings::{ConfigError, Mistake};
pub use protection::{MAX_PREFIXES, Prefix, Protection, SipLimit};

use voip_ha_ebpf::abi;

/// Most services of one gateway.
pub const MAX_SERVICES: usize = abi::MAX_SERVICES as usize;
/// Most servers of all services together.
pub const MAX_SERVERS: usize = abi::MAX_SERVERS as usize;
/// Most servers of one service.
pub const MAX_SERVERS_PER_SERVICE: usize = 8;
/// Most SIP ports of one service.
pub const MAX_SIP_PORTS: usize = abi::MAX_SIP_PORTS;
/// Where maps and links are pinned if the file does not say.
pub const DEFAULT_PIN_DIR: &str = "/sys/fs/bpf/voip-ha";
/// Where the control socket is if the file does not say.
pub const DEFAULT_CONTROL_SOCKET: &str = "/run/voip-ha/control.sock";
/// Where receipts and events are kept if the file does not say.
pub const DEFAULT_STATE_DIR: &str = "/var/lib/voip-ha";

/// The server name that means "let the policy decide" in `voip-ha switch auto`; no server may have it.
pub const RESERVED_SERVER_NAME: &str = "auto";

/// A whole configuration: every value is in range, and names, VIPs and addresses are unique.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The host that runs voip-ha.
    pub gateway: Gateway,
    /// When the active server changes without an operator.
    pub policy: Policy,
    /// 1 to [`MAX_SERVICES`] services, in the order of the file.
    pub services: Vec<Service>,
}

/// The gateway's interfaces and the files it owns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gateway {
    /// Interface towards phones and trunks.
    pub front: String,
    /// Interface towards the servers.
    pub back: String,
    /// Whether generic XDP may be used where the driver has no native XDP.
    pub allow_generic: bool,
    /// Absolute directory for pinned programs, links and maps; on a BPF file system.
    pub pin_dir: PathBuf,
    /// Absolute path of the control socket; it fits in a `sockaddr_un`.
    pub control_socket: PathBuf,
    /// Group that owns the control socket; without it, the daemon's own group does.
    pub control_group: Option<String>,
    /// Absolute directory for receipts and events.
    pub state_dir: PathBuf,
    /// How long a flow to a server that masquerades must be idle until its port may be another's.
    pub masquerade_idle: Duration,
}

impl Gateway {
    /// Whether phones and servers are behind the same interface.
    pub fn one_arm(&self) -> bool {
        self.front == self.back
    }

    /// The interfaces that carry traffic: front and back, or the one that is both.
    pub fn interfaces(&self) -> Vec<&str> {
        if self.one_arm() { vec![&self.front] } else { vec![&self.front, &self.back] }
    }
}

/// What happens after a failover and around a planned switch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Whether a master that came back becomes active by itself.
    pub failback: Failback,
    /// How long the old server may still send to clients after a planned switch.
    pub switch_grace: Duration,
    /// How long running calls may stay with a server that drains, if an operator does not say. One that refuses service,
    /// such as one that ends gracefully, drains; zero: it does not.
    pub drain: Duration,
    /// Whether the server before drains after a failback.
    pub failback_drains: bool,
    /// How long after a failover the server before may prove alive and get its running calls back; `None`: it never does.
    pub give_back: Option<Duration>,
    /// Half-life of the penalty for going down; `None`: servers that flap are not avoided.
    pub damping_half_life: Option<Duration>,
    /// Failovers of one service that may happen by themselves in an hour; `None`: any number.
    pub failovers_per_hour: Option<u32>,
}

/// Who brings the master back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failback {
    /// The operator does, with `voip-ha switch`.
    Manual,
    /// The gateway does.
    Auto {
        /// How long the master must have been up before that.
        hold_down: Duration,
    },
}

/// One VIP with its ports and servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Unique among services.
    pub name: String,
    /// The addresses that phones and trunks know; unique, and never a server's. Every server has one of each family that
    /// there is one of here.
    pub vips: Addresses,
    /// 1 to [`MAX_SIP_PORTS`] different UDP ports, host byte order.
    pub sip_ports: Vec<u16>,
    /// UDP ports of media, host byte order; contains no SIP port.
    pub rtp_ports: RangeInclusive<u16>,
    /// What is asked of its senders.
    pub protection: Protection,
    /// 1 to [`MAX_SERVERS_PER_SERVICE`] servers in order of priority; the first is the master.
    pub servers: Vec<Server>,
}

/// One VoIP server behind the gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Unique over all services.
    pub name: String,
    /// Unique over all services, and never a VIP; of the same families as the VIPs of its service.
    pub addresses: Addresses,
    /// How packets reach it.
    pub forwarding: Forwarding,
    /// How its health is found out.
    pub probe: Probe,
}

/// How packets reach a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Forwarding {
    /// The destination address is rewritten; the phone's address and port stay.
    Nat,
    /// Nothing but Ethernet addresses is rewritten: the server has the VIP itself and answers phones directly.
    Dsr,
    /// As `Nat`, and the source becomes the gateway's own address, with a port that stands for the phone: the server needs no route
    /// to phones.
    Masquerade,
}

impl Forwarding {
    /// What the kernel calls it.
    pub fn in_kernel(self) -> abi::Forwarding {
        match self {
            Self::Nat => abi::Forwarding::Nat,
            Self::Dsr => abi::Forwarding::Dsr,
            Self::Masquerade => abi::Forwarding::Masquerade,
        }
    }
}

impl From<&abi::ServerEntry> for Forwarding {
    fn from(entry: &abi::ServerEntry) -> Self {
        let is = |mode: Self| entry.forwarding == mode.in_kernel() as u32;
        [Self::Dsr, Self::Masquerade].into_iter().find(|mode| is(*mode)).unwrap_or(Self::Nat)
    }
}

impl std::fmt::Display for Forwarding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.in_kernel().name())
    }
}

/// Most pairs of a confirmation; a burst is not to be a flood.
const MOST_PAIRS: u32 = 60;

/// How the failure of one server is found out. What each value means for a failure is in [`monitor`](crate::monitor).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    /// Time from one OPTIONS to the next while the server is active.
    pub interval: Duration,
    /// The same while it stands by.
    pub standby_interval: Duration,
    /// Shortest time that a probe is waited for; the measured round trips may ask for more.
    pub timeout_min: Duration,
    /// Longest time that a probe is waited for.
    pub timeout_max: Duration,
    /// Probes in a row that must stay unanswered until a silent host counts as unreachable.
    pub confirm: u32,
    /// Time from one of these to the next.
    pub confirm_gap: Duration,
    /// Shortest pause in the traffic of the active server that makes the gateway ask; zero: traffic is not looked at.
    pub quiet: Duration,
    /// How long OPTIONS may stay unanswered by a host that lives.
    pub hang: Duration,
    /// How long traffic to clients excuses that; zero: not at all.
    pub patience: Duration,
    /// Consecutive answers until the server is up.
    pub rise: u32,
    /// Whether the server's host is asked by ICMP echo.
    pub echo: bool,
    /// UDP port that is probed, host byte order.
    pub port: u16,
}

impl Probe {
    /// Probes in a row that must stay unanswered while no stopped traffic speaks for it: those of `timeout_min` more, so that
    /// they outlast what the stopped traffic would have shown to be no short disturbance.
    pub fn confirm_alone(&self) -> u32 {
        let more = self.timeout_min.as_nanos().div_ceil(self.confirm_gap.as_nanos());
        self.confirm.saturating_add(u32::try_from(more).unwrap_or(u32::MAX)).min(MOST_PAIRS)
    }
}

impl Config {
    /// Reads and checks the file at `path`.
    ///
    /// # Errors
    /// [`ConfigError::Unreadable`] if the file cannot be read, else as [`Config::parse`].
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let origin = path.display().to_string();
        let bytes = std::fs::read(path).map_err(|source| ConfigError::Unreadable { origin: origin.clone(), source })?;
        match String::from_utf8(bytes) {
            Ok(text) => Self::parse(&origin, &text),
            Err(error) => {
                let good = String::from_utf8_lossy(&error.as_bytes()[..error.utf8_error().valid_up_to()]);
                let mut findings = findings::Findings::new(&good);
                findings.add("", good.len(), "is not UTF-8 from here on; save the file as UTF-8");
                Err(findings.refuse(&origin))
            }
        }
    }

    /// Checks `text`; `origin` is the file name that mistakes are reported with.
    ///
    /// # Errors
    /// [`ConfigError::Refused`] with every mistake of the text. If the text is not TOML, these are the errors of syntax
    /// alone.
    pub fn parse(origin: &str, text: &str) -> Result<Self, ConfigError> {
        let mut findings = findings::Findings::new(text);
        let config = shape::read(text, &mut findings).and_then(|raw| check::config(raw, &mut findings));
        match config {
            Some(config) if findings.is_empty() => Ok(config),
            _ => Err(findings.refuse(origin)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = include_str!("../gateway.example.toml");
    const SHORTEST: &str = "
        gateway = { front = 'lan', back = 'lan' }
        service = [{ name = 'pbx', vip = '192.0.2.10', sip_ports = [5070, 5060], rtp_ports = '10000-19999',
                     server = [{ name = 'master', address = '10.0.0.2' }] }]";

    #[test]
    fn the_example_file_is_valid_and_shows_every_key() {
        let config = Config::parse("gateway.example.toml", EXAMPLE).unwrap_or_else(|error| panic!("{error}"));
        assert!(!config.gateway.one_arm());
        assert_eq!(config.services[0].servers.len(), 2);
        for key in raw::EXAMPLES.iter().map(|(path, _)| path.rsplit('.').next().unwrap()) {
            assert!(EXAMPLE.contains(key), "the example file does not show {key}");
        }
    }

    #[test]
    fn the_example_file_states_the_defaults_it_comments_on() {
        let uncommented = EXAMPLE.lines().map(|line| line.strip_prefix("#: ").unwrap_or(line)).collect::<Vec<_>>();
        let with_defaults = Config::parse("example", &uncommented.join("\n")).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(with_defaults, Config::parse("example", EXAMPLE).unwrap());
    }

    #[test]
    fn what_is_left_out_has_the_documented_default() {
        let config = Config::parse("short", SHORTEST).unwrap_or_else(|error| panic!("{error}"));
        assert!(config.gateway.one_arm());
        assert!(!config.gateway.allow_generic);
        assert_eq!(config.gateway.pin_dir, Path::new("/sys/fs/bpf/voip-ha"));
        assert_eq!(config.gateway.control_socket, Path::new("/run/voip-ha/control.sock"));
        assert_eq!(config.gateway.control_group, None);
        assert_eq!(config.gateway.state_dir, Path::new("/var/lib/voip-ha"));
        assert_eq!(config.gateway.masquerade_idle, Duration::from_secs(300));
        let policy = Policy {
            failback: Failback::Manual,
            switch_grace: Duration::from_millis(500),
            drain: Duration::from_secs(600),
            failback_drains: true,
            give_back: Some(Duration::from_secs(10)),
            damping_half_life: Some(Duration::from_secs(900)),
            failovers_per_hour: Some(12),
        };
        assert_eq!(config.policy, policy);
        let probe = &config.services[0].servers[0].probe;
        assert_eq!((probe.interval, probe.port), (Duration::from_millis(20), 5070));
        let lan = Config::parse("lan", &format!("{SHORTEST}\nprobe.preset = 'lan'")).unwrap();
        assert_eq!(config, lan, "`lan` is the default");
    }

    #[test]
    fn a_server_takes_from_the_common_probe_what_it_does_not_set_itself() {
        let text = format!("{SHORTEST}\n[probe]\ninterval_ms = 50\nrise = 7\nport = 5090\n")
            .replace("address = '10.0.0.2'", "address = '10.0.0.2', probe = { confirm = 2, timeout_max_ms = 60000 }");
        let config = Config::parse("text", &text).unwrap_or_else(|error| panic!("{error}"));
        let probe = config.services[0].servers[0].probe;
        assert_eq!((probe.interval, probe.rise, probe.port), (Duration::from_millis(50), 7, 5090));
        assert_eq!((probe.confirm, probe.timeout_max), (2, Duration::from_secs(60)));
    }

    #[test]
    fn a_preset_replaces_what_the_common_table_says_and_own_keys_replace_the_preset() {
        let text = format!("{SHORTEST}\n[probe]\ninterval_ms = 50\nport = 5090\n")
            .replace("address = '10.0.0.2'", "address = '10.0.0.2', probe = { preset = 'cautious', hang_ms = 700 }");
        let probe = Config::parse("text", &text).unwrap_or_else(|error| panic!("{error}")).services[0].servers[0].probe;
        assert_eq!((probe.interval, probe.hang), (Duration::from_millis(100), Duration::from_millis(700)));
        assert_eq!(probe.port, 5090, "a preset says nothing about the port");
    }

    #[test]
    fn a_service_and_its_servers_may_have_an_address_of_each_family_or_ipv6_alone() {
        let with = |vip: &str, address: &str| {
            let text = SHORTEST.replace("'192.0.2.10'", vip).replace("'10.0.0.2'", address);
            let service = Config::parse("text", &text).unwrap_or_else(|error| panic!("{error}")).services.remove(0);
            (service.vips.to_string(), service.servers[0].addresses.first().to_string())
        };
        let both = with("['2001:db8::10', '192.0.2.10']", "['10.0.0.2', 'fd00::2']");
        assert_eq!(both, ("192.0.2.10, 2001:db8::10".to_owned(), "10.0.0.2".to_owned()));
        assert_eq!(with("'2001:db8::10'", "['fd00::2']"), ("2001:db8::10".to_owned(), "fd00::2".to_owned()));
    }

    #[test]
    fn automatic_failback_has_a_hold_down_of_a_minute_or_the_given_one() {
        for (policy, seconds) in [("failback = 'auto'", 60), ("failback = 'auto'\nhold_down_s = 5", 5)] {
            let config = Config::parse("text", &format!("{SHORTEST}\n[policy]\n{policy}\n")).unwrap();
            assert_eq!(config.policy.failback, Failback::Auto { hold_down: Duration::from_secs(seconds) });
        }
    }
}
