//! `signkeep keys rotate`.

use super::change::{Change, at_risk, kid, print_dry_run, remarks, repeatable};
use super::print_keys;
use crate::cli::consent::Consent;
use crate::cli::output::{self, Output};
use crate::cli::{Failure, message, random};
use crate::grpc::proto as pb;
use serde_json::json;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    #[command(flatten)]
    change: Change,
    /// Rotate although verifiers may not hold the next key yet.
    #[arg(long, requires = "reason")]
    force: bool,
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let Change { target, reason, yes, dry_run, request_id } = args.change;
    let client = target.connection.open().await?;
    let request = pb::RotateRequest {
        key_set: target.key_set.clone(),
        force: args.force,
        reason,
        ..pb::RotateRequest::default()
    };
    let tried = pb::RotateRequest { dry_run: true, ..request.clone() };
    let mut service = client.keys.clone();
    let tried = client.answer_for(&target.key_set, service.rotate(client.request(tried))).await?;
    let shown = kid(tried.previous.as_ref());
    let mut words = vec![format!("This will rotate the key set {}:", target.key_set)];
    words.push(format!("  {} (next) becomes current and signs", kid(tried.current.as_ref())));
    words.push(format!("  {shown} (current) becomes previous and stays published"));
    words.push("  a fresh next key is generated".to_owned());
    words.extend(at_risk(&tried.caches_at_risk));
    if dry_run {
        return print_dry_run(&words, &rotated(&tried), target.output);
    }
    Consent::from_flag(yes).obtain(&words)?;
    let request = pb::RotateRequest {
        expected_current_kid: tried.previous.map(|key| key.kid).unwrap_or_default(),
        request_id: request_id.map_or_else(random::hex, Ok)?,
        ..request
    };
    let repeat = request.request_id.clone();
    let done = client.answer_for(&target.key_set, service.rotate(client.request(request))).await;
    let done = done.map_err(|failure| repeatable(failure, &repeat))?;
    match target.output {
        Output::Json => output::json(&rotated(&done)),
        Output::Table => {
            let keys: Vec<_> = [&done.next, &done.current, &done.previous]
                .into_iter()
                .flatten()
                .cloned()
                .collect();
            print_keys(&keys, Output::Table)?;
            remarks(done.incomplete, done.barrier.as_ref(), &done.caches_at_risk);
            Ok(())
        }
    }
}

fn rotated(answer: &pb::RotateResponse) -> serde_json::Value {
    json!({
        "next": message::maybe_key(answer.next.as_ref()),
        "current": message::maybe_key(answer.current.as_ref()),
        "previous": message::maybe_key(answer.previous.as_ref()),
        "incomplete": answer.incomplete,
        "rotationHold": answer.rotation_hold,
        "replayed": answer.replayed,
        "barrier": message::barrier(answer.barrier.as_ref()),
        "cachesAtRisk": answer.caches_at_risk,
        "dryRun": answer.dry_run,
    })
}
