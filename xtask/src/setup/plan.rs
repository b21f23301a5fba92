//! Pure: what this machine has and what is needed → the steps that are left.

use super::facts::{Compiler, Core, Facts, LINKED_TOOLCHAIN};
use crate::command::Invocation;

/// What a task needs; each includes those before it, but for [`Need::Fuzz`] and [`Need::Checks`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Need {
    /// The tool chain of the kernel side.
    Build,
    /// A compiler for libFuzzer, which is C++. Only the checks include it.
    Fuzz,
    /// Programs that make and inspect the network namespaces of the lab.
    Lab,
    /// A real registrar, a real load tool, and what loses packets at will.
    Peers,
    /// Formatter and linter. Nothing else includes them.
    Checks,
    /// What the bench measures beside voip-ha.
    Bench,
}

impl Need {
    fn includes(self, other: Self) -> bool {
        match other {
            Self::Fuzz => matches!(self, Self::Fuzz | Self::Checks),
            Self::Checks => self == Self::Checks,
            _ => other <= self,
        }
    }
}

pub(super) struct Program {
    pub(super) program: &'static str,
    package: &'static str,
    need: Need,
}

/// The programs that lab and fuzzer need, and the Debian packages that hold them.
pub(super) const PROGRAMS: [Program; 10] = [
    Program { program: "c++", package: "g++", need: Need::Fuzz },
    Program { program: "ip", package: "iproute2", need: Need::Lab },
    Program { program: "ethtool", package: "ethtool", need: Need::Lab },
    Program { program: "kamailio", package: "kamailio", need: Need::Peers },
    Program { program: "sipp", package: "sip-tester", need: Need::Peers },
    Program { program: "nft", package: "nftables", need: Need::Peers },
    Program { program: "keepalived", package: "keepalived", need: Need::Bench },
    Program { program: "/usr/lib/frr/bfdd", package: "frr", need: Need::Bench },
    Program { program: "nginx", package: "nginx-light", need: Need::Bench },
    Program { program: NGINX_STREAM, package: "libnginx-mod-stream", need: Need::Bench },
];

const NGINX_STREAM: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

/// Packages that would start a service on this machine, and its name.
const SERVICES: [(&str, &str); 4] = [
    ("kamailio", "kamailio.service"),
    ("keepalived", "keepalived.service"),
    ("frr", "frr.service"),
    ("nginx-light", "nginx.service"),
];

