//! The gRPC face over a real connection: its form, its bounds, its end.

mod changes;
mod deadlines;
mod lists;
mod release;
mod streams;
mod watch;

use crate::harness::ring::{Life, World};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use signkeep::access::Access;
use signkeep::grpc::proto::key_service_client::KeyServiceClient;
use signkeep::grpc::proto::signing_service_client::SigningServiceClient;
use signkeep::grpc::{self, Deps, Error, Settings, proto as pb};
use signkeep::health::Health;
use signkeep::transport::{Limits, Listener};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_stream::StreamExt;
use tonic::body::Body;
use tonic::codegen::http::Uri;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt;

/// No wait in these tests is longer.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server on a free port of loopback.
struct Server {
    world: World,
    life: Life,
    address: SocketAddr,
    health: Health,
    stop: oneshot::Sender<()>,
    served: JoinHandle<Result<(), Error>>,
}

impl Server {
    async fn start() -> Self {
        Self::start_with(Settings::default()).await
    }

    async fn start_with(settings: Settings) -> Self {
        Self::start_within(Limits::GRPC, settings).await
    }

    async fn start_within(limits: Limits, settings: Settings) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let listener = Listener::plain("grpc", listener, limits).unwrap();
        let health = Health::default();
        let world = World::new().await;
        let life = world.life().await;
        let deps = Deps {
            access: Access::open(),
            keyring: life.ring.clone(),
            health: health.clone(),
            settings,
        };
        let (stop, stopped) = oneshot::channel();
        let served = tokio::spawn(grpc::serve(vec![listener], deps, async {
            stopped.await.ok();
        }));
        Self { world, life, address, health, stop, served }
    }

    /// A server with the key set `default` (ES256).
    async fn with_keys() -> Self {
        let server = Self::start().await;
        server.life.create().await.unwrap();
        server
    }

    async fn channel(&self) -> Channel {
        let endpoint = Channel::from_shared(format!("http://{}", self.address)).unwrap();
        endpoint.connect().await.unwrap()
    }

    async fn keys(&self) -> KeyServiceClient<Channel> {
        KeyServiceClient::new(self.channel().await)
    }

    async fn signing(&self) -> SigningServiceClient<Channel> {
        SigningServiceClient::new(self.channel().await)
    }

    /// A client that, unlike tonic's, sends `grpc-timeout` without keeping to it itself.
    fn patient(&self) -> tonic::client::Grpc<Client<HttpConnector, Body>> {
        let client = Client::builder(TokioExecutor::new()).http2_only(true).build_http();
        let origin = Uri::try_from(format!("http://{}", self.address)).unwrap();
        tonic::client::Grpc::with_origin(client, origin)
    }

    fn make_ready(&self) {
        self.health.update(|report| {
            report.started = true;
            report.backends.insert("token".into(), None);
        });
    }

    /// Asks the server to stop and says how long it took.
    async fn stop(self) -> Duration {
        let started = Instant::now();
        self.stop.send(()).unwrap();
        let served = tokio::time::timeout(PATIENCE, self.served).await;
        served.expect("it stops").unwrap().unwrap();
        started.elapsed()
    }
}

fn reason(status: &Status) -> String {
    let info = status.get_details_error_info().expect("an ErrorInfo");
    assert_eq!(info.domain, "signkeep");
    info.reason
}

fn fields(status: &Status) -> Vec<String> {
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    assert_eq!(reason(status), "INVALID_REQUEST");
    let bad = status.get_details_bad_request().expect("a BadRequest");
    let violations = bad.field_violations.into_iter();
    violations.map(|violation| violation.field).collect()
}

#[tokio::test]
async fn every_malformed_field_is_named_in_one_answer() {
    let server = Server::start().await;
    let mut keys = server.keys().await;
    let refused = keys.revoke(pb::RevokeRequest {
        key_set: "No Such Name".into(),
        kid: "short".into(),
        replace_next: true,
        force: true,
        request_id: "é".into(),
        ..pb::RevokeRequest::default()
    });
    let mut named = fields(&refused.await.unwrap_err());
    named.sort();
    assert_eq!(named, ["key_set", "kid", "reason", "replace_next", "request_id"]);

    let refused = keys.list_keys(pb::ListKeysRequest {
        key_set: "default".into(),
        page_size: -1,
        page_token: "not ours".into(),
        states: vec![42],
    });
    let mut named = fields(&refused.await.unwrap_err());
    named.sort();
    assert_eq!(named, ["page_size", "page_token", "states[0]"]);

    let mut signing = server.signing().await;
    let refused = signing.sign(pb::SignRequest::default());
    assert_eq!(fields(&refused.await.unwrap_err()), ["key_set", "message"]);
    server.stop().await;
}

