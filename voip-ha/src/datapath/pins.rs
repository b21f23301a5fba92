//! Where maps and links are pinned, so that they outlive the controller.
//!
//! ```text
//! /sys/fs/bpf/voip-ha/       pin_dir; locked by the running controller
//!   abi-N/                   one directory for each version of the map layouts
//!     SERVICES, SERVERS, …   the maps
//!     link-eth0              the XDP link of an interface
//!     tunnel-7               the link of the program on a tunnel, by its index
//!     filter-7               on an older kernel the program itself
//! ```

use std::{
    ffi::CString,
    fs::{self, File},
    io,
    os::fd::{AsRawFd as _, OwnedFd},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::{
    fs::{FlockOperation, flock, statfs},
    mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, fsconfig_create, fsmount, fsopen, mount},
};
use voip_ha_ebpf::abi::ABI_VERSION;

use super::tunnels::filter;

/// Where the BPF file system is by convention, and where it is mounted if it is not.
const BPFFS: &str = "/sys/fs/bpf";
/// `f_type` of a BPF file system (`BPF_FS_MAGIC` of linux/magic.h).
const BPFFS_MAGIC: u64 = 0xcafe_4a11;
const VERSION_PREFIX: &str = "abi-";
const LINK_PREFIX: &str = "link-";
const TUNNEL_PREFIX: &str = "tunnel-";
const FILTER_PREFIX: &str = "filter-";

/// The paths of what is pinned.
#[derive(Clone, Debug)]
pub struct Pins {
    root: PathBuf,
}

/// A pin directory that exists and that no other controller uses while this value lives.
pub struct PinDirectory {
    pins: Pins,
    _lock: File,
}

impl Pins {
    /// The paths below `pin_dir`. Nothing is looked at or made.
    pub fn new(pin_dir: &Path) -> Self {
        Self { root: pin_dir.to_owned() }
    }

    /// The directory of this version's maps and links.
    pub fn directory(&self) -> PathBuf {
        self.root.join(format!("{VERSION_PREFIX}{ABI_VERSION}"))
    }

    /// The pin of a map.
    pub fn map(&self, name: &str) -> PathBuf {
        self.directory().join(name)
    }

    /// The pin of an interface's XDP link.
    pub fn link(&self, interface: &str) -> PathBuf {
        self.directory().join(format!("{LINK_PREFIX}{interface}"))
    }

    /// The pin of the link of a tunnel's program. By its index: one that is made anew is another one, and names may have a dot,
    /// which pins may not.
    pub(super) fn tunnel(&self, ifindex: u32) -> PathBuf {
        self.directory().join(format!("{TUNNEL_PREFIX}{ifindex}"))
    }

    /// The pin of a program that a filter put on a tunnel.
    pub(super) fn filter(&self, ifindex: u32) -> PathBuf {
        self.directory().join(format!("{FILTER_PREFIX}{ifindex}"))
    }

    /// Indexes of the tunnels with a program.
    ///
    /// # Errors
    ///
    /// The directory exists and cannot be read.
    pub fn tunnels(&self) -> Result<Vec<u32>> {
        let names = names_in(&self.directory())?;
        let index = |name: &String| filter_of(name).or_else(|| name.strip_prefix(TUNNEL_PREFIX)?.parse().ok());
        Ok(names.iter().filter_map(index).collect())
    }

    /// The interfaces with a pinned link.
    ///
    /// # Errors
    ///
    /// The directory exists and cannot be read.
    pub fn linked_interfaces(&self) -> Result<Vec<String>> {
        let directory = self.directory();
        let names = names_in(&directory)?;
        Ok(names.iter().filter_map(|name| name.strip_prefix(LINK_PREFIX)).map(str::to_owned).collect())
    }
}

impl PinDirectory {
    /// Makes the directory, mounts the BPF file system if there is none, and takes the lock.
    ///
    /// # Errors
    ///
    /// The directory is not on a BPF file system, belongs to a running controller, or holds pins of another version.
    pub fn open(pin_dir: &Path) -> Result<Self> {
        mount_if_missing(pin_dir)?;
        let pins = Pins::new(pin_dir);
        fs::create_dir_all(pin_dir).with_context(|| format!("cannot make the pin directory {}", pin_dir.display()))?;
        let lock = lock(pin_dir)?;
        let own = pins.directory();
        for name in names_in(pin_dir)? {
            ensure!(
                pin_dir.join(&name) == own,
                "{} holds pins of another version ({name}, this one is abi-{ABI_VERSION}): \
                 run `voip-ha unload` first, which takes the program off",
                pin_dir.display()
            );
        }
        fs::create_dir_all(&own).with_context(|| format!("cannot make {}", own.display()))?;
        Ok(Self { pins, _lock: lock })
    }

    /// The paths.
    pub fn pins(&self) -> &Pins {
        &self.pins
    }
}