const DEBIAN_CLIPPY: &str = "rust-web-clippy";

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Debian's compiler with its core library for BPF.
    DebianCompiler,
    /// bpf-linker for this LLVM version; none: for that of the compiler which an earlier step installs.
    DebianLinker(Option<u32>),
    /// Makes Debian's compiler known to rustup.
    Link,
    /// Debian packages.
    Packages(Vec<&'static str>),
    /// Components of the user side's compiler.
    Components(Vec<&'static str>),
    /// rustup's nightly compiler with the source of the core library.
    Nightly,
    /// bpf-linker as its authors release it.
    ReleasedLinker,
    /// Packages of a distribution that setup does not know.
    Unknown(Vec<&'static str>),
}

/// The steps that are left, in order. Empty: everything that is needed is there.
pub(super) fn plan(facts: &Facts, need: Need) -> Vec<Step> {
    let mut steps = tool_chain(facts);
    let programs = PROGRAMS.iter().filter(|entry| need.includes(entry.need) && facts.missing.contains(&entry.program));
    let mut packages: Vec<_> = programs.map(|entry| entry.package).collect();
    if need.includes(Need::Checks) {
        checks(facts, &mut steps, &mut packages);
    }
    if !packages.is_empty() {
        steps.push(if facts.debian { Step::Packages(packages) } else { Step::Unknown(packages) });
    }
    steps
}

fn tool_chain(facts: &Facts) -> Vec<Step> {
    let complete = |compiler: Compiler| compiler.linked_by(facts.linker);
    if facts.kernel.is_some_and(complete) {
        return Vec::new();
    }
    if facts.debian {
        return debian_tool_chain(facts, complete);
    }
    let mut steps = Vec::new();
    if facts.kernel.is_none() {
        steps.push(Step::Nightly);
    }
    if facts.kernel.is_some() || facts.linker.is_none() {
        steps.push(Step::ReleasedLinker);
    }
    steps
}

fn debian_tool_chain(facts: &Facts, complete: impl Fn(Compiler) -> bool) -> Vec<Step> {
    let mut steps = match facts.debian_rustc {
        None => vec![Step::DebianCompiler, Step::DebianLinker(None)],
        Some(rustc) if !complete(rustc) => vec![Step::DebianLinker(Some(rustc.llvm))],
        Some(_) => Vec::new(),
    };
    let taken = facts.kernel.is_some_and(|kernel| kernel.core == Core::Prebuilt);
    if !taken && facts.rustup {
        steps.push(Step::Link);
    } else if steps.is_empty() {
        // All is installed, but another compiler hides it. The step changes nothing, and setup then says so.
        steps.push(Step::DebianCompiler);
    }
    steps
}

fn checks(facts: &Facts, steps: &mut Vec<Step>, packages: &mut Vec<&'static str>) {
    let tools = [(facts.formatter, "rustfmt", "rustfmt-web"), (facts.clippy, "clippy", DEBIAN_CLIPPY)];
    let missing = tools.into_iter().filter(|(present, ..)| !present);
    if facts.rustup || !facts.debian {
        let components: Vec<_> = missing.map(|(_, component, _)| component).collect();
        if !components.is_empty() {
            steps.push(Step::Components(components));
        }
    } else {
        packages.extend(missing.map(|(.., package)| package));
    }
    // The kernel side is linted by the compiler that builds it.
    let by_debian = facts.debian && facts.kernel.is_none_or(|kernel| kernel.core == Core::Prebuilt);
    if by_debian && facts.debian_rustc.is_none_or(|rustc| !rustc.clippy) && !packages.contains(&DEBIAN_CLIPPY) {
        packages.push(DEBIAN_CLIPPY);
    }
}

impl Step {
    /// What is missing, for people.
    pub(super) fn reason(&self) -> String {
        match self {
            Self::DebianCompiler => "a compiler for the kernel side is missing".into(),
            Self::DebianLinker(Some(llvm)) => format!("bpf-linker for LLVM {llvm} is missing"),
            Self::DebianLinker(None) | Self::ReleasedLinker => "a bpf-linker as new as the compiler is missing".into(),
            Self::Link => format!("rustup does not know Debian's compiler as {LINKED_TOOLCHAIN}"),
            Self::Packages(names) if !services(names).is_empty() => format!(
                "missing packages: {}; their services stay off, `systemctl unmask {}` permits them",
                names.join(", "),
                services(names).join(" ")
            ),
            Self::Packages(names) | Self::Unknown(names) => format!("missing packages: {}", names.join(", ")),
            Self::Components(names) => format!("missing components: {}", names.join(", ")),
            Self::Nightly => "a nightly compiler with rust-src is missing".into(),
        }
    }

    /// The commands of this step.
    pub(super) fn commands(&self, facts: &Facts) -> Vec<Invocation> {
        match self {
            Self::DebianCompiler => vec![apt_install(["rustc-web", "cargo-web", "libstd-rust-web-dev-bpf"])],
            Self::DebianLinker(llvm) => debian_linker(*llvm),
            Self::Link => vec![Invocation::new(["rustup", "toolchain", "link", LINKED_TOOLCHAIN, "/usr"])],
            Self::Packages(names) => {
                let mut commands = vec![apt_install(names.iter().copied())];
                let services = services(names);
                if !services.is_empty() && facts.systemd {
                    // The packages would start them on this machine now and at each boot. A mask is one symbolic link, it
                    // touches no other service, and `systemctl unmask` takes it back.
                    commands.insert(0, Invocation::new(["systemctl", "mask"]).args(services));
                }
                commands
            }
            Self::Components(names) => vec![Invocation::new(["rustup", "component", "add"]).args(names)],
            Self::Nightly => nightly(facts.rustup),
            Self::ReleasedLinker => vec![
                Invocation::new(["cargo", "install", "cargo-binstall", "--locked"]),
                Invocation::new(["cargo", "binstall", "--no-confirm", "--force", "bpf-linker"]),
            ],
            Self::Unknown(_) => Vec::new(),
        }
    }
}

fn services(packages: &[&str]) -> Vec<&'static str> {
    let of_package = |(package, _): &&(&str, &'static str)| packages.contains(package);
    SERVICES.iter().filter(of_package).map(|(_, service)| *service).collect()
}

/// Installs Debian packages. Refuses to remove others: Debian's own rustup, for one, conflicts with Debian's compiler.
pub(super) fn apt_install(packages: impl IntoIterator<Item = impl Into<std::ffi::OsString>>) -> Invocation {
    Invocation::new(["apt-get", "install", "--yes", "--no-install-recommends", "--no-remove"])
        .args(packages)
        .env("DEBIAN_FRONTEND", "noninteractive")
}

fn nightly(rustup: bool) -> Vec<Invocation> {
    let get_rustup = Invocation::new(["sh", "-c", "curl --proto =https --tlsv1.2 -sSf https://sh.rustup.rs | sh"]);
    let get_nightly = "rustup toolchain install nightly --no-self-update --profile minimal --component rust-src";
    (!rustup).then_some(get_rustup).into_iter().chain([Invocation::new(get_nightly.split(' '))]).collect()
}

fn debian_linker(llvm: Option<u32>) -> Vec<Invocation> {
    // The shell variable stands for a version that is known only after the step before this one.
    let llvm = llvm.map_or("$llvm".to_owned(), |number| number.to_string());
    let libraries = [format!("llvm-{llvm}-dev"), format!("libpolly-{llvm}-dev")];
    let compression = ["zlib1g-dev", "libzstd-dev", "libxml2-dev"].map(str::to_owned);
    vec![
        apt_install(libraries.into_iter().chain(compression)),
        Invocation::new(["cargo", "install", "bpf-linker", "--locked", "--force", "--no-default-features"])
            .args(["--features".to_owned(), format!("llvm-{llvm}")])
            .env("LLVM_PREFIX", format!("/usr/lib/llvm-{llvm}")),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::facts::Name;
    use super::*;

    const NIGHTLY: Compiler = Compiler { name: Name::Rustup("nightly"), llvm: 23, core: Core::Source, clippy: true };
    const DEBIAN: Compiler = Compiler { name: Name::Debian, llvm: 22, core: Core::Prebuilt, clippy: true };
    const LINKED: Compiler = Compiler { name: Name::Rustup(LINKED_TOOLCHAIN), ..DEBIAN };

    /// Debian with rustup, as its installer leaves it.
    fn fresh() -> Facts {
        Facts { debian: true, root: true, rustup: true, formatter: true, clippy: true, ..Facts::default() }
    }

    fn complete() -> Facts {
        Facts { kernel: Some(LINKED), debian_rustc: Some(DEBIAN), linker: Some(22), ..fresh() }
    }

    #[test]
    fn a_complete_machine_has_nothing_left_to_do() {
        assert_eq!(plan(&complete(), Need::Checks), []);
    }

    #[test]
    fn a_fresh_debian_gets_compiler_then_linker_then_link() {
        let steps = [Step::DebianCompiler, Step::DebianLinker(None), Step::Link];
        assert_eq!(plan(&fresh(), Need::Build), steps);
    }

    #[test]
    fn without_rustup_there_is_nothing_to_link() {
        let facts = Facts { rustup: false, ..fresh() };
        assert_eq!(plan(&facts, Need::Build), [Step::DebianCompiler, Step::DebianLinker(None)]);
        let on_path = Compiler { name: Name::OnPath, ..DEBIAN };
        let facts = Facts { rustup: false, kernel: Some(on_path), ..complete() };
        assert_eq!(plan(&facts, Need::Checks), []);
    }

    #[test]
    fn nightly_with_its_source_and_a_linker_is_used_as_it_is() {
        let facts = Facts { kernel: Some(NIGHTLY), linker: Some(23), ..fresh() };
        assert_eq!(plan(&facts, Need::Checks), []);
    }

    #[test]
    fn a_linker_with_an_older_llvm_is_built_anew_and_a_newer_one_is_kept() {
        let older = Facts { linker: Some(21), ..complete() };
        assert_eq!(plan(&older, Need::Build), [Step::DebianLinker(Some(22))]);
        let newer = Facts { linker: Some(23), ..complete() };
        assert_eq!(plan(&newer, Need::Build), []);
    }

    #[test]
    fn nightly_without_a_linker_yields_to_debians_compiler() {
        let facts = Facts { kernel: Some(NIGHTLY), ..fresh() };
        let steps = [Step::DebianCompiler, Step::DebianLinker(None), Step::Link];
        assert_eq!(plan(&facts, Need::Build), steps);
    }

    #[test]
    fn another_system_is_told_to_get_nightly_and_a_released_linker() {
        let facts = Facts { debian: false, missing: vec!["ip", "sipp"], ..fresh() };
        assert_eq!(plan(&facts, Need::Build), [Step::Nightly, Step::ReleasedLinker]);
        let facts = Facts { kernel: Some(NIGHTLY), linker: Some(22), ..facts };
        assert_eq!(plan(&facts, Need::Lab), [Step::ReleasedLinker, Step::Unknown(vec!["iproute2"])]);
    }

    #[test]
    fn each_task_asks_only_for_the_programs_that_it_starts() {
        let facts = Facts { missing: vec!["ethtool", "kamailio", "sipp"], ..complete() };
        assert_eq!(plan(&facts, Need::Build), []);
        assert_eq!(plan(&facts, Need::Lab), [Step::Packages(vec!["ethtool"])]);
        assert_eq!(plan(&facts, Need::Peers), [Step::Packages(vec!["ethtool", "kamailio", "sip-tester"])]);
        let facts = Facts { missing: vec!["kamailio", "nginx", NGINX_STREAM], ..complete() };
        assert_eq!(plan(&facts, Need::Bench), [Step::Packages(vec!["kamailio", "nginx-light", "libnginx-mod-stream"])]);
        assert_eq!(plan(&facts, Need::Checks), [Step::Packages(vec!["kamailio"])]);
    }

    #[test]
    fn only_fuzzing_and_the_checks_ask_for_a_compiler_of_cpp() {
        let facts = Facts { missing: vec!["c++", "ethtool"], ..complete() };
        assert_eq!(plan(&facts, Need::Fuzz), [Step::Packages(vec!["g++"])]);
        assert_eq!(plan(&facts, Need::Checks), [Step::Packages(vec!["g++", "ethtool"])]);
        for need in [Need::Lab, Need::Peers, Need::Bench] {
            assert_eq!(plan(&facts, need), [Step::Packages(vec!["ethtool"])]);
        }
    }

    #[test]
    fn checks_ask_for_formatter_and_linter_of_both_compilers() {
        let facts = Facts { formatter: false, debian_rustc: Some(Compiler { clippy: false, ..DEBIAN }), ..complete() };
        let steps = [Step::Components(vec!["rustfmt"]), Step::Packages(vec!["rust-web-clippy"])];
        assert_eq!(plan(&facts, Need::Checks), steps);
        assert_eq!(plan(&facts, Need::Peers), []);
        assert_eq!(plan(&facts, Need::Bench), []);
    }

    #[test]
    fn kamailio_is_masked_before_its_package_can_start_it() {
        let facts = Facts { systemd: true, ..complete() };
        let commands = Step::Packages(vec!["kamailio"]).commands(&facts);
        assert_eq!(commands[0].to_string(), "systemctl mask kamailio.service");
        assert!(commands[1].to_string().ends_with("--no-remove kamailio"));
        let several = Step::Packages(vec!["frr", "nftables", "nginx-light"]).commands(&facts);
        assert_eq!(several[0].to_string(), "systemctl mask frr.service nginx.service");
        assert_eq!(Step::Packages(vec!["ethtool"]).commands(&facts).len(), 1);
    }

    #[test]
    fn the_linker_is_built_with_the_llvm_that_was_read() {
        let lines = |llvm| debian_linker(llvm).iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        let known = lines(Some(31));
        assert!(known.contains(" llvm-31-dev libpolly-31-dev ") && known.contains("LLVM_PREFIX=/usr/lib/llvm-31 "));
        assert!(known.ends_with("--features llvm-31"), "{known}");
        assert!(lines(None).ends_with("--features llvm-$llvm"));
    }
}
