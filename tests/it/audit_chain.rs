//! The audit record under attack: whatever is done to it, the first thing wrong is named.

mod book;
mod checkpoints;
mod command;
mod database;
mod format;
mod properties;
mod python;
mod records;
mod stored;
