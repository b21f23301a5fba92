//! Packets per second through the lab, and a flood that is dropped, as ratios: a machine may be slow, busy or both.

use anyhow::{Context as _, Result, ensure};
use lab::bench_datapath::{Data, Part, Rate, Settings, measure};

/// The target is 0.9, and Linux 6.18 measures 0.95. The rest is room for another compiler or a busy machine.
const LEAST_TO_BARE_REDIRECT: f64 = 0.75;
/// The target is 4, and Linux 6.18 measures 4.5.
const LEAST_TO_NFT_DNAT: f64 = 3.0;

const ATTEMPTS: usize = 3;

fn measured(part: Part, rounds: usize) -> Result<Data> {
    measure(&Settings {
        parts: vec![part],
        rounds,
        flows: Vec::new(),
        paths: Vec::new(),
        growth: false,
        systems: ["bare-redirect", "voip-ha", "nft-dnat"].map(str::to_owned).into(),
        json: None,
        html: None,
    })
}

fn within(rate: &Rate) -> Result<bool> {
    let bare = rate.to_bare_redirect.context("no ratio to a bare redirect")?.p50;
    let nft = rate.to_nft_dnat.context("no ratio to nftables")?.p50;
    Ok(bare >= LEAST_TO_BARE_REDIRECT && nft >= LEAST_TO_NFT_DNAT)
}

#[test]
fn no_fewer_packets_go_through_than_before_beside_a_bare_redirect_and_beside_nftables() -> Result<()> {
    let mut seen = Vec::new();
    for _ in 0..ATTEMPTS {
        let rates = measured(Part::Rate, 3)?.packets_per_s;
        println!("{rates:#?}");
        for rate in rates.iter().filter(|rate| rate.system == "voip-ha") {
            ensure!(rate.arrived_share > 0.999, "packets are lost between phones and server: {rate:#?}");
            if within(rate)? {
                return Ok(());
            }
        }
        seen.extend(rates);
    }
    anyhow::bail!("fewer than there should be, {ATTEMPTS} times: {seen:#?}")
}

/// What a limit of the gateway's own is going to be compared with is a measure only if it loses nothing itself.
#[test]
fn calls_beside_a_flood_that_a_bare_program_drops_lose_nothing() -> Result<()> {
    let drops = measured(Part::Drop, 1)?.drops_per_s;
    let bare = drops.iter().find(|of| of.system == "bare-drop").context("no bare program")?;
    ensure!(bare.pps > 100_000.0 && bare.rtp_sent > 1000 && bare.sip_sent >= 50, "hardly measured: {bare:#?}");
    ensure!(bare.rtp_lost + bare.sip_lost == 0, "calls lose packets: {bare:#?}");
    Ok(())
}
