//! What keeps the controller's thread from waiting for others.

use rustix::mm::{MlockAllFlags, mlockall};
use thread_priority::{
    RealtimeThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy, set_thread_priority_and_policy,
    thread_native_id,
};

/// Above every ordinary thread, below the kernel's own (50).
const PRIORITY: u8 = 40;

/// What the gateway could not have, and the remedy. Empty if it has all.
pub fn privileges() -> Vec<String> {
    let mut warnings = Vec::new();
    let priority = ThreadPriority::Crossplatform(PRIORITY.try_into().unwrap_or_default());
    let policy = ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::Fifo);
    if let Err(error) = set_thread_priority_and_policy(thread_native_id(), priority, policy) {
        warnings.push(format!(
            "the controller has no real-time priority, so a busy gateway notices failures later: {error}; give it \
             CAP_SYS_NICE or LimitRTPRIO={PRIORITY}"
        ));
    }
    // On fault: only what is used is kept, not every thread's whole stack.
    if let Err(error) = mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT) {
        warnings.push(format!(
            "the controller's memory is not locked, so it may wait for a disk: {error}; give it CAP_IPC_LOCK or \
             LimitMEMLOCK=infinity"
        ));
    }
    warnings
}
