use std::{io::IsTerminal as _, path::PathBuf};

use clap::Args;
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

use super::{Failure, check};
use crate::{datapath::KernelLog, gateway};

/// Lines of the log that may wait for whoever reads it.
const LOG_LINES: usize = 4096;

/// Run the gateway in the foreground.
///
/// SIGTERM and SIGINT end it and leave packets going as they last did. So does a crash. `voip-ha unload` takes the
/// program off.
#[derive(Args)]
pub(super) struct Run {
    /// The configuration file
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// What the kernel side logs; anything but off costs time for every packet that is logged
    #[arg(long, value_name = "LEVEL", value_enum, default_value_t)]
    kernel_log: KernelLog,
    /// Log as JSON, one object a line
    #[arg(long)]
    json: bool,
}

impl Run {
    pub(super) fn run(self) -> Result<(), Failure> {
        let config = check::load(&self.config)?;
        let _guard = self.start_log();
        if !rustix::process::geteuid().is_root() {
            return Err(Failure::BadInput("`voip-ha run` needs root: it loads a program into the kernel".to_owned()));
        }
        Ok(gateway::run(config, self.kernel_log)?)
    }

    /// Starts the log. The guard writes the last lines when it is dropped.
    fn start_log(&self) -> WorkerGuard {
        let level = if self.kernel_log == KernelLog::Off { "info" } else { "info,voip_ha_ebpf=debug" };
        let filter = EnvFilter::try_from_env("VOIP_HA_LOG").unwrap_or_else(|_| EnvFilter::new(level));
        // A reader of the log that hangs must not hold up the controller: then lines are lost instead.
        let lines = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(LOG_LINES);
        let (writer, guard) = lines.finish(std::io::stderr());
        let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_target(false);
        if self.json {
            log.json().flatten_event(true).init();
        } else {
            log.with_ansi(std::io::stderr().is_terminal()).init();
        }
        guard
    }
}
