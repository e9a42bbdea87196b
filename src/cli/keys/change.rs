//! What the verbs that change keys have in common.
//!
//! A change is tried as a dry run first and shown. What is then asked for names the current key
//! that was shown, so it is refused if somebody else was quicker, and has a request id, so that a
//! repeat is carried out once.

use super::Target;
use crate::cli::output::{self, Output};
use crate::cli::{Failure, message};
use crate::grpc::proto as pb;
use clap::Args;

/// What every change takes.
#[derive(Debug, Args)]
pub(super) struct Change {
    #[command(flatten)]
    pub(super) target: Target,
    /// Why; goes into the audit record.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub(super) reason: String,
    /// Do not ask.
    #[arg(long, short)]
    pub(super) yes: bool,
    /// Show what would happen and stop.
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Makes a repeat return the first answer; chosen at random if it is not given.
    #[arg(long, value_name = "ID")]
    pub(super) request_id: Option<String>,
}

pub(super) fn print_dry_run(
    words: &[String],
    answer: &serde_json::Value,
    form: Output,
) -> Result<(), Failure> {
    match form {
        Output::Json => output::json(answer),
        Output::Table => {
            output::line(&words.join("\n"))?;
            output::line("Nothing was changed.")
        }
    }
}

pub(super) fn outlook(keys: &[pb::Key]) -> Vec<String> {
    keys.iter().map(|key| format!("  {} will be {}", key.kid, message::state(key))).collect()
}

pub(super) fn at_risk(caches: &[String]) -> Vec<String> {
    caches.iter().map(|cache| format!("  at risk: {cache}")).collect()
}

/// What an operator should know of a change that was made.
pub(super) fn remarks(incomplete: bool, barrier: Option<&pb::Barrier>, caches: &[String]) {
    if incomplete {
        output::note(
            "the key set is incomplete; the service generates what is missing as soon as its backend can",
        );
    }
    for replica in barrier.iter().flat_map(|barrier| &barrier.replicas_still_publishing) {
        output::note(&format!("replica {replica} may still publish what was before"));
    }
    for cache in caches {
        output::note(&format!("at risk: {cache}"));
    }
}

pub(super) fn kid(key: Option<&pb::Key>) -> &str {
    key.map_or("(none)", |key| &key.kid)
}

/// A refusal says what to do by itself; after anything else a repeat is safe.
pub(super) fn repeatable(failure: Failure, request_id: &str) -> Failure {
    let uncertain = failure.reason.as_deref().is_none_or(|reason| {
        matches!(
            reason,
            "DEADLINE_EXCEEDED" | "INTERNAL_FAULT" | "UNAVAILABLE" | "UNKNOWN" | "CANCELLED"
        )
    });
    if uncertain {
        failure.mend(format!(
            "a repeat with --request-id {request_id} is safe: it is carried out once"
        ))
    } else {
        failure
    }
}
