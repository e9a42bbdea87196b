//! `signkeep keys …`: look at keys, rotate, revoke, roll back.
//!
//! What changes keys is tried as a dry run first and shown. The change itself then names the
//! current key that was shown, so it is refused if somebody else was quicker.

use super::client::{Client, Connection};
use super::consent::Consent;
use super::output::{self, Output};
use super::{Failure, message, watch};
use crate::grpc::proto as pb;
use clap::{Args, Subcommand};
use serde_json::json;

const PAGE: i32 = 500;
/// More pages than that are a service that sends the same one for ever.
const PAGES_MAX: usize = 10_000;

/// Look at keys, rotate, revoke, roll back.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List keys: next, current, previous.
    List(ListArgs),
    /// Show one key with its certificate.
    Show(ShowArgs),
    /// Make the next key current; generate a fresh next one.
    Rotate(RotateArgs),
    /// Withdraw a key: out of the JWKS, never to sign again.
    Revoke(RevokeArgs),
    /// Undo the last rotation and put rotation on hold.
    Rollback(RollbackArgs),
    /// Follow every change until interrupted.
    Watch(watch::WatchArgs),
}

#[derive(Debug, Args)]
pub(super) struct Target {
    /// The key set.
    #[arg(long, value_name = "ID", default_value = "default")]
    pub(super) key_set: String,
    /// How the result looks.
    #[arg(long, value_enum, default_value_t)]
    pub(super) output: Output,
    #[command(flatten)]
    pub(super) connection: Connection,
}

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    target: Target,
    /// Keys that are no longer published, too.
    #[arg(long)]
    all: bool,
}

#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    /// The key's kid.
    kid: String,
    #[command(flatten)]
    target: Target,
}

/// What every change takes.
#[derive(Debug, Args)]
struct Change {
    #[command(flatten)]
    target: Target,
    /// Why; goes into the audit record.
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    /// Do not ask.
    #[arg(long, short)]
    yes: bool,
    /// Show what would happen and stop.
    #[arg(long)]
    dry_run: bool,
    /// Makes a repeat return the first answer; chosen at random if it is not given.
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct RotateArgs {
    #[command(flatten)]
    change: Change,
    /// Rotate although verifiers may not hold the next key yet.
    #[arg(long, requires = "reason")]
    force: bool,
}

#[derive(Debug, Args)]
pub(super) struct RevokeArgs {
    /// The key's kid.
    kid: String,
    #[command(flatten)]
    change: Change,
    /// Revoke although tokens that the key signed may be valid.
    #[arg(long, requires = "reason")]
    force: bool,
    /// Revoke the current key: the next one takes over at once.
    #[arg(long, requires = "reason")]
    emergency: bool,
    /// With --emergency: revoke the next key too, and generate both afresh.
    #[arg(long, requires = "emergency")]
    replace_next: bool,
}

#[derive(Debug, Args)]
pub(super) struct RollbackArgs {
    #[command(flatten)]
    change: Change,
}

pub(super) async fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::List(args) => list(args).await,
        Command::Show(args) => show(args).await,
        Command::Rotate(args) => rotate(args).await,
        Command::Revoke(args) => revoke(args).await,
        Command::Rollback(args) => roll_back(args).await,
        Command::Watch(args) => watch::run(args).await,
    }
}

async fn list(args: ListArgs) -> Result<(), Failure> {
    let client = args.target.connection.open().await?;
    let states = if args.all { every_state() } else { Vec::new() };
    let mut keys = Vec::new();
    let mut token = String::new();
    for _page in 0..PAGES_MAX {
        let request = client.request(pb::ListKeysRequest {
            key_set: args.target.key_set.clone(),
            page_size: PAGE,
            page_token: token,
            states: states.clone(),
        });
        let mut service = client.keys.clone();
        let page = client.answer(service.list_keys(request)).await?;
        keys.extend(page.keys);
        token = page.next_page_token;
        if token.is_empty() {
            return print_keys(&keys, args.target.output);
        }
    }
    Err(Failure::new("the service sends pages without end"))
}

async fn show(args: ShowArgs) -> Result<(), Failure> {
    let client = args.target.connection.open().await?;
    let request =
        client.request(pb::GetKeyRequest { key_set: args.target.key_set.clone(), kid: args.kid });
    let mut service = client.keys.clone();
    let key = client.answer(service.get_key(request)).await?.key;
    let key = key.ok_or_else(|| Failure::new("the service answered without a key"))?;
    match args.target.output {
        Output::Json => output::json(&message::key(&key)),
        Output::Table => {
            print_keys(std::slice::from_ref(&key), Output::Table)?;
            output::line(key.certificate_pem.trim_end())
        }
    }
}

async fn rotate(args: RotateArgs) -> Result<(), Failure> {
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
    let tried = client.answer(service.rotate(client.request(tried))).await?;
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
        request_id: request_id.map_or_else(fresh_request_id, Ok)?,
        ..request
    };
    let repeat = request.request_id.clone();
    let done = client.answer(service.rotate(client.request(request))).await;
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

