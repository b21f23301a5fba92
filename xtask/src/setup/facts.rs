//! What this machine has, as far as setup must know.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fmt, fs};

use super::plan::PROGRAMS;

/// The rustup name of a distribution's compiler that brings a core library for BPF. The build script of `voip-ha`
/// knows it too.
pub(crate) const LINKED_TOOLCHAIN: &str = "voip-ha-bpf";

/// The compiler's target for the kernel side.
pub(crate) const BPF_TARGET: &str =
    if cfg!(target_endian = "big") { "bpfeb-unknown-none" } else { "bpfel-unknown-none" };

/// Where Debian puts its compiler, whatever else is on `PATH`.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    pub(crate) debian: bool,
    pub(crate) root: bool,
    pub(crate) systemd: bool,
    pub(crate) rustup: bool,
    /// The compiler that the build script of `voip-ha` takes, if it can build the kernel side.
    pub(crate) kernel: Option<Compiler>,
    /// Debian's own compiler, if it can build the kernel side.
    pub(crate) debian_rustc: Option<Compiler>,
    /// The LLVM version of bpf-linker, if there is one that starts.
    pub(crate) linker: Option<u32>,
    /// Programs of [`PROGRAMS`] that are not there.
    pub(crate) missing: Vec<&'static str>,
    /// Whether the compiler of the user side has cargo-fmt and cargo-clippy.
    pub(crate) formatter: bool,
    pub(crate) clippy: bool,
}

/// A compiler that can build the kernel side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Compiler {
    pub(crate) name: Name,
    /// Its LLVM version, the number before the first dot.
    pub(crate) llvm: u32,
    pub(crate) core: Core,
    pub(crate) clippy: bool,
}

/// How a compiler is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    /// The toolchain of this name: `rustup run NAME rustc`.
    Rustup(&'static str),
    /// `rustc` on `PATH`, on a machine without rustup.
    OnPath,
    /// [`DEBIAN_RUSTC`].
    Debian,
}

/// Where a compiler gets the core library for BPF from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Core {
    Prebuilt,
    /// A nightly compiler with the component rust-src builds it.
    Source,
}

impl Facts {
    /// Looks at the machine. Starts a few programs that only print their version; takes a fraction of a second.
    pub(crate) fn gather() -> Self {
        let rustup = on_path("rustup").is_some();
        let kernel = if rustup {
            let names = [LINKED_TOOLCHAIN, "nightly"];
            names.into_iter().find_map(|name| Compiler::examine(Name::Rustup(name)))
        } else {
            Compiler::examine(Name::OnPath)
        };
        let host = sysroot(Name::OnPath);
        let host_has = |tool: &str| host.as_ref().is_some_and(|root| root.join("bin").join(tool).exists());
        Self {
            debian: fs::read_to_string("/etc/os-release").is_ok_and(|text| is_debian(&text)),
            root: fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0),
            systemd: on_path("systemctl").is_some(),
            rustup,
            kernel,
            debian_rustc: Compiler::examine(Name::Debian),
            linker: bpf_linker().and_then(|linker| linker_llvm(&linker)),
            missing: PROGRAMS.iter().map(|entry| entry.program).filter(|program| !installed(program)).collect(),
            formatter: host_has("cargo-fmt"),
            clippy: host_has("cargo-clippy"),
        }
    }
}

impl Compiler {
    /// Whether a linker of this LLVM version reads what the compiler writes. LLVM reads the bitcode of older versions,
    /// not of newer ones.
    pub(crate) fn linked_by(self, linker: Option<u32>) -> bool {
        linker.is_some_and(|llvm| llvm >= self.llvm)
    }

    fn examine(name: Name) -> Option<Self> {
        let version = stdout(name.rustc().arg("-vV"))?;
        let root = sysroot(name)?;
        let library = root.join("lib/rustlib");
        let core = if library.join(BPF_TARGET).join("lib").is_dir() {
            Core::Prebuilt
        } else if is_nightly(&version) && library.join("src/rust/library/core").is_dir() {
            Core::Source
        } else {
            return None;
        };
        let clippy = ["cargo-clippy", "clippy-driver"].iter().all(|tool| root.join("bin").join(tool).exists());
        Some(Self { name, llvm: llvm_major(&version)?, core, clippy })
    }
}

impl fmt::Display for Compiler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.name {
            Name::Rustup(toolchain) => format!("rustup toolchain {toolchain}"),
            Name::OnPath => "rustc on PATH".to_owned(),
            Name::Debian => DEBIAN_RUSTC.to_owned(),
        };
        write!(f, "{name} (LLVM {})", self.llvm)
    }
}

