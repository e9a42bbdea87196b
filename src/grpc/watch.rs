//! WatchKeys: events of the keyring on their way to one watcher.

use super::call::Call;
use super::proto as pb;
use super::stream::{Answers, late};
use super::{answer, status, stopped};
use crate::access::{Action, Permit};
use crate::key::KeySetId;
use crate::keyring::{self, Event, WatchEnd};
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
    /// Whose call it is.
    pub(super) call: Call,
    /// The one key set that is watched; none: all that the caller may look at.
    pub(super) only: Option<KeySetId>,
    /// Tells when other rules have come into force.
    pub(super) changes: watch::Receiver<()>,
    /// A watch counts as one call under way.
    pub(super) _permit: Option<Permit>,
}

impl Watcher {
    /// Passes events on until one side ends it. An event is taken only when there is room for it,
    /// so a slow watcher fills the keyring's queue, which is bounded, and not this one. What the
    /// caller may look at is asked again for every message, at the instant at which it is sent.
    pub(super) async fn follow(mut self, mut events: keyring::Watcher) -> Result<(), Status> {
        let late = late(self.end);
        tokio::pin!(late);
        let mut pieces = VecDeque::new();
        loop {
            let next = async {
                let room = self.answers.reserve().await.ok()?;
                if pieces.is_empty() {
                    match events.next().await {
                        Ok(event) if !concerns(&self.call, &event) => {}
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
                Ok(()) = self.changes.changed() => may_go_on(&self.call, self.only.as_ref())?,
                next = next => match next {
                    None => return Ok(()),
                    Some((room, Ok(piece))) => {
                        if let Some(mut piece) = piece {
                            may_go_on(&self.call, self.only.as_ref())?;
                            piece.key_sets.retain(|set| may_see(&self.call, &set.id));
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

/// Ends the watch of a caller who may not look any more.
fn may_go_on(call: &Call, only: Option<&KeySetId>) -> Result<(), Status> {
    call.may_look(only).map_err(|error| status::of(error, &call.id))
}

/// Whether there is anything in it for the caller: a snapshot, even an empty one; something to see;
/// or that there is nothing to see any more, which ends the watch.
fn concerns(call: &Call, event: &Event) -> bool {
    event.snapshot
        || event.key_sets.iter().any(|set| call.may_see(&set.id))
        || call.gate.access.check_any(&call.caller, Action::View).is_err()
}

fn may_see(call: &Call, id: &str) -> bool {
    id.parse().is_ok_and(|id| call.may_see(&id))
}
