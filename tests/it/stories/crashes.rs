//! `kill -9` in the middle of rotations, with signatures flowing.

use crate::harness::Dice;
use crate::harness::eventually;
use crate::harness::key_set::{KeySet, kids};
use crate::harness::service::Service;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use base64ct::{Base64UrlUnpadded, Encoding};
use serde_json::Value;
use signkeep::grpc::proto::KeyState;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tonic::Status;
use tonic_types::StatusExt;

const KILLS: usize = 24;
const SIGNERS: usize = 3;
const LIMIT: Duration = Duration::from_secs(60);

/// A signature that the service has released.
struct Released {
    message: Vec<u8>,
    signature: Vec<u8>,
    kid: String,
}

/// What the signers and the rotator of one life of the service leave behind.
#[derive(Default)]
struct Progress {
    signatures: AtomicUsize,
    rotations_begun: AtomicUsize,
}

#[tokio::test]
async fn killed_in_the_middle_of_rotations_it_loses_no_key_and_no_signature() {
    let mut service = Service::dev().await;
    let mut dice = Dice::seeded(20_261_123);
    let mut known: BTreeSet<String> = listed(&service.key_set("demo-es256")).await;
    let (mut verified, mut rotated) = (0, 0);
    for kill in 0..KILLS {
        let key_set = service.key_set("demo-es256");
        let progress = Arc::new(Progress::default());
        let signers: Vec<_> = (0..SIGNERS)
            .map(|signer| tokio::spawn(sign(key_set.clone(), signer, progress.clone())))
            .collect();
        let rotator = tokio::spawn(rotate(key_set.clone(), progress.clone()));
        strike_after(&progress, dice.roll(4), dice.roll(12)).await;
        service.kill_9();
        let acknowledged = rotator.await.unwrap();
        let mut unverified = Vec::new();
        for signer in signers {
            let (good, left) = signer.await.unwrap();
            verified += good;
            unverified.extend(left);
        }

        service.start().await;
        let key_set = service.key_set("demo-es256");
        let jwks = key_set.jwks().await.unwrap();
        verified += unverified.len();
        unverified.iter().for_each(|released| verify(&jwks, released));
        rotated += acknowledged.len();
        known.extend(acknowledged.iter().cloned());
        let now = listed(&key_set).await;
        let lost: Vec<_> = known.difference(&now).collect();
        assert!(lost.is_empty(), "kill {kill} lost {lost:?}");
        assert!(
            now.len() <= known.len() + 1,
            "at most the rotation under way was carried out without an answer"
        );
        key_set.the(KeyState::Current).await;
        key_set.the(KeyState::Next).await;
        let published: BTreeSet<String> = kids(&jwks).into_iter().collect();
        assert_eq!(published, now, "what is listed is published");
        known = now;
    }
    let key_set = service.key_set("demo-es256");
    eventually("no key is left half made", LIMIT, async || {
        let pending = key_set.keys_in(&[KeyState::Pending]).await;
        pending.is_empty().then_some(())
    })
    .await;
    assert!(rotated >= KILLS && verified >= KILLS, "{rotated} rotations, {verified} signatures");
    service.is_unharmed();
}

/// Returns when some rotations have been begun, and after the last of them some signatures: the
/// dice choose the instant, and no clock.
async fn strike_after(progress: &Progress, rotations: u64, signatures: u64) {
    let reaches = async |counter: &AtomicUsize, goal: usize| {
        let what = "the load moves on";
        eventually(what, LIMIT, async || (counter.load(Ordering::Relaxed) >= goal).then_some(()))
            .await;
    };
    let rotations = usize::try_from(rotations).unwrap();
    reaches(&progress.rotations_begun, 2 + rotations).await;
    let so_far = progress.signatures.load(Ordering::Relaxed);
    let signatures = usize::try_from(signatures).unwrap();
    reaches(&progress.signatures, so_far + 1 + signatures).await;
}

/// Rotates until the service is gone; returns the kids that successful answers have named.
async fn rotate(key_set: KeySet, progress: Arc<Progress>) -> Vec<String> {
    let mut acknowledged = Vec::new();
    loop {
        progress.rotations_begun.fetch_add(1, Ordering::Relaxed);
        match key_set.force_rotate().await {
            Ok(answer) => acknowledged.push(answer.next.unwrap().kid),
            Err(status) => {
                is_gone(&status);
                return acknowledged;
            }
        }
    }
}

/// Signs until the service is gone. After every few signatures it reads the JWKS, which must then
/// verify them. Returns how many it has verified, and those that it had no time to.
async fn sign(key_set: KeySet, signer: usize, progress: Arc<Progress>) -> (usize, Vec<Released>) {
    let (mut verified, mut waiting) = (0, Vec::new());
    for number in 0.. {
        let message = format!("signer {signer}, message {number}").into_bytes();
        let answer = match key_set.sign_message(&message).await {
            Ok(answer) => answer,
            Err(status) => {
                is_gone(&status);
                break;
            }
        };
        waiting.push(Released { message, signature: answer.signature.to_vec(), kid: answer.kid });
        progress.signatures.fetch_add(1, Ordering::Relaxed);
        if waiting.len() == 8 {
            let Ok(jwks) = key_set.jwks().await else {
                break;
            };
            waiting.iter().for_each(|released| verify(&jwks, released));
            verified += waiting.len();
            waiting.clear();
        }
    }
    (verified, waiting)
}

/// Panics if the service itself refused: a rotation is nothing that those who sign may notice.
fn is_gone(status: &Status) {
    let details = status.get_error_details();
    assert!(details.error_info().is_none(), "refused: {status:?}");
}

/// Panics unless the JWKS has the key, and the key verifies the signature, and no other message's.
fn verify(jwks: &Value, released: &Released) {
    let keys = jwks["keys"].as_array().unwrap();
    let key = keys.iter().find(|key| key["kid"] == released.kid.as_str());
    let key = key.unwrap_or_else(|| panic!("{} signed and is not published", released.kid));
    let coordinate =
        |name: &str| Base64UrlUnpadded::decode_vec(key[name].as_str().unwrap()).unwrap();
    let point = [vec![4], coordinate("x"), coordinate("y")].concat();
    let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
    key.verify(&released.message, &released.signature)
        .unwrap_or_else(|_| panic!("a bad signature by {}", released.kid));
    let other = [&released.message[..], b"!"].concat();
    assert!(key.verify(&other, &released.signature).is_err());
}

async fn listed(key_set: &KeySet) -> BTreeSet<String> {
    key_set.published().await.into_iter().map(|key| key.kid).collect()
}
