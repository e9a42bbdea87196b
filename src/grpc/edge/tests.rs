use super::*;
use std::convert::Infallible;
use std::task::{Context, Poll};
use tonic::codegen::Service;
use tonic::server::NamedService;

/// A service whose rpcs hang, panic, or tell what they were told.
#[derive(Clone)]
struct Odd;

impl NamedService for Odd {
    const NAME: &'static str = "signkeep.v1.Odd";
}

impl Service<http::Request<Body>> for Odd {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = futures_util::future::BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(async move {
            let call = request.extensions().get::<Call>().expect("a call").clone();
            match request.uri().path().rsplit('/').next() {
                Some("Hang") => std::future::pending().await,
                Some("Panic") => panic!("on purpose"),
                Some("Foreign") => Ok(Status::out_of_range("too large").into_http()),
                _ => {
                    let told = call.caller.as_str() == "anonymous@loopback"
                        && !request.headers().contains_key("grpc-timeout");
                    let answer = if told { status::watch_lagged } else { status::overloaded };
                    Ok(answer().into_http())
                }
            }
        })
    }
}

struct Setting {
    edge: Edge,
    stop: watch::Sender<bool>,
}

fn setting(change: impl FnOnce(&mut Settings)) -> Setting {
    let mut settings = Settings::default();
    change(&mut settings);
    let (stop, stopping) = watch::channel(false);
    let places = Arc::new(Semaphore::new(settings.requests_max));
    Setting { edge: Edge::new(Routes::new(Odd), Access::open(), settings, places, stopping), stop }
}

