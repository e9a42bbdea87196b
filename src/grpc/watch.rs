//! WatchKeys: events of the keyring on their way to one watcher.

use super::proto as pb;
use super::stream::{Answers, late};
use super::{answer, status, stopped};
use crate::keyring::{self, WatchEnd};
use std::time::Instant;
use tokio::sync::watch;
use tonic::Status;

/// One WatchKeys stream.
pub(super) struct Watcher {
    /// Says when the service stops.
    pub(super) stopping: watch::Receiver<bool>,
    /// Until when the caller watches.
    pub(super) end: Option<Instant>,
    /// Where the answers go.
    pub(super) answers: Answers<pb::WatchKeysResponse>,
}

impl Watcher {
    /// Passes events on until one side ends it. An event is taken only when there is room for it,
    /// so a slow watcher fills the keyring's queue, which is bounded, and not this one.
    pub(super) async fn follow(mut self, mut events: keyring::Watcher) -> Result<(), Status> {
        let late = late(self.end);
        tokio::pin!(late);
        loop {
            let next = async {
                match self.answers.reserve().await {
                    Ok(room) => Some((room, events.next().await)),
                    Err(_gone) => None,
                }
            };
            tokio::select! {
                biased;
                () = stopped(&mut self.stopping) => return Err(status::shutting_down()),
                () = &mut late => return Err(status::deadline_exceeded()),
                () = self.answers.closed() => return Ok(()),
                next = next => match next {
                    None => return Ok(()),
                    Some((room, Ok(event))) => {
                        room.send(Ok(answer::event(&event)));
                    }
                    Some((_, Err(WatchEnd::Lagged))) => return Err(status::watch_lagged()),
                    Some((_, Err(WatchEnd::ShuttingDown))) => {
                        return Err(status::shutting_down());
                    }
                },
            }
        }
    }
}
