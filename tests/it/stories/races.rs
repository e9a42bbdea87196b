//! Two who change the same thing at once.

use crate::harness::key_set::{KeySet, forced_rotation};
use crate::harness::reason;
use crate::harness::service::Service;
use signkeep::grpc::proto::{KeyState, RotateRequest};
use std::collections::BTreeSet;
use tonic::Code;

const ROUNDS: usize = 100;

/// Next, current, previous: every key that the key set has had.
async fn all(key_set: &KeySet) -> BTreeSet<String> {
    key_set.published().await.into_iter().map(|key| key.kid).collect()
}

#[tokio::test]
async fn two_clients_that_rotate_at_once_lose_no_key() {
    let mut service = Service::dev().await;
    let key_set = service.key_set("demo-es256");
    let other = service.key_set("demo-es256");
    let mut seen = all(&key_set).await;
    let mut rotations = 0;
    for round in 0..ROUNDS {
        let answers = tokio::join!(key_set.force_rotate(), other.force_rotate());
        for answer in [answers.0, answers.1] {
            match answer {
                Ok(rotated) => {
                    rotations += 1;
                    seen.insert(rotated.next.unwrap().kid);
                }
                Err(status) => {
                    let expected = (Code::Aborted, "KEY_SET_CHANGED".to_owned());
                    assert_eq!(reason(&status), expected, "round {round}: {status:?}");
                }
            }
        }
        key_set.the(KeyState::Current).await;
        key_set.the(KeyState::Next).await;
    }
    assert!(rotations >= ROUNDS, "in each round at least one rotates");
    assert_eq!(all(&key_set).await, seen);
    assert_eq!(seen.len(), rotations + 2, "each rotation makes one key");
    let published: BTreeSet<String> = key_set.jwks_kids().await.into_iter().collect();
    assert_eq!(published, seen);
    service.is_unharmed();
}

#[tokio::test]
async fn of_two_who_expect_the_same_current_key_one_rotates() {
    let mut service = Service::dev().await;
    let key_set = service.key_set("demo-es256");
    for _ in 0..10 {
        let request =
            RotateRequest { expected_current_kid: key_set.current().await, ..forced_rotation() };
        let answers = tokio::join!(key_set.rotate_as(request.clone()), key_set.rotate_as(request));
        let (won, lost) = match answers {
            (Ok(won), Err(lost)) | (Err(lost), Ok(won)) => (won, lost),
            other => panic!("{other:?}"),
        };
        assert_eq!(reason(&lost), (Code::Aborted, "KEY_SET_CHANGED".to_owned()));
        assert_eq!(key_set.current().await, won.current.unwrap().kid);
    }
    service.is_unharmed();
}

#[tokio::test]
async fn a_request_id_rotates_once_however_often_it_comes() {
    let mut service = Service::dev().await;
    let key_set = service.key_set("demo-es256");
    let request = RotateRequest { request_id: "night-shift-1".to_owned(), ..forced_rotation() };
    let first = key_set.rotate_as(request.clone()).await.unwrap();
    assert!(!first.replayed);
    let again = key_set.rotate_as(request.clone()).await.unwrap();
    assert!(again.replayed);
    assert_eq!(kids(&first), kids(&again));

    let another = RotateRequest { reason: "something else".to_owned(), ..request.clone() };
    let refused = key_set.rotate_as(another).await.unwrap_err();
    assert_eq!(reason(&refused), (Code::InvalidArgument, "REQUEST_ID_REUSED".to_owned()));

    service.kill_9();
    service.start().await;
    let key_set = service.key_set("demo-es256");
    let after_a_crash = key_set.rotate_as(request).await.unwrap();
    assert!(after_a_crash.replayed);
    assert_eq!(kids(&first), kids(&after_a_crash));
    assert_eq!(key_set.published().await.len(), 3, "one rotation was made");
    service.is_unharmed();
}

#[tokio::test]
async fn a_request_id_that_is_in_flight_is_waited_for() {
    let mut service = Service::dev().await;
    let key_set = service.key_set("demo-es256");
    for round in 0..20 {
        let before = key_set.published().await.len();
        let request = RotateRequest { request_id: format!("round-{round}"), ..forced_rotation() };
        let answers = tokio::join!(key_set.rotate_as(request.clone()), key_set.rotate_as(request));
        let (one, two) = (answers.0.unwrap(), answers.1.unwrap());
        assert!(one.replayed != two.replayed, "exactly one is the repeat");
        assert_eq!(kids(&one), kids(&two));
        assert_eq!(key_set.published().await.len(), before + 1);
    }
    service.is_unharmed();
}

fn kids(answer: &signkeep::grpc::proto::RotateResponse) -> [String; 3] {
    [&answer.next, &answer.current, &answer.previous]
        .map(|key| key.as_ref().map(|key| key.kid.clone()).unwrap_or_default())
}
