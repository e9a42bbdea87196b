//! GetPublicKey of keys in every state.

use crate::harness::key_set::KeySet;
use crate::harness::service::Service;
use crate::harness::tools::{run_command, tool};
use serde_json::Value;
use signkeep::grpc::proto::{GetPublicKeyRequest, GetPublicKeyResponse, RevokeRequest};
use std::fs;
use std::process::Command;

async fn public(service: &Service, key_set: &KeySet, kid: &str) -> GetPublicKeyResponse {
    let request = GetPublicKeyRequest { key_set: key_set.id().to_owned(), kid: kid.to_owned() };
    service.signing().get_public_key(request).await.unwrap().into_inner()
}

/// What openssl reads from `pem`, as a public key in PEM.
async fn openssl(service: &Service, pem: &str, args: &[&str]) -> String {
    let file = service.path("read.pem");
    fs::write(&file, pem).unwrap();
    let mut command = Command::new(tool("openssl"));
    command.args(args).arg("-in").arg(&file);
    let output = run_command(command).await;
    assert!(output.success, "{output:?}");
    output.stdout
}

async fn is_whole(service: &Service, key_set: &KeySet, kid: &str) -> Value {
    let told = public(service, key_set, kid).await;
    assert_eq!(told.kid, kid);
    let jwk: Value = serde_json::from_str(&told.jwk).unwrap();
    assert_eq!(jwk["kid"], kid);
    let public = openssl(service, &told.public_key_pem, &["pkey", "-pubin", "-pubout"]).await;
    let certified = openssl(service, &told.certificate_pem, &["x509", "-noout", "-pubkey"]).await;
    assert_eq!(public, certified, "the certificate is for the same key");
    jwk
}

#[tokio::test]
async fn the_public_key_is_the_same_everywhere_and_outlives_the_keys_use() {
    let service = Service::dev().await;
    for id in ["default", "demo-es256"] {
        let key_set = service.key_set(id);
        key_set.force_rotate().await.unwrap();
        let published = key_set.published().await;
        let jwks = key_set.jwks().await.unwrap();
        let entries = jwks["keys"].as_array().unwrap();
        assert_eq!(published.len(), 3, "next, current, previous");
        for key in &published {
            let jwk = is_whole(&service, &key_set, &key.kid).await;
            assert!(entries.contains(&jwk), "{jwk} is not in {jwks}");
        }
        let current = key_set.current().await;
        assert_eq!(public(&service, &key_set, "").await.kid, current, "by default");

        let emergency = RevokeRequest {
            emergency: true,
            reason: "a drill".to_owned(),
            ..RevokeRequest::default()
        };
        key_set.revoke_as(&current, emergency).await.unwrap();
        is_whole(&service, &key_set, &current).await;
    }
}
