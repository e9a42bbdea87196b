//! WatchKeys: events of the keyring on their way to one watcher.

use super::proto as pb;
use super::stream::{Answers, late};
use super::{answer, status, stopped};
use crate::keyring::{self, WatchEnd};
use std::collections::VecDeque;
use std::time::Instant;
use tokio::sync::watch;
use tonic::Status;

/// No message is longer, in bytes, unless a single key set is: clients read 4 MiB unless told
/// otherwise.
const MESSAGE_BYTES_MAX: usize = 2 * 1024 * 1024;

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
        let mut pieces = VecDeque::new();
        loop {
            let next = async {
                let room = self.answers.reserve().await.ok()?;
                if pieces.is_empty() {
                    match events.next().await {
                        Ok(event) => pieces = answer::event(&event, MESSAGE_BYTES_MAX),
                        Err(end) => return Some((room, Err(end))),
                    }
                }
                Some((room, Ok(pieces.pop_front())))
            };
            tokio::select! {
                biased;
                () = stopped(&mut self.stopping) => return Err(status::shutting_down()),
                () = &mut late => return Err(status::deadline_exceeded()),
                () = self.answers.closed() => return Ok(()),
                next = next => match next {
                    None => return Ok(()),
                    Some((room, Ok(piece))) => {
                        if let Some(piece) = piece {
                            room.send(Ok(piece));
                        }
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
