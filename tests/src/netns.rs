//! A network namespace and the one thread that lives in it.
//!
//! Everything that must happen inside the namespace (opening a socket, starting a program, writing a sysctl) is handed to
//! that thread. The mount namespace stays the one of the caller, so /sys/fs/bpf is the same inside and outside;
//! `ip netns exec` would hide it.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::{fd::AsFd, unix::process::CommandExt},
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread::JoinHandle,
};

use anyhow::{Context, Result, bail};
use rustix::{
    process::{Signal, getppid, set_parent_process_death_signal},
    thread::{LinkNameSpaceType, move_into_link_name_space},
};

type Job = Box<dyn FnOnce() + Send>;

/// A named network namespace, made by `create` and left behind on drop: `site::remove` deletes it by its name.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Namespace {
    /// Creates the namespace `name` with its loopback up. Fails if the name is taken or the caller may not do it.
    pub fn create(name: &str) -> Result<Self> {
        ip(&["netns", "add", name])?;
        let file = File::open(format!("/run/netns/{name}")).with_context(|| format!("namespace {name}"))?;
        let (jobs, queue) = mpsc::channel::<Job>();
        let (entered, answer) = mpsc::channel();
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            let result = move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network));
            let ok = result.is_ok();
            let _ = entered.send(result);
            if ok {
                queue.into_iter().for_each(|job| job());
            }
        })?;
        answer.recv()?.with_context(|| format!("enter namespace {name}"))?;
        let namespace = Self { name: name.to_owned(), jobs: Some(jobs), thread: Some(thread) };
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// The name under /run/netns.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `work` inside the namespace and returns what it returns; a panic in it is a panic of the caller.
    /// A socket opened by it belongs to the namespace wherever it is used later.
    pub fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, answer) = mpsc::channel();
        let job: Job = Box::new(move || {
            let _ = done.send(catch_unwind(AssertUnwindSafe(work)));
        });
        self.jobs
            .as_ref()
            .and_then(|jobs| jobs.send(job).ok())
            .expect("the namespace's thread lives as long as the namespace");
        answer.recv().expect("the namespace's thread answers every job").unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// Starts a program inside the namespace, as leader of a process group of its own.
    ///
    /// It gets SIGKILL when this namespace is dropped or this process dies, however that happens: the kernel ties the
    /// death signal to the thread that forked, and that is the namespace's.
    pub fn spawn(&self, mut command: Command) -> io::Result<Child> {
        let parent = rustix::process::getpid();
        command.process_group(0);
        // SAFETY: the closure makes two system calls and nothing else, so it is safe between fork and exec.
        unsafe {
            command.pre_exec(move || {
                set_parent_process_death_signal(Some(Signal::KILL))?;
                // The parent may have died before the line above took effect.
                if getppid() == Some(parent) { Ok(()) } else { Err(io::Error::other("parent is gone")) }
            });
        }
        self.run(move || command.spawn())
    }

    /// Runs one or more lines of `ip` in the namespace, such as `link set lo up`.
    pub fn ip(&self, lines: &str) -> Result<()> {
        let mut child = Command::new("ip")
            .args(["-n", &self.name, "-batch", "-"])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("the ip command (package iproute2)")?;
        child.stdin.take().context("no pipe to ip")?.write_all(lines.as_bytes())?;
        let output = child.wait_with_output()?;
        if !output.status.success() {
            bail!("ip -n {}: {}\n{lines}", self.name, String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(())
    }

    /// Switches offloads of an interface, as in `ethtool -K interface settings…`.
    pub fn ethtool(&self, interface: &str, settings: &[&str]) -> Result<()> {
        let mut command = Command::new("ethtool");
        command.args(["-K", interface]).args(settings).stdout(Stdio::null()).stderr(Stdio::piped());
        let output = self.spawn(command).context("the ethtool command (package ethtool)")?.wait_with_output()?;
        if !output.status.success() {
            bail!("ethtool -K {interface} in {}: {}", self.name, String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(())
    }

    /// How many packets an interface has received since it was made.
    pub fn packets_received(&self, interface: &str) -> Result<u64> {
        // /proc/net is that of the main thread, whose namespace is another.
        let table = self.run(|| fs::read_to_string("/proc/thread-self/net/dev"))?;
        let name = format!("{interface}:");
        let line = table.lines().find_map(|line| line.trim_start().strip_prefix(&name));
        let packets = line.and_then(|line| line.split_whitespace().nth(1)).context("no such interface")?;
        Ok(packets.parse()?)
    }

    /// The processes in the namespace.
    pub fn processes(&self) -> Result<Vec<u32>> {
        processes_in(&self.name)
    }

    /// Writes a sysctl given with slashes, such as `net/ipv4/ip_forward`.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        let (path, value) = (format!("/proc/sys/{key}"), value.to_owned());
        let shown = path.clone();
        self.run(move || fs::write(path, value)).with_context(|| format!("{shown} in {}", self.name))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Joins two namespaces by a veth pair whose ends are up and compute every checksum in software: an XDP program would
/// otherwise see the partial checksums of locally sent packets.
pub fn join(a: (&Namespace, &str), b: (&Namespace, &str)) -> Result<()> {
    a.0.ip(&format!("link add name {} type veth peer name {} netns {}", a.1, b.1, b.0.name()))?;
    for (namespace, interface) in [a, b] {
        namespace.ethtool(interface, &["tx", "off"])?;
        namespace.ip(&format!("link set dev {interface} up"))?;
    }
    Ok(())
}

/// The processes in a namespace of that name.
pub(crate) fn processes_in(namespace: &str) -> Result<Vec<u32>> {
    ip(&["netns", "pids", namespace])?.lines().map(|pid| Ok(pid.trim().parse()?)).collect()
}

/// Runs `ip` outside of any lab namespace and returns what it printed.
pub(crate) fn ip(args: &[&str]) -> Result<String> {
    let output = Command::new("ip").args(args).output().context("the ip command (package iproute2)")?;
    if !output.status.success() {
        bail!("ip {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
