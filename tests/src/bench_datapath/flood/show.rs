//! Packets per second as tables in the terminal, with the targets.

use super::{
    super::{
        figures::{Data, DropRate, Rate, Spread},
        table::{ASIDE, HEADING, judged},
    },
    BARE_DROP,
};

/// So much of what a program that only redirects lets through must go through voip-ha.
const LEAST_TO_BARE_REDIRECT: f64 = 0.9;
/// So many times what goes through nftables.
const LEAST_TO_NFT_DNAT: f64 = 4.0;
/// So much of what a program that drops one address drops must be dropped.
const LEAST_TO_BARE_DROP: f64 = 0.8;

/// What went through each system.
pub(in super::super) fn rates(data: &Data) -> Vec<String> {
    let Some(any) = data.packets_per_s.first() else { return Vec::new() };
    let heading = format!(
        "{HEADING}{:<18} {:>11}   {:>9} {:>9} {:>9} {:>9} {:>8} {:>20} {:>20}{HEADING:#}",
        "SYSTEM", "PACKETS/s", "min", "p25", "p75", "max", "ARRIVED", "× BARE REDIRECT", "× NFT DNAT"
    );
    let mut lines = vec![String::new(), heading];
    lines.extend(data.packets_per_s.iter().map(|rate| {
        let Rate { system, pps, pps_spread, .. } = rate;
        let (bare, nft) = (with_range(rate.to_bare_redirect), with_range(rate.to_nft_dnat));
        let (range, share) = (range(pps_spread), rate.arrived_share * 100.0);
        format!("{system:<18} {pps:>11.0}   {range} {share:>6.0} % {bare:>20} {nft:>20}")
    }));
    lines.push(format!(
        "{ASIDE}through two cables of the lab, {} flows of RTP, all of it on one processor, sending and counting included;\n\
         ARRIVED below 100 %: the system was offered more than it takes;\n\
         median of {} interleaved rounds; ratios are medians of the rounds' own ratios (p25–p75){ASIDE:#}",
        any.flows, any.rounds
    ));
    lines
}

/// What each system kept from the server.
pub(in super::super) fn drops(data: &Data) -> Vec<String> {
    let Some(any) = data.drops_per_s.first() else { return Vec::new() };
    let heading = format!(
        "{HEADING}{:<18} {:>11}   {:>9} {:>9} {:>9} {:>9} {:>20} {:>18} {:>18}{HEADING:#}",
        "SYSTEM", "DROPS/s", "min", "p25", "p75", "max", "× BARE DROP", "RTP LOST", "SIP LOST"
    );
    let mut lines = vec![String::new(), heading];
    lines.extend(data.drops_per_s.iter().map(|of| {
        let DropRate { system, pps, pps_spread, to_bare_drop, rtp_sent, rtp_lost, sip_sent, sip_lost, .. } = of;
        let (rtp, sip) = (format!("{rtp_lost} of {rtp_sent}"), format!("{sip_lost} of {sip_sent}"));
        let bare = with_range(Some(*to_bare_drop));
        format!("{system:<18} {pps:>11.0}   {} {bare:>20} {rtp:>18} {sip:>18}", range(pps_spread))
    }));
    lines.push(format!(
        "{ASIDE}a flood from one source to the SIP port, beside {} calls and their phones' registrations, sending included;\n\
         median of {} interleaved rounds{ASIDE:#}",
        any.calls, any.rounds
    ));
    lines
}

/// What voip-ha must reach.
pub(in super::super) fn targets(data: &Data) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(ours) = data.packets_per_s.iter().find(|rate| rate.system == "voip-ha") {
        let to = [
            (ours.to_bare_redirect, LEAST_TO_BARE_REDIRECT, "bare redirect"),
            (ours.to_nft_dnat, LEAST_TO_NFT_DNAT, "nftables DNAT"),
        ];
        for (ratio, least, name) in to {
            let Some(ratio) = ratio else { continue };
            let what = format!("packets/s: ≥ {least:.1} × {name}");
            lines.push(judged(ratio.p50 >= least, &what, &format!("{:.2} ×", ratio.p50)));
        }
    }
    for of in data.drops_per_s.iter().filter(|of| of.system != BARE_DROP) {
        let (ratio, lost) = (of.to_bare_drop.p50, of.rtp_lost + of.sip_lost);
        let what = format!("{}: ≥ {LEAST_TO_BARE_DROP:.1} × bare drop, and calls lose nothing", of.system);
        let met = ratio >= LEAST_TO_BARE_DROP && lost == 0;
        lines.push(judged(met, &what, &format!("{ratio:.2} ×, {lost} packets of calls lost")));
    }
    lines
}

