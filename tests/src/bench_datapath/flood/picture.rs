//! Packets per second as pictures: for each system a bar up to the median, and a line over all rounds.

use std::fmt::Write as _;

use super::super::{
    figures::{DropRate, Rate, Spread},
    picture::{BOTTOM, LABEL, RIGHT, ROW, TOP, WIDTH, step},
};
use crate::show::escape;

/// What went through each system.
pub(in super::super) fn rates(rates: &[Rate]) -> String {
    let heading = "<h2>Millions of packets per second through the lab</h2>\n<p>The lab's network is flooded with one system \
                   after the other as its gateway, and what comes to the server is counted. One processor does all of it, \
                   sending and counting included.</p>\n";
    let bars = rates.iter().map(|rate| {
        let of_bare = rate.to_bare_redirect.map_or_else(String::new, |to| format!(" · {:.2} ×", to.p50));
        (rate.system.as_str(), rate.pps_spread, of_bare)
    });
    picture(heading, bars.collect())
}

/// What each system kept from the server.
pub(in super::super) fn drops(drops: &[DropRate]) -> String {
    let heading = "<h2>A flood from one source: millions of packets dropped per second</h2>\n<p>Beside it phones register, and \
                   calls go on: so many of their packets were lost.</p>\n";
    let bars = drops.iter().map(|of| {
        let lost = of.rtp_lost + of.sip_lost;
        (of.system.as_str(), of.pps_spread, format!(" · {:.2} × · lost {lost}", of.to_bare_drop.p50))
    });
    picture(heading, bars.collect())
}

/// Of name, packets per second and what else is to be said of each system.
fn picture(heading: &str, bars: Vec<(&str, Spread, String)>) -> String {
    if bars.is_empty() {
        return String::new();
    }
    let height = TOP + ROW * bars.len() as f64 + BOTTOM;
    let most = bars.iter().map(|(_, spread, _)| millions(spread.max)).fold(0.1, f64::max);
    let place = |millions: f64| LABEL + millions.clamp(0.0, most) / most * (WIDTH - LABEL - RIGHT);
    let mut out = format!("{heading}<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">\n");
    let step = step(most);
    for mark in (0..).map(|number| f64::from(number) * step).take_while(|mark| *mark <= most) {
        let (at, bottom) = (place(mark), height - BOTTOM);
        let (under, digits) = (bottom + 18.0, usize::from(step < 1.0));
        let _ = writeln!(
            out,
            "<line class=\"grid\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{bottom}\"/>\
             <text class=\"aside\" x=\"{at:.1}\" y=\"{under}\" text-anchor=\"middle\">{mark:.digits$}</text>"
        );
    }
    for (number, (name, spread, more)) in bars.iter().enumerate() {
        let middle = TOP + ROW * (number as f64 + 0.5);
        let (baseline, edge, top) = (middle + 4.0, LABEL - 12.0, middle - 8.0);
        let [zero, min, median, max] = [0.0, spread.min, spread.p50, spread.max].map(|pps| place(millions(pps)));
        let (name, more, width, shown) = (escape(name), escape(more), median - zero, millions(spread.p50));
        let _ = writeln!(
            out,
            "<g><text x=\"{edge}\" y=\"{baseline}\" text-anchor=\"end\">{name}</text>\n\
             <rect class=\"cost\" x=\"{zero:.1}\" y=\"{top}\" width=\"{width:.1}\" height=\"16\"/>\n\
             <line class=\"rounds\" x1=\"{min:.1}\" x2=\"{max:.1}\" y1=\"{middle}\" y2=\"{middle}\"/>\n\
             <text class=\"aside\" x=\"{WIDTH}\" y=\"{baseline}\" text-anchor=\"end\">{shown:.2}{more}</text></g>"
        );
    }
    out + "</svg>\n"
}

fn millions(pps: f64) -> f64 {
    pps / 1e6
}

#[cfg(test)]
mod tests {
    use super::{
        super::show::tests::{drop_rate, rate},
        *,
    };

    #[test]
    fn every_system_has_a_bar_and_its_figures() {
        let page = rates(&[rate("a<b", 2_500_000.0, Some(0.91), None), rate("nginx", 200_000.0, None, None)]);
        assert_eq!(page.matches("class=\"cost\"").count(), 2, "{page}");
        assert!(page.contains(">a&lt;b<") && page.contains(">2.50 · 0.91 ×<") && page.contains(">0.20<"), "{page}");
        let page = drops(&[drop_rate("limited", 6_000_000.0, 0.85, 3)]);
        assert!(page.contains(">6.00 · 0.85 × · lost 3<"), "{page}");
    }

    #[test]
    fn what_was_not_measured_has_no_picture() {
        assert_eq!((rates(&[]), drops(&[])), (String::new(), String::new()));
    }
}
