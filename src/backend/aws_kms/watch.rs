//! Keys that are being deleted, looked at now and then: anyone with the right to can cancel a
//! deletion, and a key that the service holds for destroyed would then live on.

use super::calls::Shared;
use super::client::State;
use super::error::Class;
use super::memory::{Bounded, lock};
use crate::key::MaterialId;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How often one of the keys is looked at.
const PERIOD: Duration = Duration::from_secs(600);
/// How long a look may take.
const PATIENCE: Duration = Duration::from_secs(4);

/// The keys whose deletion this process has seen scheduled.
#[derive(Debug, Default)]
pub(super) struct Watch {
    leaving: Mutex<Bounded<String, MaterialId>>,
    looked: Mutex<Option<Instant>>,
    cancelled: AtomicUsize,
}

impl Watch {
    /// Deletions that somebody has cancelled.
    pub(super) fn cancelled(&self) -> usize {
        self.cancelled.load(Ordering::Relaxed)
    }
}

impl Shared {
    /// The key is being deleted.
    pub(super) fn leaving(&self, arn: &str, material: MaterialId) {
        lock(&self.watch.leaving).insert(arn.to_owned(), material);
    }

    /// Looks at the next of them, if it is time to.
    pub(super) async fn look_at_one_that_leaves(&self) {
        let now = Instant::now();
        {
            let mut looked = lock(&self.watch.looked);
            if looked.is_some_and(|looked| now.saturating_duration_since(looked) < PERIOD) {
                return;
            }
            *looked = Some(now);
        }
        let next = lock(&self.watch.leaving).rotate().cloned();
        let Some(arn) = next else {
            return;
        };
        match self.describe(&arn, now + PATIENCE).await {
            Ok(found) if found.state == State::Leaving => {}
            Ok(found) => {
                lock(&self.watch.leaving).remove(&arn);
                self.watch.cancelled.fetch_add(1, Ordering::Relaxed);
                tracing::error!(
                    backend = %self.settings.name, key = arn, state = ?found.state,
                    "somebody has cancelled the deletion of a key that was destroyed here; it is not used, and it is not deleted"
                );
            }
            // Deleted at last.
            Err(fault) if fault.class == Class::NotFound => {
                lock(&self.watch.leaving).remove(&arn);
            }
            Err(fault) => {
                tracing::debug!(backend = %self.settings.name, error = %fault.words, "a key that is being deleted could not be looked at");
            }
        }
    }
}