fn range(Spread { min, p25, p75, max, .. }: &Spread) -> String {
    format!("{min:>9.0} {p25:>9.0} {p75:>9.0} {max:>9.0}")
}

fn with_range(ratio: Option<Spread>) -> String {
    let text = |Spread { p25, p50, p75, .. }: Spread| format!("{p50:.2} ({p25:.2}–{p75:.2})");
    ratio.map_or_else(|| "–".to_owned(), text)
}

#[cfg(test)]
pub(super) mod tests {
    use super::{
        super::super::table::tests::{data, spread},
        *,
    };

    pub(in super::super) fn rate(system: &str, pps: f64, to_bare: Option<f64>, to_nft: Option<f64>) -> Rate {
        Rate {
            system: system.to_owned(),
            pps,
            pps_spread: spread(pps),
            arrived_share: 1.0,
            to_bare_redirect: to_bare.map(spread),
            to_nft_dnat: to_nft.map(spread),
            rounds: 15,
            flows: 1000,
        }
    }

    pub(in super::super) fn drop_rate(system: &str, pps: f64, to_bare: f64, rtp_lost: u64) -> DropRate {
        DropRate {
            system: system.to_owned(),
            pps,
            pps_spread: spread(pps),
            to_bare_drop: spread(to_bare),
            rounds: 15,
            calls: 50,
            rtp_sent: 2500,
            rtp_lost,
            sip_sent: 100,
            sip_lost: 0,
        }
    }

    fn told(rates: Vec<Rate>, drops: Vec<DropRate>) -> String {
        let data = Data { packets_per_s: rates, drops_per_s: drops, ..data(Vec::new()) };
        anstream::adapter::strip_str(&targets(&data).join("\n")).to_string()
    }

    #[test]
    fn each_ratio_is_judged_by_itself_and_none_that_was_not_measured() {
        let both = told(vec![rate("voip-ha", 2e6, Some(0.89), Some(4.0))], Vec::new());
        assert_eq!(
            both,
            "MISSED  packets/s: ≥ 0.9 × bare redirect: 0.89 ×\nmet     packets/s: ≥ 4.0 × nftables DNAT: 4.00 ×"
        );
        let one = told(vec![rate("voip-ha", 2e6, None, Some(3.99))], Vec::new());
        assert_eq!(one, "MISSED  packets/s: ≥ 4.0 × nftables DNAT: 3.99 ×");
        assert_eq!(told(vec![rate("nginx", 2e5, Some(0.1), Some(0.4))], Vec::new()), "");
    }

    #[test]
    fn who_drops_fast_enough_but_loses_a_packet_of_a_call_misses_the_target() {
        let bare = drop_rate(BARE_DROP, 9e6, 1.0, 7);
        let good = told(Vec::new(), vec![bare.clone(), drop_rate("limited", 8e6, 0.8, 0)]);
        let slow = told(Vec::new(), vec![bare.clone(), drop_rate("limited", 7e6, 0.79, 0)]);
        let lossy = told(Vec::new(), vec![bare, drop_rate("limited", 8e6, 0.85, 1)]);
        assert!(good.starts_with("met     limited: ") && !good.contains('\n'), "{good}");
        assert!(slow.starts_with("MISSED") && slow.ends_with("0.79 ×, 0 packets of calls lost"), "{slow}");
        assert!(lossy.starts_with("MISSED") && lossy.ends_with("0.85 ×, 1 packets of calls lost"), "{lossy}");
    }

    #[test]
    fn without_a_flood_there_is_no_table_of_it() {
        let none = data(Vec::new());
        assert!(rates(&none).is_empty() && drops(&none).is_empty() && targets(&none).is_empty());
    }
}
