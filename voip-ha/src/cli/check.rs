use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::{Failure, Format, output};
use crate::config::{Config, ConfigError};

/// Check a configuration file. Nothing that runs is touched.
#[derive(Args)]
pub(super) struct Check {
    /// The configuration file
    file: PathBuf,
    #[command(flatten)]
    format: Format,
}

impl Check {
    pub(super) fn run(self) -> Result<(), Failure> {
        let config = match Config::load(&self.file) {
            Ok(config) => config,
            Err(error) if self.format.json => {
                output::print_json(&json!({ "valid": false, "mistakes": mistakes(&error) }))?;
                return Err(Failure::BadInput(error.to_string()));
            }
            Err(error) => return Err(Failure::BadInput(error.to_string())),
        };
        let (services, servers) = (config.services.len(), config.servers().count());
        if self.format.json {
            return output::print_json(&json!({ "valid": true, "services": services, "servers": servers }));
        }
        let plural = |count, noun| format!("{count} {noun}{}", if count == 1 { "" } else { "s" });
        let name = self.file.display();
        let text = format!("{name}: valid, {} and {}\n", plural(services, "service"), plural(servers, "server"));
        Ok(output::print(&text)?)
    }
}

/// Reads a configuration that is to be used.
pub(super) fn load(path: &Path) -> Result<Config, Failure> {
    Config::load(path).map_err(|error| Failure::BadInput(error.to_string()))
}

fn mistakes(error: &ConfigError) -> Vec<serde_json::Value> {
    match error {
        ConfigError::Refused { mistakes, .. } => mistakes
            .iter()
            .map(|mistake| {
                json!({
                    "line": mistake.line, "column": mistake.column, "key": mistake.key, "message": mistake.message,
                })
            })
            .collect(),
        ConfigError::Unreadable { .. } => vec![json!({ "message": error.to_string() })],
    }
}
