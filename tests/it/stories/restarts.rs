//! The service is stopped and started as operators do it.

use crate::harness::eventually;
use crate::harness::key_set::KeySet;
use crate::harness::service::Service;
use crate::harness::verifiers::pyjwt;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tonic::Code;

/// The drain's own limit, and what a busy machine adds.
const DRAINED: Duration = Duration::from_secs(45);

#[tokio::test]
async fn started_again_it_goes_on_with_the_same_keys() {
    let mut service = Service::dev().await;
    for id in ["default", "demo-es256"] {
        service.key_set(id).force_rotate().await.unwrap();
    }
    let before = everything(&service).await;
    let old = service.key_set("default").token("from before").await;

    service.stop().await;
    service.start().await;
    assert_eq!(everything(&service).await, before);
    let key_set = service.key_set("default");
    let from_before = crate::harness::verifiers::Case { jwks_uri: key_set.jwks_uri(), ..old };
    pyjwt(&[from_before, key_set.token("from after").await]).await;

    service.kill_9();
    service.start().await;
    assert_eq!(everything(&service).await, before);
    service.is_unharmed();
}

/// The keys of both key sets, and what is published of them.
async fn everything(service: &Service) -> Vec<(Vec<signkeep::grpc::proto::Key>, String)> {
    let mut found = Vec::new();
    for id in ["default", "demo-es256"] {
        let key_set = service.key_set(id);
        found.push((key_set.published().await, key_set.jwks().await.unwrap().to_string()));
    }
    found
}

#[tokio::test]
async fn a_sigterm_under_load_ends_in_time_with_every_answer_whole() {
    let mut service = Service::dev().await;
    let signed = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = (0..8)
        .map(|_| tokio::spawn(sign_until_it_ends(service.key_set("demo-es256"), signed.clone())))
        .collect();
    // One connection that never says a word: no drain may wait for it.
    let idle = TcpStream::connect(service.grpc_address()).await.unwrap();
    let idle_http = TcpStream::connect(service.http_address()).await.unwrap();
    eventually("signatures flow", DRAINED, async || {
        (signed.load(Ordering::Relaxed) > 50).then_some(())
    })
    .await;

    let start = Instant::now();
    service.terminate();
    let status = service.ended(DRAINED).await;
    assert!(status.success(), "{status} after {:?}", start.elapsed());
    for client in clients {
        let last = client.await.unwrap();
        assert!(
            matches!(last, Code::Unavailable | Code::Cancelled | Code::Unknown),
            "a call was answered {last:?}"
        );
    }
    drop((idle, idle_http));
    assert!(!service.log().contains("panicked"));
    service.start().await;
    service.key_set("demo-es256").sign_message(b"and on").await.unwrap();
}

/// Signs until a call fails; returns that call's code.
async fn sign_until_it_ends(key_set: KeySet, signed: Arc<AtomicUsize>) -> Code {
    let mut kids = BTreeSet::new();
    loop {
        match key_set.sign_message(b"under load").await {
            Ok(answer) => {
                assert_eq!(answer.signature.len(), 64);
                kids.insert(answer.kid);
                signed.fetch_add(1, Ordering::Relaxed);
            }
            Err(status) => {
                assert_eq!(kids.len(), 1, "nothing rotated");
                return status.code();
            }
        }
    }
}
