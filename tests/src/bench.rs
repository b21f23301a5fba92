//! `cargo xtask bench failover`: the same faults in the same lab, handled by voip-ha and by what people use today.
//!
//! Everything is measured from outside and in the same way for all: when the fault was made, when the first answer of the
//! other server reaches a phone, and what the streams lost. Before each run the system must see both servers in order,
//! by its own word, and all streams must be answered by one server.

mod bfdd;
mod dispatcher;
mod fault;
mod figures;
mod keepalived;
mod loss;
mod nginx;
mod picture;
mod probe;
mod progress;
mod rig;
mod sip_stream;
mod soak;
mod system;
mod table;
mod traffic;
mod voip_ha;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

pub(crate) use self::loss::nft;
pub use self::{
    fault::Fault,
    figures::{Block, Data, Losses, Machine, Sample, Soak, Spread},
    probe::ask,
    system::NAMES,
};
use self::{
    progress::Progress,
    rig::{LIMIT, Rig},
    sip_stream::RATE,
    system::{Carries, System, by_name},
};
use crate::{Lab, Options};

/// After so many runs in which nothing happened, and none in which something did, a block ends. The same number without
/// all streams whole again, and the others do not wait for it.
const ENOUGH_OF_NOTHING: usize = 3;

/// What to measure.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Names of systems, out of [`NAMES`].
    pub systems: Vec<String>,
    /// What happens to them.
    pub faults: Vec<Fault>,
    /// Numbers of RTP streams; none: 0, 1, 50 and 500 for voip-ha, 50 for its peers.
    pub streams: Option<Vec<u16>>,
    /// Runs of each fault.
    pub runs: usize,
    /// Minutes of the soak of all systems; 0 leaves it out.
    pub minutes: f64,
    /// Data of an earlier bench that is added to. What is in it from as many runs is not measured again.
    pub merge: Option<PathBuf>,
    /// Where the data goes, after each block.
    pub json: Option<PathBuf>,
    /// Where the page with the pictures goes.
    pub html: Option<PathBuf>,
}

/// Measures, prints a table and writes the files. Fails after all of that if a part could not be measured.
pub fn run(settings: &Settings) -> Result<()> {
    let mut data = settings.merge.as_deref().map_or_else(|| Ok(Data::default()), Data::read)?;
    let here = machine()?;
    ensure!(data.machine.as_ref().is_none_or(|there| *there == here), "the data to merge is of another machine");
    data.machine = Some(here);
    let systems: Vec<_> = settings.systems.iter().map(|name| by_name(name)).collect::<Result<_>>()?;
    for system in &systems {
        must_be_installed(&**system)?;
    }
    let mut progress = Progress::new(work(&systems, settings, &data));
    let mut failed = Vec::new();
    for system in &systems {
        for error in measure(&**system, settings, &mut data, &mut progress)? {
            progress.say(&format!("{}: {error:#}", system.name()));
            failed.push(system.name());
        }
    }
    let unsoaked = systems.iter().filter(|system| !data.has_soak(system.name(), settings.minutes));
    let unsoaked: Vec<_> = unsoaked.map(|system| &**system).collect();
    for (system, soaked) in unsoaked.iter().zip(soak::run(&unsoaked, settings.minutes, &progress)) {
        match soaked {
            Ok(soak) => data.put_soak(soak),
            Err(error) => {
                progress.say(&format!("soak of {}: {error:#}", system.name()));
                failed.push(system.name());
            }
        }
    }
    write(&data, settings.json.as_deref())?;
    present(&data, settings.html.as_deref())?;
    if failed.is_empty() { Ok(()) } else { bail!("not everything could be measured: {}", failed.join(", ")) }
}

/// Reads data, prints its table and draws its pictures, and measures nothing.
pub fn show(data: &Path, html: Option<&Path>) -> Result<()> {
    present(&Data::read(data)?, html)
}

fn present(data: &Data, html: Option<&Path>) -> Result<()> {
    table::print(data)?;
    html.map_or(Ok(()), |path| {
        std::fs::write(path, picture::page(data)).with_context(|| format!("cannot write {}", path.display()))
    })
}

/// All faults of one system. Returns what could not be measured; the rest is.
fn measure(
    system: &dyn System,
    settings: &Settings,
    data: &mut Data,
    progress: &mut Progress,
) -> Result<Vec<anyhow::Error>> {
    let blocks: Vec<_> = blocks(system, settings, data).collect();
    let (mut left, not): (Vec<_>, Vec<_>) = blocks.into_iter().partition(|(fault, _)| system.cannot(*fault).is_none());
    for (fault, streams) in not {
        let reason = system.cannot(fault).map(str::to_owned);
        data.put(Block::of(system.name(), fault, streams.into(), Vec::new(), reason));
    }
    let mut errors = Vec::new();
    // Blocks of one layout follow each other. A block that fails leaves its lab in an unknown state, so the next one gets
    // another.
    left.sort_by_key(|(fault, _)| system.layout(*fault) != system.layout(Fault::Crash));
    left.reverse();
    while !left.is_empty() {
        errors.extend(in_one_lab(system, settings, &mut left, data, progress).err());
        write(data, settings.json.as_deref())?;
    }
    Ok(errors)
}

