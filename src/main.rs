//! The `signkeep` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    signkeep::cli::main()
}
