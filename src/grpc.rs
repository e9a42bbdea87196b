//! The gRPC face: translates between the wire and [`crate::keyring`], and decides nothing.
//!
//! The connections are served by hyper directly and not by tonic's own server, for three reasons.
//! tonic answers a deadline with CANCELLED before any layer of ours could say DEADLINE_EXCEEDED;
//! its drain waits for ever for a peer that keeps a connection open and says nothing; and it cannot
//! bound the time that a peer takes to begin. What is left of tonic is what it does well: routing,
//! framing and the generated services.

mod answer;
mod call;
mod claims;
mod connection;
mod convert;
mod deadline;
mod edge;
mod encode;
mod gate;
mod health;
mod keys;
mod page;
pub mod proto;
mod release;
mod routes;
mod signing;
mod status;
mod stream;
mod told;
mod violations;
mod watch;

pub use gate::{Refusal, Refusals};

use crate::access::Access;
use crate::health::Health;
use crate::keyring::Keyring;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch as signal;
use tokio::task::JoinSet;

/// What the face is built on.
#[derive(Clone)]
pub struct Deps {
    /// Who may do what.
    pub access: Access,
    /// Who is told of calls that are not let through.
    pub refusals: Arc<dyn Refusals>,
    /// The custodian that is asked.
    pub keyring: Keyring,
    /// How the service is; gRPC health follows it.
    pub health: Health,
    /// Limits and times.
    pub settings: Settings,
}

/// Limits and times of the face.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The longest that a read or a signature takes, and how long one takes at most if the caller
    /// sets no deadline.
    pub request_timeout_max: Duration,
    /// The same for changes: these generate keys and wait until every replica has followed.
    pub change_timeout_max: Duration,
    /// How long open calls may go on after a stop was asked for.
    pub drain_timeout: Duration,
    /// How long a peer may take to send the HTTP/2 preface.
    pub preface_timeout: Duration,
    /// How long a connection may be silent before it is asked for a sign of life.
    pub keepalive_interval: Duration,
    /// How long that sign of life may take.
    pub keepalive_timeout: Duration,
    /// Open connections on one listener; more wait to be accepted.
    pub connections_max: usize,
    /// Open calls on one connection.
    pub streams_per_connection_max: u32,
    /// Unary calls under way in the whole face; more are refused. The same number of items of
    /// streams; more wait.
    pub requests_max: usize,
    /// Sign requests under way on one SignStream; more are not read.
    pub stream_items_max: usize,
    /// The longest message that is read, in bytes.
    pub message_bytes_max: usize,
    /// The longest list of headers that is read, in bytes.
    pub header_bytes_max: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            request_timeout_max: Duration::from_secs(30),
            change_timeout_max: Duration::from_secs(120),
            drain_timeout: Duration::from_secs(10),
            preface_timeout: Duration::from_secs(10),
            keepalive_interval: Duration::from_secs(30),
            keepalive_timeout: Duration::from_secs(10),
            connections_max: 1024,
            streams_per_connection_max: 256,
            requests_max: 4096,
            stream_items_max: 256,
            message_bytes_max: 64 * 1024,
            header_bytes_max: 16 * 1024,
        }
    }
}

/// Why the face could not be served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The descriptors for reflection are broken: a defect of the build.
    #[error("the descriptors for reflection are broken")]
    Reflection(#[source] tonic_reflection::server::Error),
    /// A task that accepts connections ended before it was told to: a defect.
    #[error("a listener stopped accepting connections")]
    Listener,
}

/// Serves `listeners` until `shutdown` resolves. Then nothing new is accepted, health says
/// NOT_SERVING, new calls are refused with SHUTTING_DOWN, watches end, and open calls have
/// [`Settings::drain_timeout`] to finish before they are dropped. Dropping the future drops
/// everything at once.
pub async fn serve(
    listeners: Vec<TcpListener>,
    deps: Deps,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Error> {
    let (stop, stopping) = signal::channel(false);
    let drain_timeout = deps.settings.drain_timeout;
    let health = deps.health.clone();
    let settings = deps.settings.clone();
    let gate = gate::Gate { access: deps.access.clone(), refusals: deps.refusals.clone() };
    let routes = routes::routes(deps, &stopping)?;
    let edge = Arc::new(edge::Edge::new(routes, gate, settings, stopping.clone()));
    let mut acceptors = JoinSet::new();
    for listener in listeners {
        acceptors.spawn(connection::accept(listener, edge.clone(), stopping.clone()));
    }
    tokio::select! {
        () = shutdown => {}
        Some(_) = acceptors.join_next() => return Err(Error::Listener),
    }
    health.update(|report| report.stopping = true);
    stop.send_replace(true);
    let drained = async { while acceptors.join_next().await.is_some() {} };
    if tokio::time::timeout(drain_timeout, drained).await.is_err() {
        tracing::warn!(?drain_timeout, "open calls are dropped: the time to drain is over");
        acceptors.shutdown().await;
    }
    Ok(())
}

/// Resolves once a stop has been asked for, at once if it has been.
async fn stopped(stopping: &mut signal::Receiver<bool>) {
    // The sender lives as long as the face; if it is gone, so is the face.
    let _ = stopping.wait_for(|stop| *stop).await;
}
