//! The file and the environment as one tree that remembers where each value came from.
//!
//! The environment is laid over the parsed file before anything is read from it. A value from a
//! variable gets a span beyond the end of the text, so that whatever is found wrong later leads
//! back either to a line of the file or to the variable.

use super::File;
use serde::Deserialize;
use std::borrow::Cow;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

/// Every variable that sets a setting begins so.
const PREFIX: &str = "SIGNKEEP_";
/// Variables with the prefix that are not settings of the service: the command line's own.
const NOT_SETTINGS: [&str; 8] = [
    "SIGNKEEP_CA_FILE",
    "SIGNKEEP_CERT_FILE",
    "SIGNKEEP_CONFIG",
    "SIGNKEEP_HTTP_URL",
    "SIGNKEEP_KEY_FILE",
    "SIGNKEEP_SERVER",
    "SIGNKEEP_SOFTHSM_MODULE",
    "SIGNKEEP_TOKEN_FILE",
];
/// Settings that are numbers, or true or false; a variable's value is text for every other.
const NUMBERS: [&str; 21] = [
    "workers",
    "queue",
    "rsa_bits",
    "requests_per_second",
    "in_flight",
    "multi_region",
    "checkpoint_records",
    "rotate_size",
    "keep",
    "rate",
    "concurrency",
    "connections_max",
    "streams_per_connection_max",
    "header_bytes_max",
    "message_bytes_max",
    "calls_per_second",
    "calls_at_once",
    "rotations_per_day",
    "guard_revoke",
    "remove_alg_from_jwks",
    "certificates",
];
/// Tables whose keys are names; names have dashes where variables have underscores.
const NAMED: [&str; 2] = ["backends", "key_sets"];

/// A variable of the environment that sets a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    name: String,
    value: String,
}

/// What is wrong with a configuration: where, which field, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {}{what}", if field.is_empty() { String::new() } else { format!("{field}: ") })]
pub struct Error {
    /// Where it was said.
    pub place: Place,
    /// The path of the field, e.g. `key_sets.default.issuer`; empty if it is the whole file.
    pub field: String,
    /// What is wrong with it, and what would be right.
    pub what: String,
}

/// Where a setting was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A line of the file, from 1.
    Line(PathBuf, usize),
    /// The file as a whole: the setting is not in it.
    File(PathBuf),
    /// A variable of the environment.
    Variable(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(file, line) => write!(f, "{}:{line}", file.display()),
            Self::File(file) => write!(f, "{}", file.display()),
            Self::Variable(name) => write!(f, "environment variable {name}"),
        }
    }
}

impl Error {
    pub(super) fn unreadable(file: &Path, error: &io::Error) -> Self {
        Self {
            place: Place::File(file.to_owned()),
            field: String::new(),
            what: format!(
                "cannot be read ({error}); `signkeep config defaults` prints a file to start from"
            ),
        }
    }
}

/// Those of `environment` that are settings, in the order of their names.
pub(super) fn variables(environment: impl IntoIterator<Item = (String, String)>) -> Vec<Variable> {
    let mut variables: Vec<_> = environment
        .into_iter()
        .filter(|(name, _)| name.starts_with(PREFIX) && !NOT_SETTINGS.contains(&name.as_str()))
        .map(|(name, value)| Variable { name, value })
        .collect();
    variables.sort_by(|one, other| one.name.cmp(&other.name));
    variables
}

/// The tree, for finding out where a field was set.
pub(super) struct Document<'a> {
    file: &'a Path,
    text: &'a str,
    variables: &'a [Variable],
    tree: Spanned<DeTable<'a>>,
}

impl<'a> Document<'a> {
    /// Parses the text, lays the variables over it and reads the whole.
    pub(super) fn read(
        text: &'a str,
        file: &'a Path,
        variables: &'a [Variable],
    ) -> Result<(Self, File), Error> {
        let mut document = Self { file, text, variables, tree: Spanned::new(0..0, DeTable::new()) };
        document.tree = DeTable::parse(text).map_err(|error| document.unparsable(&error))?;
        for (index, variable) in variables.iter().enumerate() {
            let at = text.len() + index;
            overlay(document.tree.get_mut(), variable, at).map_err(|what| Error {
                place: Place::Variable(variable.name.clone()),
                field: String::new(),
                what,
            })?;
        }
        let read = File::deserialize(toml::de::Deserializer::from(document.tree.clone()))
            .map_err(|error| document.unparsable(&error))?;
        Ok((document, read))
    }

    /// The error that `field`, a path with dots and numbers for the entries of lists, is wrong.
    pub(super) fn wrong(&self, field: &str, what: impl fmt::Display) -> Error {
        let mut span = None;
        let mut table = Some(self.tree.get_ref());
        let mut list: Option<&DeArray<'_>> = None;
        for part in field.split('.') {
            if let Ok(index) = part.parse::<usize>() {
                // A list of one may be written without being one.
                if let Some(entries) = list.take() {
                    let entry = entries.get(index);
                    span = entry.map(Spanned::span).or(span);
                    table = entry.and_then(|entry| entry.get_ref().as_table());
                }
                continue;
            }
            let found = table
                .and_then(|table| table.iter().find(|(key, _)| key.get_ref().as_ref() == part));
            let Some((key, value)) = found else { break };
            span = Some(match value.get_ref() {
                DeValue::Table(_) => key.span(),
                _ => value.span(),
            });
            table = value.get_ref().as_table();
            list = value.get_ref().as_array();
        }
        Error {
            place: span
                .map_or_else(|| Place::File(self.file.to_owned()), |span| self.place(span.start)),
            field: field.to_owned(),
            what: what.to_string(),
        }
    }

