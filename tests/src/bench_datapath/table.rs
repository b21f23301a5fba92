//! The data as a table in the terminal, with the targets.

use anstyle::{AnsiColor, Style};
use anyhow::Result;

use super::{
    RTP_IN, RTP_OUT,
    figures::{Cost, Data, Spread},
    flood::show as flood,
};
use crate::show;

pub(super) const HEADING: Style = Style::new().bold();
pub(super) const ASIDE: Style = Style::new().dimmed();
const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default();

/// So many times the feature-free program may RTP to a server cost.
const MOST_TO_FEATURE_FREE: f64 = 2.0;
/// So many times what it costs with the fewest flows may it cost with the most.
const MOST_TO_FEWEST_FLOWS: f64 = 1.15;
/// So long may it take to look into an INVITE of 1 kB.
const MOST_FOR_SCAN_NS: f64 = 1000.0;
const SCAN: &str = "sip-call-id-scan-1000";

/// Prints all of it to standard output.
pub(super) fn print(data: &Data) -> Result<()> {
    show::print(&text(data))
}

fn text(data: &Data) -> String {
    let mut lines = costs(data);
    lines.extend(growth(data));
    lines.extend(sizes(data));
    lines.extend(flood::rates(data));
    lines.extend(flood::drops(data));
    lines.extend(targets(data));
    lines.join("\n") + "\n"
}

fn costs(data: &Data) -> Vec<String> {
    if data.ns_per_packet.is_empty() {
        return Vec::new();
    }
    let mut lines = vec![
        String::new(),
        format!(
            "{HEADING}{:<26} {:>8} {:>9}   {:>6} {:>6} {:>6} {:>6} {:>15} {:>25}{HEADING:#}",
            "PATH", "FLOWS", "ns/PACKET", "min", "p25", "p75", "max", "× BARE REDIRECT", "× FEATURE-FREE (p25–p75)"
        ),
    ];
    for flows in data.flows() {
        let of_flows: Vec<_> = data.ns_per_packet.iter().filter(|cost| cost.flows == flows).collect();
        if let Some(any) = of_flows.first() {
            for (name, ns) in [
                ("bare redirect", any.bare_redirect_ns),
                ("feature-free", any.feature_free_ns),
                ("FIB look-up", any.fib_lookup_ns),
            ] {
                lines.push(format!("{ASIDE}{name:<26} {flows:>8} {ns:>9.1}{ASIDE:#}"));
            }
        }
        lines.extend(of_flows.into_iter().map(row));
    }
    lines.push(format!(
        "{ASIDE}median of {} interleaved rounds, wrapper subtracted; ratios are medians of the rounds' own ratios\n\
         feature-free  parses Ethernet, IPv4 and UDP, rewrites, counts and redirects, and nothing else\n\
         Linux {}, {} processors{ASIDE:#}",
        data.rounds, data.machine.kernel, data.machine.cpus
    ));
    lines
}

fn row(cost: &Cost) -> String {
    let (bare, free) = (cost.ns / cost.bare_redirect_ns, cost.to_feature_free);
    let spread = range(&cost.ns_spread);
    let ratio = format!("{:.2} ({:.2}–{:.2})", free.p50, free.p25, free.p75);
    format!("{:<26} {:>8} {:>9.1}   {spread} {bare:>15.2} {ratio:>25}", cost.path, cost.flows, cost.ns)
}

fn range(Spread { min, p25, p75, max, .. }: &Spread) -> String {
    format!("{min:>6.1} {p25:>6.1} {p75:>6.1} {max:>6.1}")
}

