//! The accept loop. Every wait in it has an end: a caller that sends its request a byte an hour,
//! holds connections open or never reads its answer costs one of a bounded number of places, for a
//! bounded time, and cannot hold up the shutdown.

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// Bounds on what callers can take up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at a time; more wait in the listener's backlog.
    pub connections: usize,
    /// How long a request's head may take, and how long a connection may lie idle.
    pub head: Duration,
    /// How long a connection lives; then it is told to close after the request under way.
    pub lifetime: Duration,
    /// How long a connection that was told to close may take over it.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1024,
            head: Duration::from_secs(10),
            lifetime: Duration::from_secs(300),
            grace: Duration::from_secs(5),
        }
    }
}

/// The most bytes of a request's head, and with it of what is buffered for one connection.
const HEAD_MAX: usize = 16 * 1024;

/// Serves HTTP/1.1 on `listener` until `shutdown` comes, within [`Limits::default`]. Returns when
/// the last connection has closed, at most [`Limits::grace`] after that.
pub async fn serve(listener: TcpListener, router: Router, shutdown: impl Future<Output = ()>) {
    serve_within(Limits::default(), listener, router, shutdown).await;
}

/// The same within other limits.
pub async fn serve_within(
    limits: Limits,
    listener: TcpListener,
    router: Router,
    shutdown: impl Future<Output = ()>,
) {
    let mut shutdown = pin!(shutdown);
    let places = Arc::new(Semaphore::new(limits.connections));
    let (stop, stopped) = watch::channel(());
    let mut connections = JoinSet::new();
    loop {
        let accepted = async {
            // The semaphore is never closed.
            let place = places.clone().acquire_owned().await.ok();
            (listener.accept().await, place)
        };
        tokio::select! {
            () = &mut shutdown => break,
            (accepted, place) = accepted => match accepted {
                Ok((stream, _)) => {
                    let (router, stopped) = (router.clone(), stopped.clone());
                    connections.spawn(async move {
                        connection(limits, stream, router, stopped).await;
                        drop(place);
                    });
                }
                Err(error) => after_refused_accept(&error).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
    drop(listener);
    drop(stop);
    // Each connection keeps to the grace by itself.
    while connections.join_next().await.is_some() {}
}

/// One connection, from its first byte to its last.
async fn connection(
    limits: Limits,
    stream: TcpStream,
    router: Router,
    mut stopped: watch::Receiver<()>,
) {
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.head)
            .max_buf_size(HEAD_MAX)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
    );
    let ended = tokio::select! {
        ended = &mut connection => Some(ended),
        _ = stopped.changed() => None,
        () = sleep(limits.lifetime) => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            match timeout(limits.grace, connection).await {
                Ok(ended) => ended,
                Err(_) => return,
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}

/// A caller that hung up while it was being accepted is nothing; being out of file descriptors is,
/// and passes only when some have been closed.
async fn after_refused_accept(error: &io::Error) {
    let hung_up = matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
    );
    if !hung_up {
        tracing::warn!(%error, "cannot accept connections; trying again in a second");
        sleep(Duration::from_secs(1)).await;
    }
}
