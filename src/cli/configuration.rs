//! `signkeep config …`: check a file, print the manual, compare with the service.

use super::client::{Client, Connection, block_on};
use super::consent::Consent;
use super::output::{self, Output};
use super::{Failure, key_sets, message};
use crate::config::{self, Config, DEFAULTS, Difference, Present, Remedy, Seed, differences};
use crate::grpc::proto as pb;
use crate::key::{KeySetId, Policy, RsaBits};
use clap::{Args, Subcommand};
use serde_json::json;
use std::path::PathBuf;
use std::time::Duration;

/// Check a configuration file, compare it with the service.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Check a file, the environment laid over it, and nothing else.
    Check(CheckArgs),
    /// Print the manual: every setting with its default.
    Defaults,
    /// Show how the file's key sets differ from the service's.
    Diff(DiffArgs),
    /// Carry policy differences over to the service.
    Apply(ApplyArgs),
}

#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// The configuration.
    #[arg(long, env = "SIGNKEEP_CONFIG", value_name = "FILE")]
    config: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct DiffArgs {
    #[command(flatten)]
    check: CheckArgs,
    /// How the result looks.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Args)]
pub(super) struct ApplyArgs {
    #[command(flatten)]
    check: CheckArgs,
    /// Why; goes into the audit record.
    #[arg(long, value_name = "TEXT", default_value = "config apply")]
    reason: String,
    /// Do not ask.
    #[arg(long, short)]
    yes: bool,
    #[command(flatten)]
    connection: Connection,
}

pub(super) fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Check(args) => {
            Config::load(&args.config, config::environment())?;
            output::line(&format!("{}: ok", args.config.display()))
        }
        Command::Defaults => output::bytes(DEFAULTS.as_bytes()),
        Command::Diff(args) => block_on(diff(args)),
        Command::Apply(args) => block_on(apply(args)),
    }
}

/// How a key set of the file stands to the service.
enum Standing {
    Missing,
    Present { etag: String, differences: Vec<Difference> },
}

async fn diff(args: DiffArgs) -> Result<(), Failure> {
    let config = Config::load(&args.check.config, config::environment())?;
    let client = args.connection.open().await?;
    let standings = compare(&client, &config).await?;
    if args.output == Output::Json {
        let list: Vec<_> = standings.iter().map(|(id, standing)| as_json(id, standing)).collect();
        return output::json(&json!({ "keySets": list }));
    }
    let mut table = output::table(&["KEY SET", "SETTING", "FILE", "SERVICE", "TO DO"]);
    for (id, standing) in &standings {
        match standing {
            Standing::Missing => {
                table.add_row([
                    id.as_str(),
                    "-",
                    "there",
                    "missing",
                    "restart the service to create it",
                ]);
            }
            Standing::Present { differences, .. } => {
                for difference in differences {
                    let to_do = match difference.remedy {
                        Remedy::Apply => "signkeep config apply",
                        Remedy::MendTheFile => "the API does not change it: mend the file",
                    };
                    table.add_row([
                        id.as_str(),
                        difference.field,
                        &difference.file,
                        &difference.service,
                        to_do,
                    ]);
                }
            }
        }
    }
    if table.is_empty() {
        return output::line("The file's key sets are as the service has them.");
    }
    output::print_table(&table)
}

async fn apply(args: ApplyArgs) -> Result<(), Failure> {
    let config = Config::load(&args.check.config, config::environment())?;
    let client = args.connection.open().await?;
    let mut todo = Vec::new();
    let mut words = vec!["This will change policies in the service:".to_owned()];
    for (id, standing) in compare(&client, &config).await? {
        let Standing::Present { etag, differences } = standing else {
            continue;
        };
        let carried: Vec<_> = differences
            .into_iter()
            .filter(|difference| difference.remedy == Remedy::Apply)
            .collect();
        for Difference { field, file, service, .. } in &carried {
            words.push(format!("  {id}: {field} {service} -> {file}"));
        }
        if !carried.is_empty() {
            let paths = carried.iter().map(|difference| format!("policy.{}", difference.field));
            todo.push((id, etag, paths.collect()));
        }
    }
    if todo.is_empty() {
        return output::line("Nothing to apply: the policies are as the file says.");
    }
    Consent::from_flag(args.yes).obtain(&words)?;
    for (id, etag, paths) in todo {
        let Some(seed) = config.key_sets.get(&id) else {
            continue;
        };
        let request = client.request(pb::UpdateKeySetRequest {
            key_set: Some(pb::KeySet {
                id: id.to_string(),
                etag,
                policy: Some(as_policy(&seed.policy)),
                ..pb::KeySet::default()
            }),
            update_mask: Some(prost_types::FieldMask { paths }),
            request_id: String::new(),
            reason: args.reason.clone(),
        });
        let mut service = client.keys.clone();
        client.answer_for(id.as_str(), service.update_key_set(request)).await?;
        output::line(&format!("{id}: applied"))?;
    }
    Ok(())
}

async fn compare(client: &Client, config: &Config) -> Result<Vec<(KeySetId, Standing)>, Failure> {
    let sets = key_sets::every(client).await?;
    let standing = |id: &KeySetId, seed: &Seed| match sets.iter().find(|set| set.id == id.as_str())
    {
        None => Standing::Missing,
        Some(set) => Standing::Present {
            etag: set.etag.clone(),
            differences: differences(seed, &present(set)),
        },
    };
    let standings = config.key_sets.iter().map(|(id, seed)| (id.clone(), standing(id, seed)));
    Ok(standings.collect())
}

fn present(set: &pb::KeySet) -> Present {
    let policy = set.policy.unwrap_or_default();
    let default = Policy::default();
    let maybe = |span: &Option<prost_types::Duration>| span.as_ref().map(message::duration);
    let or =
        |span: &Option<prost_types::Duration>, default: Duration| maybe(span).unwrap_or(default);
    Present {
        algorithm: set.algorithm.clone(),
        backend: set.backend.clone(),
        issuer: set.issuer.clone(),
        policy: Policy {
            propagation_delay: or(&policy.propagation_delay, default.propagation_delay),
            max_token_ttl: or(&policy.max_token_ttl, default.max_token_ttl),
            retention: maybe(&policy.retention),
            rotation_period: maybe(&policy.rotation_period),
            destroy_after: or(&policy.destroy_after, default.destroy_after),
            rsa_bits: u32::try_from(policy.rsa_bits)
                .ok()
                .and_then(RsaBits::from_bits)
                .unwrap_or_default(),
        },
    }
}

fn as_policy(policy: &Policy) -> pb::Policy {
    pb::Policy {
        propagation_delay: Some(message::to_span(policy.propagation_delay)),
        max_token_ttl: Some(message::to_span(policy.max_token_ttl)),
        retention: policy.retention.map(message::to_span),
        rotation_period: policy.rotation_period.map(message::to_span),
        destroy_after: Some(message::to_span(policy.destroy_after)),
        rsa_bits: i32::try_from(policy.rsa_bits.bits()).unwrap_or_default(),
    }
}

fn as_json(id: &KeySetId, standing: &Standing) -> serde_json::Value {
    let (missing, list) = match standing {
        Standing::Missing => (true, Vec::new()),
        Standing::Present { differences, .. } => {
            (false, differences.iter().map(one_as_json).collect())
        }
    };
    json!({ "id": id.as_str(), "missing": missing, "differences": list })
}

fn one_as_json(difference: &Difference) -> serde_json::Value {
    json!({
        "setting": difference.field,
        "file": difference.file,
        "service": difference.service,
        "applicable": difference.remedy == Remedy::Apply,
    })
}