fn growth(data: &Data) -> Vec<String> {
    if data.growth.is_empty() {
        return Vec::new();
    }
    let heading = format!(
        "{HEADING}{:<26} {:>8} {:>9}   {:>6} {:>6} {:>6} {:>6} {:>15} {:>25}{HEADING:#}",
        "PATH", "SERVICES", "ns/PACKET", "min", "p25", "p75", "max", "SERVERS", "× SMALLEST (p25–p75)"
    );
    let mut lines = vec![String::new(), heading];
    for entry in &data.growth {
        let to = entry.to_smallest;
        let ratio = format!("{:.2} ({:.2}–{:.2})", to.p50, to.p25, to.p75);
        let (services, servers, ns) = (entry.services, entry.servers, entry.ns);
        let spread = range(&entry.ns_spread);
        lines.push(format!("{:<26} {services:>8} {ns:>9.1}   {spread} {servers:>15} {ratio:>25}", entry.path));
    }
    lines
}

fn sizes(data: &Data) -> Vec<String> {
    if data.verified_insns.is_empty() {
        return Vec::new();
    }
    let mut lines =
        vec![String::new(), format!("{HEADING}{:<18} {:>21}{HEADING:#}", "PROGRAM", "VERIFIED INSTRUCTIONS")];
    lines.extend(data.verified_insns.iter().map(|(name, count)| format!("{name:<18} {count:>21}")));
    lines.extend([String::new(), format!("{HEADING}{:<18} {:>21}{HEADING:#}", "MAP", "BYTES")]);
    lines.extend(data.map_bytes.iter().map(|(name, bytes)| format!("{name:<18} {bytes:>21}")));
    lines.push(format!("{:<18} {:>21}", "all", data.map_bytes.values().sum::<u64>()));
    lines
}

/// Each with the number of flows that is furthest from it.
fn targets(data: &Data) -> Vec<String> {
    let mut lines = vec![String::new(), format!("{HEADING}TARGETS{HEADING:#}")];
    let flows = data.flows();
    let inwards = flows.iter().filter_map(|&flows| data.cost(RTP_IN, flows));
    if let Some(worst) = furthest(inwards, |cost| cost.to_feature_free.p50) {
        let (ratio, flows) = (worst.to_feature_free.p50, counted(worst.flows));
        let what = format!("{RTP_IN}: ≤ {MOST_TO_FEATURE_FREE:.1} × feature-free");
        lines.push(judged(ratio <= MOST_TO_FEATURE_FREE, &what, &format!("{ratio:.2} × with {flows}")));
    }
    if let [fewest, .., most] = flows[..]
        && let Some(cost) = data.cost(RTP_IN, most)
    {
        let ratio = cost.to_fewest_flows.p50;
        let what = format!("{RTP_IN}, {}: ≤ {MOST_TO_FEWEST_FLOWS} × itself with {fewest}", counted(most));
        lines.push(judged(ratio <= MOST_TO_FEWEST_FLOWS, &what, &format!("{ratio:.2} ×")));
    }
    let limit = |cost: &Cost| data.cost(RTP_IN, cost.flows).map(|inwards| inwards.ns + inwards.fib_lookup_ns);
    let outwards = flows.iter().filter_map(|&flows| data.cost(RTP_OUT, flows)).filter(|cost| limit(cost).is_some());
    if let Some(worst) = furthest(outwards, |cost| cost.ns - limit(cost).unwrap_or_default())
        && let Some(limit) = limit(worst)
    {
        let (ns, flows) = (worst.ns, counted(worst.flows));
        let what = format!("{RTP_OUT}: ≤ {RTP_IN} plus one FIB look-up, {limit:.1} ns");
        lines.push(judged(ns <= limit, &what, &format!("{ns:.1} ns with {flows}")));
    }
    let scans = flows.iter().filter_map(|&flows| data.cost(SCAN, flows));
    if let Some(worst) = furthest(scans, |cost| cost.ns) {
        let what = format!("{SCAN}: ≤ 1 µs");
        let reached = format!("{:.1} ns with {}", worst.ns, counted(worst.flows));
        lines.push(judged(worst.ns <= MOST_FOR_SCAN_NS, &what, &reached));
    }
    lines.extend(flood::targets(data));
    lines
}

fn furthest<'a>(costs: impl Iterator<Item = &'a Cost>, by: impl Fn(&Cost) -> f64) -> Option<&'a Cost> {
    costs.max_by(|a, b| by(a).total_cmp(&by(b)))
}