async fn revoke(args: RevokeArgs) -> Result<(), Failure> {
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
    let tried = client.answer(service.revoke(client.request(tried))).await?;
    let mut words = vec![format!(
        "This will revoke the key {} of the key set {}, for good:",
        request.kid, target.key_set
    )];
    words.push("  it leaves the JWKS and never signs again; its tokens stop verifying".to_owned());
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
        pb::RevokeRequest { request_id: request_id.map_or_else(fresh_request_id, Ok)?, ..request };
    let repeat = request.request_id.clone();
    let done = client.answer(service.revoke(client.request(request))).await;
    let done = done.map_err(|failure| repeatable(failure, &repeat))?;
    match target.output {
        Output::Json => output::json(&revoked(&done)),
        Output::Table => {
            let mut keys = done.keys.clone();
            keys.extend(done.revoked.clone());
            print_keys(&keys, Output::Table)?;
            remarks(done.incomplete, done.barrier.as_ref(), &done.caches_at_risk);
            Ok(())
        }
    }
}

async fn roll_back(args: RollbackArgs) -> Result<(), Failure> {
    let Change { target, reason, yes, dry_run, request_id } = args.change;
    let client = target.connection.open().await?;
    let before = pb::GetKeySetRequest { key_set: target.key_set.clone() };
    let mut service = client.keys.clone();
    let before = client.answer(service.get_key_set(client.request(before))).await?;
    let keys = before.key_set.map(|set| set.keys).unwrap_or_default();
    let current = keys.into_iter().find(|key| key.state() == pb::KeyState::Current);
    let request = pb::RollbackRequest {
        key_set: target.key_set.clone(),
        reason,
        expected_current_kid: current.map(|key| key.kid).unwrap_or_default(),
        ..pb::RollbackRequest::default()
    };
    let tried = pb::RollbackRequest { dry_run: true, ..request.clone() };
    let tried = client.answer(service.rollback(client.request(tried))).await?;
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
    let request = pb::RollbackRequest {
        request_id: request_id.map_or_else(fresh_request_id, Ok)?,
        ..request
    };
    let repeat = request.request_id.clone();
    let done = client.answer(service.rollback(client.request(request))).await;
    let done = done.map_err(|failure| repeatable(failure, &repeat))?;
    match target.output {
        Output::Json => output::json(&rolled_back(&done)),
        Output::Table => {
            print_keys(&done.keys, Output::Table)?;
            remarks(done.incomplete, done.barrier.as_ref(), &[]);
            output::note(
                "rotation is on hold; lift it with `signkeep key-sets update --rotation-hold off`",
            );
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

/// Prints keys, each on a line.
pub(super) fn print_keys(keys: &[pb::Key], form: Output) -> Result<(), Failure> {
    if form == Output::Json {
        return output::json(&json!({ "keys": message::keys(keys) }));
    }
    let mut table =
        output::table(&["STATE", "KID", "ALGORITHM", "PUBLISHED", "SIGNED SINCE", "UNTIL"]);
    for key in keys {
        table.add_row(vec![
            output::state_cell(&message::state(key)),
            (&key.kid).into(),
            (&key.algorithm).into(),
            message::time(key.publish_time.as_ref()).into(),
            message::time(key.current_since_time.as_ref()).into(),
            message::time(key.current_until_time.as_ref()).into(),
        ]);
    }
    output::print_table(&table)
}

fn print_dry_run(
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

fn outlook(keys: &[pb::Key]) -> Vec<String> {
    keys.iter().map(|key| format!("  {} will be {}", key.kid, message::state(key))).collect()
}

fn at_risk(caches: &[String]) -> Vec<String> {
    caches.iter().map(|cache| format!("  at risk: {cache}")).collect()
}

/// What an operator should know of a change that was made.
fn remarks(incomplete: bool, barrier: Option<&pb::Barrier>, caches: &[String]) {
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

fn kid(key: Option<&pb::Key>) -> &str {
    key.map_or("(none)", |key| &key.kid)
}

fn every_state() -> Vec<i32> {
    use pb::KeyState as S;
    [S::Next, S::Current, S::Previous, S::Pending, S::Retired, S::Revoked, S::Destroyed]
        .map(i32::from)
        .to_vec()
}

/// A request id that nobody else chooses: 32 digits of hex.
fn fresh_request_id() -> Result<String, Failure> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)
        .map_err(|error| Failure::new(format!("the system gives no random bytes: {error}")))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A refusal says what to do by itself; after anything else a repeat is safe.
fn repeatable(failure: Failure, request_id: &str) -> Failure {
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

/// The answer to GetKeySet, for others.
pub(super) async fn key_set(client: &Client, id: &str) -> Result<pb::KeySet, Failure> {
    let request = client.request(pb::GetKeySetRequest { key_set: id.to_owned() });
    let mut service = client.keys.clone();
    let answer = client.answer(service.get_key_set(request)).await?;
    answer.key_set.ok_or_else(|| Failure::new("the service answered without a key set"))
}
