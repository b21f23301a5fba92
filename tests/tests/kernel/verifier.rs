//! What the kernel's verifier says about the program.

use anyhow::{Context as _, Result, ensure};
use voip_ha::datapath::KernelLog;
use voip_ha_ebpf::abi::Outcome;

use super::{
    frame::datagram,
    net::{FRONT, PHONE, VIP},
    rig::{Act, Rig, SERVICES, apart},
};

/// Instructions that the verifier walks through, and with that a measure of how many paths the program has. Linux 6.18
/// counts 27,312, four fifths of them for what is not a plain datagram: fragments, ICMP errors and packets that are too
/// large. Half as much again is room for another compiler; more than that wants to be understood.
const MOST_VERIFIED_INSTRUCTIONS: u32 = 40_000;

fn verified_instructions(log: KernelLog) -> Result<u32> {
    let mut rig = Rig::load(SERVICES, log)?;
    rig.program()?.info()?.verified_instruction_count().context("this kernel (before 5.16) does not count them")
}

#[test]
fn the_verifier_has_no_more_to_walk_than_it_had() -> Result<()> {
    apart(|| {
        let count = verified_instructions(KernelLog::Off)?;
        println!("verified instructions: {count}");
        ensure!(count <= MOST_VERIFIED_INSTRUCTIONS, "{count} is more than {MOST_VERIFIED_INSTRUCTIONS}");
        Ok(())
    })
}

#[test]
fn logging_costs_nothing_while_it_is_off() -> Result<()> {
    apart(|| {
        let (off, debug) = (verified_instructions(KernelLog::Off)?, verified_instructions(KernelLog::Debug)?);
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
