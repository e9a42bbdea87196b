//! HTTP/1.1 by hand, so that answers can break off where no server would let them.

use super::{Reply, State};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A request of the client.
#[derive(Clone)]
pub(super) struct Request {
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    pub(super) body: Bytes,
}

/// An answer of the emulator, or one made up.
pub(super) struct Response {
    pub(super) status: u16,
    headers: Vec<(String, String)>,
    pub(super) body: Bytes,
}

/// The emulator.
pub(super) struct Upstream {
    address: String,
    client: Client<HttpConnector, Full<Bytes>>,
}

impl Request {
    /// The value of the header `name`, given in lower case.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The same with another body.
    pub(super) fn with_body(&self, body: &Value) -> Self {
        Self { body: body.to_string().into(), ..self.clone() }
    }
}

impl Response {
    /// An answer in the form of KMS.
    pub(super) fn json(status: u16, body: &Value) -> Self {
        let kind = ("content-type".to_owned(), "application/x-amz-json-1.1".to_owned());
        Self { status, headers: vec![kind], body: body.to_string().into() }
    }

    /// 200, and nothing that means anything.
    pub(super) fn garbage() -> Self {
        let body = Bytes::from_static(b"\x00<html>surely not JSON</html>\xff{{{");
        Self { status: 200, headers: Vec::new(), body }
    }

    /// Head and body as they go over the wire.
    fn bytes(&self) -> Vec<u8> {
        let mut head = format!("HTTP/1.1 {} Told\r\n", self.status);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!("content-length: {}\r\n\r\n", self.body.len()));
        [head.as_bytes(), &self.body].concat()
    }
}

impl Upstream {
    pub(super) fn new(address: &str) -> Self {
        let client = Client::builder(TokioExecutor::new()).build_http();
        Self { address: address.to_owned(), client }
    }

    /// Passes a request on; an emulator that does not answer is 502.
    pub(super) async fn send(&self, request: Request) -> Response {
        let mut passed = http::Request::builder()
            .method(request.method.as_str())
            .uri(format!("http://{}{}", self.address, request.path));
        for (name, value) in &request.headers {
            if !["content-length", "connection", "transfer-encoding"].contains(&name.as_str()) {
                passed = passed.header(name, value);
            }
        }
        let passed = passed.body(Full::new(request.body)).unwrap();
        let answer = match self.client.request(passed).await {
            Ok(answer) => answer,
            Err(error) => {
                return Response::json(502, &Value::from(format!("the emulator is out: {error}")));
            }
        };
        let (head, body) = answer.into_parts();
        let headers = head
            .headers
            .iter()
            .filter(|(name, _)| {
                !["content-length", "connection", "transfer-encoding"].contains(&name.as_str())
            })
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap_or("").to_owned()))
            .collect();
        let body = body.collect().await.unwrap().to_bytes();
        Response { status: head.status.as_u16(), headers, body }
    }
}

/// Answers one connection's requests until it ends or is to be ended.
pub(super) async fn serve(mut stream: TcpStream, state: Arc<State>) {
    stream.set_nodelay(true).ok();
    let mut read = Vec::new();
    while let Some(request) = next(&mut stream, &mut read).await {
        match state.answer(request).await {
            Reply::Whole(response) => {
                if stream.write_all(&response.bytes()).await.is_err() {
                    return;
                }
            }
            Reply::Half(response) => {
                let bytes = response.bytes();
                let half = bytes.len() - response.body.len() / 2;
                stream.write_all(&bytes[..half]).await.ok();
                stream.shutdown().await.ok();
                return;
            }
            Reply::Silence => {
                // Until the client has had enough.
                let mut rest = [0; 1024];
                while matches!(stream.read(&mut rest).await, Ok(1..)) {}
                return;
            }
            Reply::Close => return,
            Reply::Reset => {
                stream.set_zero_linger().ok();
                return;
            }
        }
    }
}

/// The next request of a connection; none at its end. `read` holds what was read beyond the last.
async fn next(stream: &mut TcpStream, read: &mut Vec<u8>) -> Option<Request> {
    loop {
        if let Some((request, length)) = parse(read) {
            read.drain(..length);
            return Some(request);
        }
        if stream.read_buf(read).await.ok()? == 0 {
            return None;
        }
    }
}

/// A request that has been read whole, and its length.
fn parse(read: &[u8]) -> Option<(Request, usize)> {
    let head = read.windows(4).position(|four| four == b"\r\n\r\n")?;
    let text = std::str::from_utf8(&read[..head]).unwrap();
    let mut lines = text.split("\r\n");
    let mut first = lines.next()?.split(' ');
    let (method, path) = (first.next()?.to_owned(), first.next()?.to_owned());
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let mut request = Request { method, path, headers, body: Bytes::new() };
    assert!(request.header("transfer-encoding").is_none(), "the SDK knows its lengths");
    let promised = request.header("content-length").map_or(0, |length| length.parse().unwrap());
    let end = head + 4 + promised;
    request.body = Bytes::copy_from_slice(read.get(head + 4..end)?);
    Some((request, end))
}
