//! The policy in the docs, as it stands there, in front of an emulator that checks signatures and
//! policies: it is enough, and of each permission that is taken away the error and `signkeep doctor`
//! say that it is missing.

use super::{EC, made};
use crate::contract::backend::{key_ref, material, message, order, soon};
use crate::harness::kms::{INSTANCE, environment, open, section, settings};
use crate::harness::ministack::{Account, User};
use crate::harness::service::Service;
use crate::harness::tools::{Output, repository, run_command};
use serde_json::{Value, json};
use signkeep::backend::aws_kms::{Settings, StaticCredentials};
use signkeep::backend::{Backend, Error, KeyRef, Kind};
use signkeep::key::Algorithm;
use std::collections::{BTreeSet, HashSet};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

/// What the emulator decides about `*` or the alias, where AWS decides about the key (and, for
/// CreateAlias, the alias too).
const ABOUT_THE_ALIAS: [&str; 2] = ["kms:CreateAlias", "kms:DescribeKey"];
/// What the emulator does not ask for when tags come with CreateKey; AWS does.
const NOT_CHECKED: [&str; 1] = ["kms:TagResource"];
/// What `doctor` cannot try, because trying is doing; it says so.
const NOT_TRIED: [&str; 4] =
    ["kms:CreateKey", "kms:DisableKey", "kms:ScheduleKeyDeletion", "kms:TagResource"];

/// The documented policy for `account`, less one action.
fn policy(account: &Account, without: &str) -> Value {
    let text = std::fs::read_to_string(repository("docs/aws-kms-policy.json")).unwrap();
    assert!(text.contains("111122223333") && text.contains("prod-1"), "{text}");
    let text = text.replace("111122223333", &account.id).replace("prod-1", INSTANCE);
    let mut policy: Value = serde_json::from_str(&text).unwrap();
    let statements = policy["Statement"].as_array_mut().unwrap();
    statements.push(json!({
        "Sid": "TheEmulatorAlone", "Effect": "Allow", "Action": ABOUT_THE_ALIAS, "Resource": "*",
    }));
    for statement in statements.iter_mut() {
        let mut left = actions(statement);
        left.remove(without);
        statement["Action"] = json!(left);
    }
    statements.retain(|statement| !actions(statement).is_empty());
    policy
}

fn actions(statement: &Value) -> BTreeSet<String> {
    match &statement["Action"] {
        Value::String(one) => [one.clone()].into(),
        several => serde_json::from_value(several.clone()).unwrap(),
    }
}

/// Every action that the documented policy allows.
fn all_actions() -> BTreeSet<String> {
    let text = std::fs::read_to_string(repository("docs/aws-kms-policy.json")).unwrap();
    let policy: Value = serde_json::from_str(&text).unwrap();
    policy["Statement"].as_array().unwrap().iter().flat_map(actions).collect()
}

fn as_user(account: &Account, user: &User) -> Settings {
    Settings {
        credentials: Some(StaticCredentials {
            access_key_id: user.access_key_id.clone(),
            secret_access_key: user.secret_access_key.clone(),
        }),
        patience: Duration::from_secs(2),
        absence: Duration::ZERO,
        ..settings(account)
    }
}

/// Everything that the service ever does in KMS, on a key that was there and on a new one; what
/// failed.
async fn everything(backend: &dyn Backend, key: &Arc<KeyRef>) -> Vec<Error> {
    let mut failed = Vec::new();
    let mut note = |outcome: Result<(), Error>| failed.extend(outcome.err());
    note(backend.list(&HashSet::new()).await.map(drop));
    note(backend.find(key.material, EC).await.map(drop));
    note(backend.sign(key, message(), soon()).await.map(drop));
    match backend.generate(&order(2, EC)).await {
        Ok(made) => {
            let made = key_ref(2, Algorithm::Es256, &made);
            note(backend.destroy(made.material, Some(&made.object)).await);
        }
        Err(error) => note(Err(error)),
    }
    note(backend.disable(key).await);
    note(backend.destroy(key.material, Some(&key.object)).await);
    failed
}

async fn doctor(account: &Account, user: &User) -> Output {
    let service = Service::configured(&section(account, ""));
    let mut command = Command::new(env!("CARGO_BIN_EXE_signkeep"));
    command
        .args(["doctor", "--config"])
        .arg(service.path("signkeep.toml"))
        .current_dir(service.path(""))
        .env("NO_COLOR", "1")
        .envs(environment(&user.access_key_id, &user.secret_access_key));
    run_command(command).await
}

#[tokio::test]
async fn the_documented_policy_is_enough() {
    let account = Account::strict().await;
    let user = account.user(&policy(&account, "")).await;
    let backend = open(as_user(&account, &user)).await;
    backend.probe().await.unwrap();
    let key = made(&backend, 1).await;
    let told = doctor(&account, &user).await;
    assert!(told.success, "{told:?}");
    let failed = everything(&backend, &key).await;
    assert!(failed.is_empty(), "{failed:#?}");
}

#[tokio::test]
async fn each_permission_that_is_missing_is_named() {
    let all = all_actions();
    assert!(all.len() >= 9, "{all:?}");
    for action in &all {
        let account = Account::strict().await;
        let user = account.user(&policy(&account, "")).await;
        let key = made(&open(as_user(&account, &user)).await, 1).await;
        account.grant(&policy(&account, action)).await;

        let told = doctor(&account, &user).await;
        let lines = format!("{}{}", told.stdout, told.stderr);
        let line = lines.lines().find(|line| line.contains(action.as_str()));
        let line = line.unwrap_or_else(|| panic!("doctor does not name {action}: {lines}"));
        if NOT_TRIED.contains(&action.as_str()) {
            assert!(line.contains("not tried"), "{action}: {line}");
        } else {
            assert!(!told.success, "{action}: {lines}");
            assert!(lines.contains(&format!("grant {action}")), "{action}: {lines}");
        }

        let backend = open(as_user(&account, &user)).await;
        let failed = everything(&backend, &key).await;
        if NOT_CHECKED.contains(&action.as_str()) {
            assert!(failed.is_empty(), "the emulator checks {action} now: {failed:#?}");
            continue;
        }
        let named = failed
            .iter()
            .any(|error| error.kind == Kind::Denied && error.message.contains(action.as_str()));
        assert!(named, "{action} is not named: {failed:#?}");
    }
}

#[tokio::test]
async fn a_wrong_secret_is_named_by_doctor_and_no_reason_not_to_start() {
    let account = Account::strict().await;
    let user = account.user(&policy(&account, "")).await;
    let wrong = User { secret_access_key: "wrong".to_owned(), ..user };
    let told = doctor(&account, &wrong).await;
    assert!(!told.success, "{told:?}");
    assert!(!told.stdout.contains("wrong\"") && told.stdout.contains("ignature"), "{told:?}");
    let backend = open(as_user(&account, &wrong)).await;
    assert_eq!(backend.probe().await.unwrap_err().kind, Kind::Denied);
    let error = backend.generate(&order(1, EC)).await.unwrap_err();
    assert_eq!(error.kind, Kind::Denied, "{error}");
    // It was certainly not made: nothing needs to be waited for.
    backend.destroy(material(1), None).await.unwrap();
}