async fn ask(edge: &Edge, path: &str, headers: &[(&'static str, &str)]) -> (Status, String) {
    ask_from("127.0.0.1:9", edge, path, headers).await
}

async fn ask_from(
    peer: &str,
    edge: &Edge,
    path: &str,
    headers: &[(&'static str, &str)],
) -> (Status, String) {
    let mut request = http::Request::post(path).body(Body::empty()).unwrap();
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    let response = edge.answer(&Peer::plain("grpc", peer.parse().unwrap()), request).await;
    let id = response.headers()[REQUEST_ID].to_str().unwrap().to_owned();
    (Status::from_header_map(response.headers()).unwrap(), id)
}

fn reason(status: &Status) -> String {
    status.get_details_error_info().expect("an ErrorInfo").reason
}

#[tokio::test]
async fn a_call_that_hangs_is_answered_soon_after_its_deadline() {
    let Setting { edge, stop: _stop } = setting(|_| {});
    let started = Instant::now();
    let (status, _) = ask(&edge, "/signkeep.v1.Odd/Hang", &[("grpc-timeout", "50m")]).await;
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert_eq!(reason(&status), "DEADLINE_EXCEEDED");
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(50) && took < Duration::from_secs(5), "{took:?}");
}

#[tokio::test]
async fn a_call_without_a_deadline_has_ours() {
    let short = Duration::from_millis(20);
    let Setting { edge, stop: _stop } = setting(|settings| settings.request_timeout_max = short);
    let (status, _) = ask(&edge, "/signkeep.v1.Odd/Hang", &[]).await;
    assert_eq!(status.code(), Code::DeadlineExceeded);
    let (status, _) = ask(&edge, "/signkeep.v1.Odd/Hang", &[("grpc-timeout", "8H")]).await;
    assert_eq!(status.code(), Code::DeadlineExceeded);
}

#[tokio::test]
async fn a_malformed_deadline_is_refused() {
    let Setting { edge, stop: _stop } = setting(|_| {});
    for timeout in ["", "5", "5 s", "-1S", "123456789S"] {
        let (status, _) = ask(&edge, "/signkeep.v1.Odd/Hang", &[("grpc-timeout", timeout)]).await;
        assert_eq!(status.code(), Code::InvalidArgument, "{timeout:?}");
        let bad = status.get_details_bad_request().unwrap();
        assert_eq!(bad.field_violations[0].field, "grpc-timeout");
    }
}

#[tokio::test]
async fn a_panic_is_a_fault_of_one_call() {
    let Setting { edge, stop: _stop } = setting(|_| {});
    let (status, id) = ask(&edge, "/signkeep.v1.Odd/Panic", &[]).await;
    assert_eq!(status.code(), Code::Internal);
    let info = status.get_details_error_info().unwrap();
    assert_eq!(info.reason, "INTERNAL_FAULT");
    assert_eq!(info.metadata["request_id"], id);
    assert!(!status.message().contains("purpose"));
}

#[tokio::test]
async fn errors_of_tonic_get_our_form_and_our_own_are_left_alone() {
    let Setting { edge, stop: _stop } = setting(|_| {});
    let (status, _) = ask(&edge, "/signkeep.v1.Odd/Foreign", &[]).await;
    assert_eq!((status.code(), &*reason(&status)), (Code::ResourceExhausted, "MESSAGE_TOO_LARGE"));
    let (status, _) = ask(&edge, "/signkeep.v1.Nobody/Knows", &[]).await;
    assert_eq!((status.code(), &*reason(&status)), (Code::Unimplemented, "UNKNOWN_METHOD"));
}

#[tokio::test]
async fn the_request_id_comes_back() {
    let Setting { edge, stop: _stop } = setting(|_| {});
    let (_, id) = ask(&edge, "/signkeep.v1.Odd/Panic", &[("x-request-id", "mine-1")]).await;
    assert_eq!(id, "mine-1");
    let (_, id) = ask(&edge, "/signkeep.v1.Odd/Panic", &[("x-request-id", "not mine")]).await;
    assert_eq!(id.len(), 32);
}

#[tokio::test]
async fn no_more_calls_are_under_way_than_there_are_places() {
    let Setting { edge, stop: _stop } = setting(|settings| settings.requests_max = 1);
    let first = ask(&edge, "/signkeep.v1.Odd/Hang", &[("grpc-timeout", "100m")]);
    let second = ask(&edge, "/signkeep.v1.Odd/Hang", &[("grpc-timeout", "100m")]);
    let ((first, _), (second, _)) = tokio::join!(first, second);
    assert_eq!(reason(&first), "DEADLINE_EXCEEDED");
    assert_eq!((second.code(), &*reason(&second)), (Code::ResourceExhausted, "OVERLOADED"));
    let (third, _) = ask(&edge, "/signkeep.v1.Odd/Hang", &[("grpc-timeout", "1m")]).await;
    assert_eq!(reason(&third), "DEADLINE_EXCEEDED", "the place was given back");
}

#[tokio::test]
async fn nothing_new_begins_while_the_service_stops_but_probes_are_answered() {
    let Setting { edge, stop } = setting(|_| {});
    stop.send_replace(true);
    let (status, _) = ask(&edge, "/signkeep.v1.Odd/Hang", &[]).await;
    assert_eq!((status.code(), &*reason(&status)), (Code::Unavailable, "SHUTTING_DOWN"));
    let (status, _) = ask(&edge, "/grpc.health.v1.Health/Check", &[]).await;
    assert_eq!(status.code(), Code::Unimplemented, "it reached the routes");
}

#[tokio::test]
async fn a_peer_from_elsewhere_is_not_known() {
    let Setting { edge, stop: _stop } = setting(|_| {});
    let (status, _) = ask_from("192.0.2.1:9", &edge, "/signkeep.v1.Odd/Hang", &[]).await;
    assert_eq!((status.code(), &*reason(&status)), (Code::Unauthenticated, "CALLER_UNKNOWN"));
}

#[tokio::test]
async fn a_handler_is_told_who_calls_and_no_timeout_header() {
    let Setting { edge, stop: _stop } = setting(|_| {});
    let (status, _) = ask(&edge, "/signkeep.v1.Odd/Tell", &[("grpc-timeout", "5S")]).await;
    assert_eq!(reason(&status), "WATCH_LAGGED");
}