/// Takes blocks off the end for as long as the layout is the same and none fails.
fn in_one_lab(
    system: &dyn System,
    settings: &Settings,
    left: &mut Vec<(Fault, u16)>,
    data: &mut Data,
    progress: &mut Progress,
) -> Result<()> {
    let Some((first, _)) = left.last() else { return Ok(()) };
    let layout = system.layout(*first);
    progress.say(&format!("{}: starting, {layout:?}", system.name()));
    let mut lab = None;
    let mut rig = Lab::new(Options { layout, ..Options::default() })
        .and_then(|new| Rig::start(lab.insert(new), system))
        // What cannot be started for this block cannot be started for the next one.
        .inspect_err(|_| left.retain(|(fault, _)| system.layout(*fault) != layout))?;
    while let Some((fault, streams)) = left.pop_if(|(fault, _)| system.layout(*fault) == layout) {
        rig.stream(streams)?;
        let mut samples = Vec::new();
        let ended = repeat(&mut rig, system, (fault, streams), settings.runs, &mut samples, progress);
        let mut reason = reason(system, fault, streams, &samples);
        if let Err(error) = &ended {
            // What was measured until then is worth telling.
            let text = format!("ended after {} runs: {}", samples.len(), error.root_cause());
            reason = Some(reason.map_or(text.clone(), |reason| format!("{reason}; {text}")));
        }
        data.put(Block::of(system.name(), fault, streams.into(), samples, reason));
        write(data, settings.json.as_deref())?;
        ended?;
    }
    Ok(())
}

fn repeat(
    rig: &mut Rig<'_>,
    system: &dyn System,
    (fault, streams): (Fault, u16),
    runs: usize,
    samples: &mut Vec<Sample>,
    progress: &mut Progress,
) -> Result<()> {
    for run in 0..runs {
        // The gateway's own cable leads to the master.
        let from = if fault == Fault::Link || run % 2 == 0 { "master" } else { "backup" };
        let what = format!("{}, {}, {streams} streams, {} of {runs}", system.name(), fault.name(), run + 1);
        let patient = samples.len() < ENOUGH_OF_NOTHING || samples.iter().any(|sample| sample.gap_ms.is_some());
        let sample = rig.run(fault, from, patient).with_context(|| what.clone())?;
        samples.push(sample);
        progress.ran(&what, &sample);
        if samples.len() == ENOUGH_OF_NOTHING && samples.iter().all(|sample| sample.flip_ms.is_none()) {
            progress.skipped(runs - samples.len());
            break;
        }
    }
    Ok(())
}

/// Why figures are null, or what is special about them.
fn reason(system: &dyn System, fault: Fault, streams: u16, samples: &[Sample]) -> Option<String> {
    let mut reasons = Vec::new();
    let missing = samples.iter().filter(|sample| sample.flip_ms.is_none()).count();
    if missing > 0 {
        reasons
            .push(format!("no answer from the other server within {LIMIT:?} in {missing} of {} runs", samples.len()));
    }
    let partly = samples.iter().filter(|sample| sample.flip_ms.is_some() && sample.gap_ms.is_none()).count();
    if partly > 0 && streams > 0 && system.carries() != Carries::Sip {
        reasons.push(format!(
            "some streams were not answered again within {LIMIT:?}, which was not waited for in each run"
        ));
    }
    reasons.extend(system.remark(fault).map(str::to_owned));
    if streams == 0 {
        reasons.push("no streams: the flip is by the system's own event, and there is no gap".to_owned());
    } else if system.carries() == Carries::Sip {
        let rate = u64::from(streams) * RATE;
        reasons.push(format!("it moves signalling only: seen by {rate} OPTIONS requests/s, and there is no RTP gap"));
    }
    (!reasons.is_empty()).then(|| reasons.join("; "))
}

/// The faults and numbers of streams that are not in the data yet.
fn blocks(system: &dyn System, settings: &Settings, data: &Data) -> impl Iterator<Item = (Fault, u16)> + use<> {
    let own: &[u16] = if system.name() == "voip-ha" { &[0, 1, 50, 500] } else { &[50] };
    let mut streams = settings.streams.clone().unwrap_or_else(|| own.to_vec());
    // Only voip-ha tells its flips without streams.
    streams.retain(|streams| *streams > 0 || system.name() == "voip-ha");
    let all = settings.faults.iter().flat_map(|fault| streams.iter().map(|streams| (*fault, *streams)));
    let missing = all.filter(|_| settings.runs > 0);
    let missing = missing.filter(|(fault, streams)| !data.has(system.name(), *fault, (*streams).into(), settings.runs));
    missing.collect::<Vec<_>>().into_iter()
}

/// How many runs and how many minutes of soak are to be done.
fn work(systems: &[Box<dyn System>], settings: &Settings, data: &Data) -> (usize, f64) {
    let possible = |system: &dyn System| {
        blocks(system, settings, data).filter(|(fault, _)| system.cannot(*fault).is_none()).count()
    };
    let blocks: usize = systems.iter().map(|system| possible(&**system)).sum();
    let soaks = systems.iter().any(|system| !data.has_soak(system.name(), settings.minutes));
    (blocks * settings.runs, if soaks { settings.minutes } else { 0.0 })
}

fn must_be_installed(system: &dyn System) -> Result<()> {
    for (program, package) in system.needs() {
        let found = Path::new(program).is_file();
        ensure!(found, "{program} is missing (package {package}): `cargo xtask bench failover` installs it");
    }
    Ok(())
}

pub(crate) fn machine() -> Result<Machine> {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned();
    Ok(Machine { kernel, cpus: std::thread::available_parallelism()?.get() })
}

fn write(data: &Data, path: Option<&Path>) -> Result<()> {
    path.map_or(Ok(()), |path| data.write(path))
}
