//! What the kernel's verifier says about the program.

use anyhow::{Context as _, Result, ensure};
use aya::programs::{SchedClassifier, Xdp};
use voip_ha::datapath::KernelLog;
use voip_ha_ebpf::abi::Outcome;

use super::{
    frame::datagram,
    net::{FRONT, PHONE, VIP},
    rig::{Act, Rig, SERVICES, apart},
};

/// Instructions that the verifier walks through in each program, and with that a measure of how many paths it has; a program may
/// have a million. Linux 6.18 counts 5,300 for plain packets, 31,200 for deciding about all others (both families, tags, extension
/// headers, fragments), 35,400 for that while calls are remembered, 21,000 for ICMP errors, 17,100 for carrying it out, and 11,400 for
/// looking into SIP messages. Half as much again is room for another compiler; more than that wants to be understood.
const MOST_VERIFIED_INSTRUCTIONS: [(&str, u32); 6] = [
    ("voip_ha", 8_000),
    ("voip_ha_any", 47_000),
    ("voip_ha_calls", 53_000),
    ("voip_ha_errors", 32_000),
    ("voip_ha_act", 26_000),
    ("voip_ha_scan", 17_000),
];

/// Those of tunnels, which are loaded where one is used.
const MOST_VERIFIED_INSTRUCTIONS_OF_TUNNELS: [(&str, u32); 8] = [
    ("voip_ha_tunnel", 100),
    ("voip_ha_tunnel_ethernet", 100),
    ("voip_ha_tunnel_any", 51_000),
    ("voip_ha_tunnel_calls", 53_000),
    ("voip_ha_tunnel_errors", 32_000),
    ("voip_ha_tunnel_act", 8_000),
    ("voip_ha_tunnel_scan", 20_000),
    ("voip_ha_tunnel_unmask", 33_000),
];

/// Those for masquerading, likewise. Making a port tries seventeen.
const MOST_VERIFIED_INSTRUCTIONS_OF_MASKS: [(&str, u32); 2] = [("voip_ha_unmask", 26_000), ("voip_ha_mask", 375_000)];

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
fn the_verifier_has_no_more_to_walk_for_tunnels_than_it_had() -> Result<()> {
    apart(|| {
        let mut rig = Rig::load(SERVICES, KernelLog::Off)?;
        for (name, most) in MOST_VERIFIED_INSTRUCTIONS_OF_TUNNELS {
            let program = rig.datapath.object().program_mut(name).with_context(|| format!("no program {name}"))?;
            let program: &mut SchedClassifier = program.try_into()?;
            program.load()?;
            let count = program.info()?.verified_instruction_count().context("this kernel does not count them")?;
            println!("{name}: {count} verified instructions");
            ensure!(count <= most, "{name}: {count} is more than {most}");
        }
        Ok(())
    })
}

#[test]
fn the_verifier_has_no_more_to_walk_for_masquerading_than_it_had() -> Result<()> {
    apart(|| {
        let mut rig = Rig::load(SERVICES, KernelLog::Off)?;
        for (name, most) in MOST_VERIFIED_INSTRUCTIONS_OF_MASKS {
            let program = rig.datapath.object().program_mut(name).with_context(|| format!("no program {name}"))?;
            let program: &mut Xdp = program.try_into()?;
            program.load()?;
            let count = program.info()?.verified_instruction_count().context("this kernel does not count them")?;
            println!("{name}: {count} verified instructions");
            ensure!(count <= most, "{name}: {count} is more than {most}");
        }
        Ok(())
    })
}

#[test]
fn logging_costs_nothing_while_it_is_off() -> Result<()> {
    apart(|| {
        let [off, debug] = [KernelLog::Off, KernelLog::Debug].map(|log| verified_instructions(log, "voip_ha_act"));
        let (off, debug) = (off?, debug?);
        println!("verified instructions: {off} without logging, {debug} with it");
        ensure!(off < debug, "the verifier did not remove the logging code");
        Ok(())
    })
}

#[test]
fn servers_can_drain_while_it_is_logged_what_is_not_redirected() -> Result<()> {
    apart(|| {
        for (name, _) in MOST_VERIFIED_INSTRUCTIONS {
            ensure!(verified_instructions(KernelLog::Debug, name)? > 0, "the kernel refuses {name}");
        }
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
