//! The compiled kernel side, loaded with its maps taken from, or left in, the pin directory.

use anyhow::{Context as _, Result};
use aya::{
    Ebpf, EbpfLoader, include_bytes_aligned,
    maps::ProgramArray,
    programs::{SchedClassifier, Xdp},
};
use voip_ha_ebpf::abi::{ANY_CALL, ANY_ERROR, ANY_MESSAGE, ANY_PACKET, ANY_VERDICT, FROM_MASK, TO_MASK};

use super::{pins::Pins, tables};

static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/voip-ha-ebpf"));
/// Name of the program that interfaces run, in the object and in the kernel.
pub(super) const PROGRAM: &str = "voip_ha";
/// Names of those that it goes on in, with their indexes in the map `PROGRAMS`.
const OTHERS: [(u32, &str); 5] = [
    (ANY_VERDICT, "voip_ha_act"),
    (ANY_ERROR, "voip_ha_errors"),
    (ANY_PACKET, "voip_ha_any"),
    (ANY_CALL, "voip_ha_calls"),
    (ANY_MESSAGE, "voip_ha_scan"),
];
/// Name of the one that carries out what was decided about a tunnel's packet.
const TUNNEL_ACT: &str = "voip_ha_tunnel_act";
/// Names of those that the programs of tunnels go on in, with their indexes.
const TUNNEL: [(u32, &str); 6] = [
    (ANY_VERDICT, TUNNEL_ACT),
    (TO_MASK, "voip_ha_tunnel_unmask"),
    (ANY_ERROR, "voip_ha_tunnel_errors"),
    (ANY_PACKET, "voip_ha_tunnel_any"),
    (ANY_CALL, "voip_ha_tunnel_calls"),
    (ANY_MESSAGE, "voip_ha_tunnel_scan"),
];
/// Names of those for servers that masquerade: the one that gives packets the gateway's own name first, so that none is sent without.
const MASKS: [(u32, &str); 2] = [(FROM_MASK, "voip_ha_mask"), (TO_MASK, "voip_ha_unmask")];
/// Ring buffer that aya-log-ebpf adds, and that is not pinned.
const LOG_RING: &str = "AYA_LOGS";

/// How much the kernel side logs. Anything but `Off` costs time for every packet that is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum KernelLog {
    /// The verifier removes the logging code.
    #[default]
    Off,
    /// A line for every frame that is not redirected.
    Debug,
}

impl KernelLog {
    /// The level as aya-log counts them.
    const fn level(self) -> u8 {
        match self {
            Self::Off => 0,
            Self::Debug => 4,
        }
    }
}

/// Loads the program. Maps that are pinned already are used, the others are made and pinned.
///
/// # Errors
///
/// A pinned map has another layout, or the kernel refuses something; the verifier's words are part of the error.
pub(super) fn load(pins: &Pins, kernel_log: KernelLog) -> Result<Ebpf> {
    let mut object = open(pins, kernel_log)?;
    for (index, name) in OTHERS {
        match named(&mut object, name)?.load() {
            Err(error) if is_for_drains(index) => {
                tracing::warn!("no server can drain: the kernel refuses {name}, which needs Linux 5.18: {error}");
            }
            result => result.with_context(|| format!("the kernel refuses the XDP program {name}"))?,
        }
    }
    program(&mut object)?.load().with_context(|| format!("the kernel refuses the XDP program {PROGRAM}"))?;
    Ok(object)
}

/// Whether a program is one that packets go on in only while calls are remembered.
const fn is_for_drains(index: u32) -> bool {
    matches!(index, ANY_CALL | ANY_MESSAGE)
}

/// Opens or makes the maps. No program is loaded yet.
fn open(pins: &Pins, kernel_log: KernelLog) -> Result<Ebpf> {
    tables::check_layouts(pins)?;
    let mut loader = EbpfLoader::new();
    loader.default_map_pin_directory(pins.directory());
    let level = kernel_log.level();
    loader.override_global(aya_log::LEVEL, &level, true);
    if kernel_log == KernelLog::Off {
        loader.map_max_entries(LOG_RING, 4096);
    }
    let object = loader.load(OBJECT).context("cannot load the kernel side")?;
    tables::check_layouts(pins)?;
    Ok(object)
}

/// Lets the program that is on the interfaces, of this controller or an earlier one, go on in this object's others. Says whether
/// there is the one for remembered calls.
///
/// In what order does not matter: what one program leaves for the next is in a map that all objects share.
///
/// # Errors
///
/// The map cannot be written.
pub(super) fn link_programs(object: &Ebpf, pins: &Pins) -> Result<bool> {
    let mut programs = ProgramArray::try_from(tables::open(pins, tables::PROGRAMS)?)?;
    let mut linked = 0;
    for (index, name) in OTHERS {
        let program: &Xdp =
            object.program(name).with_context(|| format!("the object has no program {name}"))?.try_into()?;
        // One that was refused has no file descriptor.
        if let Ok(fd) = program.fd() {
            programs.set(index, fd, 0).context("cannot write PROGRAMS")?;
            linked += 1;
        }
    }
    Ok(linked == OTHERS.len())
}