    fn unparsable(&self, error: &toml::de::Error) -> Error {
        let start = error.span().map(|span| span.start);
        let mut path = Vec::new();
        if let Some(start) = start {
            trace(self.tree.get_ref(), start, &mut path);
        }
        Error {
            place: start
                .map_or_else(|| Place::File(self.file.to_owned()), |start| self.place(start)),
            field: path.join("."),
            what: error.message().to_owned(),
        }
    }

    fn place(&self, offset: usize) -> Place {
        let beyond = offset.checked_sub(self.text.len());
        if let Some(variable) = beyond.and_then(|index| self.variables.get(index)) {
            return Place::Variable(variable.name.clone());
        }
        let before = self.text.get(..offset).unwrap_or(self.text);
        Place::Line(self.file.to_owned(), before.matches('\n').count() + 1)
    }
}

/// Sets what `variable` names, with `at` as the place of its value.
fn overlay<'a>(root: &mut DeTable<'a>, variable: &'a Variable, at: usize) -> Result<(), String> {
    let path = variable.name.strip_prefix(PREFIX).unwrap_or_default();
    let mut parts: Vec<String> = path.split("__").map(str::to_ascii_lowercase).collect();
    if parts.iter().any(String::is_empty) {
        return Err(
            "names no setting; two underscores go between levels, as in SIGNKEEP_STORE__URL"
                .to_owned(),
        );
    }
    if let [table, name, ..] = parts.as_mut_slice()
        && NAMED.contains(&table.as_str())
    {
        *name = name.replace('_', "-");
    }
    let value = value(&variable.value, parts.last().map_or("", String::as_str));
    set(root, &parts, value, at)
}

fn value<'a>(text: &'a str, setting: &str) -> DeValue<'a> {
    let number = NUMBERS
        .contains(&setting)
        .then(|| DeValue::parse(text).ok().map(Spanned::into_inner))
        .flatten();
    number.unwrap_or(DeValue::String(Cow::Borrowed(text)))
}

fn set<'a>(
    table: &mut DeTable<'a>,
    parts: &[String],
    value: DeValue<'a>,
    at: usize,
) -> Result<(), String> {
    let Some((part, rest)) = parts.split_first() else {
        return Ok(());
    };
    let old = table.iter().find(|(key, _)| key.get_ref() == part).map(|(key, _)| key.clone());
    let key = old.unwrap_or_else(|| Spanned::new(at..at, Cow::Owned(part.clone())));
    let Some(following) = rest.first() else {
        // The old key would lead to the line of the file that is overridden.
        table.remove(&key);
        table.insert(Spanned::new(at..at, Cow::Owned(part.clone())), Spanned::new(at..at, value));
        return Ok(());
    };
    let empty = match following.parse::<usize>() {
        Ok(_) => DeValue::Array(Default::default()),
        Err(_) => DeValue::Table(DeTable::new()),
    };
    let entry = table.entry(key).or_insert_with(|| Spanned::new(at..at, empty));
    match entry.get_mut() {
        DeValue::Table(inner) => set(inner, rest, value, at),
        DeValue::Array(list) => {
            let index: usize = following
                .parse()
                .map_err(|_| format!("{part} is a list: a number from 0 goes after it"))?;
            if index > list.len() {
                return Err(format!("{part} has no entry {}: begin there", list.len()));
            }
            if index == list.len() {
                list.push(Spanned::new(at..at, DeValue::Table(DeTable::new())));
            }
            let slot = list.get_mut(index).map(Spanned::get_mut);
            match (slot, rest.split_first()) {
                (Some(DeValue::Table(inner)), Some((_, rest))) if !rest.is_empty() => {
                    set(inner, rest, value, at)
                }
                _ => Err(format!("the name of a setting goes after {part}__{index}")),
            }
        }
        _ => Err(format!("{part} is a single value in the file")),
    }
}

/// The path of the innermost value, or of the key, that begins at or spans `offset`.
fn trace(table: &DeTable<'_>, offset: usize, path: &mut Vec<String>) {
    for (key, value) in table {
        path.push(key.get_ref().to_string());
        let depth = path.len();
        match value.get_ref() {
            DeValue::Table(inner) => trace(inner, offset, path),
            DeValue::Array(list) => {
                for (index, item) in list.iter().enumerate() {
                    let DeValue::Table(inner) = item.get_ref() else {
                        continue;
                    };
                    path.push(index.to_string());
                    trace(inner, offset, path);
                    if path.len() > depth + 1 {
                        return;
                    }
                    path.pop();
                }
            }
            _ => {}
        }
        // Last, for a table that a variable has made begins where the variable's value does.
        if path.len() > depth || covers(&key.span(), offset) || covers(&value.span(), offset) {
            return;
        }
        path.pop();
    }
}

fn covers(span: &std::ops::Range<usize>, offset: usize) -> bool {
    span.contains(&offset) || span.start == offset
}
