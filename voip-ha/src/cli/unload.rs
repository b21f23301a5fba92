use clap::Args;
use serde_json::json;

use super::{Failure, Format, PinDir, output};
use crate::datapath;

/// Take the XDP program off its interfaces and remove its maps. From then on no packet is redirected.
#[derive(Args)]
pub(super) struct Unload {
    #[command(flatten)]
    format: Format,
    #[command(flatten)]
    pin_dir: PinDir,
}

impl Unload {
    pub(super) fn run(self) -> Result<(), Failure> {
        let pin_dir = &self.pin_dir.pin_dir;
        let removed = datapath::unload(pin_dir)?;
        if self.format.json {
            return output::print_json(&json!({ "removed": removed }));
        }
        let text = if removed.is_empty() {
            format!("nothing was loaded at {}\n", pin_dir.display())
        } else {
            format!("removed {} from {}\n", removed.join(", "), pin_dir.display())
        };
        Ok(output::print(&text)?)
    }
}
