//! The way to a running service.

mod connection;
mod tls;

pub(super) use connection::Connection;
pub(super) use tls::{Protocol, Tls};

use super::Failure;
use crate::grpc::proto::key_service_client::KeyServiceClient;
use crate::grpc::proto::signing_service_client::SigningServiceClient;
use std::future::Future;
use std::time::Duration;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

/// What the answer may take on top of the deadline that the service was told.
const MARGIN: Duration = Duration::from_secs(2);

/// A connection to a service.
#[derive(Clone, Debug)]
pub(super) struct Client {
    /// For key sets and keys.
    pub(super) keys: KeyServiceClient<Channel>,
    /// For signatures.
    pub(super) signing: SigningServiceClient<Channel>,
    timeout: Duration,
    credential: Option<Credential>,
}

/// What says who we are, where no certificate does; never shown.
#[derive(Clone, Debug)]
struct Credential(MetadataValue<Ascii>);

impl Client {
    /// A request that tells the service who we are and how long we wait.
    pub(super) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = self.lasting_request(message);
        request.set_timeout(self.timeout);
        request
    }

    /// A request that tells the service who we are, and waits for as long as it goes on.
    pub(super) fn lasting_request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(Credential(header)) = &self.credential {
            request.metadata_mut().insert("authorization", header.clone());
        }
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