#[tokio::test]
async fn the_services_own_key_sets_do_not_exist_to_callers() {
    let server = Server::start().await;
    let asked = pb::GetKeySetRequest { key_set: "signkeep-audit".into() };
    let refused = server.keys().await.get_key_set(asked).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    assert_eq!(reason(&refused), "KEY_SET_NOT_FOUND");
    let resource = refused.get_details_resource_info().unwrap();
    assert_eq!(resource.resource_name, "signkeep-audit");
    server.stop().await;
}

#[tokio::test]
async fn claims_that_are_no_json_object_are_refused() {
    use pb::sign_jwt_request::Payload;
    let server = Server::start().await;
    let mut signing = server.signing().await;
    for (text, named) in [("[1]", "claims_json"), ("{", "claims_json")] {
        let refused = signing.sign_jwt(pb::SignJwtRequest {
            key_set: "default".into(),
            payload: Some(Payload::ClaimsJson(text.into())),
            ..pb::SignJwtRequest::default()
        });
        assert_eq!(fields(&refused.await.unwrap_err()), [named]);
    }
    server.stop().await;
}

#[tokio::test]
async fn a_message_of_ten_megabytes_is_refused_and_the_service_goes_on() {
    use pb::sign_request::Input;
    let server = Server::start().await;
    let mut signing = server.signing().await;
    for _ in 0..3 {
        let refused = signing.sign(pb::SignRequest {
            key_set: "default".into(),
            input: Some(Input::Message(vec![7; 10_000_000].into())),
            ..pb::SignRequest::default()
        });
        let refused = refused.await.unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
        assert_eq!(reason(&refused), "MESSAGE_TOO_LARGE");
    }
    let refused = signing.sign(pb::SignRequest::default()).await.unwrap_err();
    assert_eq!(fields(&refused), ["key_set", "message"]);
    server.stop().await;
}

#[tokio::test]
async fn a_message_that_is_no_protobuf_is_refused() {
    let server = Server::start().await;
    let refused = unary(&server, "/signkeep.v1.KeyService/Rotate", "\u{7f}garbage", None).await;
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
    assert_eq!(reason(&refused), "INVALID_REQUEST");
    server.stop().await;
}

