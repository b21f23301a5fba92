//! What the XDP program costs, as a ratio to a program without features: a machine may be slow, busy or both.

use anyhow::{Result, ensure};
use lab::bench_datapath::{Cost, Part, Settings, measure};

const PATH: &str = "rtp-in-nat";
const FEW: u32 = 1;
const MANY: u32 = 100_000;

/// The target is 2.0, and Linux 6.18 measures 1.7. Half as much again is room for another compiler or a busy machine; more than
/// that wants to be understood.
const MOST_TO_FEATURE_FREE: f64 = 2.6;
/// The target is 1.15 up to a million flows.
const MOST_TO_FEWEST_FLOWS: f64 = 1.5;

const ATTEMPTS: usize = 3;

fn within(cost: &Cost) -> bool {
    cost.to_feature_free.p50 <= MOST_TO_FEATURE_FREE && cost.to_fewest_flows.p50 <= MOST_TO_FEWEST_FLOWS
}

#[test]
fn rtp_to_a_server_costs_no_more_than_it_did_beside_a_program_without_features_however_many_flows() -> Result<()> {
    let settings = Settings {
        parts: vec![Part::Cost],
        rounds: 7,
        flows: vec![FEW, MANY],
        paths: vec![PATH.to_owned()],
        growth: false,
        systems: Vec::new(),
        json: None,
        html: None,
    };
    let mut seen = Vec::new();
    for _ in 0..ATTEMPTS {
        let costs = measure(&settings)?.ns_per_packet;
        ensure!(costs.len() == 2, "not measured with {FEW} and with {MANY} flows: {costs:?}");
        println!("{costs:#?}");
        if costs.iter().all(within) {
            return Ok(());
        }
        seen.extend(costs);
    }
    anyhow::bail!("more than it may cost, {ATTEMPTS} times: {seen:#?}")
}
