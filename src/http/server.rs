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

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;
    use std::net::SocketAddr;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::oneshot;
    use tokio::task::JoinHandle;

    /// Long enough that only a wait without an end can reach it.
    const PATIENCE: Duration = Duration::from_secs(20);

    const SHORT: Limits = Limits {
        connections: 2,
        head: Duration::from_millis(200),
        lifetime: Duration::from_secs(60),
        grace: Duration::from_millis(200),
    };

    struct Server {
        address: SocketAddr,
        stop: oneshot::Sender<()>,
        task: JoinHandle<()>,
    }

    impl Server {
        async fn start(limits: Limits, router: Router) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let (stop, stopped) = oneshot::channel();
            let task = tokio::spawn(serve_within(limits, listener, router, async {
                let _ = stopped.await;
            }));
            Self { address, stop, task }
        }

        async fn connect(&self) -> TcpStream {
            TcpStream::connect(self.address).await.unwrap()
        }

        async fn stop(self) {
            self.stop.send(()).unwrap();
            timeout(PATIENCE, self.task).await.unwrap().unwrap();
        }
    }

    fn hello() -> Router {
        Router::new().route("/", get(async || "hello"))
    }

    /// Everything that comes until the other side closes.
    async fn read_all(stream: &mut TcpStream) -> String {
        let mut read = Vec::new();
        // A reset is a close too: it comes when the server had more to read.
        let _ = timeout(PATIENCE, stream.read_to_end(&mut read))
            .await
            .expect("the server must close the connection");
        String::from_utf8_lossy(&read).into_owned()
    }

    async fn ask(stream: &mut TcpStream) -> String {
        let request = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        stream.write_all(request).await.unwrap();
        read_all(stream).await
    }

    #[tokio::test]
    async fn a_request_is_answered() {
        let server = Server::start(Limits::default(), hello()).await;
        let answer = ask(&mut server.connect().await).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.ends_with("hello"), "{answer}");
        server.stop().await;
    }

    #[tokio::test]
    async fn silence_and_half_a_request_are_cut_off_and_their_places_go_to_others() {
        let server = Server::start(SHORT, hello()).await;
        let mut silent = server.connect().await;
        let mut slow = server.connect().await;
        slow.write_all(b"GET / HTTP/1.1\r\nhos").await.unwrap();
        let mut third = server.connect().await;
        let answer = ask(&mut third).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        read_all(&mut silent).await;
        read_all(&mut slow).await;
        server.stop().await;
    }

    #[tokio::test]
    async fn a_connection_that_lies_idle_after_an_answer_is_closed() {
        let server = Server::start(SHORT, hello()).await;
        let mut idle = server.connect().await;
        idle.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let answer = read_all(&mut idle).await;
        assert!(answer.ends_with("hello"), "{answer}");
        server.stop().await;
    }

    #[tokio::test]
    async fn a_head_that_is_too_large_is_refused() {
        let server = Server::start(Limits::default(), hello()).await;
        let mut large = server.connect().await;
        let head = format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "a".repeat(2 * HEAD_MAX));
        let _ = large.write_all(head.as_bytes()).await;
        let answer = read_all(&mut large).await;
        assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");
        let answer = ask(&mut server.connect().await).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        server.stop().await;
    }

    #[tokio::test]
    async fn shutdown_waits_for_no_silent_connection_and_no_endless_handler() {
        let router = hello().route("/never", get(async || std::future::pending::<()>().await));
        let limits = Limits { head: Duration::from_secs(3600), ..SHORT };
        let server = Server::start(limits, router).await;
        let mut silent = server.connect().await;
        let mut endless = server.connect().await;
        endless.write_all(b"GET /never HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        server.stop().await;
        read_all(&mut silent).await;
        read_all(&mut endless).await;
    }

    #[tokio::test]
    async fn shutdown_lets_a_request_under_way_finish() {
        let (entered, mut entering) = tokio::sync::mpsc::channel(1);
        let (open, gate) = watch::channel(());
        let handler = async move || {
            let mut gate = gate.clone();
            let _ = entered.send(()).await;
            let _ = gate.changed().await;
            "finished"
        };
        let limits = Limits { grace: PATIENCE, ..Limits::default() };
        let server = Server::start(limits, Router::new().route("/", get(handler))).await;
        let mut stream = server.connect().await;
        let asked = tokio::spawn(async move { ask(&mut stream).await });
        timeout(PATIENCE, entering.recv()).await.unwrap().unwrap();
        server.stop.send(()).unwrap();
        let refusing = async { while TcpStream::connect(server.address).await.is_ok() {} };
        timeout(PATIENCE, refusing).await.unwrap();
        open.send(()).unwrap();
        let answer = timeout(PATIENCE, asked).await.unwrap().unwrap();
        assert!(answer.ends_with("finished"), "{answer}");
        timeout(PATIENCE, server.task).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_connection_does_not_outlive_its_lifetime() {
        let limits = Limits {
            head: Duration::from_secs(3600),
            lifetime: Duration::from_millis(200),
            ..SHORT
        };
        let server = Server::start(limits, hello()).await;
        let mut kept = server.connect().await;
        kept.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let answer = read_all(&mut kept).await;
        assert!(answer.ends_with("hello"), "{answer}");
        server.stop().await;
    }
}
