//! The real binary over PostgreSQL.

use super::outages::BACK;
use crate::harness::postgres::{Database, Server};
use crate::harness::service::Service;
use crate::harness::verifiers::pyjwt;
use crate::harness::{eventually, reason};
use signkeep::grpc::proto::KeyState;
use std::fs;
use std::time::Duration;
use tonic::Code;

/// A service with its store in `database`; not started.
async fn on(database: &Database) -> Service {
    let service = Service::serve().await;
    let file = service.path("signkeep.toml");
    let text = fs::read_to_string(&file).unwrap();
    let sqlite = format!("sqlite:{}", service.database().display());
    assert!(text.contains(&sqlite), "{text}");
    fs::write(&file, text.replace(&sqlite, &database.url())).unwrap();
    service
}

#[tokio::test]
async fn a_key_lives_its_life_and_outlives_the_process() {
    let database = Database::fresh().await;
    let mut service = on(&database).await.started().await;
    let key_set = service.key_set("default");
    let old = key_set.token("before").await;
    key_set.force_rotate().await.unwrap();
    let first = key_set.the(KeyState::Previous).await.kid;
    pyjwt(&[old, key_set.token("rotated").await]).await;
    key_set.force_revoke(&first).await.unwrap();
    let published = key_set.published().await;
    let jwks = key_set.jwks().await.unwrap();
    assert!(!jwks.to_string().contains(&first));

    service.stop().await;
    service.start().await;
    let key_set = service.key_set("default");
    assert_eq!(key_set.published().await, published);
    service.kill_9();
    service.start().await;
    let key_set = service.key_set("default");
    assert_eq!(key_set.published().await, published);
    pyjwt(&[key_set.token("after").await]).await;
    let rows: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM keys WHERE state = 'revoked'")
        .fetch_one(&mut database.connection().await)
        .await
        .unwrap();
    assert_eq!(rows, 1);
    assert!(!service.database().exists(), "no file beside it");
    service.is_unharmed();
}

#[tokio::test]
async fn a_second_process_on_the_same_database_does_not_start() {
    let database = Database::fresh().await;
    let mut first = on(&database).await.started().await;
    let mut second = on(&database).await;
    let said = second.fails_to_start().await;
    for words in ["another signkeep serves this database", "postgres://signkeep@", database.name()]
    {
        assert!(said.contains(words), "{words:?} is not in {said}");
    }
    first.is_unharmed();
    first.key_set("default").sign_message(b"still here").await.unwrap();
    first.stop().await;
    second.start().await;
    second.is_unharmed();
}

#[tokio::test]
async fn while_the_database_is_gone_signing_stops_and_goes_on_by_itself() {
    let server = Server::fresh().await;
    let database = server.database().await;
    let mut service = on(&database).await.started().await;
    let key_set = service.key_set("default");
    let current = key_set.current().await;
    server.crash().await;
    eventually("it is not ready", BACK, async || {
        (service.http("/readyz").await.status == 503).then_some(())
    })
    .await;
    let refused =
        eventually("it does not sign", BACK, async || key_set.sign_message(b"without").await.err())
            .await;
    assert_eq!(reason(&refused), (Code::Unavailable, "STORE_UNAVAILABLE".to_owned()));
    let refused = key_set.force_rotate().await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
    assert!(key_set.jwks().await.unwrap().to_string().contains(&current), "verifiers are served");

    server.start().await;
    eventually("it is ready again", BACK, async || {
        (service.http("/readyz").await.status == 200).then_some(())
    })
    .await;
    key_set.sign_message(b"with").await.unwrap();
    key_set.force_rotate().await.unwrap();
    assert_ne!(key_set.current().await, current);
    let log = service.log();
    for words in ["the hold on the database is lost", "the database is held again"] {
        assert!(log.contains(words), "{words:?} is not in the log");
    }
    service.is_unharmed();
}

#[tokio::test]
async fn a_short_interruption_stops_no_signature() {
    let database = Database::fresh().await;
    let mut service = on(&database).await.started().await;
    let key_set = service.key_set("default");
    let before = database.locks().await;
    database.cut_connections().await;
    let until = std::time::Instant::now() + Duration::from_secs(30);
    loop {
        key_set.sign_message(b"all the while").await.unwrap();
        let now = database.locks().await;
        if now.len() == 1 && now != before {
            break;
        }
        assert!(std::time::Instant::now() < until, "the database is not taken again");
    }
    service.is_unharmed();
}

#[tokio::test]
async fn doctor_looks_at_the_database_and_says_what_is_wrong() {
    let database = Database::fresh().await;
    let mut service = on(&database).await;
    let doctor =
        async |service: &Service| service.signkeep(&["doctor", "--config", "signkeep.toml"]).await;
    let output = doctor(&service).await;
    assert!(output.success, "{output:?}");
    assert!(output.stdout.contains("can be read and written"), "{output:?}");
    service.start().await;
    let output = doctor(&service).await;
    assert!(output.stdout.contains("another signkeep serves this database"), "{output:?}");
    service.stop().await;

    let file = service.path("signkeep.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace(database.name(), "nowhere")).unwrap();
    let output = doctor(&service).await;
    assert!(!output.success);
    for words in ["no such database", "nowhere", "to mend: "] {
        assert!(output.stdout.contains(words), "{words:?} is not in {output:?}");
    }
}
