//! Speaking HTTP/1.1 on connections. How one begins and ends, and that a caller that sends its
//! request a byte an hour, holds connections open or never reads its answer costs one of a bounded
//! number of places for a bounded time, is [`crate::transport`]'s and hyper's to see to.

use crate::transport::{self, Connection, Counted, Listener, Protocol};
use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::Response;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use tokio::sync::watch;
use tower::ServiceExt;

/// The least that hyper takes for the head of a request, in bytes.
const HEAD_MIN: usize = 8192;

/// Serves HTTP/1.1 on `listener` until `shutdown` comes. Returns when the last connection has
/// closed, at most the listener's grace after that.
pub async fn serve(listener: Listener, router: Router, shutdown: impl Future<Output = ()>) {
    let limits = *listener.limits();
    let head_max = usize::try_from(limits.header_bytes_max).unwrap_or(HEAD_MIN).max(HEAD_MIN);
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits.idle_timeout)
        .max_buf_size(head_max);
    let (stop, stopping) = watch::channel(false);
    let serving =
        transport::accept(listener, Protocol::Http1, stopping, move |connection: Connection| {
            let Connection { stream, peer: _, bounds } = connection;
            let (router, activity) = (router.clone(), bounds.activity());
            let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
                let (router, call) = (router.clone(), activity.begin());
                async move {
                    let request: Request = request.map(Body::new);
                    let response: Response<Body> = match router.oneshot(request).await {
                        Ok(response) => response,
                        Err(never) => match never {},
                    };
                    Ok::<_, Infallible>(response.map(|body| Counted::new(body, call)))
                }
            });
            let open = builder.serve_connection(TokioIo::new(stream), service);
            bounds.drive(open)
        });
    let stopped = async {
        shutdown.await;
        stop.send_replace(true);
    };
    // Both: what is stopped still has to end.
    tokio::join!(serving, stopped);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::Limits;
    use axum::routing::get;
    use std::net::SocketAddr;
    use std::time::Duration;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::sync::oneshot;
    use tokio::task::JoinHandle;
    use tokio::time::timeout;

    /// Long enough that only a wait without an end can reach it.
    const PATIENCE: Duration = Duration::from_secs(20);

    const HEAD_MAX: usize = Limits::HTTP.header_bytes_max as usize;

    const SHORT: Limits = Limits {
        connections_max: 2,
        idle_timeout: Duration::from_millis(200),
        connection_age: Duration::from_secs(60),
        grace: Duration::from_millis(200),
        ..Limits::HTTP
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
            let listener = Listener::plain("http", listener, limits).unwrap();
            let task = tokio::spawn(serve(listener, router, async {
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
        let server = Server::start(Limits::HTTP, hello()).await;
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
        let server = Server::start(Limits::HTTP, hello()).await;
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
        let limits = Limits { idle_timeout: Duration::from_secs(3600), ..SHORT };
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
        let limits = Limits { grace: PATIENCE, ..Limits::HTTP };
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
            idle_timeout: Duration::from_secs(3600),
            connection_age: Duration::from_millis(200),
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
