//! `signkeep policy …`: what the policy in a file says, before and without a service that follows it.

use super::Failure;
use super::output::{self, Output};
use crate::access::{Action, Binding, Caller, Lifetime, Role, Standing};
use crate::clock::{Clock, SystemClock};
use crate::config::{self, Config};
use crate::jose::Members;
use crate::key::KeySetId;
use clap::{Args, Subcommand};
use serde_json::json;
use std::path::PathBuf;

/// Ask the policy of a configuration file who may do what.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Say whether a caller may do something, and why.
    Explain(ExplainArgs),
    /// List what each binding gives to whom.
    Check(CheckArgs),
}

#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// The configuration.
    #[arg(long, env = "SIGNKEEP_CONFIG", value_name = "FILE")]
    config: PathBuf,
    /// How the result looks.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

#[derive(Debug, Args)]
pub(super) struct ExplainArgs {
    #[command(flatten)]
    check: CheckArgs,
    /// The caller's name, as the log has it, e.g. spiffe://prod.example/issuer or uid:1000.
    #[arg(long, value_name = "NAME")]
    caller: String,
    /// What else the caller is known by, e.g. gid:1000 or group:ci:deployers; may be repeated.
    #[arg(long, value_name = "NAME")]
    attribute: Vec<String>,
    /// The key set.
    #[arg(long, value_name = "ID", default_value = "default")]
    key_set: KeySetId,
    /// view, sign, sign-jwt, rotate, revoke, rollback, hold, create, update, disable, enable or
    /// delete.
    #[arg(long, value_name = "ACTION")]
    action: Action,
    /// Claims to be judged, a JSON object; for sign-jwt.
    #[arg(long, value_name = "JSON")]
    claims: Option<String>,
}

pub(super) fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Explain(args) => explain(&args),
        Command::Check(args) => check(&args),
    }
}

/// What one binding has to say.
struct Verdict {
    /// From 1, in the order of the file.
    number: usize,
    standing: Standing,
    why_not: Option<String>,
}

fn explain(args: &ExplainArgs) -> Result<(), Failure> {
    let config = Config::load(&args.check.config, config::environment())?;
    let caller = Caller::new(&args.caller, &args.attribute)
        .map_err(|error| Failure::usage(format!("--caller, --attribute: {error}")))?;
    let claims = match &args.claims {
        Some(_) if args.action != Action::SignJwt => {
            return Err(Failure::usage("--claims goes with --action sign-jwt"));
        }
        Some(text) => Some(
            Members::parse(text.as_bytes())
                .map_err(|error| Failure::usage(format!("--claims {error}")))?,
        ),
        None => None,
    };
    let verdicts: Vec<_> = config
        .policy
        .iter()
        .enumerate()
        .map(|(at, binding)| Verdict {
            number: at + 1,
            standing: binding.standing(&caller, args.action, &args.key_set),
            why_not: why_not(args, &caller, binding, claims.as_ref()),
        })
        .collect();
    let allowing: Vec<_> =
        verdicts.iter().filter(|verdict| verdict.why_not.is_none()).map(|v| v.number).collect();
    let words = said(args, &verdicts, &allowing);
    match args.check.output {
        Output::Json => output::json(&json!({
            "allowed": !allowing.is_empty(),
            "bindings": allowing,
            "why": words,
        }))?,
        Output::Table => words.iter().try_for_each(|line| output::line(line))?,
    }
    if allowing.is_empty() { Err(Failure::new("not allowed")) } else { Ok(()) }
}

/// What the binding has against it; none: it allows it.
fn why_not(
    args: &ExplainArgs,
    caller: &Caller,
    binding: &Binding,
    claims: Option<&Members>,
) -> Option<String> {
    let standing = binding.standing(caller, args.action, &args.key_set);
    let mut against = Vec::new();
    if !standing.caller {
        against.push("it is for other callers".to_owned());
    }
    if !standing.key_set {
        against.push("it is about other key sets".to_owned());
    }
    if !standing.action {
        let roles: Vec<_> = args.action.roles().map(Role::as_str).collect();
        against.push(format!("it gives none of the roles {}", roles.join(", ")));
    }
    if against.is_empty()
        && let (Some(policy), Some(claims)) = (&binding.claims, claims)
    {
        let lifetime = Lifetime { now: SystemClock.now().as_second(), asked: None };
        if let Err(refused) = policy.judge(caller.as_str(), claims, lifetime) {
            against.push(format!("its rule {}: {refused}", refused.rule));
        }
    }
    (!against.is_empty()).then(|| against.join("; "))
}

