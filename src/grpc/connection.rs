//! Speaking HTTP/2 on connections, with a bound on everything that a peer can make the service
//! hold on one: streams, headers, windows. How a connection begins and ends is
//! [`crate::transport`]'s.

use super::edge::Edge;
use crate::access::Visitor;
use crate::transport::{self, Activity, Connection, Counted, Limits, Listener, Protocol};
use futures_util::future::BoxFuture;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::watch;
use tonic::body::Body;
use tonic::codegen::{Body as HttpBody, Bytes, Service, StdError, http};

/// How far a peer may send ahead on one call: a message of the longest kind and its frame.
const STREAM_WINDOW: u32 = 128 * 1024;
/// How far a peer may send ahead on one connection. Half of it is what h2 lets small frames that have
/// not been read cost, up to 256 bytes each, before it ends the connection; a stream full of the
/// smallest items must fit in.
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;

/// Serves connections until a stop is asked for, then waits for those that are open.
pub(super) async fn accept(listener: Listener, edge: Arc<Edge>, stopping: watch::Receiver<bool>) {
    let builder = builder(listener.limits());
    transport::accept(listener, Protocol::Http2, stopping, move |connection: Connection| {
        let Connection { stream, peer, bounds } = connection;
        let visitor = Arc::new(Visitor::new(peer));
        let service = Client { edge: edge.clone(), visitor, activity: bounds.activity() };
        let open =
            builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
        bounds.drive(open)
    })
    .await;
}

fn builder(limits: &Limits) -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(limits.keepalive_interval)
        .keep_alive_timeout(limits.keepalive_timeout)
        .max_concurrent_streams(limits.streams_per_connection_max)
        .max_header_list_size(limits.header_bytes_max)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW);
    builder
}

/// The edge, as one peer sees it.
#[derive(Clone)]
struct Client {
    edge: Arc<Edge>,
    visitor: Arc<Visitor>,
    activity: Activity,
}

impl<B> Service<http::Request<B>> for Client
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<StdError>,
{
    type Response = http::Response<Counted<Body>>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let (edge, visitor, call) =
            (self.edge.clone(), self.visitor.clone(), self.activity.begin());
        Box::pin(async move {
            let response = edge.answer(&visitor, request.map(Body::new)).await;
            Ok(response.map(|body| Counted::new(body, call)))
        })
    }
}
