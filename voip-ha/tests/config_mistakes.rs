//! Every mistake of a configuration file is refused with file, line and key, and with words that help.

use proptest::prelude::*;
use voip_ha::config::{Config, ConfigError, MAX_SERVERS_PER_SERVICE, MAX_SERVICES};

const VALID: &str = r#"[gateway]
front = "eth0"
back = "eth1"

[probe]
interval_ms = 20

[policy]
failback = "auto"
hold_down_s = 30

[[service]]
name = "pbx"
vip = "192.0.2.10"
sip_ports = [5060, 5061]
rtp_ports = "10000-19999"

[[service.server]]
name = "master"
address = "10.0.0.2"

[[service.server]]
name = "cloud"
address = "10.8.0.2"

[service.server.probe]
timeout_max_ms = 80

[[service]]
name = "trunk"
vip = "192.0.2.11"
sip_ports = [5060]
rtp_ports = "20000-29999"

[[service.server]]
name = "sbc"
address = "10.0.0.3"
"#;

/// Line to replace, its new text, and the one mistake that this must give: line, column, key and words.
struct Case(usize, &'static str, (usize, usize, &'static str, &'static str));

const CASES: &[Case] = &[
    // Syntax.
    Case(1, "[gateway", (1, 9, "gateway", "unclosed table")),
    Case(2, "front = eth0", (2, 9, "gateway.front", "string values must be quoted")),
    Case(2, "front = \"eth0", (2, 14, "gateway.front", "invalid basic string")),
    Case(3, "front = \"eth1\"", (3, 1, "gateway.front", "duplicate key; keep one of them")),
    Case(6, "interval_ms = ", (6, 15, "probe.interval_ms", "is not valid TOML")),
    Case(29, "[gateway]", (29, 2, "gateway", "duplicate key")),
    // Names of keys.
    Case(2, "frnt = \"eth0\"", (2, 1, "gateway.frnt", "did you mean `front`?")),
    Case(4, "mtu = 1500", (4, 1, "gateway.mtu", "its keys are front, back, allow_generic")),
    Case(4, "\"a\\nb\" = 1", (4, 1, "gateway.a\\nb", "is not a key of this table")),
    Case(5, "[probes]", (5, 2, "probes", "did you mean `probe`?")),
    Case(6, "interval = 20", (6, 1, "probe.interval", "did you mean `interval_ms`?")),
    Case(17, "weight = 3", (17, 1, "service[0].weight", "is not a key of this table")),
    Case(20, "addr = \"10.0.0.2\"", (20, 1, "service[0].server[0].addr", "did you mean `address`?")),
    Case(
        27,
        "Timeout_max_ms = 80",
        (27, 1, "service[0].server[1].probe.Timeout_max_ms", "did you mean `timeout_max_ms`?"),
    ),
    // Types of values.
    Case(2, "front = 0", (2, 9, "gateway.front", "is a whole number; write it like `front = \"eth0\"`")),
    Case(4, "allow_generic = 1", (4, 17, "gateway.allow_generic", "write it like `allow_generic = false`")),
    Case(6, "interval_ms = \"20\"", (6, 15, "probe.interval_ms", "is a string; write it like `interval_ms = 20`")),
    Case(6, "interval_ms = 0.5", (6, 15, "probe.interval_ms", "is a number with a fraction")),
    Case(6, "interval_ms = 1979-05-27", (6, 15, "probe.interval_ms", "is a date or time")),
    Case(6, "interval_ms = 99999999999999999999", (6, 15, "probe.interval_ms", "is out of range")),
    Case(1, "[[gateway]]", (1, 1, "gateway", "is a list; write it like `[gateway]`")),
    Case(
        14,
        "vip = [192, 0, 2, 10]",
        (14, 8, "service[0].vip", "has an element of a wrong type; write it like `vip ="),
    ),
    Case(14, "vip = 3232235777", (14, 7, "service[0].vip", "is a whole number; write it like `vip = \"192.0.2.10\"`")),
    Case(15, "sip_ports = 5060", (15, 13, "service[0].sip_ports", "write it like `sip_ports = [5060]`")),
    Case(15, "sip_ports = [5060, \"5061\"]", (15, 20, "service[0].sip_ports", "has an element of a wrong type")),
    Case(37, "address = \"10.0.0.3\"\nprobe = 20", (38, 9, "service[1].server[0].probe", "is a whole number")),
    Case(29, "[service]", (29, 2, "service", "duplicate key")),
    Case(35, "[service.server]", (35, 1, "service[1].server", "is a table; write it like `[[service.server]]`")),
    // Keys that must be there.
    Case(3, "", (1, 1, "gateway.back", "is missing; add `back = \"eth1\"`")),
    Case(13, "", (12, 1, "service[0].name", "is missing")),
    Case(14, "", (12, 1, "service[0].vip", "is missing; add `vip = \"192.0.2.10\"`")),
    Case(32, "", (29, 1, "service[1].sip_ports", "is missing; add `sip_ports = [5060]`")),
    Case(33, "", (29, 1, "service[1].rtp_ports", "is missing")),
    Case(24, "", (22, 1, "service[0].server[1].address", "is missing; add `address = \"10.0.0.2\"`")),
    Case(36, "", (35, 1, "service[1].server[0].name", "is missing")),
    // Ranges of numbers.
    Case(6, "interval_ms = 4", (6, 15, "probe.interval_ms", "4 is out of range; use 5 to 60000")),
    Case(6, "interval_ms = 60001", (6, 15, "probe.interval_ms", "use 5 to 60000")),
    Case(6, "timeout_max_ms = 0", (6, 18, "probe.timeout_max_ms", "use 1 to 60000")),
    Case(27, "timeout_min_ms = 60001", (27, 18, "service[0].server[1].probe.timeout_min_ms", "use 1 to 60000")),
    Case(27, "confirm = 0", (27, 11, "service[0].server[1].probe.confirm", "use 1 to 30")),
    Case(27, "confirm = 31", (27, 11, "service[0].server[1].probe.confirm", "use 1 to 30")),
    Case(27, "confirm_gap_us = 99", (27, 18, "service[0].server[1].probe.confirm_gap_us", "use 100 to 10000000")),
    Case(27, "quiet_ms = 60001", (27, 12, "service[0].server[1].probe.quiet_ms", "use 0 to 60000")),
    Case(27, "hang_ms = 9", (27, 11, "service[0].server[1].probe.hang_ms", "use 10 to 600000")),
    Case(27, "echo = 1", (27, 8, "service[0].server[1].probe.echo", "write it like `echo = true`")),
    Case(6, "preset = \"Lan\"", (6, 10, "probe.preset", "use \"lan\", \"wan\" or \"cautious\"")),
    Case(6, "timeout_min_ms = 200", (6, 18, "probe.timeout_min_ms", "the shortest cannot be above the longest")),
    Case(27, "timeout_max_ms = 1", (27, 18, "service[0].server[1].probe.timeout_max_ms", "timeout_min_ms is 2")),
    Case(10, "drain_s = 86401", (10, 11, "policy.drain_s", "use 0 to 86400")),
    Case(10, "give_back_s = 3601", (10, 15, "policy.give_back_s", "3601 is out of range; use 0 to 3600")),
    Case(10, "failback_drains = 1", (10, 19, "policy.failback_drains", "write it like `failback_drains = true`")),
    Case(10, "damping_half_life_s = 3601", (10, 23, "policy.damping_half_life_s", "use 0 to 3600")),
    Case(10, "failovers_per_hour = -1", (10, 22, "policy.failovers_per_hour", "use 0 to 100000")),
    Case(27, "rise = 1001", (27, 8, "service[0].server[1].probe.rise", "use 1 to 1000")),
    Case(27, "port = 65536", (27, 8, "service[0].server[1].probe.port", "use 1 to 65535")),
    Case(10, "hold_down_s = -1", (10, 15, "policy.hold_down_s", "use 0 to 86400")),
    Case(10, "switch_grace_ms = 60001", (10, 19, "policy.switch_grace_ms", "use 0 to 60000")),
    // Interfaces, paths and groups.
    Case(2, "front = \"\"", (2, 9, "gateway.front", "cannot be the name of an interface")),
    Case(2, "front = \"sixteen-bytes-xx\"", (2, 9, "gateway.front", "use 1 to 15 bytes")),
    Case(3, "back = \"eth 1\"", (3, 8, "gateway.back", "without spaces")),
    Case(3, "back = \"eth/1\"", (3, 8, "gateway.back", "without spaces, `/` or `:`")),
    Case(4, "pin_dir = \"voip-ha\"", (4, 11, "gateway.pin_dir", "is not an absolute path")),
    Case(4, "state_dir = \"voip-ha\"", (4, 13, "gateway.state_dir", "is not an absolute path")),
    Case(4, "control_socket = \"run.sock\"", (4, 18, "gateway.control_socket", "start it with `/`")),
    Case(4, "control_group = \"a:b\"", (4, 17, "gateway.control_group", "cannot be the name of a group")),
    // Policy.
    Case(9, "failback = true", (9, 12, "policy.failback", "is true or false; write it like `failback = \"manual\"`")),
    Case(9, "failbak = \"auto\"", (9, 1, "policy.failbak", "did you mean `failback`?")),
    Case(9, "failback = \"soon\"", (9, 12, "policy.failback", "use \"manual\" or \"auto\"")),
    Case(9, "failback = \"manual\"", (10, 15, "policy.hold_down_s", "has no effect with manual failback")),
    Case(9, "", (10, 15, "policy.hold_down_s", "set failback = \"auto\" or remove this key")),
    // Names.
    Case(13, "name = \"\"", (13, 8, "service[0].name", "cannot be a name")),
    Case(19, "name = \"büro\"", (19, 8, "service[0].server[0].name", "1 to 32 letters, digits")),
    Case(19, "name = \"a-master-whose-name-is-33-bytes-x\"", (19, 8, "service[0].server[0].name", "cannot be a name")),
    Case(19, "name = \"auto\"", (19, 8, "service[0].server[0].name", "is reserved for `voip-ha switch auto`")),
    Case(30, "name = \"pbx\"", (30, 8, "service[1].name", "is already service[0].name on line 13")),
    Case(
        36,
        "name = \"cloud\"",
        (36, 8, "service[1].server[0].name", "is already service[0].server[1].name on line 23"),
    ),
    // Addresses.
    Case(20, "address = \"10.0.0\"", (20, 11, "service[0].server[0].address", "is not an IP address")),
    Case(20, "address = \"fe80::1%eth0\"", (20, 11, "service[0].server[0].address", "is not an IP address")),
    Case(20, "address = \"169.254.1.1\"", (20, 11, "service[0].server[0].address", "is a link-local address")),
    Case(20, "address = \"::\"", (20, 11, "service[0].server[0].address", "names no host")),
    Case(20, "address = \"::1\"", (20, 11, "service[0].server[0].address", "is a loopback address")),
    Case(20, "address = \"ff02::1\"", (20, 11, "service[0].server[0].address", "is a multicast address")),
    Case(20, "address = \"fe80::1\"", (20, 11, "service[0].server[0].address", "is a link-local address")),
    Case(20, "address = \"::ffff:10.0.0.2\"", (20, 11, "service[0].server[0].address", "write it as IPv4")),
    Case(
        20,
        "address = []",
        (20, 11, "service[0].server[0].address", "has no address; write one, or one of each family"),
    ),
    Case(
        20,
        "address = [\"10.0.0.2\", \"10.0.0.9\"]",
        (
            20,
            24,
            "service[0].server[0].address[1]",
            "10.0.0.9 is a second IPv4 address; use at most one of each family",
        ),
    ),
    Case(20, "address = [\"10.0.0.2\", \"x\"]", (20, 24, "service[0].server[0].address[1]", "is not an IP address")),
    Case(
        20,
        "address = [\"10.0.0.2\", \"2001:db8::2\"]",
        (
            20,
            11,
            "service[0].server[0].address",
            "2001:db8::2 would never be used, because the service has no IPv6 VIP",
        ),
    ),
    Case(
        31,
        "vip = [\"192.0.2.11\", \"2001:db8::11\"]",
        (37, 11, "service[1].server[0].address", "has no IPv6 address: packets"),
    ),
    Case(
        31,
        "vip = \"2001:db8::11\"",
        (37, 11, "service[1].server[0].address", "make 2001:db8::11 a service of its own"),
    ),
    Case(20, "address = \"0.0.0.0\"", (20, 11, "service[0].server[0].address", "names no host")),
    Case(20, "address = \"127.0.0.1\"", (20, 11, "service[0].server[0].address", "is a loopback address")),
    Case(20, "address = \"224.0.1.75\"", (20, 11, "service[0].server[0].address", "is a multicast address")),
    Case(20, "address = \"255.255.255.255\"", (20, 11, "service[0].server[0].address", "is a broadcast")),
    Case(14, "vip = \"239.0.0.1\"", (14, 7, "service[0].vip", "is a multicast address")),
    Case(31, "vip = \"192.0.2.10\"", (31, 7, "service[1].vip", "is already service[0].vip on line 14")),
    Case(31, "vip = \"10.8.0.2\"", (31, 7, "service[1].vip", "is already service[0].server[1].address on line 24")),
    Case(24, "address = \"192.0.2.10\"", (24, 11, "service[0].server[1].address", "is already service[0].vip")),
    Case(37, "address = \"10.0.0.2\"", (37, 11, "service[1].server[0].address", "on line 20; each must be different")),
    Case(
        21,
        "forwarding = \"tunnel\"",
        (21, 14, "service[0].server[0].forwarding", "use \"nat\", \"masquerade\" or \"dsr\""),
    ),
    // Protection.
    Case(17, "protection = 50", (17, 14, "service[0].protection", "write it like `[service.protection]`")),
    Case(17, "protection.throttle = 50", (17, 12, "service[0].protection.throttle", "its keys are sip_packets_per_s")),
    Case(
        17,
        "protection.sip_packets_per_s = 0",
        (17, 32, "service[0].protection.sip_packets_per_s", "0 is out of range; use 1 to 1000000"),
    ),
    Case(
        17,
        "protection = { sip_packets_per_s = 5, sip_burst = 1000001 }",
        (17, 51, "service[0].protection.sip_burst", "use 1 to 1000000"),
    ),
    Case(17, "protection.sip_burst = 5", (17, 24, "service[0].protection.sip_burst", "has no effect without a limit")),
    Case(17, "protection.ipv6_prefix = 5", (17, 26, "service[0].protection.ipv6_prefix", "set sip_packets_per_s")),
    Case(17, "protection.allow = []", (17, 20, "service[0].protection.allow", "has no effect where nothing")),
    Case(17, "protection.deny = \"::/0\"", (17, 19, "service[0].protection.deny", "write it like `deny = [")),
    Case(17, "protection.deny = [5]", (17, 20, "service[0].protection.deny", "has an element of a wrong type")),
    Case(17, "protection.deny = [\"x/8\"]", (17, 20, "service[0].protection.deny[0]", "is not a prefix; write it")),
    Case(
        17,
        "protection.deny = [\"10.1.0.0/8\"]",
        (17, 20, "service[0].protection.deny[0]", "write \"10.0.0.0/8\", or the address alone"),
    ),
    Case(
        17,
        "protection.deny = [\"::ffff:10.0.0.0/104\"]",
        (17, 20, "service[0].protection.deny[0]", "write it as IPv4"),
    ),
    Case(
        17,
        "protection = { allow = [\"10.0.0.1\"], deny = [\"::/0\", \"10.0.0.1/32\"] }",
        (17, 54, "service[0].protection.deny[1]", "10.0.0.1/32 is already service[0].protection.allow[0] on line 17"),
    ),
    // Ports.
    Case(15, "sip_ports = []", (15, 13, "service[0].sip_ports", "has 0 ports; use 1 to 4")),
    Case(15, "sip_ports = [1, 2, 3, 4, 5]", (15, 13, "service[0].sip_ports", "has 5 ports; use 1 to 4")),
    Case(15, "sip_ports = [5060, 0]", (15, 20, "service[0].sip_ports[1]", "0 is out of range; use 1 to 65535")),
    Case(15, "sip_ports = [5060, 5060]", (15, 20, "service[0].sip_ports[1]", "5060 is already in the list")),
    Case(16, "rtp_ports = \"10000\"", (16, 13, "service[0].rtp_ports", "is not a range of ports")),
    Case(16, "rtp_ports = \"10000-70000\"", (16, 13, "service[0].rtp_ports", "is not a range of ports")),
    Case(16, "rtp_ports = \"0-19999\"", (16, 13, "service[0].rtp_ports", "port 0 cannot be used")),
    Case(16, "rtp_ports = \"19999-10000\"", (16, 13, "service[0].rtp_ports", "write \"10000-19999\"")),
    Case(16, "rtp_ports = \"5000-5999\"", (16, 13, "service[0].rtp_ports", "contains the SIP port 5060")),
];

fn with_line(number: usize, text: &str) -> String {
    let mut lines: Vec<_> = VALID.lines().collect();
    lines[number - 1] = text;
    lines.join("\n")
}

fn refusal(text: &str) -> ConfigError {
    match Config::parse("gateway.toml", text) {
        Ok(config) => panic!("accepted as {config:#?}:\n{text}"),
        Err(error) => error,
    }
}

#[test]
fn the_file_that_the_mistakes_are_made_in_is_valid() {
    Config::parse("gateway.toml", VALID).unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn every_mistake_is_refused_alone_with_file_line_column_key_and_remedy() {
    for Case(number, new, (line, column, key, words)) in CASES {
        let error = refusal(&with_line(*number, new));
        let printed = error.to_string();
        let place = format!("gateway.toml:{line}:{column}: {key}: ");
        assert!(printed.starts_with(&place), "{new:?}: expected {place:?} in\n{printed}");
        assert!(printed.contains(words), "{new:?}: expected {words:?} in\n{printed}");
        assert_eq!(error.mistakes().len(), 1, "{new:?}:\n{printed}");
    }
}

#[test]
fn all_mistakes_of_a_file_are_reported_in_its_order_one_per_line() {
    let text = "[gateway]\nfront = 1\nbakc = \"eth1\"\n[probe]\nconfirm = 0\nrise = []\n\
                [[service]]\nname = \"a b\"\nvip = \"10.0.0.1\"\nsip_ports = [0, 5060, 5060]\n\
                [[service.server]]\nname = \"auto\"\naddress = \"10.0.0.1\"\n";
    let keys = [
        "2:9: gateway.front: ",
        "3:1: gateway.bakc: ",
        "5:11: probe.confirm: ",
        "6:8: probe.rise: ",
        "7:1: service[0].rtp_ports: ",
        "8:8: service[0].name: ",
        "10:14: service[0].sip_ports[0]: ",
        "10:23: service[0].sip_ports[2]: ",
        "12:8: service[0].server[0].name: ",
        "13:11: service[0].server[0].address: ",
    ];
    let printed = refusal(text).to_string();
    assert_eq!(printed.lines().count(), keys.len(), "{printed}");
    for (line, key) in printed.lines().zip(keys) {
        assert!(line.starts_with(&format!("gateway.toml:{key}")), "expected {key:?}, got {line:?}");
    }
}

#[test]
fn an_empty_file_lacks_a_gateway_and_a_service() {
    let printed = refusal("").to_string();
    assert_eq!(
        printed,
        "gateway.toml:1:1: gateway: is missing; add `[gateway]`\n\
         gateway.toml:1:1: service: is missing; add `[[service]]`"
    );
}

#[test]
fn a_service_without_a_server_is_refused_at_its_header() {
    let text: Vec<_> = VALID.lines().take(33).collect();
    let error = refusal(&text.join("\n"));
    let mistake = &error.mistakes()[0];
    assert_eq!((mistake.line, mistake.key.as_str()), (29, "service[1].server"));
}

fn server(n: usize) -> String {
    format!("[[service.server]]\nname = \"s{n}\"\naddress = \"10.0.0.{}\"\n", n + 1)
}

fn service(n: usize) -> String {
    format!("[[service]]\nname = \"v{n}\"\nvip = \"192.0.2.{}\"\nsip_ports = [5060]\nrtp_ports = \"1-2\"\n", n + 1)
}

#[test]
fn one_server_too_many_is_refused_at_the_surplus_one() {
    let file = |servers| {
        "[gateway]\nfront = \"a\"\nback = \"a\"\n".to_owned()
            + &service(0)
            + &(0..servers).map(server).collect::<String>()
    };
    assert!(Config::parse("most", &file(MAX_SERVERS_PER_SERVICE)).is_ok());
    let printed = refusal(&file(MAX_SERVERS_PER_SERVICE + 1)).to_string();
    let line = 3 + 5 + 3 * MAX_SERVERS_PER_SERVICE + 1;
    assert_eq!(printed, format!("gateway.toml:{line}:1: service[0].server[8]: is one too many; use at most 8 in all"));
}

#[test]
fn one_service_too_many_is_refused_at_the_surplus_one() {
    let file = |services| {
        "[gateway]\nfront = \"a\"\nback = \"a\"\n".to_owned()
            + &(0..services).map(|n| service(n) + &server(n)).collect::<String>()
    };
    assert!(Config::parse("most", &file(MAX_SERVICES)).is_ok());
    let printed = refusal(&file(MAX_SERVICES + 1)).to_string();
    let line = 3 + 8 * MAX_SERVICES + 1;
    assert_eq!(printed, format!("gateway.toml:{line}:1: service[16]: is one too many; use at most 16 in all"));
}

#[test]
fn a_socket_path_that_the_kernel_cannot_bind_is_refused() {
    let file = |bytes: usize| with_line(4, &format!("control_socket = \"/{}\"", "s".repeat(bytes - 1)));
    assert!(Config::parse("longest", &file(107)).is_ok());
    assert_eq!(
        refusal(&file(108)).to_string(),
        "gateway.toml:4:18: gateway.control_socket: is 108 bytes long; a socket path has at most 107"
    );
}

#[test]
fn a_file_that_cannot_be_read_or_is_not_utf8_says_so_with_its_name() {
    let directory = tempfile::tempdir().unwrap();
    let absent = directory.path().join("absent.toml");
    let error = Config::load(&absent).unwrap_err();
    assert!(error.to_string().starts_with(&format!("{}: cannot be read: No such file", absent.display())));

    let latin1 = directory.path().join("latin1.toml");
    std::fs::write(&latin1, b"[gateway]\nfront = \"b\xfcro\"\n").unwrap();
    let error = Config::load(&latin1).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("{}:2:11: is not UTF-8 from here on; save the file as UTF-8", latin1.display())
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_garbled_file_is_valid_or_refused_with_a_place_inside_it(
        at in 0..VALID.len(), remove in 0..40usize, insert in r#"[\[\]"'=.,{}#\nüa0-9 ]{0,6}"#,
    ) {
        let end = (at + remove).min(VALID.len());
        let text = format!("{}{insert}{}", &VALID[..at], &VALID[end..]);
        if let Err(error) = Config::parse("gateway.toml", &text) {
            prop_assert!(!error.mistakes().is_empty());
            for mistake in error.mistakes() {
                let line = text.split('\n').nth(mistake.line - 1);
                prop_assert!(line.is_some_and(|line| mistake.column <= line.chars().count() + 1), "{mistake}\n{text}");
            }
        }
    }
}
