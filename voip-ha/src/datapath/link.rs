//! Attaching the program to an interface, or taking over the link that an earlier controller left.

use std::{
    fs, io, thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, bail};
use aya::programs::{
    ProgramError, Xdp, XdpMode as AyaXdpMode,
    links::{FdLink, PinnedLink},
    xdp::{XdpLink, XdpLinkId},
};
use rustix::io::Errno;

use super::pins::{Pins, exists};
use crate::config::Gateway;

/// How long an unloaded program may take to leave its interface. Some tens of milliseconds are usual.
const LEAVING: Duration = Duration::from_secs(1);

/// How XDP runs on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum XdpMode {
    /// In the driver, before the kernel makes its own packet structure.
    Native,
    /// After that: works everywhere and is several times slower.
    Generic,
}

/// The program on one interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// Name of the interface.
    pub interface: String,
    /// Whether an earlier controller's link was taken over.
    pub adopted: bool,
}

/// Puts the program on all interfaces of the gateway, or leaves none with a program that had none before.
///
/// # Errors
///
/// An interface refuses. Those before it that had the program already have the new one.
pub(super) fn attach_all(program: &mut Xdp, pins: &Pins, gateway: &Gateway) -> Result<Vec<Attachment>> {
    let mut attachments: Vec<Attachment> = Vec::new();
    for interface in gateway.interfaces() {
        match attach(program, pins, gateway, interface) {
            Ok(attachment) => attachments.push(attachment),
            Err(error) => {
                for Attachment { interface, .. } in attachments.iter().filter(|attachment| !attachment.adopted) {
                    if let Err(error) = fs::remove_file(pins.link(interface)) {
                        tracing::error!(interface, %error, "cannot take the program off again");
                    }
                }
                return Err(error);
            }
        }
    }
    Ok(attachments)
}

/// Puts the program on `interface`: into the pinned link if there is one, else by a new link that is then pinned.
///
/// # Errors
///
/// The driver has no native XDP and generic is not allowed, or another program is there.
fn attach(program: &mut Xdp, pins: &Pins, gateway: &Gateway, interface: &str) -> Result<Attachment> {
    if adopt(program, pins, interface)? {
        return Ok(Attachment { interface: interface.to_owned(), adopted: true });
    }
    let link = attach_anew(program, interface, gateway.allow_generic)?;
    let link = program.take_link(link)?;
    let link: FdLink = link.try_into().map_err(|_| {
        anyhow!("{interface}: the kernel gave no XDP link that can be pinned; Linux 5.9 or later is needed")
    })?;
    let path = pins.link(interface);
    link.pin(&path).with_context(|| format!("cannot pin the link of {interface} at {}", path.display()))?;
    Ok(Attachment { interface: interface.to_owned(), adopted: false })
}

/// Removes the links of interfaces that the program is no longer wanted on.
pub(super) fn detach_others(pins: &Pins, wanted: &[&str]) -> Result<()> {
    for interface in pins.linked_interfaces()? {
        if !wanted.contains(&interface.as_str()) {
            tracing::info!(interface, "taking the program off an interface that the configuration no longer names");
            let path = pins.link(&interface);
            fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    Ok(())
}

/// Replaces the program of a pinned link in one step. Says `false` if there is no link, or one of an interface that is
/// gone.
fn adopt(program: &mut Xdp, pins: &Pins, interface: &str) -> Result<bool> {
    let path = pins.link(interface);
    if !exists(&path)? {
        return Ok(false);
    }
    let pinned = PinnedLink::from_pin(&path).with_context(|| format!("cannot open {}", path.display()))?;
    let link: XdpLink =
        FdLink::from(pinned).try_into().with_context(|| format!("{} is no XDP link", path.display()))?;
    match program.attach_to_link(link) {
        Ok(_) => Ok(true),
        // The interface was removed, and the link with it.
        Err(error) if errno(&error) == Some(Errno::NOLINK) => {
            fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
            Ok(false)
        }
        Err(error) => Err(error).with_context(|| format!("cannot put the new program into {}", path.display())),
    }
}

fn attach_anew(program: &mut Xdp, interface: &str, allow_generic: bool) -> Result<XdpLinkId> {
    let refusal = match attach_when_free(program, interface, AyaXdpMode::Driver) {
        Ok(link) => return Ok(link),
        Err(error) => error,
    };
    match errno(&refusal) {
        Some(Errno::OPNOTSUPP) if allow_generic => {
            tracing::info!(interface, "the driver has no native XDP");
            attach_when_free(program, interface, AyaXdpMode::Skb)
                .with_context(|| format!("{interface}: cannot attach in generic mode either"))
        }
        Some(Errno::OPNOTSUPP) => bail!(
            "{interface}: its driver has no native XDP; use another network card, or set gateway.allow_generic = true \
             and accept that packets cost several times as much"
        ),
        Some(Errno::BUSY) => bail!(
            "{interface}: another XDP program is attached; see `ip link show dev {interface}`, and take it off with the \
             tool that put it there"
        ),
        _ => Err(refusal).with_context(|| format!("{interface}: cannot attach the XDP program")),
    }
}

/// Attaches, and waits a little if another program is there: it may be our own after `unload`, which the kernel takes off
/// a moment after its link is gone.
fn attach_when_free(program: &mut Xdp, interface: &str, mode: AyaXdpMode) -> Result<XdpLinkId, ProgramError> {
    let deadline = Instant::now() + LEAVING;
    loop {
        match program.attach(interface, mode) {
            Err(error) if errno(&error) == Some(Errno::BUSY) && Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(5));
            }
            result => return result,
        }
    }
}

/// The kernel's error number behind an error of aya.
pub(super) fn errno(error: &ProgramError) -> Option<Errno> {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return Errno::from_io_error(error);
        }
        source = error.source();
    }
    None
}
