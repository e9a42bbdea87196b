//! The accept loop.

use super::activity::Activity;
use super::bounds::Bounds;
use super::limits::Limits;
use super::listener::Listener;
use super::opening::{Openings, Protocol, Unopened, open};
use super::peer::Peer;
use super::seldom::Seldom;
use super::stream::{Io, Stream};
use super::tls::{Standing, Tls};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// The pause after a connection could not be accepted, e.g. for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A connection that has been opened: its TLS handshake is done, its HTTP/2 preface is there.
pub struct Connection {
    /// Its bytes.
    pub stream: Stream,
    /// Who is at the other end.
    pub peer: Arc<Peer>,
    /// What it has to keep to.
    pub bounds: Bounds,
}

/// Accepts connections and has `serve` serve them, each in a task of its own, until `stopping` says
/// so; returns when the last has ended. They are told to end by their [`Bounds`].
pub async fn accept<F, Served>(
    listener: Listener,
    protocol: Protocol,
    mut stopping: watch::Receiver<bool>,
    serve: F,
) where
    F: Fn(Connection) -> Served + Clone + Send + 'static,
    Served: Future<Output = ()> + Send,
{
    let door = Arc::new(Door {
        limits: *listener.limits(),
        tls: listener.tls().cloned(),
        protocol,
        name: listener.name().clone(),
        stopping: stopping.clone(),
        unopened: Seldom::default(),
    });
    let mut openings = Openings::new(door.limits.openings_max());
    let freed = openings.freed();
    let mut connections = JoinSet::new();
    let (refused, crowded) = (Seldom::default(), Seldom::default());
    loop {
        let full = connections.len() >= door.limits.connections_max;
        if full && let Some(unsaid) = crowded.say() {
            let most = door.limits.connections_max;
            tracing::warn!(
                listener = %door.name,
                most,
                unsaid,
                "every place is taken: new connections wait until one ends; limits.connections_max gives more"
            );
        }
        let wait = openings.wait(Instant::now());
        tokio::select! {
            biased;
            () = stopped(&mut stopping) => break,
            Some(_) = connections.join_next() => {}
            () = freed.notified(), if wait.is_some() => {}
            () = tokio::time::sleep(wait.unwrap_or_default()), if wait.is_some() => {}
            accepted = listener.accept(), if !full && wait.is_none() => match accepted {
                Ok((io, peer)) => {
                    let (door, serve) = (door.clone(), serve.clone());
                    let opening = openings.begin(Instant::now());
                    let origin: Arc<str> = peer.origin().into();
                    connections.spawn(async move {
                        match opening.unless_in_the_way(door.open(io, peer, origin.clone())).await {
                            Ok(connection) => serve(connection).await,
                            Err(why) => door.tell(&why, &origin),
                        }
                    });
                }
                Err(error) => not_accepted(&error, &door.name, &refused).await,
            },
        }
    }
    // Before the last connections end, so that nobody connects and is not answered.
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// What all connections of a listener come in by.
struct Door {
    limits: Limits,
    tls: Option<Tls>,
    protocol: Protocol,
    name: Arc<str>,
    stopping: watch::Receiver<bool>,
    unopened: Seldom,
}

impl Door {
    async fn open(&self, io: Io, peer: Peer, origin: Arc<str>) -> Result<Connection, Unopened> {
        let mut stopping = self.stopping.clone();
        let opening = open(io, peer, self.tls.as_ref(), self.protocol, &self.limits);
        let (stream, peer, set) = tokio::select! {
            biased;
            () = stopped(&mut stopping) => return Err(Unopened::GaveWay),
            opened = opening => opened?,
        };
        let standing = match (&self.tls, set) {
            (Some(tls), Some(set)) => Some(Standing::new(tls, set, &peer.certificates)),
            _ => None,
        };
        let bounds = Bounds {
            limits: self.limits,
            activity: Activity::default(),
            stopping,
            standing,
            peer: origin,
        };
        Ok(Connection { stream, peer: Arc::new(peer), bounds })
    }

    /// A peer whose handshake failed may be someone who looks for the reason; one that sent
    /// nothing, or something else, is not.
    fn tell(&self, why: &Unopened, peer: &str) {
        let listener = &*self.name;
        match why {
            Unopened::Handshake(error) if error.kind() == io::ErrorKind::InvalidData => {
                if let Some(unsaid) = self.unopened.say() {
                    tracing::warn!(listener, peer, %error, unsaid, "a TLS handshake failed");
                }
            }
            why => tracing::debug!(listener, peer, %why, "a connection was not opened"),
        }
    }
}

/// Resolves once a stop has been asked for, at once if it has been.
pub(super) async fn stopped(stopping: &mut watch::Receiver<bool>) {
    // A sender that is gone means that the face is.
    let _ = stopping.wait_for(|stop| *stop).await;
}

/// A caller that hung up while it was being accepted is nothing; being out of file descriptors is,
/// and passes only when some have been closed.
async fn not_accepted(error: &io::Error, listener: &str, seldom: &Seldom) {
    let hung_up = matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
    );
    if !hung_up {
        if let Some(unsaid) = seldom.say() {
            tracing::warn!(%error, listener, unsaid, "a connection could not be accepted");
        }
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}
