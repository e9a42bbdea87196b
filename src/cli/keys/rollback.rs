//! `signkeep keys rollback`.

use super::change::{Change, outlook, print_dry_run, remarks, repeatable};
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
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let Change { target, reason, yes, dry_run, request_id } = args.change;
    let client = target.connection.open().await?;
    let before = pb::GetKeySetRequest { key_set: target.key_set.clone() };
    let mut service = client.keys.clone();
    let before =
        client.answer_for(&target.key_set, service.get_key_set(client.request(before))).await?;
    let keys = before.key_set.map(|set| set.keys).unwrap_or_default();
    let current = keys.into_iter().find(|key| key.state() == pb::KeyState::Current);
    let request = pb::RollbackRequest {
        key_set: target.key_set.clone(),
        reason,
        expected_current_kid: current.map(|key| key.kid).unwrap_or_default(),
        ..pb::RollbackRequest::default()
    };
    let tried = pb::RollbackRequest { dry_run: true, ..request.clone() };
    let tried = client.answer_for(&target.key_set, service.rollback(client.request(tried))).await?;
    let mut words =
        vec![format!("This will undo the last rotation of the key set {}:", target.key_set)];
    words.extend(outlook(&tried.keys));
    words.push(
        "  rotation is put on hold until you lift it; tokens of both keys keep verifying"
            .to_owned(),
    );
    if dry_run {
        return print_dry_run(&words, &rolled_back(&tried), target.output);
    }
    Consent::from_flag(yes).obtain(&words)?;
    let request =
        pb::RollbackRequest { request_id: request_id.map_or_else(random::hex, Ok)?, ..request };
    let repeat = request.request_id.clone();
    let done = client.answer_for(&target.key_set, service.rollback(client.request(request))).await;
    let done = done.map_err(|failure| repeatable(failure, &repeat))?;
    match target.output {
        Output::Json => output::json(&rolled_back(&done)),
        Output::Table => {
            print_keys(&done.keys, Output::Table)?;
            remarks(done.incomplete, done.barrier.as_ref(), &[]);
            output::note(&format!(
                "rotation is on hold; lift it with `signkeep key-sets update {} --rotation-hold off`",
                target.key_set
            ));
            Ok(())
        }
    }
}

fn rolled_back(answer: &pb::RollbackResponse) -> serde_json::Value {
    json!({
        "keys": message::keys(&answer.keys),
        "incomplete": answer.incomplete,
        "rotationHold": answer.rotation_hold,
        "replayed": answer.replayed,
        "barrier": message::barrier(answer.barrier.as_ref()),
        "dryRun": answer.dry_run,
    })
}
