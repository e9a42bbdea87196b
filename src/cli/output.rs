//! What commands print: tables for people, JSON for programs.

use super::Failure;
use crate::telemetry::colours;
use clap::ValueEnum;
use comfy_table::presets::NOTHING;
use comfy_table::{Cell, Color, ContentArrangement, Table};
use serde_json::Value;
use std::io::{self, IsTerminal, Write};

/// How a result looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// A table or plain words, for people.
    #[default]
    Table,
    /// JSON with the names of the API's JSON form, for programs.
    Json,
}

/// Prints a line of a result. A reader that has gone away is no failure.
pub(super) fn line(text: &str) -> Result<(), Failure> {
    bytes(format!("{text}\n").as_bytes())
}

/// Prints bytes of a result as they are.
pub(super) fn bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::new(format!("standard output cannot be written: {error}")))
        }
        _ => Ok(()),
    }
}

/// Prints a JSON result on lines of its own.
pub(super) fn json(value: &Value) -> Result<(), Failure> {
    line(&format!("{value:#}"))
}

/// Says something that is not a result, on standard error. That it cannot be said is no failure.
pub(super) fn note(text: &str) {
    let _unsaid = writeln!(io::stderr().lock(), "{text}");
}

/// An empty table with these headings; it fits the terminal, and is never broken elsewhere.
pub(super) fn table(headings: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header(headings.to_vec());
    if io::stdout().is_terminal() {
        table.set_content_arrangement(ContentArrangement::Dynamic);
    } else {
        table.set_content_arrangement(ContentArrangement::Disabled);
    }
    if !colours(&io::stdout()) {
        table.force_no_tty();
    }
    table
}

/// A cell that shows a key's state; the word says it, the colour only helps.
pub(super) fn state_cell(state: &str) -> Cell {
    let cell = Cell::new(state);
    if !colours(&io::stdout()) {
        return cell;
    }
    match state {
        "current" | "enabled" => cell.fg(Color::Green),
        "next" => cell.fg(Color::Cyan),
        "revoked" | "disabled" => cell.fg(Color::Red),
        _ => cell,
    }
}

/// Prints a table.
pub(super) fn print_table(table: &Table) -> Result<(), Failure> {
    line(&table.trim_fmt())
}
