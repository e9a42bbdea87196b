//! Whether the other end of an open connection would still be let in. A handshake proves something
//! about one moment; a connection lives on. So it ends when the client's certificate does, and when
//! a new set comes into force that would not take that certificate.

use super::Tls;
use super::set::{Set, certificate};
use crate::clock::Clock;
use jiff::Timestamp;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::sleep;

/// The longest that the end of a certificate is slept towards, for the wall clock may be set.
const NAP: Duration = Duration::from_secs(600);

/// A client's certificates and the sets that come into force after its handshake.
pub(in crate::transport) struct Standing {
    shown: Vec<Vec<u8>>,
    ends: Option<Timestamp>,
    clock: Arc<dyn Clock>,
    sets: watch::Receiver<Arc<Set>>,
    /// A set came into force between the handshake and now.
    missed: bool,
}

impl Standing {
    /// Of a client that has `shown` these, and was let in by `set`.
    pub(in crate::transport) fn new(tls: &Tls, set: Arc<Set>, shown: &[Vec<u8>]) -> Self {
        let ends = shown
            .first()
            .and_then(|own| certificate(own, Path::new("")).ok())
            .and_then(|(_, part)| part.until);
        let sets = tls.follow();
        let missed = !Arc::ptr_eq(&sets.borrow(), &set);
        Self { shown: shown.to_vec(), ends, clock: tls.0.clock.clone(), sets, missed }
    }

    /// Waits until the client would not be let in any more.
    pub(in crate::transport) async fn lost(&self) {
        tokio::select! {
            () = self.ended() => {}
            () = self.refused() => {}
        }
    }

    async fn ended(&self) {
        let Some(ends) = self.ends else {
            return std::future::pending().await;
        };
        loop {
            let left = ends.duration_since(self.clock.now());
            match Duration::try_from(left) {
                Ok(left) if !left.is_zero() => sleep(left.min(NAP)).await,
                _ => return,
            }
        }
    }

    async fn refused(&self) {
        let mut sets = self.sets.clone();
        if self.missed {
            sets.mark_changed();
        }
        while sets.changed().await.is_ok() {
            let set = sets.borrow_and_update().clone();
            if !set.admits(&self.shown) {
                return;
            }
        }
        // The listener is gone; whoever stops it ends its connections.
        std::future::pending::<()>().await;
    }
}
