//! A processor for the flood alone. Everything else has the others.

use anyhow::{Context as _, Result, anyhow};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use thread_priority::{
    NormalThreadSchedulePolicy, RealtimeThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy,
    set_thread_priority_and_policy, thread_native_id,
};

/// Who goes first there. All are before any ordinary thread, for none disturbs a driver either, and behind voip-ha's
/// controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Priority {
    Flood = 30,
    /// What has a few packets to send.
    Calls = 31,
}

/// Keeps this thread, and what it starts, off the first processor for as long as this lives. Where there is only one,
/// everything shares it.
pub(super) struct Apart {
    all: CpuSet,
    pub(super) of_flood: Processor,
}

/// The one that the flood has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Processor(usize);

impl Apart {
    pub(super) fn keep() -> Result<Self> {
        let all = sched_getaffinity(None)?;
        let first = (0..CpuSet::MAX_CPU).find(|number| all.is_set(*number)).context("no processor")?;
        let mut others = all;
        others.unset(first);
        if others.count() > 0 {
            sched_setaffinity(None, &others)?;
        }
        Ok(Self { all, of_flood: Processor(first) })
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        if let Err(error) = sched_setaffinity(None, &self.all) {
            eprintln!("this thread stays on some of its processors: {error}");
        }
    }
}

impl Processor {
    /// Does the work there. Threads that it starts stay there, with this priority.
    pub(super) fn run<T>(self, priority: Priority, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let before = sched_getaffinity(None)?;
        let mut own = CpuSet::new();
        own.set(self.0);
        sched_setaffinity(None, &own)?;
        set_policy(priority as u8, ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::Fifo))?;
        let result = work();
        set_policy(0, ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Other))?;
        sched_setaffinity(None, &before)?;
        result
    }
}

fn set_policy(priority: u8, policy: ThreadSchedulePolicy) -> Result<()> {
    let priority = ThreadPriority::Crossplatform(priority.try_into().map_err(|text| anyhow!("{text}"))?);
    let set = set_thread_priority_and_policy(thread_native_id(), priority, policy);
    set.map_err(|error| anyhow!("no real-time priority for the flood: {error}"))
}
