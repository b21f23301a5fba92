//! The compiled kernel side, loaded with its maps taken from, or left in, the pin directory.

use anyhow::{Context as _, Result};
use aya::{Ebpf, EbpfLoader, include_bytes_aligned, maps::ProgramArray, programs::Xdp};
use voip_ha_ebpf::abi::{ANY_CALL, ANY_MESSAGE, ANY_PACKET, FROM_MASK, TO_MASK};

use super::{pins::Pins, tables};

static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/voip-ha-ebpf"));
/// Name of the program that interfaces run, in the object and in the kernel.
pub(super) const PROGRAM: &str = "voip_ha";
/// Name of the one that it goes on in with all but plain packets.
const ANY: &str = "voip_ha_any";
/// Names of those that packets go on in while calls are remembered.
const CALLS: [&str; 2] = ["voip_ha_calls", "voip_ha_scan"];
/// Names of those for servers that masquerade: from them, and to them.
const MASKS: [&str; 2] = ["voip_ha_unmask", "voip_ha_mask"];
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
    tables::check_layouts(pins)?;
    let mut loader = EbpfLoader::new();
    loader.default_map_pin_directory(pins.directory());
    let level = kernel_log.level();
    loader.override_global(aya_log::LEVEL, &level, true);
    if kernel_log == KernelLog::Off {
        loader.map_max_entries(LOG_RING, 4096);
    }
    let mut object = loader.load(OBJECT).context("cannot load the kernel side")?;
    tables::check_layouts(pins)?;
    for name in [MASKS[0], MASKS[1], ANY, PROGRAM] {
        named(&mut object, name)?.load().with_context(|| format!("the kernel refuses the XDP program {name}"))?;
    }
    for name in CALLS {
        if let Err(error) = named(&mut object, name)?.load() {
            tracing::warn!("no server can drain: the kernel refuses {name}, which needs Linux 5.18: {error}");
        }
    }
    Ok(object)
}

/// Lets the program that is on the interfaces, of this controller or an earlier one, go on in this object's others. Says whether
/// there is the one for remembered calls.
///
/// # Errors
///
/// The map cannot be written.
pub(super) fn link_programs(object: &Ebpf, pins: &Pins) -> Result<bool> {
    let mut programs = ProgramArray::try_from(tables::open(pins, tables::PROGRAMS)?)?;
    let mut linked = 0;
    let all = [(ANY_PACKET, ANY), (ANY_CALL, CALLS[0]), (ANY_MESSAGE, CALLS[1]), (FROM_MASK, MASKS[1])];
    for (index, name) in all {
        let program: &Xdp =
            object.program(name).with_context(|| format!("the object has no program {name}"))?.try_into()?;
        // One that was refused has no file descriptor.
        if let Ok(fd) = program.fd() {
            programs.set(index, fd, 0).context("cannot write PROGRAMS")?;
            linked += 1;
        }
    }
    Ok(linked == all.len())
}

/// Lets packets go by the program that knows what is for clients among what is for the gateway. It has to be so before the first of the
/// gateway's own names is in `ENDPOINTS`.
///
/// # Errors
///
/// The map cannot be written.
pub(super) fn link_unmask(object: &Ebpf, pins: &Pins) -> Result<()> {
    let mut programs = ProgramArray::try_from(tables::open(pins, tables::PROGRAMS)?)?;
    let program: &Xdp = object.program(MASKS[0]).with_context(|| format!("no program {}", MASKS[0]))?.try_into()?;
    programs.set(TO_MASK, program.fd()?, 0).context("cannot write PROGRAMS")
}

/// Takes it out of the way again, as long as there is no such name.
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
