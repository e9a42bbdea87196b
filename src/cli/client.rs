//! The way to a running service.

use super::Failure;
use crate::config::Span;
use crate::grpc::proto::key_service_client::KeyServiceClient;
use crate::grpc::proto::signing_service_client::SigningServiceClient;
use clap::Args;
use std::error::Error;
use std::future::Future;
use std::time::Duration;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// What the answer may take on top of the deadline that the service was told.
const MARGIN: Duration = Duration::from_secs(2);

/// How a service is reached.
#[derive(Clone, Debug, Args)]
pub(super) struct Connection {
    /// The service's gRPC address.
    #[arg(
        long,
        env = "SIGNKEEP_SERVER",
        value_name = "URL",
        default_value = "http://127.0.0.1:50051"
    )]
    server: String,
    /// How long an answer may take, e.g. 30s.
    #[arg(long, value_name = "SPAN", default_value = "60s")]
    timeout: Span,
}

/// A connection to a service.
#[derive(Clone, Debug)]
pub(super) struct Client {
    /// For key sets and keys.
    pub(super) keys: KeyServiceClient<Channel>,
    /// For signatures.
    pub(super) signing: SigningServiceClient<Channel>,
    timeout: Duration,
}

impl Connection {
    /// A service at `server`, for what has no command line of its own.
    pub(super) fn to(server: String) -> Self {
        Self { server, timeout: Span::from_secs(5) }
    }

    /// Connects, or says that nobody is there.
    pub(super) async fn open(&self) -> Result<Client, Failure> {
        let channel = self.channel().await?;
        Ok(Client {
            keys: KeyServiceClient::new(channel.clone()),
            signing: SigningServiceClient::new(channel),
            timeout: self.timeout.get(),
        })
    }

    /// Connects, for services other than Signkeep's own.
    pub(super) async fn channel(&self) -> Result<Channel, Failure> {
        if !self.server.starts_with("http://") {
            return Err(Failure::usage(format!(
                "--server {}: must be http:// with a loopback address, e.g. http://127.0.0.1:50051; this build has no TLS",
                self.server
            )));
        }
        let endpoint = Endpoint::from_shared(self.server.clone())
            .map_err(|error| Failure::usage(format!("--server {}: {error}", self.server)))?
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(Duration::from_secs(30))
            .keep_alive_timeout(Duration::from_secs(10))
            .keep_alive_while_idle(true);
        let connected = tokio::time::timeout(CONNECT_TIMEOUT, endpoint.connect()).await;
        match connected {
            Ok(Ok(channel)) => Ok(channel),
            Ok(Err(error)) => Err(Failure::unreachable(&self.server, &root(&error))),
            Err(_late) => Err(Failure::unreachable(&self.server, "no answer within 5s")),
        }
    }
}

impl Client {
    /// A request that tells the service how long we wait.
    pub(super) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(self.timeout);
        request
    }

    /// The answer to a call, waited for no longer than the request said and a little.
    pub(super) async fn answer<T>(
        &self,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Failure> {
        match tokio::time::timeout(self.timeout.saturating_add(MARGIN), call).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(status.into()),
            Err(_late) => Err(Failure::new("the service did not answer in time")
                .mend("look at what has happened before you try again; allow more with --timeout")),
        }
    }

    /// The same; a refusal says what to do about it in `key_set`.
    pub(super) async fn answer_for<T>(
        &self,
        key_set: &str,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Failure> {
        self.answer(call).await.map_err(|failure| failure.of(key_set))
    }
}

/// Runs a client verb. What it leaves behind in the background is not waited for.
pub(super) fn block_on(verb: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format!("cannot start: {error}")))?;
    let done = runtime.block_on(verb);
    runtime.shutdown_background();
    done
}

/// The innermost cause: "Connection refused" says more than "transport error".
fn root(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}
