//! The record over crashes of the real service, and a file that goes away under it.

use super::PATIENCE;
use crate::harness::service::Service;
use crate::harness::{eventually, reason};
use signkeep::grpc::proto as pb;
use std::fs;
use std::path::Path;
use tonic::{Code, Status};

async fn sign(service: &Service) -> Result<pb::SignResponse, Status> {
    let input = pb::sign_request::Input::Message(b"hello"[..].into());
    let key_set = "default".to_owned();
    let request = pb::SignRequest { key_set, input: Some(input), ..pb::SignRequest::default() };
    let mut request = tonic::Request::new(request);
    request.set_timeout(std::time::Duration::from_secs(5));
    service.signing().sign(request).await.map(tonic::Response::into_inner)
}

/// What `signkeep audit verify` finds, as JSON.
async fn verified(service: &Service, place: &[&str]) -> serde_json::Value {
    let keys = service.path("keys.json");
    let mut args = vec!["audit", "verify", "--output", "json", "--keys", keys.to_str().unwrap()];
    args.extend(place);
    let ran = service.signkeep(&args).await;
    assert!(ran.success, "{ran:?}");
    serde_json::from_slice(ran.stdout.as_ref()).unwrap()
}

async fn keep_the_keys(service: &Service, store: &str) {
    let keys = eventually("the key that seals the record is made", PATIENCE, async || {
        let ran = service.signkeep(&["audit", "keys", "--store", store]).await;
        ran.success.then_some(ran.stdout)
    })
    .await;
    fs::write(service.path("keys.json"), keys).unwrap();
}

fn lines(file: &Path) -> Vec<String> {
    fs::read_to_string(file).unwrap_or_default().lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn after_kill_9_under_load_both_chains_verify_and_the_next_start_tells_of_it() {
    let mut service = Service::serve().await.with_env("SIGNKEEP_AUDIT__SINKS", "store, file");
    service.start().await;
    let store = format!("sqlite:{}", service.database().display());
    keep_the_keys(&service, &store).await;
    let file = service.path("audit.jsonl");
    for _ in 0..3 {
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let mut signing = service.signing();
            calls.spawn(async move {
                let input = Some(pb::sign_request::Input::Message(b"hello"[..].into()));
                let key_set = "default".to_owned();
                let request = pb::SignRequest { key_set, input, ..pb::SignRequest::default() };
                while signing.sign(request.clone()).await.is_ok() {}
            });
        }
        let before = lines(&file).len();
        eventually("signatures are recorded", PATIENCE, async || {
            (lines(&file).len() > before + 50).then_some(())
        })
        .await;
        service.kill_9();
        while calls.join_next().await.is_some() {}
        service.start().await;
    }
    let starts = |text: &[String]| {
        let told = "the service before did not stop in good order: up to 8704 records";
        text.iter().filter(|line| line.contains(told)).count()
    };
    eventually("the starts are recorded", PATIENCE, async || {
        (starts(&lines(&file)) == 3).then_some(())
    })
    .await;
    service.stop().await;
    let found = verified(&service, &["--file", file.to_str().unwrap()]).await;
    assert_eq!(found["unsigned"], 0, "{found}");
    let found = verified(&service, &["--store", &store]).await;
    assert_eq!(found["unsigned"], 0, "{found}");
    // One that stopped in good order is followed by one that has nothing to tell.
    service.start().await;
    service.stop().await;
    assert_eq!(starts(&lines(&file)), 3);
    let last: Vec<_> = lines(&file).into_iter().filter(|line| line.contains("\"stop\"")).collect();
    assert_eq!(last.len(), 2);
}

#[tokio::test]
async fn a_file_that_goes_away_stops_signatures_and_no_revocation_until_it_is_back() {
    let mut service = Service::serve()
        .await
        .with_env("SIGNKEEP_AUDIT__SINKS", "file")
        .with_env("SIGNKEEP_AUDIT__QUEUE", "64")
        .with_env("SIGNKEEP_AUDIT__FILE__PATH", "records/audit.jsonl");
    let (records, away) = (service.path("records"), service.path("away"));
    fs::create_dir(&records).unwrap();
    service.start().await;
    let store = format!("sqlite:{}", service.database().display());
    keep_the_keys(&service, &store).await;
    sign(&service).await.unwrap();
    fs::rename(&records, &away).unwrap();
    let refused = eventually("the record is full", PATIENCE * 4, async || {
        let calls = futures_util::future::join_all((0..32).map(|_| sign(&service))).await;
        calls.into_iter().filter_map(Result::err).find(|it| it.code() == Code::Unavailable)
    })
    .await;
    assert_eq!(reason(&refused), (Code::Unavailable, "AUDIT_UNAVAILABLE".to_owned()));
    let ready = service.http("/readyz").await;
    let ready: serde_json::Value = serde_json::from_slice(&ready.body).unwrap();
    assert_eq!((&ready["audit"]["file"], &ready["store"]), (&"out".into(), &"ok".into()));
    // The emergency goes on.
    let mut default = service.keys();
    let request = pb::GetKeySetRequest { key_set: "default".to_owned() };
    let set = default.get_key_set(request).await.unwrap().into_inner().key_set.unwrap();
    let current = set.keys.iter().find(|key| key.state() == pb::KeyState::Current).unwrap();
    let revoke = pb::RevokeRequest {
        key_set: "default".to_owned(),
        kid: current.kid.clone(),
        emergency: true,
        force: true,
        reason: "stolen".to_owned(),
        ..pb::RevokeRequest::default()
    };
    default.revoke(revoke).await.unwrap();
    fs::rename(&away, &records).unwrap();
    eventually("signatures go on", PATIENCE, async || sign(&service).await.ok()).await;
    service.stop().await;
    let file = records.join("audit.jsonl");
    let found = verified(&service, &["--file", file.to_str().unwrap()]).await;
    assert_eq!(found["unsigned"], 0, "{found}");
    service.start().await;
    service.is_unharmed();
}
