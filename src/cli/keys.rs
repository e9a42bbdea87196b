//! `signkeep keys …`: look at keys, rotate, revoke, roll back.

mod change;
mod revoke;
mod rollback;
mod rotate;
mod watch;

use super::client::{Client, Connection};
use super::output::{self, Output};
use super::{Failure, message};
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
    Rotate(rotate::Args),
    /// Withdraw a key: out of the JWKS, never to sign again.
    Revoke(revoke::Args),
    /// Undo the last rotation and put rotation on hold.
    Rollback(rollback::Args),
    /// Follow every change until interrupted.
    Watch(watch::Args),
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
    // One kid in 64 begins with a hyphen.
    #[arg(allow_hyphen_values = true)]
    kid: String,
    #[command(flatten)]
    target: Target,
}

pub(super) async fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::List(args) => list(args).await,
        Command::Show(args) => show(args).await,
        Command::Rotate(args) => rotate::run(args).await,
        Command::Revoke(args) => revoke::run(args).await,
        Command::Rollback(args) => rollback::run(args).await,
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
        let page = client.answer_for(&args.target.key_set, service.list_keys(request)).await?;
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
    let key = client.answer_for(&args.target.key_set, service.get_key(request)).await?.key;
    let key = key.ok_or_else(|| Failure::new("the service answered without a key"))?;
    match args.target.output {
        Output::Json => output::json(&message::key(&key)),
        Output::Table => {
            print_keys(std::slice::from_ref(&key), Output::Table)?;
            output::line(key.certificate_pem.trim_end())
        }
    }
}

/// Prints keys, each on a line.
pub(super) fn print_keys(keys: &[pb::Key], form: Output) -> Result<(), Failure> {
    if form == Output::Json {
        return output::json(&json!({ "keys": message::keys(keys) }));
    }
    let mut table = output::table(&[
        "STATE",
        "KID",
        "ALGORITHM",
        "PUBLISHED",
        "SIGNED SINCE",
        "SIGNED UNTIL",
        "MAY ROTATE",
        "MAY REVOKE",
    ]);
    for key in keys {
        table.add_row(vec![
            output::state_cell(&message::state(key)),
            (&key.kid).into(),
            (&key.algorithm).into(),
            message::time(key.publish_time.as_ref()).into(),
            message::time(key.current_since_time.as_ref()).into(),
            message::time(key.current_until_time.as_ref()).into(),
            message::time(key.rotatable_time.as_ref()).into(),
            message::time(key.tokens_until_time.as_ref()).into(),
        ]);
    }
    output::print_table(&table)
}

fn every_state() -> Vec<i32> {
    use pb::KeyState as S;
    [S::Next, S::Current, S::Previous, S::Pending, S::Retired, S::Revoked, S::Destroyed]
        .map(i32::from)
        .to_vec()
}

/// The answer to GetKeySet, for others.
pub(super) async fn key_set(client: &Client, id: &str) -> Result<pb::KeySet, Failure> {
    let request = client.request(pb::GetKeySetRequest { key_set: id.to_owned() });
    let mut service = client.keys.clone();
    let answer = client.answer_for(id, service.get_key_set(request)).await?;
    answer.key_set.ok_or_else(|| Failure::new("the service answered without a key set"))
}
