//! A caller who has nothing but the address: grpcurl, and a few lines of Python, learn the API from
//! reflection. Where grpcurl is not to be had, the Python client stands in for it, and `tests/run`
//! says so at its end.

use crate::harness::service::Service;
use crate::harness::tools::{Output, find, python, repository, run};
use crate::harness::verifiers::{Case, openssl};
use base64ct::{Base64, Base64UrlUnpadded, Encoding};
use serde_json::{Value, json};
use signkeep::grpc::proto::KeyState;
use std::path::PathBuf;

const SERVICES: [&str; 3] =
    ["grpc.health.v1.Health", "signkeep.v1.KeyService", "signkeep.v1.SigningService"];

/// A program that calls by reflection.
pub(crate) enum Client {
    /// Reflection v1, and v1alpha where that is missing.
    Grpcurl(PathBuf),
    /// Reflection v1alpha.
    Python,
}

impl Client {
    /// grpcurl, or what stands in for it.
    pub(crate) fn best() -> Self {
        find("grpcurl").map_or(Self::Python, Self::Grpcurl)
    }

    async fn services(&self, address: &str) -> Vec<String> {
        match self {
            Self::Grpcurl(program) => {
                let output = run(program, ["-plaintext", address, "list"]).await;
                assert!(output.success, "{output:?}");
                output.stdout.lines().map(str::to_owned).collect()
            }
            Self::Python => {
                let script = repository("tests/clients/python/call.py");
                let output = run(python(), [script.to_str().unwrap(), address, "list"]).await;
                assert!(output.success, "{output:?}");
                serde_json::from_str(&output.stdout).unwrap()
            }
        }
    }

    async fn call(&self, address: &str, method: &str, request: Value) -> Output {
        let method = format!("signkeep.v1.{method}");
        let request = request.to_string();
        match self {
            Self::Grpcurl(program) => {
                let args = ["-plaintext", "-d", &request, address, &method];
                run(program, args).await
            }
            Self::Python => {
                let script = repository("tests/clients/python/call.py");
                let args = [script.to_str().unwrap(), address, &method, &request];
                run(python(), args).await
            }
        }
    }

    async fn answer(&self, address: &str, method: &str, request: Value) -> Value {
        let output = self.call(address, method, request).await;
        assert!(output.success, "{method}: {output:?}");
        serde_json::from_str(&output.stdout).unwrap()
    }
}

#[tokio::test]
async fn grpcurl_drives_the_life_of_a_key() {
    drives_the_life_of_a_key(&Client::best(), &mut Service::dev().await, "RS256").await;
}

#[tokio::test]
async fn a_reflection_client_in_python_drives_the_life_of_a_key() {
    drives_the_life_of_a_key(&Client::Python, &mut Service::dev().await, "RS256").await;
}

/// From the first look to a revocation, on the key set `default` of `service`.
pub(crate) async fn drives_the_life_of_a_key(
    client: &Client,
    service: &mut Service,
    algorithm: &str,
) {
    let address = service.grpc_address().to_owned();
    let listed = client.services(&address).await;
    for expected in SERVICES {
        assert!(listed.iter().any(|name| name == expected), "{listed:?}");
    }

    let default = json!({ "key_set": "default" });
    let keys = client.answer(&address, "KeyService/ListKeys", default.clone()).await;
    assert_eq!(states(&keys), ["KEY_STATE_NEXT", "KEY_STATE_CURRENT"]);
    let current = keys["keys"][1]["kid"].as_str().unwrap().to_owned();

    let input =
        Base64UrlUnpadded::encode_string(format!(r#"{{"alg":"{algorithm}"}}"#).as_bytes()) + ".e30";
    let sign = json!({ "key_set": "default", "message": Base64::encode_string(input.as_bytes()) });
    let signed = client.answer(&address, "SigningService/Sign", sign).await;
    assert_eq!(signed["kid"], current.as_str());
    let signature = Base64::decode_vec(signed["signature"].as_str().unwrap()).unwrap();
    let certificate = service.key_set("default").the(KeyState::Current).await.certificate_pem;
    let case = Case {
        name: "what a reflection client had signed".to_owned(),
        jwks_uri: String::new(),
        algorithm: algorithm.to_owned(),
        issuer: None,
        jwt: format!("{input}.{}", Base64UrlUnpadded::encode_string(&signature)),
        verifies: true,
    };
    openssl(&certificate, &[case.with_a_flipped_bit(), case]).await;

    let refused = client.call(&address, "KeyService/Rotate", default).await;
    assert!(!refused.success, "the guard let it pass: {refused:?}");
    let forced = json!({ "key_set": "default", "force": true, "reason": "a drill" });
    let rotated = client.answer(&address, "KeyService/Rotate", forced).await;
    assert_eq!(rotated["previous"]["kid"], current.as_str());

    let revoke =
        json!({ "key_set": "default", "kid": current, "force": true, "reason": "a drill" });
    let revoked = client.answer(&address, "KeyService/Revoke", revoke).await;
    assert_eq!(revoked["revoked"]["state"], "KEY_STATE_REVOKED");
    assert_eq!(states(&revoked), ["KEY_STATE_NEXT", "KEY_STATE_CURRENT"]);
    assert!(!service.key_set("default").jwks_kids().await.contains(&current));
    service.is_unharmed();
}

fn states(answer: &Value) -> Vec<&str> {
    let keys = answer["keys"].as_array().unwrap();
    keys.iter().map(|key| key["state"].as_str().unwrap()).collect()
}
