//! KMS out, beside a token that is not: the one half of the service goes on as if nothing were.

use super::service::metric;
use crate::harness::eventually;
use crate::harness::fault_proxy::Fault;
use crate::harness::kms::{beside, section};
use crate::harness::ministack::Account;
use crate::harness::reason;
use crate::harness::service::Service;
use serde_json::Value;
use signkeep::grpc::proto::Policy;
use std::time::{Duration, Instant};
use tonic::Code;
use tonic_types::StatusExt;

const CIRCUIT: &str = "signkeep_circuit_open{backend=\"kms\"}";

#[tokio::test]
async fn an_outage_of_kms_leaves_the_keys_of_a_token_untouched() {
    let account = Account::fresh().await;
    let service = beside(Service::serve().await, &account).with_more(&section(&account, ""));
    let mut service = service.started().await;
    let (token, kms) = (service.key_set("default"), service.key_set("in-kms"));
    kms.create_in("kms", "ES256", Policy::default()).await.unwrap();
    kms.sign_message(b"hello").await.unwrap();
    let published = kms.jwks_kids().await;

    for fault in [Fault::Reset, Fault::Hang, Fault::Error(503, "ServiceUnavailableException")] {
        account.proxy.always("*", fault);
        eventually("health says that kms is out", Duration::from_secs(60), async || {
            (health(&service, "kms").await == "out").then_some(())
        })
        .await;
        assert_eq!(health(&service, "token").await, "ok", "{fault:?}");
        let mut slowest = Duration::ZERO;
        for _ in 0..20 {
            let began = Instant::now();
            token.sign_message(b"hello").await.unwrap();
            slowest = slowest.max(began.elapsed());
        }
        assert!(slowest < Duration::from_secs(2), "{fault:?}: the token took {slowest:?}");
        assert_eq!(kms.jwks_kids().await, published, "{fault:?}");
        assert_eq!(token.jwks_kids().await.len(), 2, "{fault:?}");

        account.proxy.forget();
        let began = Instant::now();
        for _ in 0..20 {
            let status = kms.sign_message(b"hello").await.unwrap_err();
            let expected = (Code::Unavailable, "BACKEND_UNAVAILABLE".to_owned());
            assert_eq!(reason(&status), expected, "{fault:?}: {status}");
            let details = status.get_error_details();
            assert!(details.retry_info().is_some(), "{fault:?}: {status}");
        }
        let (waited, asked) = (began.elapsed(), account.proxy.count("Sign"));
        assert!(waited < Duration::from_secs(10), "{fault:?}: 20 refusals took {waited:?}");
        assert!(asked <= 5, "{fault:?}: an open circuit asked {asked} times");

        eventually("the circuit is seen to be open", Duration::from_secs(30), async || {
            (metric(&service, CIRCUIT).await == "1").then_some(())
        })
        .await;

        account.proxy.mend();
        eventually("kms signs again", Duration::from_secs(30), async || {
            kms.sign_message(b"hello").await.ok()
        })
        .await;
        eventually("health says so", Duration::from_secs(30), async || {
            (health(&service, "kms").await == "ok").then_some(())
        })
        .await;
        eventually("the circuit is seen to be closed", Duration::from_secs(30), async || {
            (metric(&service, CIRCUIT).await == "0").then_some(())
        })
        .await;
    }
    service.is_unharmed();
}

#[tokio::test]
async fn a_start_while_kms_is_out_serves_and_heals() {
    let account = Account::fresh().await;
    let service = beside(Service::serve().await, &account).with_more(&section(&account, ""));
    let mut service = service.started().await;
    let kms = service.key_set("in-kms");
    kms.create_in("kms", "ES256", Policy::default()).await.unwrap();
    let published = kms.jwks_kids().await;
    service.stop().await;

    account.proxy.always("*", Fault::Reset);
    service.start().await;
    let (token, kms) = (service.key_set("default"), service.key_set("in-kms"));
    token.sign_message(b"hello").await.unwrap();
    assert_eq!(kms.jwks_kids().await, published);
    let status = kms.sign_message(b"hello").await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    account.proxy.mend();
    eventually("kms signs", Duration::from_secs(30), async || {
        kms.sign_message(b"hello").await.ok()
    })
    .await;
}

/// What `/readyz` says of a backend.
async fn health(service: &Service, backend: &str) -> String {
    let told: Value = serde_json::from_slice(&service.http("/readyz").await.body).unwrap();
    told["backends"][backend].as_str().unwrap_or_default().to_owned()
}
