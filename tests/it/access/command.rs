//! The policy in a file: explained and checked by the command line, followed by the service, and
//! changed under it by SIGHUP.

use crate::harness::eventually;
use crate::harness::service::Service;
use crate::harness::tools::{Output, run_command};
use rustix::process::Signal;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;
use tonic::Code;

const FILE: &str = r#"
[backends.token]
kind = "pkcs11"
module = "hsm.so"
token_label = "signkeep"
pin_file = "pin"

[[policy]]
callers = ["spiffe://prod.example/ns/auth/sa/*", "group:ci:issuers"]
key_sets = ["default", "prod-*"]
roles = ["jwt-signer"]
rate = 500
[policy.claims]
audiences = ["https://api.example/*"]

[[policy]]
callers = "uid:0"
key_sets = "*"
roles = "operator"

[key_sets.prod-eu]
algorithm = "ES256"
issuer = "https://issuer.example/"
"#;

fn file() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("signkeep.toml");
    fs::write(&file, FILE).unwrap();
    (folder, file)
}

async fn policy(args: &[&str]) -> Output {
    let (_folder, file) = file();
    let mut command = Command::new(env!("CARGO_BIN_EXE_signkeep"));
    command.arg("policy").args(args).arg("--config").arg(file).env("NO_COLOR", "1");
    run_command(command).await
}

async fn explain(caller: &str, key_set: &str, action: &str, more: &[&str]) -> Output {
    let args = ["explain", "--caller", caller, "--key-set", key_set, "--action", action];
    policy(&[&args[..], more].concat()).await
}

#[tokio::test]
async fn explain_says_whether_and_by_which_binding() {
    let issuer = "spiffe://prod.example/ns/auth/sa/issuer";
    let allowed = explain(issuer, "prod-eu", "sign-jwt", &[]).await;
    assert!(allowed.success, "{allowed:?}");
    assert_eq!(
        allowed.stdout,
        "allowed: spiffe://prod.example/ns/auth/sa/issuer may sign-jwt with the key set prod-eu by [[policy]] number 1\n"
    );
    let by_group =
        explain("jwt:ci:x", "default", "view", &["--attribute", "group:ci:issuers"]).await;
    assert!(by_group.success, "{by_group:?}");
}

#[tokio::test]
async fn explain_says_what_comes_nearest_and_why_not() {
    let issuer = "spiffe://prod.example/ns/auth/sa/issuer";
    for (caller, key_set, action, more, words) in [
        (issuer, "default", "sign", &[][..], &["number 1", "roles signer"][..]),
        (issuer, "test", "sign-jwt", &[], &["number 1", "other key sets"]),
        ("uid:1", "default", "sign-jwt", &[], &["number 1", "other callers"]),
        ("uid:0", "signkeep-audit", "view", &[], &["keeps that key set for itself"]),
        (
            issuer,
            "default",
            "sign-jwt",
            &["--claims", r#"{"aud":"https://evil.example/"}"#],
            &["number 1", "rule audiences", "https://api.example/*"],
        ),
    ] {
        let refused = explain(caller, key_set, action, more).await;
        assert!(!refused.success, "{refused:?}");
        for word in ["not allowed"].iter().chain(words) {
            assert!(refused.stdout.contains(word), "{word}: {refused:?}");
        }
    }
    let good = r#"{"aud":"https://api.example/a"}"#;
    assert!(explain(issuer, "default", "sign-jwt", &["--claims", good]).await.success);
}

#[tokio::test]
async fn check_lists_what_each_binding_gives() {
    let listed = policy(&["check"]).await;
    assert!(listed.success, "{listed:?}");
    for word in
        ["group:ci:issuers", "prod-eu", "view sign-jwt", "500/s", "ruled", "uid:0", "revoke"]
    {
        assert!(listed.stdout.contains(word), "{word}: {listed:?}");
    }
}

async fn outcome(service: &Service) -> Code {
    match service.signing().sign(super::sign("default")).await {
        Ok(_) => Code::Ok,
        Err(status) => status.code(),
    }
}

#[tokio::test]
async fn a_policy_in_the_file_is_followed_from_the_next_sighup_on_all_of_it_or_none() {
    let mut service = Service::serve().await.started().await;
    assert_eq!(outcome(&service).await, Code::Ok);
    let file = service.path("signkeep.toml");
    let open = fs::read_to_string(&file).unwrap();
    let shut = open.replace(r#"roles = ["signer", "admin"]"#, r#"roles = ["viewer"]"#);
    assert_ne!(open, shut);
    let reloaded = async |service: &Service, text: &str, code: Code| {
        fs::write(&file, text).unwrap();
        service.signal(Signal::HUP);
        let what = format!("it answers {code:?}");
        eventually(&what, Duration::from_secs(20), async || {
            (outcome(service).await == code).then_some(())
        })
        .await;
    };
    reloaded(&service, &shut, Code::PermissionDenied).await;
    let broken = open.replace(r#"callers = ["**"]"#, r#"callers = ["***"]"#);
    fs::write(&file, broken).unwrap();
    service.signal(Signal::HUP);
    eventually("it says that it was not reloaded", Duration::from_secs(20), async || {
        service.log().contains("policy.0.callers").then_some(())
    })
    .await;
    assert_eq!(outcome(&service).await, Code::PermissionDenied);
    reloaded(&service, &open, Code::Ok).await;
    service.is_unharmed();
}

#[tokio::test]
async fn a_service_without_a_policy_starts_says_so_and_lets_nobody_in() {
    let service = Service::serve().await;
    let file = service.path("signkeep.toml");
    let open = fs::read_to_string(&file).unwrap();
    let (before, after) = open.split_once("[[policy]]").unwrap();
    let (_, after) = after.split_once("[backends").unwrap();
    fs::write(&file, format!("{before}[backends{after}")).unwrap();
    let service = service.started().await;
    assert!(service.log().contains("nobody may do anything"), "{}", service.log());
    assert_eq!(outcome(&service).await, Code::PermissionDenied);
}
