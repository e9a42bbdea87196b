//! WatchKeys: a snapshot first, then one message for every change.

use super::{Error, Event, Keyring};
use crate::key::KeySetId;
use std::collections::VecDeque;
use tokio::sync::broadcast::{self, error::RecvError};

/// Follows the changes of one key set, or of all.
pub struct Watcher {
    only: Option<KeySetId>,
    first: VecDeque<Event>,
    seen: u64,
    events: broadcast::Receiver<Event>,
}

/// Why a watch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchEnd {
    /// The watcher was too slow to take every change; it has to start anew.
    Lagged,
    /// The service stops.
    ShuttingDown,
}

impl Keyring {
    /// Watches the key set `only`, or all of them.
    pub fn watch(&self, only: Option<KeySetId>) -> Result<Watcher, Error> {
        if let Some(id) = &only {
            self.key_set(id)?;
        }
        // Subscribed first: a change between the two is in both, and told once by its revision.
        let events = self.0.events.subscribe();
        let revision = self.0.snapshot.load().revision;
        let mut key_sets = self.key_sets(None, usize::MAX);
        key_sets.retain(|set| only.as_ref().is_none_or(|id| set.id == *id));
        let first = VecDeque::from([Event { key_sets, revision, snapshot: true }]);
        Ok(Watcher { only, first, seen: revision, events })
    }
}

impl Watcher {
    /// The next message; waits for one as long as it takes.
    pub async fn next(&mut self) -> Result<Event, WatchEnd> {
        if let Some(event) = self.first.pop_front() {
            return Ok(event);
        }
        loop {
            let event = match self.events.recv().await {
                Ok(event) => event,
                Err(RecvError::Lagged(_)) => return Err(WatchEnd::Lagged),
                Err(RecvError::Closed) => return Err(WatchEnd::ShuttingDown),
            };
            let concerned = event.key_sets.iter().any(|set| {
                !set.id.is_internal() && self.only.as_ref().is_none_or(|id| set.id == *id)
            });
            if concerned && event.revision > self.seen {
                self.seen = event.revision;
                return Ok(event);
            }
        }
    }
}
