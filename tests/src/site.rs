//! What a lab leaves on the machine, and how it goes away: namespaces, the processes in them, a directory, a pin directory.
//!
//! Every lab holds a lock on a file in its directory for as long as it lives, so a directory whose lock is free belongs to
//! a lab that crashed. Making a lab first removes all of those.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process,
    sync::{
        Mutex, Once,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result};
use rustix::{
    fs::{FlockOperation, flock},
    process::{Pid, Signal, kill_process},
};

use crate::{
    netns::{ip, processes_in},
    wait,
};

const ROOT: &str = "/run/voip-ha-lab";
const PINS: &str = "/sys/fs/bpf";
const PIN_PREFIX: &str = "voip-ha-lab-";
const NAMESPACE_PREFIX: &str = "voip-ha-lab-";
/// How long a lab waits for the one before it.
const TURN: Duration = Duration::from_secs(600);
const DEATH: Duration = Duration::from_secs(5);

static COUNT: AtomicU32 = AtomicU32::new(1);
static LIVING: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// The name and the directory of one lab. Dropping it kills every process in the lab's namespaces and removes everything.
#[derive(Debug)]
pub(crate) struct Site {
    prefix: String,
    _lock: File,
    _turn: Option<File>,
}

impl Site {
    /// Claims a fresh name after removing what crashed labs left. With `alone`, waits until no other lab of this kind
    /// lives on the machine: two at once would measure each other.
    pub(crate) fn claim(alone: bool) -> Result<Self> {
        clean_up_on_signals();
        fs::create_dir_all(ROOT).context(ROOT)?;
        let turn = alone.then(take_turn).transpose()?;
        let all = File::create(Path::new(ROOT).join("lock"))?;
        flock(&all, FlockOperation::LockExclusive)?;
        remove_leftovers()?;
        let prefix = format!("{}-{}", process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        fs::create_dir(directory(&prefix)).context(ROOT)?;
        let lock = File::create(directory(&prefix).join("lock"))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        living().insert(prefix.clone());
        Ok(Self { prefix, _lock: lock, _turn: turn })
    }

    pub(crate) fn dir(&self) -> PathBuf {
        directory(&self.prefix)
    }

    pub(crate) fn pin_dir(&self) -> PathBuf {
        pins(&self.prefix)
    }

    pub(crate) fn namespace(&self, role: &str) -> String {
        format!("{NAMESPACE_PREFIX}{}-{role}", self.prefix)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // Held while removing: if a signal has come, the thread that waits for one removes all labs and ends the process,
        // and must not be overtaken by a test that ends because its programs were killed.
        let mut living = living();
        if let Err(error) = remove(&self.prefix) {
            eprintln!("lab {} is not wholly removed: {error:#}", self.prefix);
        }
        living.remove(&self.prefix);
    }
}

fn living() -> std::sync::MutexGuard<'static, BTreeSet<String>> {
    LIVING.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn directory(prefix: &str) -> PathBuf {
    Path::new(ROOT).join(prefix)
}

fn pins(prefix: &str) -> PathBuf {
    Path::new(PINS).join(format!("{PIN_PREFIX}{prefix}"))
}

fn take_turn() -> Result<File> {
    let file = File::create(Path::new(ROOT).join("turn"))?;
    wait::until(TURN, "another lab on this machine to end", || {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(())),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    })?;
    Ok(file)
}

/// Removes every lab whose lock nobody holds. The caller holds the lock of the root directory.
fn remove_leftovers() -> Result<()> {
    let mut prefixes = BTreeSet::new();
    prefixes.extend(names_in(Path::new(ROOT)).filter(|name| directory(name).is_dir()));
    prefixes.extend(names_in(Path::new(PINS)).filter_map(|name| name.strip_prefix(PIN_PREFIX).map(str::to_owned)));
    let of_namespace = |name: String| {
        let rest = name.strip_prefix(NAMESPACE_PREFIX)?;
        rest.rsplit_once('-').map(|(prefix, _role)| prefix.to_owned())
    };
    prefixes.extend(names_in(Path::new("/run/netns")).filter_map(of_namespace));
    for prefix in prefixes {
        if is_abandoned(&prefix)? {
            eprintln!("removing what lab {prefix} left behind");
            remove(&prefix).with_context(|| format!("remove the leftover lab {prefix}"))?;
        }
    }
    Ok(())
}

fn is_abandoned(prefix: &str) -> Result<bool> {
    match File::open(directory(prefix).join("lock")) {
        Ok(file) => Ok(flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// The directory goes last: as long as it is there, an interrupted removal is found and finished by the next lab.
fn remove(prefix: &str) -> Result<()> {
    let ours = format!("{NAMESPACE_PREFIX}{prefix}-");
    let namespaces: Vec<_> = names_in(Path::new("/run/netns")).filter(|name| name.starts_with(&ours)).collect();
    for name in &namespaces {
        kill_all_in(name)?;
    }
    for name in &namespaces {
        ip(&["netns", "del", name])?;
    }
    for directory in [pins(prefix), directory(prefix)] {
        match fs::remove_dir_all(&directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).with_context(|| directory.display().to_string());
            }
            _ => {}
        }
    }
    Ok(())
}

fn kill_all_in(namespace: &str) -> Result<()> {
    wait::until(DEATH, &format!("every process in {namespace} to die"), || {
        let mut alive = false;
        for pid in processes_in(namespace)? {
            let pid = Pid::from_raw(pid as i32).context("process id 0")?;
            alive = true;
            match kill_process(pid, Signal::KILL) {
                Ok(()) | Err(rustix::io::Errno::SRCH) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok((!alive).then_some(()))
    })
}

fn names_in(directory: &Path) -> impl Iterator<Item = String> + use<> {
    let entries = fs::read_dir(directory).into_iter().flatten();
    entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok())
}

/// Ctrl-C and SIGTERM end the process after its labs are removed.
fn clean_up_on_signals() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        std::thread::spawn(|| {
            if let Err(error) = wait_for_signal() {
                eprintln!("the lab cannot clean up on Ctrl-C: {error:#}");
            }
        });
    });
}

fn wait_for_signal() -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let number = runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            _ = interrupt.recv() => io::Result::Ok(2),
            _ = terminate.recv() => Ok(15),
        }
    })?;
    let living = living();
    for prefix in living.iter() {
        if let Err(error) = remove(prefix) {
            eprintln!("lab {prefix} is not wholly removed: {error:#}");
        }
    }
    process::exit(128 + number)
}
