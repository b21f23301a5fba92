use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::Args;
use jiff::{Span, Timestamp, Zoned, civil, tz::TimeZone};

use super::{Failure, Format, StateDir, output};
use crate::{
    record::History,
    report::{self, Assumptions, Limits, Report as Availability},
};

/// Show how available the services were, and what each failover cost; works without the daemon.
#[derive(Args)]
pub(super) struct Report {
    /// Begin: a time such as 2026-01-31, "2026-01-31 18:00" (local) or 2026-01-31T17:00:00Z, or how long ago, such as 30d
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<Timestamp>,
    /// End, in the same forms
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<Timestamp>,
    /// Assumed mean time between failures of one server, in hours
    #[arg(long, value_name = "HOURS", value_parser = hours, default_value_t = Assumptions::default().mtbf_h)]
    mtbf_h: f64,
    /// Assumed mean time to repair a server, in hours
    #[arg(long, value_name = "HOURS", value_parser = hours, default_value_t = Assumptions::default().mttr_h)]
    mttr_h: f64,
    /// Write the report as a page that needs nothing else
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    #[command(flatten)]
    state: StateDir,
    #[command(flatten)]
    format: Format,
}

impl Report {
    pub(super) fn run(self) -> Result<(), Failure> {
        let history = history(&self.state.dir)?;
        let limits = Limits { since: self.since, until: self.until };
        if limits.since.zip(limits.until).is_some_and(|(since, until)| since >= until) {
            return Err(Failure::BadInput(
                "the period ends before it begins: --since must be before --until".to_owned(),
            ));
        }
        let assumptions = Assumptions { mtbf_h: self.mtbf_h, mttr_h: self.mttr_h };
        let report = Availability::new(&history, limits, assumptions, Timestamp::now());
        if let Some(path) = &self.html {
            fs::write(path, report::page(&report)).with_context(|| format!("cannot write {}", path.display()))?;
        }
        if self.format.json { output::print_json(&report) } else { Ok(output::print(&report::describe(&report))?) }
    }
}

/// What the state directory holds.
pub(super) fn history(directory: &Path) -> Result<History, Failure> {
    if !directory.try_exists().with_context(|| format!("cannot look at {}", directory.display()))? {
        return Err(Failure::BadInput(format!(
            "{} is not there: nothing was recorded, or gateway.state_dir is another one; name it with --dir",
            directory.display()
        )));
    }
    Ok(History::read(directory).with_context(|| format!("cannot read {}: this may need root", directory.display()))?)
}

/// A moment as people write it.
fn moment(text: &str) -> Result<Timestamp, String> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(at);
    }
    if let Ok(ago) = text.parse::<Span>() {
        let then = Zoned::now().checked_sub(ago.abs()).map_err(|error| error.to_string())?;
        return Ok(then.timestamp());
    }
    let local = text.parse::<civil::DateTime>().map_err(|_| {
        "is no time: use 2026-01-31, \"2026-01-31 18:00\", 2026-01-31T17:00:00Z, or how long ago, such as 30d or 12h".to_owned()
    })?;
    local.to_zoned(TimeZone::system()).map(|zoned| zoned.timestamp()).map_err(|error| error.to_string())
}

fn hours(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(hours) if hours.is_finite() && hours > 0.0 => Ok(hours),
        _ => Err("is no number of hours above 0".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_in_the_forms_that_the_help_names() {
        assert_eq!(moment("1970-01-02T00:00:00Z").unwrap().as_second(), 86_400);
        assert!(moment("2026-01-31").is_ok() && moment("2026-01-31 18:00").is_ok());
        let ago = Timestamp::now().duration_since(moment("2h").unwrap()).as_secs();
        assert!((7199..=7201).contains(&ago), "{ago}");
        assert!(moment("soon").is_err());
    }

    #[test]
    fn hours_that_make_no_sense_are_refused() {
        assert_eq!(hours("3044"), Ok(3044.0));
        for text in ["0", "-1", "NaN", "inf", "x"] {
            assert!(hours(text).is_err(), "{text}");
        }
    }
}
