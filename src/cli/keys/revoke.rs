//! `signkeep keys revoke`.

use super::change::{Change, at_risk, outlook, print_dry_run, remarks, repeatable};
use super::print_keys;
use crate::cli::consent::Consent;
use crate::cli::output::{self, Output};
use crate::cli::{Failure, message, random};
use crate::grpc::proto as pb;
use serde_json::json;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// The key's kid.
    // One kid in 64 begins with a hyphen.
    #[arg(allow_hyphen_values = true)]
    kid: String,
    #[command(flatten)]
    change: Change,
    /// Revoke although tokens that the key signed may be valid.
    #[arg(long, requires = "reason")]
    force: bool,
    /// Revoke the current key: the next one takes over, and the private key is destroyed, at once.
    #[arg(long, requires = "reason")]
    emergency: bool,
    /// With --emergency: revoke the next key too, and generate both afresh.
    #[arg(long, requires = "emergency")]
    replace_next: bool,
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let Change { target, reason, yes, dry_run, request_id } = args.change;
    let client = target.connection.open().await?;
    let request = pb::RevokeRequest {
        key_set: target.key_set.clone(),
        kid: args.kid,
        reason,
        force: args.force,
        emergency: args.emergency,
        replace_next: args.replace_next,
        ..pb::RevokeRequest::default()
    };
    let tried = pb::RevokeRequest { dry_run: true, ..request.clone() };
    let mut service = client.keys.clone();
    let tried = client.answer(service.revoke(client.request(tried))).await;
    let tried = tried.map_err(|failure| refused(failure, &target.key_set))?;
    let mut words = vec![format!(
        "This will revoke the key {} of the key set {}, for good:",
        request.kid, target.key_set
    )];
    words.push("  it leaves the JWKS and never signs again".to_owned());
    words.push(
        "  its tokens stop verifying once caches have let go of it: seconds to hours, see the README"
            .to_owned(),
    );
    if args.emergency {
        words.push("  its private key is destroyed at once".to_owned());
    }
    words.extend(outlook(&tried.keys));
    if tried.incomplete {
        words.push("  what is missing then is generated at once".to_owned());
    }
    words.extend(at_risk(&tried.caches_at_risk));
    if dry_run {
        return print_dry_run(&words, &revoked(&tried), target.output);
    }
    Consent::from_flag(yes).obtain(&words)?;
    let request =
        pb::RevokeRequest { request_id: request_id.map_or_else(random::hex, Ok)?, ..request };
    let repeat = request.request_id.clone();
    let done = client.answer(service.revoke(client.request(request))).await;
    let done = done.map_err(|failure| repeatable(refused(failure, &target.key_set), &repeat))?;
    match target.output {
        Output::Json => output::json(&revoked(&done)),
        Output::Table => {
            let mut keys = done.keys.clone();
            keys.extend(done.revoked.clone());
            print_keys(&keys, Output::Table)?;
            remarks(done.incomplete, done.barrier.as_ref(), &done.caches_at_risk);
            if args.replace_next {
                output::note(&format!(
                    "the next key was revoked too; Sign fails until fresh ones are there: `signkeep keys watch --key-set {}` shows when",
                    target.key_set
                ));
            }
            Ok(())
        }
    }
}

/// Under a hold the next key is the one that was rolled back: promoting it is the last thing to do.
fn refused(failure: Failure, key_set: &str) -> Failure {
    let failure = match failure.reason.as_deref() {
        Some("ROTATION_HOLD") => failure.mend(
            "in an emergency repeat with --replace-next: both keys are revoked and made afresh, so the key that was rolled back does not sign",
        ),
        _ => failure,
    };
    failure.of(key_set)
}

fn revoked(answer: &pb::RevokeResponse) -> serde_json::Value {
    json!({
        "revoked": message::maybe_key(answer.revoked.as_ref()),
        "keys": message::keys(&answer.keys),
        "incomplete": answer.incomplete,
        "rotationHold": answer.rotation_hold,
        "replayed": answer.replayed,
        "barrier": message::barrier(answer.barrier.as_ref()),
        "cachesAtRisk": answer.caches_at_risk,
        "dryRun": answer.dry_run,
    })
}
