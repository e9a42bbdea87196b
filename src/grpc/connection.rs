//! Accepting connections and speaking HTTP/2 on them, with a bound on everything that a peer can
//! make the service hold: connections, time before the first byte, streams, headers, windows.

use super::Settings;
use super::edge::Edge;
use super::stopped;
use crate::transport::Peer;
use futures_util::future::BoxFuture;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use std::convert::Infallible;
use std::io::Cursor;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tonic::body::Body;
use tonic::codegen::{Body as HttpBody, Bytes, Service, StdError, http};

/// What every HTTP/2 connection begins with (RFC 9113 section 3.4).
const PREFACE: [u8; 24] = *b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The pause after a connection could not be accepted, e.g. for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How far a peer may send ahead on one call: a message of the longest kind and its frame.
const STREAM_WINDOW: u32 = 128 * 1024;
/// How far a peer may send ahead on one connection.
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// Accepts connections until a stop is asked for, then waits for those that are open.
pub(super) async fn accept(
    listener: TcpListener,
    edge: Arc<Edge>,
    mut stopping: watch::Receiver<bool>,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = stopped(&mut stopping) => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < edge.settings().connections_max => {
                match accepted {
                    Ok((stream, peer)) => {
                        let open = serve(stream, peer, edge.clone(), stopping.clone());
                        connections.spawn(open);
                    }
                    Err(error) => {
                        tracing::warn!(%error, "a connection could not be accepted");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn serve(
    mut stream: TcpStream,
    peer: SocketAddr,
    edge: Arc<Edge>,
    mut stopping: watch::Receiver<bool>,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, %peer, "TCP_NODELAY could not be set");
    }
    let preface = read_preface(&mut stream, edge.settings().preface_timeout);
    let preface = tokio::select! {
        biased;
        () = stopped(&mut stopping) => None,
        preface = preface => preface,
    };
    let Some(preface) = preface else {
        return;
    };
    let (reader, writer) = stream.into_split();
    let io = tokio::io::join(Cursor::new(preface).chain(reader), writer);
    let builder = builder(edge.settings());
    let service =
        TowerToHyperService::new(Client { edge, peer: Arc::new(Peer::plain("grpc", peer)) });
    let mut open = pin!(builder.serve_connection(TokioIo::new(io), service));
    let ended = tokio::select! {
        ended = open.as_mut() => ended,
        () = stopped(&mut stopping) => {
            open.as_mut().graceful_shutdown();
            open.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error, %peer, "a connection broke off");
    }
}

/// The preface, so that a peer that speaks something else, or nothing, does not stay.
async fn read_preface(stream: &mut TcpStream, limit: Duration) -> Option<[u8; 24]> {
    let mut preface = [0; PREFACE.len()];
    let read = tokio::time::timeout(limit, stream.read_exact(&mut preface)).await;
    matches!(read, Ok(Ok(_)) if preface == PREFACE).then_some(preface)
}

fn builder(settings: &Settings) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new()).http2_only();
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(settings.keepalive_interval)
        .keep_alive_timeout(settings.keepalive_timeout)
        .max_concurrent_streams(settings.streams_per_connection_max)
        .max_header_list_size(settings.header_bytes_max)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW);
    builder
}

/// The edge, as one peer sees it.
#[derive(Clone)]
struct Client {
    edge: Arc<Edge>,
    peer: Arc<Peer>,
}

impl<B> Service<http::Request<B>> for Client
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<StdError>,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let (edge, peer) = (self.edge.clone(), self.peer.clone());
        Box::pin(async move { Ok(edge.answer(&peer, request.map(Body::new)).await) })
    }
}