impl Name {
    fn rustc(self) -> Command {
        match self {
            Self::Rustup(toolchain) => {
                let mut rustup = Command::new("rustup");
                // Looking must not install.
                rustup.args(["run", toolchain, "rustc"]).env("RUSTUP_AUTO_INSTALL", "0");
                rustup
            }
            Self::OnPath => Command::new("rustc"),
            Self::Debian => Command::new(DEBIAN_RUSTC),
        }
    }
}

fn sysroot(name: Name) -> Option<PathBuf> {
    Some(PathBuf::from(stdout(name.rustc().args(["--print", "sysroot"]))?.trim_end()))
}

/// The LLVM version that this bpf-linker was built with; none if it does not start, as after its LLVM library is gone.
fn linker_llvm(linker: &Path) -> Option<u32> {
    // --version tells only the linker's own. LLVM's argument parser prints LLVM's, before any input is read.
    llvm_major(&stdout(Command::new(linker).args(["--llvm-args=--version", "--output", "/dev/null", "/dev/null"]))?)
}

/// The standard output of a program that succeeds.
fn stdout(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Finds a program on `PATH`.
fn on_path(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    first(program, env::split_paths(&path))
}

/// Finds a program as [`on_path`] does, or where Debian keeps programs for root, which others do not have on `PATH`. What
/// is named by its path is a file there, not always a program.
fn installed(program: &str) -> bool {
    if program.starts_with('/') {
        return Path::new(program).is_file();
    }
    on_path(program).or_else(|| first(program, ["/usr/sbin", "/sbin"].map(PathBuf::from))).is_some()
}

/// The bpf-linker that the build takes: the one in cargo's bin directory before those on `PATH`.
fn bpf_linker() -> Option<PathBuf> {
    first("bpf-linker", cargo_bin()).or_else(|| on_path("bpf-linker"))
}

fn first(program: &str, dirs: impl IntoIterator<Item = PathBuf>) -> Option<PathBuf> {
    dirs.into_iter().map(|dir| dir.join(program)).find(|candidate| is_executable(candidate))
}

fn cargo_bin() -> Option<PathBuf> {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    home.or_else(|| env::home_dir().map(|home| home.join(".cargo"))).map(|home| home.join("bin"))
}

fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.mode() & 0o111 != 0)
}

/// The LLVM version, the number before the first dot, in what `rustc -vV` or LLVM itself prints.
fn llvm_major(text: &str) -> Option<u32> {
    let (_, version) = text.split_once("LLVM version")?;
    version.trim_start_matches([':', ' ']).split('.').next()?.trim().parse().ok()
}

fn is_nightly(version: &str) -> bool {
    let release = version.lines().find_map(|line| line.strip_prefix("release: "));
    release.is_some_and(|release| release.ends_with("-nightly") || release.ends_with("-dev"))
}

fn is_debian(os_release: &str) -> bool {
    os_release.lines().any(|line| matches!(line, "ID=debian" | "ID=\"debian\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEBIAN: &str = "rustc 1.96.0 (ac68faa20 2026-05-25) (built from a source tarball)\nbinary: rustc\n\
        host: x86_64-unknown-linux-gnu\nrelease: 1.96.0\nLLVM version: 22.1.8\n";
    const NIGHTLY: &str = "rustc 1.97.0-nightly (e50aa6fba 2026-05-19)\nbinary: rustc\n\
        host: x86_64-unknown-linux-gnu\nrelease: 1.97.0-nightly\nLLVM version: 22.1.4\n";

    #[test]
    fn the_llvm_version_is_read_from_compiler_and_linker_alike() {
        assert_eq!(llvm_major(DEBIAN), Some(22));
        assert_eq!(llvm_major("Debian LLVM version 22.1.8\n  Optimized build.\n"), Some(22));
        assert_eq!(llvm_major("LLVM (http://llvm.org/):\n  LLVM version 9.0.1\n"), Some(9));
        assert_eq!(llvm_major("bpf-linker 0.13.0\n"), None);
        assert_eq!(llvm_major("LLVM version: unknown\n"), None);
    }

    #[test]
    fn only_a_nightly_release_counts_as_nightly() {
        assert!(is_nightly(NIGHTLY));
        assert!(!is_nightly(DEBIAN));
    }

    #[test]
    fn a_derivative_is_not_taken_for_debian() {
        assert!(is_debian("PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nID=debian\n"));
        assert!(!is_debian("NAME=\"Ubuntu\"\nID=ubuntu\nID_LIKE=debian\n"));
    }

    #[test]
    fn a_program_that_nobody_has_is_not_found_and_a_shell_is() {
        assert!(!installed("voip-ha-no-such-program"));
        assert!(installed("sh"));
    }
}