#[tokio::test]
async fn an_rpc_that_does_not_exist_says_so() {
    let server = Server::start().await;
    for path in ["/signkeep.v1.KeyService/Explode", "/signkeep.v2.KeyService/Rotate"] {
        let refused = unary(&server, path, "", None).await;
        assert_eq!(refused.code(), Code::Unimplemented, "{path}");
        assert_eq!(reason(&refused), "UNKNOWN_METHOD");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_malformed_grpc_timeout_is_refused() {
    let server = Server::start().await;
    for timeout in ["soon", "1", "-1S", "123456789m"] {
        let path = "/signkeep.v1.KeyService/Rotate";
        let refused = unary(&server, path, "", Some(timeout)).await;
        assert_eq!(fields(&refused), ["grpc-timeout"], "{timeout}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_request_that_never_comes_to_its_end_is_answered_at_its_deadline() {
    let server = Server::start().await;
    let started = Instant::now();
    let mut client = server.patient();
    client.ready().await.unwrap();
    let mut request = Request::new(tokio_stream::pending::<pb::RotateRequest>());
    let timeout = "200m".parse().unwrap();
    request.metadata_mut().insert("grpc-timeout", timeout);
    let path = "/signkeep.v1.KeyService/Rotate".parse().unwrap();
    let codec = tonic_prost::ProstCodec::<pb::RotateRequest, pb::RotateResponse>::default();
    let call = client.client_streaming(request, path, codec);
    let answered = tokio::time::timeout(PATIENCE, call).await;
    let late = answered.expect("it is answered").unwrap_err();
    assert_eq!(late.code(), Code::DeadlineExceeded, "{late:?}");
    assert_eq!(reason(&late), "DEADLINE_EXCEEDED");
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(200), "{took:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
    drop(client);
    server.stop().await;
}

#[tokio::test]
async fn a_stream_ends_at_its_deadline() {
    let server = Server::start().await;
    let mut client = server.patient();
    client.ready().await.unwrap();
    let mut request = Request::new(tokio_stream::pending::<pb::SignStreamRequest>());
    let timeout = "200m".parse().unwrap();
    request.metadata_mut().insert("grpc-timeout", timeout);
    let path = "/signkeep.v1.SigningService/SignStream".parse().unwrap();
    let codec = tonic_prost::ProstCodec::<pb::SignStreamRequest, pb::SignStreamResponse>::default();
    let mut answers = client.streaming(request, path, codec).await.unwrap().into_inner();
    let ended = tokio::time::timeout(PATIENCE, answers.message()).await;
    let late = ended.expect("it ends").unwrap_err();
    assert_eq!(late.code(), Code::DeadlineExceeded, "{late:?}");
    assert_eq!(reason(&late), "DEADLINE_EXCEEDED");
    server.stop().await;
}

#[tokio::test]
async fn one_bad_item_of_a_stream_fails_alone() {
    use pb::sign_stream_response::Outcome;
    let server = Server::start().await;
    let wrong = pb::SignRequest { key_set: "default".into(), ..pb::SignRequest::default() };
    let items = ["a".to_owned(), "b".to_owned(), "é".repeat(70)].map(|request_id| {
        let request = Some(wrong.clone());
        pb::SignStreamRequest { request_id, request }
    });
    let mut signing = server.signing().await;
    let answers = signing.sign_stream(tokio_stream::iter(items)).await.unwrap();
    let answers: Vec<_> = answers.into_inner().collect().await;
    assert_eq!(answers.len(), 3);
    let mut ids = Vec::new();
    for answer in answers {
        let answer = answer.expect("the stream itself is well");
        let Some(Outcome::Error(error)) = answer.outcome else {
            panic!("signed?");
        };
        assert_eq!(error.code, Code::InvalidArgument as i32);
        assert_eq!(error.details.len(), 2, "ErrorInfo and BadRequest");
        ids.push((answer.request_id.len(), error.message));
    }
    ids.sort();
    let message = "message: must be set, unless digest is".to_owned();
    let too_long = "request_id: must be at most 128 bytes".to_owned();
    assert_eq!(ids, [(1, message.clone()), (1, message), (128, too_long)]);
    server.stop().await;
}

#[tokio::test]
async fn an_item_that_is_too_large_ends_its_stream_with_the_reason() {
    use pb::sign_request::Input;
    let server = Server::start().await;
    let item = pb::SignStreamRequest {
        request_id: "large".into(),
        request: Some(pb::SignRequest {
            input: Some(Input::Message(vec![7; 100_000].into())),
            ..pb::SignRequest::default()
        }),
    };
    let mut signing = server.signing().await;
    let answers = signing.sign_stream(tokio_stream::iter([item])).await.unwrap();
    let ended = answers.into_inner().message().await.unwrap_err();
    assert_eq!(ended.code(), Code::ResourceExhausted, "{ended:?}");
    assert_eq!(reason(&ended), "MESSAGE_TOO_LARGE");
    server.stop().await;
}

#[tokio::test]
async fn a_stream_longer_than_all_its_bounds_is_answered_to_its_end() {
    let server = Server::start_with(Settings {
        stream_items_max: 1,
        requests_max: 1,
        ..Settings::default()
    })
    .await;
    let items =
        (0..500).map(|at| pb::SignStreamRequest { request_id: at.to_string(), request: None });
    let items: Vec<_> = items.collect();
    let mut signing = server.signing().await;
    let answers = signing.sign_stream(tokio_stream::iter(items)).await;
    let answers: Vec<_> = answers.unwrap().into_inner().collect().await;
    let ids = answers.into_iter().map(|answer| answer.unwrap().request_id);
    assert!(ids.eq((0..500).map(|at: u32| at.to_string())), "one at a time, in order");
    server.stop().await;
}

#[tokio::test]
async fn a_stop_ends_open_streams() {
    let server = Server::start().await;
    let mut signing = server.signing().await;
    let items = tokio_stream::pending();
    let answers = signing.sign_stream(items).await.unwrap();
    let took = server.stop().await;
    assert!(took < Settings::default().drain_timeout, "{took:?}");
    let ended = answers.into_inner().message().await.unwrap_err();
    assert_eq!(ended.code(), Code::Unavailable, "{ended:?}");
    assert_eq!(reason(&ended), "SHUTTING_DOWN");
}

#[tokio::test]
async fn the_request_id_is_returned() {
    let server = Server::start().await;
    let mut request = Request::new(pb::SignRequest::default());
    request.metadata_mut().insert("x-request-id", "mine-17".parse().unwrap());
    let refused = server.signing().await.sign(request).await.unwrap_err();
    assert_eq!(refused.metadata().get("x-request-id").unwrap(), "mine-17");
    let mut signing = server.signing().await;
    let anonymous = signing.sign(pb::SignRequest::default());
    let made = anonymous.await.unwrap_err().metadata().get("x-request-id").cloned();
    assert_eq!(made.unwrap().len(), 32);
    server.stop().await;
}

#[tokio::test]
async fn reflection_lists_the_services_in_both_versions() {
    let server = Server::start().await;
    let expected =
        ["grpc.health.v1.Health", "signkeep.v1.KeyService", "signkeep.v1.SigningService"];
    macro_rules! listed {
        ($version:ident) => {{
            use tonic_reflection::pb::$version::server_reflection_client::ServerReflectionClient;
            use tonic_reflection::pb::$version::server_reflection_request::MessageRequest;
            use tonic_reflection::pb::$version::server_reflection_response::MessageResponse;
            let asked = tonic_reflection::pb::$version::ServerReflectionRequest {
                host: String::new(),
                message_request: Some(MessageRequest::ListServices(String::new())),
            };
            let mut client = ServerReflectionClient::new(server.channel().await);
            let answers = client.server_reflection_info(tokio_stream::iter([asked])).await;
            let answer = answers.unwrap().into_inner().message().await.unwrap().unwrap();
            let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
                panic!("{answer:?}");
            };
            list.service.into_iter().map(|service| service.name).collect::<Vec<_>>()
        }};
    }
    for names in [listed!(v1), listed!(v1alpha)] {
        for service in expected {
            assert!(names.iter().any(|name| name == service), "{service} in {names:?}");
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn health_follows_the_report() {
    let server = Server::start().await;
    let mut health = HealthClient::new(server.channel().await);
    let services = ["", "signkeep.v1.KeyService", "signkeep.v1.SigningService"];
    for service in services {
        assert_eq!(check(&mut health, service).await, ServingStatus::NotServing);
    }
    let mut watch = watch(&mut health, "signkeep.v1.SigningService").await;
    assert_eq!(next(&mut watch).await.unwrap(), ServingStatus::NotServing);
    server.make_ready();
    assert_eq!(next(&mut watch).await.unwrap(), ServingStatus::Serving);
    for service in services {
        assert_eq!(check(&mut health, service).await, ServingStatus::Serving);
    }
    server.health.update(|report| report.store = Some("disk full".into()));
    assert_eq!(next(&mut watch).await.unwrap(), ServingStatus::NotServing);
    let unknown = HealthCheckRequest { service: "nobody".into() };
    let refused = health.check(unknown).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    drop(watch);
    server.stop().await;
}

#[tokio::test]
async fn a_stop_does_not_wait_for_silent_peers_and_watches() {
    let server = Server::start_with(Settings {
        drain_timeout: Duration::from_millis(500),
        ..Settings::default()
    })
    .await;
    server.make_ready();
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    let mut begun = TcpStream::connect(server.address).await.unwrap();
    begun.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    let mut health = HealthClient::new(server.channel().await);
    let mut watch = watch(&mut health, "").await;
    assert_eq!(next(&mut watch).await.unwrap(), ServingStatus::Serving);
    let address = server.address;
    let report = server.health.clone();
    let took = server.stop().await;
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert!(report.report().stopping);
    assert_eq!(next(&mut watch).await.unwrap(), ServingStatus::NotServing);
    let ended = next(&mut watch).await.unwrap_err();
    assert_eq!(ended.code(), Code::Unavailable, "{ended:?}");
    assert_eq!(reason(&ended), "SHUTTING_DOWN");
    assert_eq!(silent.read(&mut [0; 8]).await.unwrap_or_default(), 0, "closed");
    assert!(TcpStream::connect(address).await.is_err(), "nobody listens");
}

#[tokio::test]
async fn a_call_that_does_not_end_is_dropped_when_the_time_to_drain_is_over() {
    let drain_timeout = Duration::from_millis(300);
    let server = Server::start_with(Settings { drain_timeout, ..Settings::default() }).await;
    let mut client = server.patient();
    client.ready().await.unwrap();
    let (begun, has_begun) = oneshot::channel();
    let items = async_items(begun);
    let path = "/signkeep.v1.KeyService/Rotate".parse().unwrap();
    let codec = tonic_prost::ProstCodec::<pb::RotateRequest, pb::RotateResponse>::default();
    let call =
        tokio::spawn(
            async move { client.client_streaming(Request::new(items), path, codec).await },
        );
    tokio::time::timeout(PATIENCE, has_begun).await.unwrap().unwrap();
    let took = server.stop().await;
    assert!(took < Duration::from_secs(5), "{took:?}");
    let dropped = tokio::time::timeout(PATIENCE, call).await.unwrap().unwrap();
    assert!(dropped.is_err());
}

#[tokio::test]
async fn a_peer_that_does_not_speak_http2_is_let_go() {
    let limits = Limits { handshake_timeout: Duration::from_millis(100), ..Limits::GRPC };
    let server = Server::start_within(limits, Settings::default()).await;
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    let mut other = TcpStream::connect(server.address).await.unwrap();
    other.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    for peer in [&mut silent, &mut other] {
        let closed = tokio::time::timeout(PATIENCE, peer.read(&mut [0; 8])).await;
        assert_eq!(closed.expect("it is closed").unwrap_or_default(), 0);
    }
    server.stop().await;
}

/// Sends `message` as it is to `path`, and returns the error that is answered.
async fn unary(server: &Server, path: &str, message: &str, timeout: Option<&str>) -> Status {
    let mut client = server.patient();
    client.ready().await.unwrap();
    let mut request = Request::new(Raw(message.as_bytes().to_vec()));
    if let Some(timeout) = timeout {
        let timeout = timeout.parse().unwrap();
        request.metadata_mut().insert("grpc-timeout", timeout);
    }
    let answered = client.unary(request, path.parse().unwrap(), RawCodec);
    let answered = tokio::time::timeout(PATIENCE, answered).await;
    answered.expect("it is answered").unwrap_err()
}

async fn check(health: &mut HealthClient<Channel>, service: &str) -> ServingStatus {
    let service = service.to_owned();
    let answer = health.check(HealthCheckRequest { service }).await.unwrap();
    answer.into_inner().status()
}

type Watch = tonic::Streaming<tonic_health::pb::HealthCheckResponse>;

async fn watch(health: &mut HealthClient<Channel>, service: &str) -> Watch {
    let service = service.to_owned();
    let watch = health.watch(HealthCheckRequest { service }).await.unwrap();
    watch.into_inner()
}

async fn next(watch: &mut Watch) -> Result<ServingStatus, Status> {
    let message = tokio::time::timeout(PATIENCE, watch.message()).await;
    let message = message.expect("a message")?;
    Ok(message.expect("no end without a status").status())
}

/// No items, for ever; tells `begun` when they are first asked for.
fn async_items(begun: oneshot::Sender<()>) -> impl tokio_stream::Stream<Item = pb::RotateRequest> {
    futures_util::stream::once(async move {
        begun.send(()).unwrap();
        std::future::pending().await
    })
}

/// Bytes that are sent as a message as they are.
#[derive(Debug)]
struct Raw(Vec<u8>);

struct RawCodec;

impl tonic::codec::Codec for RawCodec {
    type Encode = Raw;
    type Decode = Raw;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl tonic::codec::Encoder for RawCodec {
    type Item = Raw;
    type Error = Status;

    fn encode(&mut self, item: Raw, to: &mut tonic::codec::EncodeBuf<'_>) -> Result<(), Status> {
        bytes::BufMut::put_slice(to, &item.0);
        Ok(())
    }
}

impl tonic::codec::Decoder for RawCodec {
    type Item = Raw;
    type Error = Status;

    fn decode(&mut self, from: &mut tonic::codec::DecodeBuf<'_>) -> Result<Option<Raw>, Status> {
        use bytes::Buf;
        Ok(Some(Raw(from.copy_to_bytes(from.remaining()).to_vec())))
    }
}