fn said(args: &ExplainArgs, verdicts: &[Verdict], allowing: &[usize]) -> Vec<String> {
    let ExplainArgs { caller, action, key_set, .. } = args;
    let what = format!("{caller} may {{}}{action} with the key set {key_set}");
    if !allowing.is_empty() {
        let by = allowing.iter().map(|number| format!("[[policy]] number {number}"));
        let by = by.collect::<Vec<_>>().join(", ");
        return vec![format!("allowed: {} by {by}", what.replace("{}", ""))];
    }
    let mut lines = vec![format!("not allowed: {}", what.replace("{}", "not "))];
    if key_set.is_internal() {
        lines.push("the service keeps that key set for itself; no binding gives it".to_owned());
        return lines;
    }
    match verdicts.iter().rev().max_by_key(|verdict| verdict.standing.nearness()) {
        None => lines.push("there is no [[policy]] in the file: nobody may do anything".to_owned()),
        Some(nearest) => lines.push(format!(
            "nearest is [[policy]] number {}: {}",
            nearest.number,
            nearest.why_not.as_deref().unwrap_or_default()
        )),
    }
    lines
}

fn check(args: &CheckArgs) -> Result<(), Failure> {
    let config = Config::load(&args.config, config::environment())?;
    if args.output == Output::Json {
        let list: Vec<_> = config.policy.iter().enumerate().map(as_json).collect();
        return output::json(&json!({ "policy": list }));
    }
    if config.policy.is_empty() {
        return output::line("There is no [[policy]]: nobody may do anything.");
    }
    let mut table = output::table(&[
        "NUMBER",
        "CALLERS",
        "KEY SETS",
        "OF THE FILE",
        "ACTIONS",
        "LIMITS",
        "CLAIMS",
    ]);
    for (at, binding) in config.policy.iter().enumerate() {
        let seeds = config.key_sets.keys().filter(|id| binding.is_about(id));
        table.add_row([
            (at + 1).to_string(),
            joined(&binding.callers),
            joined(&binding.key_sets),
            or_dash(seeds.map(ToString::to_string).collect::<Vec<_>>().join(" ")),
            actions(binding).join(" "),
            limits(binding),
            if binding.claims.is_some() { "ruled" } else { "-" }.to_owned(),
        ]);
    }
    output::print_table(&table)
}

fn as_json((at, binding): (usize, &Binding)) -> serde_json::Value {
    let texts = |all: &[crate::access::Pattern]| -> Vec<String> {
        all.iter().map(ToString::to_string).collect()
    };
    json!({
        "number": at + 1,
        "callers": texts(&binding.callers),
        "keySets": texts(&binding.key_sets),
        "roles": binding.roles,
        "actions": actions(binding),
        "rate": binding.limits.rate,
        "concurrency": binding.limits.concurrency,
        "claims": binding.claims.is_some(),
    })
}

fn actions(binding: &Binding) -> Vec<&'static str> {
    let given = Action::ALL.into_iter().filter(|action| binding.gives(*action));
    given.map(Action::as_str).collect()
}

fn limits(binding: &Binding) -> String {
    let rate = binding.limits.rate.map(|rate| format!("{rate}/s"));
    let at_once = binding.limits.concurrency.map(|many| format!("{many} at once"));
    or_dash(rate.into_iter().chain(at_once).collect::<Vec<_>>().join(" "))
}

fn joined(patterns: &[crate::access::Pattern]) -> String {
    patterns.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

fn or_dash(text: String) -> String {
    if text.is_empty() { "-".to_owned() } else { text }
}
