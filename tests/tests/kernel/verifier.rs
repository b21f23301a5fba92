//! What the kernel's verifier says about the program.

use anyhow::{Context as _, Result, ensure};
use aya::programs::Xdp;
use voip_ha::datapath::KernelLog;
use voip_ha_ebpf::abi::Outcome;

use super::{
    frame::datagram,
    net::{FRONT, PHONE, VIP},
    rig::{Act, Rig, SERVICES, apart},
};

/// Instructions that the verifier walks through in each program, and with that a measure of how many paths it has; a program may
/// have a million. Linux 6.18 counts 15,313 for plain packets, 235,061 for all others (both families, tags, extension headers,
/// fragments, ICMP errors and what is too large), 260,838 for those while calls are remembered, 11,570 for looking into SIP
/// messages, 17,369 for what comes to the gateway's own name, and 313,164 for what goes out in that. Half as much again is room for another compiler; more than that wants to be understood.
const MOST_VERIFIED_INSTRUCTIONS: [(&str, u32); 6] = [
    ("voip_ha", 22_000),
    ("voip_ha_any", 300_000),
    ("voip_ha_calls", 340_000),
    ("voip_ha_scan", 17_000),
    ("voip_ha_unmask", 26_000),
    ("voip_ha_mask", 470_000),
];

fn verified_instructions(log: KernelLog, name: &str) -> Result<u32> {
    let mut rig = Rig::load(SERVICES, log)?;
    let program = rig.datapath.object().program(name).with_context(|| format!("no program {name}"))?;
    let program: &Xdp = program.try_into()?;
    program.info()?.verified_instruction_count().context("this kernel (before 5.16) does not count them")
}

#[test]
fn the_verifier_has_no_more_to_walk_than_it_had() -> Result<()> {
    apart(|| {
        for (name, most) in MOST_VERIFIED_INSTRUCTIONS {
            let count = verified_instructions(KernelLog::Off, name)?;
            println!("{name}: {count} verified instructions");
            ensure!(count <= most, "{name}: {count} is more than {most}");
        }
        Ok(())
    })
}

#[test]
fn logging_costs_nothing_while_it_is_off() -> Result<()> {
    apart(|| {
        let [off, debug] = [KernelLog::Off, KernelLog::Debug].map(|log| verified_instructions(log, "voip_ha"));
        let (off, debug) = (off?, debug?);
        println!("verified instructions: {off} without logging, {debug} with it");
        ensure!(off < debug, "the verifier did not remove the logging code");
        Ok(())
    })
}

#[test]
fn a_program_that_logs_comes_to_the_same_verdict() -> Result<()> {
    apart(|| {
        let mut rig = Rig::load(SERVICES, KernelLog::Debug)?;
        let (ran, place) = rig.observe(FRONT, &datagram((PHONE, 4000), (VIP, 5060)))?;
        ensure!((ran.act, place) == (Act::Drop, (None, "sip", Outcome::NoActiveServer.name())), "{place:?}");
        Ok(())
    })
}
