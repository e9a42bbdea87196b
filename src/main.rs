//! The `signkeep` command.

fn main() {}
