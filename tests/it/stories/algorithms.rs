//! Every algorithm, through every rpc, verified by three verifiers that know nothing of Signkeep.

use crate::harness::key_set::KeySet;
use crate::harness::service::Service;
use crate::harness::verifiers::{self, Case};
use base64ct::{Base64UrlUnpadded, Encoding};
use serde_json::json;
use sha2::{Digest, Sha256, Sha384, Sha512};
use signkeep::grpc::proto::sign_request::Input;
use signkeep::grpc::proto::sign_stream_response::Outcome;
use signkeep::grpc::proto::{KeyState, Policy, SignRequest, SignStreamRequest};
use std::collections::BTreeMap;

/// Algorithm, RSA modulus length (0: not RSA).
const KEY_TYPES: [(&str, i32); 12] = [
    ("RS256", 2048),
    ("RS256", 3072),
    ("PS256", 4096),
    ("RS384", 2048),
    ("RS512", 2048),
    ("PS256", 2048),
    ("PS384", 2048),
    ("PS512", 2048),
    ("ES256", 0),
    ("ES384", 0),
    ("ES512", 0),
    ("EdDSA", 0),
];

#[tokio::test]
async fn every_algorithm_signs_through_every_rpc_and_three_verifiers_agree() {
    let mut service = Service::dev().await;
    let mut all = Vec::new();
    for (algorithm, rsa_bits) in KEY_TYPES {
        let id = format!("{}-{rsa_bits}", algorithm.to_lowercase());
        let key_set = service.key_set(&id);
        let policy = Policy { rsa_bits, ..Policy::default() };
        key_set.create(algorithm, policy).await;
        let cases = tokens(&key_set, algorithm).await;
        let certificate = key_set.the(KeyState::Current).await.certificate_pem;
        verifiers::openssl(&certificate, &cases).await;
        all.extend(cases);
    }
    let good = all.iter().filter(|case| case.verifies).count();
    // Message, digest, stream and JWT; EdDSA takes no digest.
    assert_eq!(good, 4 * KEY_TYPES.len() - 1);
    assert_eq!(all.len(), 2 * good);
    verifiers::pyjwt(&all).await;
    verifiers::jose(&all).await;
    service.is_unharmed();
}

/// The same claims signed through each rpc, and each token once more with a bit flipped.
async fn tokens(key_set: &KeySet, algorithm: &str) -> Vec<Case> {
    let input = signing_input(key_set, algorithm).await;
    let signed = key_set.sign_message(input.as_bytes()).await.unwrap();
    assert_eq!(signed.algorithm, algorithm);
    let mut tokens = vec![("message", compact(&input, &signed.signature))];
    if let Some(digest) = digest(algorithm, input.as_bytes()) {
        let signed = key_set.sign(Input::Digest(digest.into())).await.unwrap();
        tokens.push(("digest", compact(&input, &signed.signature)));
    }
    tokens.push(("stream", streamed(key_set, &input).await));
    let claims = r#"{"sub":"story","aud":"everyone"}"#;
    tokens.push(("jwt", key_set.sign_jwt(claims).await.unwrap().jwt));
    let cases = tokens.into_iter().map(|(rpc, jwt)| Case {
        name: format!("{} through {rpc}", key_set.id()),
        jwks_uri: key_set.jwks_uri(),
        algorithm: algorithm.to_owned(),
        issuer: Some(key_set.issuer()),
        jwt,
        verifies: true,
    });
    cases.flat_map(|case| [case.with_a_flipped_bit(), case]).collect()
}

/// What RFC 7515 section 5.1 has signed: header and claims, for the key that is current.
async fn signing_input(key_set: &KeySet, algorithm: &str) -> String {
    let header = json!({ "alg": algorithm, "kid": key_set.current().await, "typ": "JWT" });
    let claims = json!({ "iss": key_set.issuer(), "sub": "story", "exp": 4_000_000_000_u64 });
    let part =
        |json: serde_json::Value| Base64UrlUnpadded::encode_string(json.to_string().as_bytes());
    format!("{}.{}", part(header), part(claims))
}

fn compact(input: &str, signature: &[u8]) -> String {
    format!("{input}.{}", Base64UrlUnpadded::encode_string(signature))
}

fn digest(algorithm: &str, message: &[u8]) -> Option<Vec<u8>> {
    match algorithm.get(2..)? {
        "256" => Some(Sha256::digest(message).to_vec()),
        "384" => Some(Sha384::digest(message).to_vec()),
        "512" => Some(Sha512::digest(message).to_vec()),
        _ => None,
    }
}

/// The token signed through SignStream, amid requests that fail alone.
async fn streamed(key_set: &KeySet, input: &str) -> String {
    let request = |request_id: &str, id: &str| SignStreamRequest {
        request_id: request_id.to_owned(),
        request: Some(SignRequest {
            key_set: id.to_owned(),
            input: Some(Input::Message(input.as_bytes().to_vec().into())),
            ..SignRequest::default()
        }),
    };
    let requests = vec![
        request("good", key_set.id()),
        request("bad", "no-such-key-set"),
        request("other", key_set.id()),
    ];
    let mut answers = key_set.sign_stream(requests).await;
    let mut outcomes = BTreeMap::new();
    while let Some(answer) = answers.message().await.unwrap() {
        outcomes.insert(answer.request_id, answer.outcome.unwrap());
    }
    assert_eq!(outcomes.len(), 3);
    assert!(matches!(&outcomes["bad"], Outcome::Error(status) if status.code == 5));
    assert!(matches!(&outcomes["other"], Outcome::Signed(_)));
    let Outcome::Signed(signed) = &outcomes["good"] else {
        panic!("{:?}", outcomes["good"]);
    };
    compact(input, &signed.signature)
}
