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

use crate::access::Access;
use crate::health::Health;
use crate::keyring::Keyring;
use crate::transport::Listener;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, watch as signal};
use tokio::task::JoinSet;

/// What the face is built on.
#[derive(Clone)]
pub struct Deps {
    /// Who may do what.
    pub access: Access,
    /// The custodian that is asked.
    pub keyring: Keyring,
    /// How the service is; gRPC health follows it.
    pub health: Health,
    /// Limits and times.
    pub settings: Settings,
}

/// Limits and times of the face; what one connection may take up is its listener's to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The longest that a read or a signature takes, and how long one takes at most if the caller
    /// sets no deadline.
    pub request_timeout_max: Duration,
    /// The same for changes: these generate keys and wait until every replica has followed.
    pub change_timeout_max: Duration,
    /// How long open calls may go on after a stop was asked for.
    pub drain_timeout: Duration,
    /// Unary calls under way in the whole face; more are refused. The same number of items of
    /// streams; more wait.
    pub requests_max: usize,
    /// Sign requests under way on one SignStream; more are not read.
    pub stream_items_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            request_timeout_max: Duration::from_secs(30),
            change_timeout_max: Duration::from_secs(120),
            drain_timeout: Duration::from_secs(10),
            requests_max: 4096,
            stream_items_max: 256,
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
    listeners: Vec<Listener>,
    deps: Deps,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Error> {
    let (stop, stopping) = signal::channel(false);
    let drain_timeout = deps.settings.drain_timeout;
    let health = deps.health.clone();
    let settings = deps.settings.clone();
    let access = deps.access.clone();
    let places = Arc::new(Semaphore::new(settings.requests_max));
    let mut acceptors = JoinSet::new();
    for listener in listeners {
        let limit = listener.limits().message_bytes_max;
        let routes = routes::routes(deps.clone(), limit, &stopping)?;
        let (access, settings, places) = (access.clone(), settings.clone(), places.clone());
        let edge = edge::Edge::new(routes, access, settings, places, stopping.clone());
        acceptors.spawn(connection::accept(listener, Arc::new(edge), stopping.clone()));
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