/// A BPF file system of this process alone, mounted nowhere: what is pinned there goes with this value, however the process
/// ends. Kernel 5.2.
pub(super) struct PrivatePins {
    pins: Pins,
    _mount: OwnedFd,
}

impl PrivatePins {
    /// Makes one, with nothing in it.
    ///
    /// # Errors
    ///
    /// The kernel refuses, as it does who is not root.
    pub(super) fn new() -> Result<Self> {
        let context = fsopen("bpf", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_create(&context)?;
        let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
        let mount = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
        let pins = Pins::new(&Path::new("/proc/self/fd").join(mount.as_raw_fd().to_string()));
        fs::create_dir(pins.directory()).context("cannot make a directory in it")?;
        Ok(Self { pins, _mount: mount })
    }

    /// The paths. Good in this process only.
    pub(super) fn pins(&self) -> &Pins {
        &self.pins
    }
}

/// Takes everything off, whichever version pinned it: detaches the program from its interfaces and removes the maps. Returns the names of what was
/// removed, links first; nothing if nothing was there.
///
/// # Errors
///
/// A running controller holds the directory, or something cannot be removed.
pub fn unload(pin_dir: &Path) -> Result<Vec<String>> {
    if !exists(pin_dir)? {
        return Ok(Vec::new());
    }
    let _lock = lock(pin_dir)?;
    let directories: Vec<_> = names_in(pin_dir)?
        .iter()
        .filter(|name| name.starts_with(VERSION_PREFIX))
        .map(|name| pin_dir.join(name))
        .collect();
    let mut pins = Vec::new();
    for directory in &directories {
        pins.extend(names_in(directory)?.into_iter().map(|name| (directory.join(&name), name)));
    }
    // Links first: the program must not see its maps go.
    pins.sort_by_key(|(_, name)| {
        ![LINK_PREFIX, TUNNEL_PREFIX, FILTER_PREFIX].iter().any(|prefix| name.starts_with(prefix))
    });
    for (path, name) in &pins {
        // A filter does not go with its pin.
        filter_of(name).map_or(Ok(()), filter::take_off)?;
        fs::remove_file(path).with_context(|| format!("cannot remove {}", path.display()))?;
    }
    for path in directories.iter().map(PathBuf::as_path).chain([pin_dir]) {
        match fs::remove_dir(path) {
            Err(error) if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty) => {
                return Err(error).with_context(|| format!("cannot remove {}", path.display()));
            }
            _ => {}
        }
    }
    Ok(pins.into_iter().map(|(_, name)| name).collect())
}

/// Index of the tunnel that a pin of this name is the filter's of.
fn filter_of(name: &str) -> Option<u32> {
    name.strip_prefix(FILTER_PREFIX)?.parse().ok()
}

/// Whether something is there. Who may not look is told so, and not that there is nothing.
pub(super) fn exists(path: &Path) -> Result<bool> {
    path.try_exists().with_context(|| format!("cannot look at {}: this needs root", path.display()))
}

/// The lock is on the directory itself and goes with the process, however it ends.
fn lock(pin_dir: &Path) -> Result<File> {
    let directory = File::open(pin_dir).with_context(|| format!("cannot open {}", pin_dir.display()))?;
    match flock(&directory, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(directory),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            bail!("another voip-ha is running with the pin directory {}: stop it first", pin_dir.display())
        }
        Err(error) => Err(error).with_context(|| format!("cannot lock {}", pin_dir.display())),
    }
}

fn mount_if_missing(pin_dir: &Path) -> Result<()> {
    if is_on_bpffs(pin_dir)? {
        return Ok(());
    }
    ensure!(
        pin_dir.starts_with(BPFFS),
        "gateway.pin_dir {} is not on a BPF file system: mount one there (mount -t bpf bpf DIRECTORY) or use {BPFFS}/…",
        pin_dir.display()
    );
    // One at a time: a second mount, by a gateway that starts at the same moment, would hide the pins in the first.
    let mount_point = File::open(BPFFS).with_context(|| format!("cannot open {BPFFS}"))?;
    flock(&mount_point, FlockOperation::LockExclusive).with_context(|| format!("cannot lock {BPFFS}"))?;
    if is_on_bpffs(pin_dir)? {
        return Ok(());
    }
    tracing::info!("mounting the BPF file system at {BPFFS}");
    let options = CString::new("mode=0700").expect("no zero byte");
    mount("bpf", BPFFS, "bpf", MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC, options.as_c_str())
        .with_context(|| format!("cannot mount a BPF file system at {BPFFS}"))
}

/// Whether `path` is, or would be made, on a BPF file system.
fn is_on_bpffs(path: &Path) -> Result<bool> {
    let existing = path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let kind = statfs(existing).with_context(|| format!("cannot look at {}", existing.display()))?.f_type;
    Ok(kind as u64 == BPFFS_MAGIC)
}

fn names_in(directory: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(|| format!("cannot list {}", directory.display()))?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot list {}", directory.display()))?;
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    Ok(names)
}
