//! From the text to the tables of `raw`: syntax, names of keys and types of values.
//!
//! serde stops at the first wrong entry. It is reported, taken out of the tree, and serde is asked again, so that
//! one run finds them all.

use std::ops::Range;

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::findings::Findings;
use super::raw::{self, example, keys_of, takes_list};

/// Names nearer than this (Jaro-Winkler similarity) are taken for misspellings: it covers a swapped letter, a
/// missing unit (`interval`) and an abbreviation (`addr`).
const SIMILAR: f64 = 0.8;

/// The tables of `text`, without the entries that are reported; none if the text is not TOML.
pub(super) fn read(text: &str, findings: &mut Findings<'_>) -> Option<raw::Config> {
    let (mut tree, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        for error in errors {
            report_syntax(text, &tree, &error, findings);
        }
        return None;
    }
    loop {
        let error = match raw::Config::deserialize(toml::Deserializer::from(tree.clone())) {
            Ok(config) => return Some(config),
            Err(error) => error,
        };
        let span = error.span().unwrap_or_default();
        let Some(culprit) = take_out(tree.get_mut(), "", &span) else {
            findings.add("", span.start, error.message());
            return None;
        };
        culprit.report(span.start, findings);
    }
}

/// An entry that serde refused.
struct Culprit<'a> {
    table: String,
    name: String,
    value: DeValue<'a>,
}

impl Culprit<'_> {
    fn report(self, offset: usize, findings: &mut Findings<'_>) {
        let path = join(&self.table, &self.name);
        let message = match example(&path) {
            Some(example) => format!("{}; write it like `{example}`", wrong_type(&path, &self.value, example)),
            None => match nearest(&self.table, &self.name) {
                Some(name) => {
                    findings.excuse(join(&self.table, name));
                    format!("is not a key of this table; did you mean `{name}`?")
                }
                None => {
                    let known: Vec<_> = keys_of(&self.table).collect();
                    format!("is not a key of this table; its keys are {}", known.join(", "))
                }
            },
        };
        findings.add(&path, offset, message);
        findings.excuse(path);
    }
}

fn wrong_type(path: &str, value: &DeValue<'_>, example: &str) -> String {
    match value {
        DeValue::Integer(number) if example.ends_with(|last: char| last.is_ascii_digit()) => {
            format!("{number} is out of range")
        }
        DeValue::Array(_) if takes_list(path) => "has an element of a wrong type".into(),
        DeValue::String(_) => "is a string".into(),
        DeValue::Integer(_) => "is a whole number".into(),
        DeValue::Float(_) => "is a number with a fraction".into(),
        DeValue::Boolean(_) => "is true or false".into(),
        DeValue::Datetime(_) => "is a date or time".into(),
        DeValue::Array(_) => "is a list".into(),
        DeValue::Table(_) => "is a table".into(),
    }
}

fn nearest(table: &str, name: &str) -> Option<&'static str> {
    keys_of(table)
        .map(|known| (known, strsim::jaro_winkler(known, &name.to_ascii_lowercase())))
        .filter(|(_, similarity)| *similarity >= SIMILAR)
        .max_by(|(_, left), (_, right)| left.total_cmp(right))
        .map(|(known, _)| known)
}

/// Removes the entry that an error at `span` belongs to: the span is its key, its value, or an element of its value.
fn take_out<'a>(table: &mut DeTable<'a>, path: &str, span: &Range<usize>) -> Option<Culprit<'a>> {
    let hit = table.iter().find(|(key, value)| {
        key.span() == *span
            || value.span() == *span
            || value.get_ref().as_array().is_some_and(|list| list.iter().any(|element| element.span() == *span))
    });
    if let Some(name) = hit.map(|(key, _)| key.get_ref().to_string()) {
        let value = table.remove(name.as_str())?.into_inner();
        return Some(Culprit { table: path.to_owned(), name, value });
    }
    table.iter_mut().find_map(|(key, value)| {
        let path = join(path, key.get_ref());
        match value.get_mut() {
            DeValue::Table(inner) => take_out(inner, &path, span),
            DeValue::Array(list) => list.iter_mut().enumerate().find_map(|(index, element)| match element.get_mut() {
                DeValue::Table(inner) => take_out(inner, &format!("{path}[{index}]"), span),
                _ => None,
            }),
            _ => None,
        }
    })
}

fn report_syntax(text: &str, tree: &Spanned<DeTable<'_>>, error: &toml::de::Error, findings: &mut Findings<'_>) {
    let offset = error.span().unwrap_or_default().start;
    let line_start = text[..offset].rfind('\n').map_or(0, |newline| newline + 1);
    let line = text[line_start..].lines().next().unwrap_or_default().trim();
    let key = match line.strip_prefix('[') {
        // A header that does not parse is not in the tree.
        Some(header) => header.trim_matches(['[', ']', ' ']).to_owned(),
        None => last_key_before(tree.get_ref(), "", offset).map_or_else(String::new, |(_, path)| path),
    };
    let remedy = if error.message() == "duplicate key" { "; keep one of them" } else { "" };
    findings.add(&key, offset, format!("is not valid TOML: {}{remedy}", error.message()));
}

/// The key that starts last at or before `offset`, with its start.
fn last_key_before(table: &DeTable<'_>, path: &str, offset: usize) -> Option<(usize, String)> {
    let mut last = None;
    for (key, value) in table {
        let path = join(path, key.get_ref());
        let inner = match value.get_ref() {
            DeValue::Table(inner) => last_key_before(inner, &path, offset),
            DeValue::Array(list) => list
                .iter()
                .enumerate()
                .filter_map(|(index, element)| Some((index, element.get_ref().as_table()?)))
                .filter_map(|(index, inner)| last_key_before(inner, &format!("{path}[{index}]"), offset))
                .max(),
            _ => None,
        };
        let own = (key.span().start <= offset).then(|| (key.span().start, path));
        last = last.max(own).max(inner);
    }
    last
}

fn join(table: &str, name: &str) -> String {
    if table.is_empty() { name.to_owned() } else { format!("{table}.{name}") }
}