/// With the noun.
pub(super) fn counted(flows: u32) -> String {
    format!("{flows} {}", if flows == 1 { "flow" } else { "flows" })
}

pub(super) fn judged(met: bool, what: &str, reached: &str) -> String {
    let (style, word) = if met { (GOOD, "met   ") } else { (BAD, "MISSED") };
    format!("{style}{word}{style:#}  {what}: {reached}")
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::bench::Machine;

    pub(in super::super) fn spread(p50: f64) -> Spread {
        Spread { min: p50, p25: p50, p50, p75: p50, max: p50 }
    }

    /// One path with a feature-free program of 20 ns and a look-up of 40 ns.
    pub(in super::super) fn cost(path: &str, flows: u32, ns: f64, to_fewest_flows: f64) -> Cost {
        Cost {
            path: path.to_owned(),
            flows,
            ns,
            bare_redirect_ns: 10.0,
            feature_free_ns: 20.0,
            fib_lookup_ns: 40.0,
            ns_spread: spread(ns),
            to_feature_free: spread(ns / 20.0),
            to_fewest_flows: spread(to_fewest_flows),
        }
    }

    pub(in super::super) fn data(ns_per_packet: Vec<Cost>) -> Data {
        Data {
            ns_per_packet,
            verified_insns: BTreeMap::from([("voip_ha".to_owned(), 5603)]),
            map_bytes: BTreeMap::from([("STEERING".to_owned(), 4096)]),
            ..Data::of(Machine { kernel: "6.18".to_owned(), cpus: 2 }, 15)
        }
    }

    #[test]
    fn a_target_is_missed_if_any_number_of_flows_misses_it() {
        let inwards = [cost(RTP_IN, 1, 38.0, 1.0), cost(RTP_IN, 1_000_000, 45.0, 1.18)];
        let outwards = [cost(RTP_OUT, 1, 78.0, 1.0), cost(RTP_OUT, 1_000_000, 86.0, 1.1)];
        let data = data([inwards, outwards].concat());
        let text = anstream::adapter::strip_str(&text(&data)).to_string();
        for line in [
            "MISSED  rtp-in-nat: ≤ 2.0 × feature-free: 2.25 × with 1000000 flows",
            "MISSED  rtp-in-nat, 1000000 flows: ≤ 1.15 × itself with 1: 1.18 ×",
            "MISSED  rtp-out-nat: ≤ rtp-in-nat plus one FIB look-up, 85.0 ns: 86.0 ns with 1000000 flows",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn the_limit_itself_is_met() {
        let text = text(&data(vec![cost(RTP_IN, 1, 40.0, 1.0), cost(RTP_OUT, 1, 80.0, 1.0)]));
        let text = anstream::adapter::strip_str(&text).to_string();
        assert!(text.contains("met     rtp-in-nat: ≤ 2.0 × feature-free: 2.00 × with 1 flow\n"), "{text}");
        assert!(text.contains("plus one FIB look-up, 80.0 ns: 80.0 ns with 1 flow\n"), "{text}");
        assert!(!text.contains("MISSED"), "{text}");
    }

    #[test]
    fn a_scan_may_take_a_microsecond() {
        let line = |ns| {
            let text = text(&data(vec![cost(SCAN, 1, 300.0, 1.0), cost(SCAN, 1000, ns, 1.0)]));
            anstream::adapter::strip_str(&text).to_string().lines().last().unwrap_or_default().to_owned()
        };
        assert_eq!(line(1000.0), "met     sip-call-id-scan-1000: ≤ 1 µs: 1000.0 ns with 1000 flows");
        assert_eq!(line(1000.1), "MISSED  sip-call-id-scan-1000: ≤ 1 µs: 1000.1 ns with 1000 flows");
    }

    #[test]
    fn what_was_not_measured_is_not_judged() {
        let text = text(&data(vec![cost("sip-in-nat", 1, 30.0, 1.0)]));
        assert!(!text.contains("met ") && !text.contains("MISSED"), "{text}");
    }
}
