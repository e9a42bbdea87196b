//! More callers than KMS lets through: some are served in time, the rest are told to come back, and
//! nobody waits past the deadline.

use crate::harness::eventually;
use crate::harness::kms::on_kms;
use crate::harness::ministack::Account;
use signkeep::grpc::proto::sign_request::Input;
use signkeep::grpc::proto::signing_service_client::SigningServiceClient;
use signkeep::grpc::proto::{Policy, SignRequest};
use std::time::{Duration, Instant};
use tonic::transport::Channel;
use tonic::{Code, Request};
use tonic_types::StatusExt;

const CALLERS: usize = 64;
/// What the account has left, in signatures a second.
const QUOTA: usize = 60;
const STORM: Duration = Duration::from_secs(8);
const DEADLINE: Duration = Duration::from_secs(2);
/// What a busy machine may add between an answer and its being noticed.
const GRACE: Duration = Duration::from_millis(250);

/// How the calls of a storm ended.
#[derive(Debug, Default)]
struct Tally {
    accepted: usize,
    exhausted: usize,
    unavailable: usize,
    late: usize,
    without_retry: usize,
    others: Vec<String>,
    slowest: Duration,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.accepted += other.accepted;
        self.exhausted += other.exhausted;
        self.unavailable += other.unavailable;
        self.late += other.late;
        self.without_retry += other.without_retry;
        self.others.extend(other.others);
        self.slowest = self.slowest.max(other.slowest);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::print_stdout, reason = "the figures are worth seeing")]
async fn of_64_callers_in_a_storm_none_is_late_and_all_is_well_afterwards() {
    let account = Account::fresh().await;
    let mut service = on_kms(&account, "").started().await;
    let key_set = service.key_set("stormy");
    key_set.create_in("kms", "ES256", Policy::default()).await.unwrap();
    account.proxy.quota("Sign", QUOTA);
    account.proxy.forget();
    let until = Instant::now() + STORM;
    let callers: Vec<_> =
        (0..CALLERS).map(|_| tokio::spawn(call(service.signing(), until))).collect();
    let mut tally = Tally::default();
    for caller in callers {
        tally.add(caller.await.unwrap());
    }
    let attempts = account.proxy.count("Sign");
    println!("a storm of {STORM:?} by {CALLERS} callers at {QUOTA}/s: {tally:?}, {attempts} calls");
    assert_eq!(tally.others, Vec::<String>::new());
    assert_eq!(tally.late, 0, "{tally:?}");
    assert_eq!(tally.without_retry, 0, "{tally:?}");
    let possible = QUOTA * usize::try_from(STORM.as_secs()).unwrap();
    assert!(tally.accepted >= possible / 2, "of {possible} possible: {tally:?}");
    assert!(attempts <= 3 * possible, "{attempts} calls for {possible} that KMS let through");

    account.proxy.mend();
    let mended = Instant::now();
    let mut well = 0;
    eventually("20 signatures in a row", Duration::from_secs(10), async || {
        well = if key_set.sign_message(b"hello").await.is_ok() { well + 1 } else { 0 };
        (well == 20).then_some(())
    })
    .await;
    println!("well again after {:?}", mended.elapsed());
    service.is_unharmed();
}

/// A caller that asks again and again, and comes back when it is told to.
async fn call(mut client: SigningServiceClient<Channel>, until: Instant) -> Tally {
    let mut tally = Tally::default();
    while Instant::now() < until {
        let mut request = Request::new(SignRequest {
            key_set: "stormy".to_owned(),
            input: Some(Input::Message(b"hello"[..].into())),
            ..SignRequest::default()
        });
        request.set_timeout(DEADLINE);
        let began = Instant::now();
        let outcome = client.sign(request).await;
        let took = began.elapsed();
        tally.slowest = tally.slowest.max(took);
        tally.late += usize::from(took > DEADLINE + GRACE);
        let Err(status) = outcome else {
            tally.accepted += 1;
            continue;
        };
        match status.code() {
            Code::ResourceExhausted => tally.exhausted += 1,
            Code::Unavailable => tally.unavailable += 1,
            Code::DeadlineExceeded | Code::Cancelled => {
                tally.late += 1;
                tally.others.push(status.to_string());
            }
            _ => tally.others.push(status.to_string()),
        }
        let details = status.get_error_details();
        match details.retry_info().and_then(|info| info.retry_delay) {
            Some(delay) => tokio::time::sleep(delay.min(Duration::from_millis(200))).await,
            None => tally.without_retry += 1,
        }
    }
    tally
}
