//! The `voip-ha` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    voip_ha::cli::main()
}
