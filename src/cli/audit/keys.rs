//! `signkeep audit keys`: the public keys of the internal key set that signs checkpoints.

use super::source::Database;
use crate::audit;
use crate::cli::Failure;
use crate::cli::output::{self, note};
use crate::jose::Jwk;
use crate::key::{Key, KeySetId, State};
use serde_json::json;

/// Print the public keys that checkpoints are verified with; keep them away from the service.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    database: Database,
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let id: KeySetId = audit::KEY_SET
        .parse()
        .map_err(|wrong| Failure::new(format!("{}: {wrong}", audit::KEY_SET)))?;
    let archive = args.database.archive().await?;
    let keys = archive.keys(&id).await.map_err(|error| Failure::new(error.message))?;
    let (revoked, trusted): (Vec<Key>, Vec<Key>) = keys.into_iter().partition(is_revoked);
    for key in &revoked {
        note(&format!(
            "note: {} was revoked and is left out: who holds it can sign checkpoints",
            key.kid
        ));
    }
    if trusted.is_empty() {
        return Err(Failure::new("there is no audit key in this database yet")
            .mend("the service makes it when it starts and its backend answers"));
    }
    let keys: Vec<Jwk> = trusted.iter().map(Jwk::new).collect();
    output::json(&json!({ "keys": keys }))
}

fn is_revoked(key: &Key) -> bool {
    matches!(key.state, State::Revoked { .. } | State::Destroyed { revoked: Some(_), .. })
}
