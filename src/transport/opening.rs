//! How a connection begins: the TLS handshake, and the HTTP/2 preface where that is spoken. Until
//! then a peer has shown nothing, so it gets little time; and before there are too many such peers,
//! the one that has taken longest gives way to the next. Someone who means to call is through in a
//! few round trips, and is served even while others hold every place they can.

use super::limits::Limits;
use super::peer::Peer;
use super::stream::{Io, Stream};
use super::tls::{self, Set, Tls};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt;
use tokio::sync::Notify;

/// What every HTTP/2 connection begins with (RFC 9113 section 3.4).
const PREFACE: [u8; 24] = *b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// What a connection may take over its opening before it can be made to give way: more than the few
/// round trips that it needs.
const PATIENCE: Duration = Duration::from_millis(500);

/// What is spoken on a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/2 alone, as gRPC wants it.
    Http2,
    /// HTTP/1.1.
    Http1,
}

impl Protocol {
    /// Its name in the TLS handshake (RFC 7301).
    pub(super) const fn alpn(self) -> &'static [u8] {
        match self {
            Self::Http2 => b"h2",
            Self::Http1 => b"http/1.1",
        }
    }
}

/// Why a connection did not come about.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unopened {
    #[error("{0}")]
    Handshake(io::Error),
    #[error("it does not begin as HTTP/2 does")]
    Preface,
    #[error("it took too long")]
    Late,
    #[error("it gave way to others")]
    GaveWay,
}

/// Opens a connection within the time that it has.
pub(super) async fn open(
    io: Io,
    mut peer: Peer,
    tls: Option<&Tls>,
    protocol: Protocol,
    limits: &Limits,
) -> Result<(Stream, Peer, Option<Arc<Set>>), Unopened> {
    let opening = async move {
        let (io, set) = match (io, tls) {
            (Io::Tcp(stream), Some(tls)) => {
                let (stream, set) = tls.handshake(stream).await.map_err(Unopened::Handshake)?;
                peer.certificates = tls::shown(&stream);
                (Io::Tls(Box::new(stream)), Some(set))
            }
            (io, _) => (io, None),
        };
        let mut stream = Stream::new(io, limits.write_timeout);
        if protocol == Protocol::Http2 {
            let mut preface = [0; PREFACE.len()];
            let read = stream.read_exact(&mut preface).await;
            if read.is_err() || preface != PREFACE {
                return Err(Unopened::Preface);
            }
            stream.unread(&preface);
        }
        Ok((stream, peer, set))
    };
    tokio::time::timeout(limits.handshake_timeout, opening).await.unwrap_or(Err(Unopened::Late))
}

/// Connections that are being opened, the one that began first in front.
#[derive(Debug)]
pub(super) struct Openings {
    most: usize,
    under_way: VecDeque<Arc<Opening>>,
    /// Told whenever one of them is over.
    freed: Arc<Notify>,
}

/// One connection that is being opened.
#[derive(Debug)]
pub(super) struct Opening {
    since: Instant,
    over: AtomicBool,
    freed: Arc<Notify>,
    give_way: Notify,
}

impl Openings {
    pub(super) fn new(most: usize) -> Self {
        Self { most, under_way: VecDeque::new(), freed: Arc::default() }
    }

    /// Is told whenever an opening is over.
    pub(super) fn freed(&self) -> Arc<Notify> {
        self.freed.clone()
    }

    /// How long the next connection has to wait for its turn; none: it need not.
    pub(super) fn wait(&mut self, now: Instant) -> Option<Duration> {
        if self.under_way.len() < self.most {
            return None;
        }
        self.under_way.retain(|opening| !opening.over.load(Ordering::Acquire));
        let oldest = self.under_way.front().filter(|_| self.under_way.len() >= self.most)?;
        let left = PATIENCE.saturating_sub(now.saturating_duration_since(oldest.since));
        (!left.is_zero()).then_some(left)
    }

    /// One more; if there are too many, the oldest gives way.
    pub(super) fn begin(&mut self, now: Instant) -> Arc<Opening> {
        if self.under_way.len() >= self.most
            && let Some(oldest) = self.under_way.pop_front()
        {
            oldest.give_way.notify_one();
        }
        let opening = Arc::new(Opening {
            since: now,
            over: AtomicBool::new(false),
            freed: self.freed.clone(),
            give_way: Notify::new(),
        });
        self.under_way.push_back(opening.clone());
        opening
    }
}

impl Opening {
    /// What `work` comes to, unless it has to give way before.
    pub(super) async fn unless_in_the_way<T>(
        &self,
        work: impl Future<Output = Result<T, Unopened>>,
    ) -> Result<T, Unopened> {
        let outcome = tokio::select! {
            biased;
            outcome = work => outcome,
            () = self.give_way.notified() => Err(Unopened::GaveWay),
        };
        self.over.store(true, Ordering::Release);
        self.freed.notify_one();
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::{pending, ready};

    #[tokio::test]
    async fn the_oldest_gives_way_once_it_has_had_its_time() {
        let start = Instant::now();
        let mut openings = Openings::new(2);
        let first = openings.begin(start);
        let _second = openings.begin(start);
        let wait = openings.wait(start + PATIENCE / 2).unwrap();
        assert_eq!(wait, PATIENCE / 2);
        assert_eq!(openings.wait(start + PATIENCE), None);
        let _third = openings.begin(start + PATIENCE);
        let gone = first.unless_in_the_way(pending::<Result<(), _>>()).await;
        assert!(matches!(gone, Err(Unopened::GaveWay)), "{gone:?}");
    }

    #[tokio::test]
    async fn those_that_are_open_stand_in_nobodys_way() {
        let start = Instant::now();
        let mut openings = Openings::new(2);
        let first = openings.begin(start);
        let second = openings.begin(start);
        assert!(first.unless_in_the_way(ready(Ok(7))).await.is_ok());
        assert_eq!(openings.wait(start), None);
        let _third = openings.begin(start);
        assert!(openings.wait(start).is_some(), "the second is still being opened");
        drop(second);
    }
}
