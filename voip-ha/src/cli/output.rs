//! How answers look: tables for people, JSON for machines, colour on a terminal only.

use std::io::{self, Write as _};

use anstyle::{AnsiColor, Style};
use comfy_table::{Cell, CellAlignment, ContentArrangement, Table, presets::NOTHING};
use jiff::{Timestamp, tz::TimeZone};
use serde::Serialize;

use super::Failure;

/// Something is wrong.
pub(super) const ALARM: Style = AnsiColor::Red.on_default().bold();
/// Something wants attention.
pub(super) const CAUTION: Style = AnsiColor::Yellow.on_default();
/// All is well.
pub(super) const GOOD: Style = AnsiColor::Green.on_default();
/// A heading.
pub(super) const HEADING: Style = Style::new().bold();

/// Text in a style. Standard output strips the style where it is no terminal.
pub(super) fn styled(style: Style, text: impl std::fmt::Display) -> String {
    format!("{}{text}{}", style.render(), style.render_reset())
}

/// What a server is to its service.
pub(super) fn role(has_signalling: bool, has_media: bool, is_draining: bool) -> &'static str {
    match (has_signalling, has_media) {
        (true, true) => "active",
        (true, false) => "signalling",
        (false, true) => "media",
        (false, false) if is_draining => "draining",
        (false, false) => "standby",
    }
}

/// Prints text, styles included if somebody looks.
pub(super) fn print(text: &str) -> io::Result<()> {
    let mut out = anstream::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Prints a value as one line of JSON.
pub(super) fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    let mut line = serde_json::to_string(value).map_err(anyhow::Error::from)?;
    line.push('\n');
    Ok(print(&line)?)
}

/// Prints values as JSON, or a line for each.
pub(super) fn print_all<T: Serialize>(values: &[T], json: bool, line: impl Fn(&T) -> String) -> Result<(), Failure> {
    if json {
        return print_json(&values);
    }
    Ok(print(&values.iter().map(line).collect::<String>())?)
}

/// A table without lines, its columns as wide as they need to be. Names that end in `>` are aligned to the right.
pub(super) fn table<const N: usize>(columns: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(columns.map(|name| Cell::new(styled(HEADING, name.trim_end_matches('>')))));
    for row in rows {
        table.add_row(row.map(Cell::new));
    }
    for (column, name) in table.column_iter_mut().zip(columns) {
        column.set_padding((0, 2));
        if name.ends_with('>') {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let lines = table.lines().map(|line| format!("{}\n", line.trim_end()));
    lines.collect()
}

/// Local time to the millisecond.
pub(super) fn local_time(at: Timestamp) -> String {
    at.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S%.3f").to_string()
}

/// How long ago, in the largest two units.
pub(super) fn ago(at: Timestamp) -> String {
    span(Timestamp::now().duration_since(at).as_secs().max(0).unsigned_abs())
}

/// Seconds in the largest two units.
pub(super) fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// Bytes with a decimal unit.
pub(super) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    if count < 1000 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1000.0;
    let mut unit = 0;
    while value >= 999.95 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_the_unit_that_keeps_them_short() {
        assert_eq!(
            [0, 999, 1000, 999_949, 999_950, 10_720_550_000].map(bytes),
            ["0 B", "999 B", "1.0 kB", "999.9 kB", "1.0 MB", "10.7 GB"]
        );
    }

    #[test]
    fn a_table_has_no_spaces_at_the_ends_of_its_lines() {
        let table =
            table(["NAME", "PACKETS>"], [["a".to_owned(), "12".to_owned()], ["bcd".to_owned(), "1".to_owned()]]);
        let table = anstream::adapter::strip_str(&table).to_string();
        assert_eq!(table, "NAME  PACKETS\na          12\nbcd         1\n");
    }
}
