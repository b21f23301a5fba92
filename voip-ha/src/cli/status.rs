use std::{fmt::Write as _, thread, time::Duration};

use clap::Args;

use super::{
    Failure, Format, Socket,
    output::{self, ALARM, CAUTION, GOOD, HEADING, ago, local_time, styled},
};
use crate::{
    config::Forwarding,
    control::{Answer, Client, Command},
    datapath::XdpMode,
    decision::Choice,
    detector::Health,
    status::{InterfaceStatus, MasqueradeStatus, ServerStatus, ServiceStatus, Status},
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
    if let Some(MasqueradeStatus { flows, most }) = status.masquerade {
        let _ = writeln!(text, "  masquerade: {flows} of {most} flows");
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
    let mut text = format!("{} {}\n", styled(HEADING, format!("service {}", service.name)), service.vips);
    if service.outage {
        let _ =
            writeln!(text, "  {}", styled(ALARM, "OUTAGE: no server is up; packets still go to the last active one"));
    }
    let since = format!("since {} ({})", local_time(service.since), ago(service.since));
    let _ = writeln!(text, "  active: {} {since}, {}", styled(HEADING, &service.active), service.cause);
    if service.media != service.active {
        let _ = writeln!(text, "  media:  {}", styled(HEADING, &service.media));
    }
    if let Some(to) = &service.switching_to {
        let _ = writeln!(text, "  {to} takes over as soon as the running calls of {} are noted", service.active);
    }
    if let Some(drain) = &service.draining {
        let _ = writeln!(text, "  draining: {}", super::drain::describe(drain));
    }
    if let Some(why) = why_it_stays(service) {
        let _ = writeln!(text, "  {why}");
    }
    let columns = [
        "SERVER",
        "ADDRESS",
        "ROLE",
        "HEALTH",
        "FOR",
        "LATEST EVIDENCE",
        "RTT>",
        "TIME-OUT>",
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
    for remark in service.servers.iter().flat_map(remarks) {
        let _ = writeln!(text, "  {}", styled(CAUTION, remark));
    }
    text
}

/// What keeps the policy from moving the service.
fn why_it_stays(service: &ServiceStatus) -> Option<String> {
    match service.choice {
        Choice::Held => {
            let held = "HELD by an operator: no failover happens; `voip-ha hold --release` ends that";
            Some(styled(if service.kept { ALARM } else { CAUTION }, held))
        }
        _ if service.kept => {
            let kept = "DOWN AND KEPT: the failovers of this hour are used up; `voip-ha switch` still works";
            Some(styled(ALARM, kept))
        }
        Choice::Chosen => Some("an operator chose it; `voip-ha switch auto` hands the choice back".to_owned()),
        Choice::None => None,
    }
}

/// What does not fit into the table.
fn remarks(server: &ServerStatus) -> Vec<String> {
    let name = &server.name;
    let mut remarks = Vec::new();
    if server.forwarding == Forwarding::Dsr {
        remarks.push(format!("{name} answers phones directly (dsr): what it sends is neither fenced nor seen here"));
    }
    let mut tunnels: Vec<_> =
        server.next_hops.iter().filter(|way| way.hop.by_stack).map(|way| &*way.interface).collect();
    tunnels.dedup();
    if !tunnels.is_empty() {
        let devices = tunnels.join(" and ");
        remarks.push(format!(
            "{name} is reached by the stack, device {devices}: XDP cannot send by it, and packets cost more"
        ));
    }
    if let Some(why) = &server.no_way {
        remarks.push(format!("no way to {name}: {why}"));
    }
    if let Some(fault) = &server.second_address {
        remarks.push(format!("{name} serves one family only: {fault}"));
    }
    if let Some(unanswered) = server.unanswered_ms.filter(|_| server.health == Health::Up) {
        let sends = server.heard_ms.is_some_and(|heard| heard < unanswered);
        let excuse = if sends { ", but it goes on sending to clients" } else { "" };
        remarks.push(format!("{name} has left OPTIONS unanswered for {unanswered:.0} ms{excuse}"));
    }
    if !server.echo_works && server.health == Health::Up {
        remarks.push(format!(
            "the host of {name} answers no ICMP echo: its death is noticed as late as a hung process, after probe.hang_ms"
        ));
    }
    if let Some(seconds) = server.suppressed_s {
        remarks.push(format!("{name} fell too often: others are preferred for {seconds} s more"));
    }
    if server.close_calls > 0 {
        remarks.push(format!(
            "{name} was asked more than once whether it lives, and did, {} times so far; if that grows, a calmer \
             probe.preset suits it",
            server.close_calls
        ));
    }
    remarks
}

fn row(service: &ServiceStatus, server: &ServerStatus) -> [String; 13] {
    let is_draining = service.draining.as_ref().is_some_and(|drain| drain.server == server.name);
    let role = output::role(service.active == server.name, service.media == server.name, is_draining);
    let health = match server.health {
        Health::Up => styled(GOOD, "up"),
        Health::Down => styled(ALARM, server.fault.map_or("DOWN".to_owned(), |fault| format!("DOWN, {fault}"))),
        Health::Maintenance => styled(CAUTION, "maintenance"),
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
    let to_server = ["to-server", "to-server-by-stack"];
    let to_client = ["to-client", "to-client-by-stack"];
    [
        server.name.clone(),
        server.addresses.to_string(),
        role.to_owned(),
        health,
        ago(server.since),
        server.evidence.map_or("none yet".to_owned(), |evidence| evidence.to_string()),
        server.rtt_ms.map_or("-".to_owned(), |ms| format!("{ms:.2} ms")),
        format!("{:.1} ms", server.timeout_ms),
        packets("sip", &to_server),
        packets("sip", &to_client),
        packets("rtp", &to_server),
        packets("rtp", &to_client),
        packets("", &["fenced"]),
    ]
}