/// Loads the programs for servers that masquerade, and lets packets go by them: before the first of the gateway's own names is in
/// `ENDPOINTS`.
///
/// # Errors
///
/// The kernel refuses one, or the map cannot be written.
pub(super) fn load_masks(object: &mut Ebpf, pins: &Pins) -> Result<()> {
    for (_, name) in MASKS {
        named(object, name)?.load().with_context(|| format!("the kernel refuses the XDP program {name}"))?;
    }
    let mut programs = ProgramArray::try_from(tables::open(pins, tables::PROGRAMS)?)?;
    for (index, name) in MASKS {
        programs.set(index, named(object, name)?.fd()?, 0).context("cannot write PROGRAMS")?;
    }
    Ok(())
}

/// Takes the one that looks for such names out of the way again, as long as there is none.
///
/// # Errors
///
/// The map cannot be written.
pub(super) fn unlink_unmask(pins: &Pins) -> Result<()> {
    let mut programs = ProgramArray::try_from(tables::open(pins, tables::PROGRAMS)?)?;
    match programs.clear_index(&TO_MASK) {
        Err(aya::maps::MapError::SyscallError(error)) if error.io_error.kind() == std::io::ErrorKind::NotFound => {
            Ok(())
        }
        result => result.context("cannot write PROGRAMS"),
    }
}

/// The XDP program that interfaces run, of a loaded object, to be changed.
pub(super) fn program(object: &mut Ebpf) -> Result<&mut Xdp> {
    named(object, PROGRAM)
}

fn named<'a>(object: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp> {
    let program = object.program_mut(name).with_context(|| format!("the object has no program {name}"))?;
    Ok(program.try_into()?)
}

/// The XDP program that interfaces run, of a loaded object, to be run or looked at.
pub(super) fn loaded_program(object: &Ebpf) -> Result<&Xdp> {
    let program = object.program(PROGRAM).with_context(|| format!("the object has no program {PROGRAM}"))?;
    Ok(program.try_into()?)
}

/// A program that tunnels run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TunnelProgram {
    /// Without Ethernet headers.
    Bare,
    /// With them.
    Ethernet,
}

impl TunnelProgram {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Bare => "voip_ha_tunnel",
            Self::Ethernet => "voip_ha_tunnel_ethernet",
        }
    }
}

/// Loads the programs of tunnels, over the pinned maps, and lets them, and those that are on tunnels already, go on in the right ones.
///
/// # Errors
///
/// The kernel refuses one that is needed for all packets, or the map cannot be written.
pub(super) fn load_for_tunnels(pins: &Pins) -> Result<Ebpf> {
    let mut object = open(pins, KernelLog::Off)?;
    let mut programs = ProgramArray::try_from(tables::open(pins, tables::TUNNEL_PROGRAMS)?)?;
    for kind in [TunnelProgram::Bare, TunnelProgram::Ethernet] {
        load_classifier(&mut object, kind.name())?;
    }
    for (index, name) in TUNNEL {
        match load_classifier(&mut object, name) {
            // Where the XDP programs for that were refused too, nobody asks for them.
            Err(error) if is_for_drains(index) => tracing::warn!("calls are not remembered: {error:#}"),
            result => result?,
        }
    }
    // What is to be masked is dropped there.
    programs.set(FROM_MASK, classifier(&mut object, TUNNEL_ACT)?.fd()?, 0).context("cannot write TUNNEL_PROGRAMS")?;
    for (index, name) in TUNNEL {
        if let Ok(fd) = classifier(&mut object, name)?.fd() {
            programs.set(index, fd, 0).context("cannot write TUNNEL_PROGRAMS")?;
        }
    }
    Ok(object)
}

/// The program that tunnels of this kind run, of a loaded object.
pub(super) fn tunnel_program(object: &mut Ebpf, kind: TunnelProgram) -> Result<&mut SchedClassifier> {
    classifier(object, kind.name())
}

fn load_classifier(object: &mut Ebpf, name: &str) -> Result<()> {
    classifier(object, name)?.load().with_context(|| format!("the kernel refuses the program {name}"))
}

fn classifier<'a>(object: &'a mut Ebpf, name: &str) -> Result<&'a mut SchedClassifier> {
    let program = object.program_mut(name).with_context(|| format!("the object has no program {name}"))?;
    Ok(program.try_into()?)
}
