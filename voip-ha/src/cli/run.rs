use std::{io::IsTerminal as _, path::PathBuf};

use clap::Args;
use tracing_appender::non_blocking::NonBlockingBuilder;
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
}

impl Run {
    pub(super) fn run(self) -> Result<(), Failure> {
        let config = check::load(&self.config)?;
        let level = if self.kernel_log == KernelLog::Off { "info" } else { "info,voip_ha_ebpf=debug" };
        let filter = EnvFilter::try_from_env("VOIP_HA_LOG").unwrap_or_else(|_| EnvFilter::new(level));
        // A reader of the log that hangs must not hold up the controller: then lines are lost instead. The guard writes the
        // last ones when it is dropped.
        let lines = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(LOG_LINES);
        let (writer, _guard) = lines.finish(std::io::stderr());
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(writer)
            .with_ansi(std::io::stderr().is_terminal())
            .with_target(false)
            .init();
        if !rustix::process::geteuid().is_root() {
            return Err(Failure::BadInput("`voip-ha run` needs root: it loads a program into the kernel".to_owned()));
        }
        Ok(gateway::run(config, self.kernel_log)?)
    }
}
