//! `signkeep keys watch`: every change as it happens.

use super::print_keys;
use crate::cli::client::Connection;
use crate::cli::output::{self, Output};
use crate::cli::{Failure, message};
use crate::grpc::proto as pb;
use serde_json::json;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// The key set; without it every one.
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    key_set: String,
    /// How the result looks; JSON is one object a line.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
    #[command(flatten)]
    connection: Connection,
}

/// Runs until the service ends the stream or the operator interrupts.
pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let client = args.connection.open().await?;
    // No deadline: a watch lasts as long as it is wanted; keepalive notices a dead connection.
    let request = client.lasting_request(pb::WatchKeysRequest { key_set: args.key_set });
    let mut service = client.keys.clone();
    let mut changes = client.answer(service.watch_keys(request)).await?;
    let mut unfinished = false;
    while let Some(change) = changes.message().await? {
        let kind = if change.snapshot || unfinished { "snapshot" } else { "change" };
        unfinished = change.more;
        show(&change, kind, args.output)?;
    }
    Err(Failure::new("the service ended the watch").mend("watch again"))
}

fn show(change: &pb::WatchKeysResponse, kind: &str, form: Output) -> Result<(), Failure> {
    if form == Output::Json {
        let sets: Vec<_> = change.key_sets.iter().map(message::key_set).collect();
        let object = json!({
            "keySets": sets,
            "revision": change.revision.to_string(),
            "snapshot": change.snapshot,
            "more": change.more,
        });
        return output::line(&object.to_string());
    }
    for set in &change.key_sets {
        let lacks = if set.incomplete { ", incomplete" } else { "" };
        let state = message::set_state(set);
        output::line(&format!(
            "{kind} at revision {}: {} ({state}{lacks})",
            change.revision, set.id
        ))?;
        print_keys(&set.keys, form)?;
    }
    Ok(())
}
