//! Machines that are broken, or set up wrongly.

use crate::harness::eventually;
use crate::harness::process::Process;
use crate::harness::reason;
use crate::harness::service::{PIN, Service, Tokens, softhsm_module, spy_module};
use signkeep::grpc::proto::KeyState;
use std::fs;
use std::time::Duration;
use tonic::{Code, Status};

/// How long the backend may take to notice that the token is back.
const MENDED: Duration = Duration::from_secs(90);

#[track_caller]
fn backend_is_out(status: &Status) {
    let expected = (Code::Unavailable, "BACKEND_UNAVAILABLE".to_owned());
    assert_eq!(reason(status), expected, "{status:?}");
}

async fn signs_again(service: &Service) {
    let key_set = service.key_set("default");
    eventually("it signs again", MENDED, async || key_set.sign_message(b"back again").await.ok())
        .await;
}

#[tokio::test]
async fn a_token_directory_that_vanishes_is_an_outage_and_not_the_end_of_its_keys() {
    let mut service = Service::serve().await.started().await;
    let key_set = service.key_set("default");
    let before = key_set.published().await;
    fs::rename(service.tokens(), service.path("elsewhere")).unwrap();
    let out =
        eventually("signing fails", MENDED, async || key_set.sign_message(b"gone").await.err())
            .await;
    backend_is_out(&out);
    backend_is_out(&key_set.force_rotate().await.unwrap_err());
    assert_eq!(key_set.jwks_kids().await.len(), 2, "the JWKS stays up");
    service.is_unharmed();

    if service.tokens().exists() {
        fs::remove_dir_all(service.tokens()).unwrap();
    }
    fs::rename(service.path("elsewhere"), service.tokens()).unwrap();
    signs_again(&service).await;
    assert_eq!(key_set.published().await, before);
    service.is_unharmed();
}

#[tokio::test]
async fn started_without_its_token_directory_it_says_so_and_makes_no_new_keys() {
    let mut service = Service::serve().await.started().await;
    let before = service.key_set("default").published().await;
    service.stop().await;
    fs::rename(service.tokens(), service.path("elsewhere")).unwrap();
    service.start_unready().await;
    let key_set = service.key_set("default");
    backend_is_out(&key_set.sign_message(b"gone").await.unwrap_err());
    assert_eq!(key_set.published().await, before);
    assert_ne!(service.http("/readyz").await.status, 200);
    assert!(service.log().contains("signkeep"), "the log names the token");
    service.is_unharmed();

    if service.tokens().exists() {
        fs::remove_dir_all(service.tokens()).unwrap();
    }
    fs::rename(service.path("elsewhere"), service.tokens()).unwrap();
    signs_again(&service).await;
    service.is_unharmed();
}

#[tokio::test]
async fn a_token_directory_that_is_read_only_loses_nothing() {
    let mut service = Service::serve().await.unprivileged().started().await;
    let before = service.key_set("default").published().await;
    service.stop().await;
    service.permit(Tokens::ReadOnly);
    service.start_unready().await;
    let key_set = service.key_set("default");
    backend_is_out(&key_set.force_rotate().await.unwrap_err());
    if let Err(status) = key_set.sign_message(b"read only").await {
        backend_is_out(&status);
    }
    assert_eq!(key_set.published().await, before);
    service.is_unharmed();

    service.permit(Tokens::Writable);
    signs_again(&service).await;
    eventually("it rotates again", MENDED, async || key_set.force_rotate().await.ok()).await;
    key_set.the(KeyState::Current).await;
    service.is_unharmed();
}

#[tokio::test]
async fn a_corrupt_database_is_named_and_left_as_it_is() {
    let mut service = Service::serve().await.started().await;
    service.stop().await;
    let mut bytes = fs::read(service.database()).unwrap();
    bytes[..100].fill(0x5A);
    fs::write(service.database(), &bytes).unwrap();
    let said = service.fails_to_start().await;
    assert!(said.contains("signkeep.db"), "it does not name the database: {said}");
    assert!(!said.contains("panicked"), "{said}");
    assert!(fs::read(service.database()).unwrap() == bytes, "it was written to");
}

#[tokio::test]
async fn a_second_process_on_the_same_database_gives_way() {
    let mut service = Service::serve().await.started().await;
    let command = service.command(&service.path("second.json"));
    let mut second = Process::start(command, &service.path(""), "second");
    let status = second.wait(Duration::from_secs(60)).await;
    assert!(!status.success());
    let said = second.stderr();
    assert!(said.contains("signkeep.db"), "it does not name the database: {said}");
    assert!(!said.contains("panicked"), "{said}");
    service.key_set("default").sign_message(b"the first goes on").await.unwrap();
    service.is_unharmed();
}

#[tokio::test]
async fn a_wrong_pin_is_tried_once_however_often_the_service_is_started() {
    let mut service = Service::serve().await;
    let calls = service.path("pkcs11-calls");
    service = service
        .with_module(&spy_module())
        .with_env("PKCS11SPY", softhsm_module())
        .with_env("PKCS11SPY_OUTPUT", &calls)
        .started()
        .await;
    let logins = || {
        let calls = fs::read(&calls).unwrap_or_default();
        let calls = String::from_utf8_lossy(&calls);
        calls.lines().filter(|line| line.ends_with(": C_Login")).count()
    };
    let before = service.key_set("default").published().await;
    service.stop().await;
    let right = logins();
    assert!(right >= 1, "the spy sees logins");

    service.write_pin("271828");
    for _ in 0..3 {
        service.start_unready().await;
        let key_set = service.key_set("default");
        backend_is_out(&key_set.sign_message(b"no").await.unwrap_err());
        backend_is_out(&key_set.force_rotate().await.unwrap_err());
        assert_eq!(key_set.published().await, before, "what is published stays");
        eventually("the log speaks of the PIN", MENDED, async || {
            service.log().contains("PIN").then_some(())
        })
        .await;
        service.is_unharmed();
        service.kill_9();
    }
    let log = service.log();
    assert!(!log.contains("271828") && !log.contains(PIN), "a PIN in the log");
    assert_eq!(logins(), right + 1, "the wrong PIN was tried once");

    service.write_pin(PIN);
    service.start().await;
    signs_again(&service).await;
    service.is_unharmed();
}
