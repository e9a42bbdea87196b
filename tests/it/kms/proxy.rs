//! The proxy itself: what it promises the other tests, seen by a client that is none of ours.

use crate::harness::fault_proxy::{DOWN, Fault, FaultProxy, THROTTLED};
use crate::harness::ministack::{Account, REGION, blob};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// A client that knows nothing of retries.
struct Plain<'a>(&'a Account);

impl Plain<'_> {
    /// The status and the answer; an error if the answer is none.
    async fn call(&self, op: &str, body: Value) -> Result<(u16, Value), String> {
        let scope = format!("{}/20260101/{REGION}/kms/aws4_request", self.0.id);
        let signed =
            format!("AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=00");
        let request = http::Request::post(self.0.proxy.endpoint())
            .header("x-amz-target", format!("TrentService.{op}"))
            .header("authorization", signed)
            .body(Full::<Bytes>::from(body.to_string()))
            .unwrap();
        let client: Client<_, Full<Bytes>> =
            Client::builder(TokioExecutor::new()).retry_canceled_requests(false).build_http();
        let answer = client.request(request).await.map_err(|error| error.to_string())?;
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.map_err(|error| error.to_string())?;
        let bytes = body.to_bytes();
        if bytes.is_empty() {
            return Ok((status, Value::Null));
        }
        let parsed = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
        Ok((status, parsed))
    }

    async fn create(&self) -> String {
        let order = json!({ "KeySpec": "ECC_NIST_P256", "KeyUsage": "SIGN_VERIFY" });
        let (status, told) = self.call("CreateKey", order).await.unwrap();
        assert_eq!(status, 200, "{told}");
        told["KeyMetadata"]["KeyId"].as_str().unwrap().to_owned()
    }

    async fn code(&self, op: &str, body: Value) -> (u16, String) {
        let (status, told) = self.call(op, body).await.unwrap();
        (status, told["__type"].as_str().unwrap_or_default().to_owned())
    }
}

fn digest(key: &str) -> Value {
    json!({
        "KeyId": key, "Message": blob(&[7; 32]), "MessageType": "DIGEST",
        "SigningAlgorithm": "ECDSA_SHA_256",
    })
}

fn statuses(proxy: &FaultProxy) -> Vec<Option<u16>> {
    proxy.attempts().iter().map(|attempt| attempt.status).collect()
}

#[tokio::test]
async fn what_is_not_scripted_passes_and_is_written_down() {
    let account = Account::fresh().await;
    let plain = Plain(&account);
    let key = plain.create().await;
    assert_eq!(plain.call("Sign", digest(&key)).await.unwrap().0, 200);
    assert_eq!(account.proxy.ops(), ["CreateKey", "Sign"]);
    assert_eq!(account.proxy.attempts()[1].subject, key);
    assert_eq!(account.keys().await.len(), 1);
    assert_eq!(account.proxy.count("*"), 2, "the test's own calls are not in the log");
    assert!(Account::fresh().await.keys().await.is_empty(), "accounts are apart");
}

#[tokio::test]
async fn a_script_is_played_once_and_in_order() {
    let account = Account::fresh().await;
    let plain = Plain(&account);
    let key = plain.create().await;
    account.proxy.forget();
    account.proxy.next("Sign", 2, THROTTLED);
    account.proxy.next("Sign", 1, DOWN);
    account.proxy.next("*", 1, Fault::Error(400, "AccessDeniedException"));
    assert_eq!(plain.code("Sign", digest(&key)).await, (400, "ThrottlingException".to_owned()));
    assert_eq!(plain.code("Sign", digest(&key)).await, (400, "ThrottlingException".to_owned()));
    assert_eq!(plain.code("Sign", digest(&key)).await.0, 503);
    let denied = plain.code("DescribeKey", json!({ "KeyId": key })).await;
    assert_eq!(denied, (400, "AccessDeniedException".to_owned()));
    assert_eq!(plain.code("Sign", digest(&key)).await.0, 200);
    assert_eq!(statuses(&account.proxy), [400, 400, 503, 400, 200].map(Some));
}

#[tokio::test]
async fn an_answer_can_be_lost_before_the_work_and_after_it() {
    let order = json!({ "KeySpec": "ECC_NIST_P256", "KeyUsage": "SIGN_VERIFY" });
    let lost = [
        (Fault::DropBefore, 0),
        (Fault::Reset, 0),
        (Fault::Garbage, 0),
        (Fault::DropAfter, 1),
        (Fault::HalfBody, 1),
    ];
    for (fault, keys) in lost {
        let account = Account::fresh().await;
        account.proxy.next("CreateKey", 1, fault);
        let outcome = Plain(&account).call("CreateKey", order.clone()).await;
        assert!(outcome.is_err(), "{fault:?}: {outcome:?}");
        assert_eq!(account.keys().await.len(), keys, "{fault:?}");
        assert_eq!(account.proxy.count("CreateKey"), 1, "{fault:?}");
    }
    let account = Account::fresh().await;
    account.proxy.next("CreateKey", 1, Fault::ErrorAfter(500, "KMSInternalException"));
    assert_eq!(Plain(&account).code("CreateKey", order).await.0, 500);
    assert_eq!(account.keys().await.len(), 1);
}

