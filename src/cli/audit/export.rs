//! `signkeep audit export`: the record as lines, as the file sink writes it.

use super::source::Database;
use crate::audit::Entry;
use crate::cli::{Failure, output};

/// Written at a time.
const BUFFER: usize = 1 << 16;

/// Print the record as it stands in the database, in the form of the files.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    database: Database,
    /// The number of the first record to print; what was printed before need not be again.
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    since: u64,
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let mut source = args.database.open(args.since).await?;
    let mut next = source.checkpoint().await?;
    let mut lines = String::new();
    while let Some(linked) = source.record().await? {
        let number = linked.number;
        append(&mut lines, &Entry::Record(linked));
        while let Some(checkpoint) = next.take_if(|next| next.statement.head.number <= number) {
            if checkpoint.statement.head.number >= args.since {
                append(&mut lines, &Entry::Checkpoint(checkpoint));
            }
            next = source.checkpoint().await?;
        }
        if lines.len() > BUFFER {
            output::bytes(lines.as_bytes())?;
            lines.clear();
        }
    }
    output::bytes(lines.as_bytes())
}

fn append(lines: &mut String, entry: &Entry) {
    lines.push_str(&entry.to_json());
    lines.push('\n');
}
