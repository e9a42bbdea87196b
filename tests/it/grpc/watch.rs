//! WatchKeys.

use super::*;
use signkeep::key::{KeySetId, Service};
use signkeep::keyring::Create;

type Watch = tonic::Streaming<pb::WatchKeysResponse>;

async fn watch(server: &Server, key_set: &str) -> Watch {
    let request = pb::WatchKeysRequest { key_set: key_set.to_owned() };
    server.keys().await.watch_keys(request).await.unwrap().into_inner()
}

async fn message(watch: &mut Watch) -> Result<pb::WatchKeysResponse, Status> {
    let message = tokio::time::timeout(PATIENCE, watch.message()).await;
    Ok(message.expect("a message")?.expect("no end without a status"))
}

fn ids(message: &pb::WatchKeysResponse) -> Vec<&str> {
    message.key_sets.iter().map(|set| set.id.as_str()).collect()
}

async fn with_two_sets() -> Server {
    let server = Server::with_keys().await;
    let other = Create { id: "other".parse().unwrap(), ..server.life.creation() };
    server.life.ring.create(crate::harness::ring::context(None), other).await.unwrap();
    server
}

async fn serve(server: &Server, id: &str, service: Service) {
    let id: KeySetId = id.parse().unwrap();
    let context = crate::harness::ring::context(None);
    server.life.ring.set_service(context, id, service, String::new()).await.unwrap();
}

#[tokio::test]
async fn a_watch_begins_with_a_snapshot_and_tells_each_change_once() {
    let server = with_two_sets().await;
    let mut watch = watch(&server, "").await;
    let first = message(&mut watch).await.unwrap();
    assert!(first.snapshot && !first.more);
    assert_eq!(ids(&first), ["default", "other"]);

    let old = server.life.current().to_string();
    server.life.rotate().await.unwrap();
    serve(&server, "other", Service::Disabled).await;
    let rotated = message(&mut watch).await.unwrap();
    assert!(!rotated.snapshot && !rotated.more);
    assert!(rotated.revision > first.revision);
    assert_eq!(ids(&rotated), ["default"]);
    assert_eq!(rotated.key_sets[0].keys.last().unwrap().kid, old);
    let disabled = message(&mut watch).await.unwrap();
    assert!(disabled.revision > rotated.revision);
    assert_eq!(ids(&disabled), ["other"]);
    assert_eq!(disabled.key_sets[0].state(), pb::KeySetState::Disabled);
    server.stop().await;
}

#[tokio::test]
async fn a_watch_of_one_key_set_is_told_of_no_other() {
    let server = with_two_sets().await;
    let mut watch = watch(&server, "other").await;
    assert_eq!(ids(&message(&mut watch).await.unwrap()), ["other"]);
    server.life.rotate().await.unwrap();
    serve(&server, "other", Service::Disabled).await;
    assert_eq!(ids(&message(&mut watch).await.unwrap()), ["other"]);

    let unknown = pb::WatchKeysRequest { key_set: "nobody".into() };
    let refused = server.keys().await.watch_keys(unknown).await.unwrap_err();
    assert_eq!((refused.code(), &*reason(&refused)), (Code::NotFound, "KEY_SET_NOT_FOUND"));
    server.stop().await;
}

#[tokio::test]
async fn a_watcher_who_does_not_keep_up_is_told_so() {
    let server = Server::with_keys().await;
    let endpoint = Channel::from_shared(format!("http://{}", server.address)).unwrap();
    let channel = endpoint.initial_stream_window_size(1000).connect().await.unwrap();
    let request = pb::WatchKeysRequest::default();
    let watch = KeyServiceClient::new(channel).watch_keys(request).await;
    let mut watch = watch.unwrap().into_inner();
    // More than the keyring keeps for one watcher.
    for at in 0..1040 {
        let service = if at % 2 == 0 { Service::Disabled } else { Service::Enabled };
        serve(&server, "default", service).await;
    }
    let ended = loop {
        match message(&mut watch).await {
            Ok(_) => {}
            Err(ended) => break ended,
        }
    };
    assert_eq!((ended.code(), &*reason(&ended)), (Code::Aborted, "WATCH_LAGGED"));
    server.stop().await;
}

#[tokio::test]
async fn a_stop_ends_a_watch() {
    let server = Server::with_keys().await;
    let mut watch = watch(&server, "").await;
    message(&mut watch).await.unwrap();
    server.stop().await;
    let ended = message(&mut watch).await.unwrap_err();
    assert_eq!((ended.code(), &*reason(&ended)), (Code::Unavailable, "SHUTTING_DOWN"));
}