#[tokio::test]
async fn an_answer_can_be_late_or_never_come() {
    let account = Account::fresh().await;
    let plain = Plain(&account);
    let key = plain.create().await;
    let wait = Duration::from_millis(150);
    account.proxy.next("Sign", 1, Fault::Delay(wait));
    let began = Instant::now();
    assert_eq!(plain.code("Sign", digest(&key)).await.0, 200);
    assert!(began.elapsed() >= wait);
    for fault in [Fault::Hang, Fault::HangAfter] {
        account.proxy.next("DisableKey", 1, fault);
        let call = plain.call("DisableKey", json!({ "KeyId": key }));
        assert!(tokio::time::timeout(wait, call).await.is_err(), "{fault:?} answered");
    }
    assert_eq!(account.keys_in("Disabled").await, [key], "the second was carried out");
}

#[tokio::test]
async fn a_young_key_is_not_found_and_in_no_list() {
    let account = Account::fresh().await;
    let plain = Plain(&account);
    account.proxy.youth(Duration::from_secs(3600));
    let key = plain.create().await;
    let named = json!({ "KeyId": key });
    assert_eq!(plain.code("DescribeKey", named.clone()).await.1, "NotFoundException");
    assert_eq!(plain.code("Sign", digest(&key)).await.1, "NotFoundException");
    let (_, listed) = plain.call("ListKeys", json!({})).await.unwrap();
    assert_eq!(listed["Keys"], json!([]));
    account.proxy.mend();
    assert_eq!(plain.code("DescribeKey", named).await.0, 200);
}

#[tokio::test]
async fn lists_come_in_pages() {
    let account = Account::fresh().await;
    let plain = Plain(&account);
    account.proxy.pages(2);
    let mut made = Vec::new();
    for _ in 0..5 {
        made.push(plain.create().await);
    }
    let (mut seen, mut asked) = (Vec::new(), json!({}));
    loop {
        let (_, page) = plain.call("ListKeys", asked).await.unwrap();
        let keys = page["Keys"].as_array().unwrap();
        assert!(keys.len() <= 2);
        seen.extend(keys.iter().map(|key| key["KeyId"].as_str().unwrap().to_owned()));
        if page["Truncated"] == false {
            break;
        }
        asked = json!({ "Marker": page["NextMarker"] });
    }
    seen.sort();
    made.sort();
    assert_eq!(seen, made);
}

#[tokio::test]
async fn what_is_beyond_the_quota_is_throttled() {
    let account = Account::fresh().await;
    let plain = Plain(&account);
    let key = plain.create().await;
    account.proxy.quota("Sign", 3);
    let mut accepted = 0;
    for _ in 0..3 {
        accepted += usize::from(plain.code("Sign", digest(&key)).await.0 == 200);
    }
    assert_eq!(accepted, 3);
    let throttled = plain.code("Sign", digest(&key)).await;
    assert_eq!(throttled, (400, "ThrottlingException".to_owned()));
}

#[tokio::test]
async fn what_kms_refuses_is_refused_where_the_emulator_lets_it_pass() {
    let account = Account::fresh().await;
    let plain = Plain(&account);
    let key = plain.create().await;
    let named = json!({ "KeyId": key });
    let long = json!({
        "KeyId": key, "Message": blob(&[7; 4097]), "MessageType": "RAW",
        "SigningAlgorithm": "ECDSA_SHA_256",
    });
    assert_eq!(plain.code("Sign", long).await.1, "ValidationException");
    let mut dry = digest(&key);
    dry["DryRun"] = Value::from(true);
    assert_eq!(plain.code("Sign", dry).await, (412, "DryRunOperationException".to_owned()));
    assert_eq!(plain.code("DisableKey", named.clone()).await.0, 200);
    assert_eq!(plain.code("GetPublicKey", named.clone()).await.1, "DisabledException");
    let scheduled = json!({ "KeyId": key, "PendingWindowInDays": 7 });
    assert_eq!(plain.code("ScheduleKeyDeletion", scheduled.clone()).await.0, 200);
    assert_eq!(plain.code("ScheduleKeyDeletion", scheduled).await.1, "KMSInvalidStateException");
    assert_eq!(plain.code("CancelKeyDeletion", named).await.0, 200);
}
