use std::{fmt::Write as _, thread, time::Duration};

use clap::Args;

use super::{
    Failure, Format, Socket,
    output::{self, ALARM, CAUTION, GOOD, HEADING, ago, local_time, styled},
};
use crate::{
    control::{Answer, Client, Command},
    datapath::XdpMode,
    detector::Health,
    status::{InterfaceStatus, ServerStatus, ServiceStatus, Status},
};

const WATCH_INTERVAL: Duration = Duration::from_secs(1);
/// Clears the screen and goes to its first line.
const CLEAR: &str = "\x1b[H\x1b[2J";

/// Show who is active, since when and why, and how every server is.
#[derive(Args)]
pub(super) struct Show {
    /// Show it again every second, until interrupted
    #[arg(long, short)]
    watch: bool,
    #[command(flatten)]
    format: Format,
    #[command(flatten)]
    socket: Socket,
}

impl Show {
    pub(super) fn run(self) -> Result<(), Failure> {
        let mut client = Client::connect(&self.socket.socket)?;
        loop {
            let Answer::Status(status) = client.ask(Command::Status)? else {
                return Err(Failure::No(anyhow::anyhow!("the daemon answered something else")));
            };
            if self.format.json {
                output::print_json(&status)?;
            } else {
                let clear = if self.watch { CLEAR } else { "" };
                output::print(&format!("{clear}{}", describe(&status)))?;
            }
            if !self.watch {
                return Ok(());
            }
            thread::sleep(WATCH_INTERVAL);
        }
    }
}

fn describe(status: &Status) -> String {
    let mut text = format!("voip-ha {}, process {}, up {}\n", status.version, status.pid, ago(status.started));
    for interface in &status.interfaces {
        let _ = writeln!(text, "  {}", describe_interface(interface));
    }
    for warning in &status.warnings {
        let _ = writeln!(text, "  {}", styled(ALARM, warning));
    }
    if status.gateway_stalls > 0 {
        let stalls = format!("the gateway itself came late {} times; see `voip-ha events`", status.gateway_stalls);
        let _ = writeln!(text, "  {}", styled(CAUTION, stalls));
    }
    for service in &status.services {
        text.push('\n');
        text.push_str(&describe_service(service));
    }
    text
}

fn describe_interface(interface: &InterfaceStatus) -> String {
    let carrier = if interface.carrier { "carrier".to_owned() } else { styled(ALARM, "NO CARRIER") };
    let xdp = match (interface.mode, interface.program_id) {
        (Some(XdpMode::Native), Some(id)) => format!("native XDP, program {id}"),
        (Some(XdpMode::Generic), Some(id)) => styled(CAUTION, format!("GENERIC XDP (slow), program {id}")),
        _ => styled(ALARM, "NO XDP PROGRAM: packets are not redirected"),
    };
    format!("{}: {xdp}, {carrier}", interface.name)
}

fn describe_service(service: &ServiceStatus) -> String {
    let mut text = format!("{} {}\n", styled(HEADING, format!("service {}", service.name)), service.vip);
    if service.outage {
        let _ =
            writeln!(text, "  {}", styled(ALARM, "OUTAGE: no server is up; packets still go to the last active one"));
    }
    let since = format!("since {} ({})", local_time(service.since), ago(service.since));
    let _ = writeln!(text, "  active: {} {since}, {}", styled(HEADING, &service.active), service.cause);
    if let Some(choice) = &service.choice {
        let _ = writeln!(text, "  the operator chose {choice}; `voip-ha switch auto` hands the choice back");
    }
    let columns = [
        "SERVER",
        "ADDRESS",
        "ROLE",
        "HEALTH",
        "FOR",
        "LATEST EVIDENCE",
        "SIP IN>",
        "SIP OUT>",
        "RTP IN>",
        "RTP OUT>",
        "FENCED>",
    ];
    let rows = service.servers.iter().map(|server| row(service, server));
    for line in output::table(columns, rows).lines() {
        let _ = writeln!(text, "  {line}");
    }
    for server in &service.servers {
        if let Some(why) = &server.no_way {
            let _ = writeln!(text, "  {}", styled(CAUTION, format!("no way to {}: {why}", server.name)));
        }
    }
    text
}

fn row(service: &ServiceStatus, server: &ServerStatus) -> [String; 11] {
    let role = match () {
        () if service.active == server.name => "active",
        () if service.draining.as_ref() == Some(&server.name) => "draining",
        () => "standby",
    };
    let health = match server.health {
        Health::Up => styled(GOOD, "up"),
        Health::Down => styled(ALARM, "DOWN"),
        Health::Unknown => styled(CAUTION, "unknown"),
    };
    let packets = |class: &str, outcomes: &[&str]| {
        let counted = |outcome: &str| outcomes.is_empty() || outcomes.contains(&outcome);
        let matching = server
            .traffic
            .iter()
            .filter(|traffic| (class.is_empty() || traffic.class == class) && counted(&traffic.outcome));
        matching.map(|traffic| traffic.packets).sum::<u64>().to_string()
    };
    let to_client = ["to-client", "to-client-by-stack"];
    [
        server.name.clone(),
        server.address.to_string(),
        role.to_owned(),
        health,
        ago(server.since),
        server.evidence.map_or("none yet".to_owned(), |evidence| evidence.to_string()),
        packets("sip", &["to-server"]),
        packets("sip", &to_client),
        packets("rtp", &["to-server"]),
        packets("rtp", &to_client),
        packets("", &["fenced"]),
    ]
}
