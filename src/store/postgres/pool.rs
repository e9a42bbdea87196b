//! A bounded number of connections.
//!
//! A connection is used again only if whoever had it gives it back in so many words, between
//! transactions; one that is dropped, because its call was late, failed or not waited for, is
//! closed. So no call ever meets what another one left behind, and no hung connection holds a place.

use super::Connection;
use super::fault::{Fault, WAIT};
use super::way::Way;
use crate::store::Kind;
use sqlx::Connection as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

/// An idle connection that is not heard of for longer is not worth waiting for.
const PING_WAIT: Duration = Duration::from_secs(1);

/// Connections, so many and no more.
#[derive(Debug)]
pub(super) struct Pool {
    way: Arc<Way>,
    size: u32,
    places: Semaphore,
    idle: Mutex<Vec<Connection>>,
    closed: AtomicBool,
}

/// A connection that one caller has to itself.
#[derive(Debug)]
pub(super) struct Seat<'p> {
    pool: &'p Pool,
    connection: Connection,
    _place: SemaphorePermit<'p>,
}

impl Pool {
    /// None of them is made before it is needed.
    pub(super) fn new(way: Arc<Way>, size: u32) -> Self {
        let places = Semaphore::new(size as usize);
        Self { way, size, places, idle: Mutex::default(), closed: AtomicBool::new(false) }
    }

    /// A connection that answers, in the order of asking.
    pub(super) async fn take(&self) -> Result<Seat<'_>, Fault> {
        let place = self.places.acquire().await.map_err(|_| closed())?;
        if self.closed.load(Ordering::Acquire) {
            return Err(closed());
        }
        loop {
            let idle = self.idle().pop();
            let connection = match idle {
                None => self.way.connect().await?,
                Some(mut connection) => match timeout(PING_WAIT, connection.ping()).await {
                    Ok(Ok(())) => connection,
                    _ => continue,
                },
            };
            return Ok(Seat { pool: self, connection, _place: place });
        }
    }

    /// Waits for what is under way, and takes nothing new.
    pub(super) async fn close(&self) {
        self.closed.store(true, Ordering::Release);
        let all = timeout(WAIT, self.places.acquire_many(self.size)).await;
        if all.is_err() {
            tracing::warn!("a call to the database did not end in time; its connection is cut");
        }
        self.places.close();
        let idle = std::mem::take(&mut *self.idle());
        for connection in idle {
            // The server would notice by itself.
            drop(timeout(PING_WAIT, connection.close()).await);
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat<'_> {
    pub(super) const fn db(&mut self) -> &mut Connection {
        &mut self.connection
    }

    /// Leaves the connection to others; it is in no transaction, and nothing is under way on it.
    pub(super) fn give_back(self) {
        self.pool.idle().push(self.connection);
    }
}

fn closed() -> Fault {
    Fault::new(Kind::Unavailable, "the store is closed")
}
