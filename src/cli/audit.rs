//! `signkeep audit …`: look at the record of what was done, verify it, take it elsewhere.
//!
//! Works on files and on the database itself, with or without a service running, and asks no
//! service anything: whoever doubts the record doubts the service too.

mod export;
mod keys;
mod list;
mod source;
mod verify;

use super::Failure;
use super::client::block_on;
use clap::Subcommand;

/// Look at the record of what was done, verify it, take it elsewhere.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show the latest records.
    List(list::Args),
    /// Find the first record that was changed, dropped, put in or moved, if there is one.
    Verify(verify::Args),
    /// Print the record as it stands in the database, in the form of the files.
    Export(export::Args),
    /// Print the public keys that checkpoints are verified with; keep them away from the service.
    Keys(keys::Args),
}

pub(super) fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::List(args) => block_on(list::run(args)),
        Command::Verify(args) => block_on(verify::run(args)),
        Command::Export(args) => block_on(export::run(args)),
        Command::Keys(args) => block_on(keys::run(args)),
    }
}
