//! The scanner of SIP messages in the kernel: that it finds what it finds on the host, and what it costs.

use anyhow::{Context as _, Result, ensure};
use lab::bench_datapath::{Data, KernelScanner, Part, Settings, measure};
use voip_ha_ebpf::sip::{Kind, MOST_STEPS, Scan, TEXT_BYTES};
use voip_ha_fuzz::sip::{mutate, scanned, seeds};

/// The program runs a moment for each.
const MESSAGES: u64 = 20_000;
/// Bytes of a message that still is one frame for XDP.
const MOST_BYTES: usize = 3000;

/// Linux 6.18 counts 7,414. Half as much again is room for another compiler.
const MOST_VERIFIED_INSTRUCTIONS: u32 = 11_000;

/// Ratios to a program that parses, rewrites, counts and redirects. Measured are 14 and 30; half as much again is room for another
/// compiler or a busy machine.
const MOST_TO_FEATURE_FREE: [(&str, f64); 2] = [("sip-call-id-scan-1000", 21.0), ("sip-call-id-scan-1400-late", 45.0)];
const ATTEMPTS: usize = 3;

/// Fails if the kernel finds anything else than the host, or the host anything else than the judge of it.
fn compare(kernel: &mut KernelScanner, message: &[u8]) -> Result<Scan> {
    let told = || message.escape_ascii().to_string();
    let (host, kernel) = (scanned(message)?, kernel.scan(message).with_context(told)?);
    ensure!(kernel == host, "the kernel finds {kernel:x?}, the host {host:x?} in {}", told());
    Ok(host)
}

/// Makes it longer than the text that is looked at.
fn lengthened(message: &[u8], random: u64) -> Vec<u8> {
    let after = message.iter().position(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let padding = "X-Padding: nothing\r\n".repeat((random >> 40) as usize % (TEXT_BYTES / 20 + 8));
    [&message[..after], padding.as_bytes(), &message[after..]].concat()
}

#[test]
fn the_kernel_finds_what_the_host_finds() -> Result<()> {
    lab::require_root()?;
    let mut kernel = KernelScanner::load()?;
    let mut random = fastrand::Rng::with_seed(4475);
    let mut seen = Vec::new();
    for seed in seeds().iter().cycle().take(MESSAGES as usize) {
        let mut message = seed.clone();
        (0..random.u32(0..8)).for_each(|_| mutate(&mut message, random.u64(..)));
        if random.bool() {
            message = lengthened(&message, random.u64(..));
        }
        message.truncate(MOST_BYTES);
        if !message.is_empty() {
            seen.push(compare(&mut kernel, &message)?);
        }
    }
    for (what, is) in [
        ("a call", (|scan| scan.call != 0) as fn(&Scan) -> bool),
        ("no call", |scan| scan.call == 0 && scan.kind != Kind::None),
        ("a tag", |scan| scan.to_tag),
        ("no tag", |scan| !scan.to_tag),
        ("nothing", |scan| scan.kind == Kind::None),
    ] {
        let count = seen.iter().filter(|scan| is(scan)).count();
        println!("{what}: {count} of {}", seen.len());
        ensure!(count > seen.len() / 20, "{what} was seen {count} times only");
    }
    Ok(())
}

#[test]
fn the_kernel_gives_up_where_the_host_does() -> Result<()> {
    lab::require_root()?;
    let mut kernel = KernelScanner::load()?;
    let mut given_up = 0;
    for lines in 0..MOST_STEPS as usize + 32 {
        let message = format!("INVITE a\n{}i: a@b\n\n", "X\n".repeat(lines));
        given_up += u32::from(compare(&mut kernel, message.as_bytes())?.gave_up);
    }
    ensure!((16..64).contains(&given_up), "gave up {given_up} times");
    Ok(())
}

fn within(data: &Data) -> Result<bool> {
    let mut all = true;
    for (name, most) in MOST_TO_FEATURE_FREE {
        let cost = data.cost(name, 1).context("not measured")?;
        println!("{cost:#?}");
        all &= cost.to_feature_free.p50 <= most;
    }
    Ok(all)
}

#[test]
fn a_scan_costs_no_more_than_it_did_beside_a_program_without_features() -> Result<()> {
    let settings = Settings {
        parts: vec![Part::Cost],
        rounds: 7,
        flows: vec![1],
        paths: MOST_TO_FEATURE_FREE.map(|(name, _)| name.to_owned()).into(),
        growth: false,
        systems: Vec::new(),
        json: None,
        html: None,
    };
    for _ in 0..ATTEMPTS {
        let data = measure(&settings)?;
        let insns = *data.verified_insns.get("sip_scan").context("not counted")?;
        println!("verified instructions: {insns}");
        ensure!(insns <= MOST_VERIFIED_INSTRUCTIONS, "the verifier walks through {insns} instructions");
        if within(&data)? {
            return Ok(());
        }
    }
    anyhow::bail!("more than it may cost, {ATTEMPTS} times")
}
