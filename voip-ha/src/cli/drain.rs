use std::time::Duration;

use clap::Args;

use super::{
    Failure, Format, Socket,
    output::{self, local_time, span},
};
use crate::{
    control::{Answer, Client, Command, DrainOutcome, DrainRequest, DrainStep},
    status::{DrainStatus, ServiceStatus},
};

/// Longest time that a server may drain.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// Take a server out without cutting its calls; without a name, show what is left.
///
/// New calls go to the next server that is up, by priority. RTP, BYE, re-INVITE and everything else of running calls goes on
/// to the server that drains, until they end. It is fenced when its time is over, or when it goes down. Once it has no calls
/// any more, stop it. A held service is not drained; holding it later does not stop the time.
#[derive(Args)]
pub(super) struct Drain {
    /// Name of the server; with --end, also of the service
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// For how long at most, such as 10m or 90s; policy.drain_s without it. Said again of a server that drains, it counts from
    /// now
    #[arg(long = "for", value_name = "TIME", value_parser = duration, requires = "name", conflicts_with = "end")]
    time: Option<Duration>,
    /// End it now: the calls that are left go to the active server. Without a name, of all services
    #[arg(long)]
    end: bool,
    /// Only say what would happen
    #[arg(long)]
    dry_run: bool,
    /// Why, for the events
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    format: Format,
    #[command(flatten)]
    socket: Socket,
}

impl Drain {
    pub(super) fn run(self) -> Result<(), Failure> {
        let Self { name, time, end, dry_run, reason, format, socket } = self;
        let mut client = Client::connect(&socket.socket)?;
        if name.is_none() && !end {
            return show(&mut client, format.json);
        }
        let drain_s = time.map(|time| time.as_secs());
        let request = DrainRequest { name, end, drain_s, dry_run, reason, asked_by: None };
        let Answer::Drained(outcomes) = client.ask(Command::Drain(request))? else {
            return Err(Failure::No(anyhow::anyhow!("the daemon answered something else")));
        };
        output::print_all(&outcomes, format.json, line)
    }
}

/// A time such as `10m`, `90s` or `1h30m`, in whole seconds.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let time: jiff::SignedDuration = text.parse().map_err(|_| "write it like 10m, 90s or 1h30m".to_owned())?;
    let time = Duration::try_from(time).unwrap_or_default();
    if time.subsec_nanos() != 0 || !(Duration::from_secs(1)..=LONGEST).contains(&time) {
        return Err("use whole seconds, from 1s to 24h".to_owned());
    }
    Ok(time)
}

/// How a drain stands, in one line.
pub(super) fn describe(drain: &DrainStatus) -> String {
    let DrainStatus { server, keeps_calls, since, until, rtp_flows } = drain;
    let left = span(until.duration_since(jiff::Timestamp::now()).as_secs().max(0).unsigned_abs());
    if !keeps_calls {
        return format!("{server} may send to clients for {left} more");
    }
    let flows = rtp_flows.map_or("unknown RTP flows".to_owned(), |flows| format!("{flows} RTP flows"));
    format!("{server} since {}, {flows} left, until {} at most (in {left})", local_time(*since), local_time(*until))
}

fn show(client: &mut Client, json: bool) -> Result<(), Failure> {
    let Answer::Status(status) = client.ask(Command::Status)? else {
        return Err(Failure::No(anyhow::anyhow!("the daemon answered something else")));
    };
    let drains = |service: ServiceStatus| {
        let ServiceStatus { name, draining, .. } = service;
        draining.filter(|drain| drain.keeps_calls).map(|drain| (name, drain))
    };
    let drains: Vec<_> = status.services.into_iter().filter_map(drains).collect();
    if json {
        let drains: Vec<_> =
            drains.iter().map(|(service, drain)| serde_json::json!({ "service": service, "drain": drain })).collect();
        return output::print_json(&drains);
    }
    if drains.is_empty() {
        return Ok(output::print("no server drains\n")?);
    }
    Ok(output::print(&drains.iter().map(|(name, drain)| format!("{name}: {}\n", describe(drain))).collect::<String>())?)
}

fn line(outcome: &DrainOutcome) -> String {
    let DrainOutcome { service, server, active, step, drain_s, dry_run } = outcome;
    let (drains, is) = if *dry_run { ("would drain", "would be") } else { ("drains", "is") };
    let time = span(drain_s.unwrap_or_default());
    match step {
        DrainStep::Begun => format!(
            "{service}: {server} {drains} for {time} at most, {active} {is} active; `voip-ha drain` shows what is left\n"
        ),
        DrainStep::Prolonged => format!("{service}: {server} {drains} for {time} more at most; {active} is active\n"),
        DrainStep::Ended => format!("{service}: {server} {drains} no more; {active} has all calls\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_with_its_unit_and_has_whole_seconds() {
        let seconds = |text: &str| duration(text).map(|time| time.as_secs());
        assert_eq!(["90s", "10m", "1h30m", "24h", "2 minutes"].map(seconds), [90, 600, 5400, 86_400, 120].map(Ok));
        for wrong in ["", "10", "-5m", "0s", "1500ms", "25h", "soon"] {
            assert!(duration(wrong).is_err(), "{wrong} was taken for {:?}", duration(wrong));
        }
    }

    #[test]
    fn what_is_left_is_said_with_the_deadline() {
        let now = jiff::Timestamp::now();
        let until = now + Duration::from_secs(329);
        let server = "master".to_owned();
        let drain = DrainStatus { server, keeps_calls: true, since: now, until, rtp_flows: Some(12) };
        let text = describe(&drain);
        assert!(text.contains("12 RTP flows left") && text.contains("in 5m2"), "{text}");
        let grace = describe(&DrainStatus { keeps_calls: false, rtp_flows: None, ..drain });
        assert!(grace.starts_with("master may send to clients for 5m2"), "{grace}");
    }

    #[test]
    fn a_dry_run_says_that_nothing_was_done() {
        let outcome = DrainOutcome {
            service: "pbx".to_owned(),
            server: "master".to_owned(),
            active: "cloud".to_owned(),
            step: DrainStep::Begun,
            drain_s: Some(600),
            dry_run: true,
        };
        assert!(line(&outcome).starts_with("pbx: master would drain for 10m00s at most, cloud would be active"));
        let ended = line(&DrainOutcome { step: DrainStep::Ended, drain_s: None, dry_run: false, ..outcome });
        assert_eq!(ended, "pbx: master drains no more; cloud has all calls\n");
    }
}
