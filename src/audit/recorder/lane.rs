//! One sink's queue, and what is known of that sink.

use super::NoRoom;
use crate::audit::Record;
use crate::audit::sink::Changes;
use jiff::Timestamp;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{OwnedPermit, Sender};

/// A write that takes longer is told as a sink that does not answer.
const SLOW: Duration = Duration::from_secs(5);

/// Of the caller's time a tenth, and at most this much, is left for what comes after the wait.
const RESERVE_MAX: Duration = Duration::from_millis(500);

/// A place in the queue.
pub(super) type Seat = OwnedPermit<Arc<Record>>;

/// The near end of one sink's queue.
pub(super) struct Lane {
    name: &'static str,
    changes: Changes,
    queue: Sender<Arc<Record>>,
    missed: Mutex<Missed>,
    standing: Mutex<Standing>,
}

/// Records that found no room since the last gap was written down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Missed {
    pub(super) count: u64,
    pub(super) since: Option<Timestamp>,
}

/// What a sink's worker last found.
#[derive(Clone, Debug, Default)]
pub(super) struct Standing {
    pub(super) written: u64,
    pub(super) missed: u64,
    pub(super) broken: Option<String>,
    pub(super) unsealed: Option<String>,
    pub(super) checkpoint: Option<Timestamp>,
    pub(super) busy_since: Option<Instant>,
}

/// How a sink is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Its name, e.g. `store`.
    pub sink: &'static str,
    /// Records that wait for it.
    pub depth: usize,
    /// Records that it has taken since the start.
    pub written: u64,
    /// Records that found no room since the start; each is counted in a gap of its chain.
    pub missed: u64,
    /// Why it takes no records; none: it does.
    pub broken: Option<String>,
    /// Why its last checkpoint could not be made; none: it could, or none was due yet.
    pub unsealed: Option<String>,
    /// When its last checkpoint was made; none: there is none.
    pub checkpoint: Option<Timestamp>,
}

impl Lane {
    pub(super) fn new(name: &'static str, changes: Changes, queue: Sender<Arc<Record>>) -> Self {
        Self { name, changes, queue, missed: Mutex::default(), standing: Mutex::default() }
    }

    pub(super) fn takes_changes(&self) -> bool {
        self.changes == Changes::Handed
    }

    /// A place, so long before `deadline` that the signature can still be made, or its refusal still
    /// be heard.
    pub(super) async fn seat(&self, deadline: Instant) -> Result<Seat, NoRoom> {
        let no_room = NoRoom { sink: self.name };
        match self.queue.clone().try_reserve_owned() {
            Ok(seat) => Ok(seat),
            Err(TrySendError::Closed(_)) => Err(no_room),
            Err(TrySendError::Full(queue)) => {
                let left = deadline.saturating_duration_since(Instant::now());
                let patience = left.saturating_sub((left / 10).min(RESERVE_MAX));
                let seat = tokio::time::timeout(patience, queue.reserve_owned()).await;
                seat.map_err(|_late| no_room)?.map_err(|_closed| no_room)
            }
        }
    }

    /// A place, if there is one.
    pub(super) fn seat_at_once(&self) -> Option<Seat> {
        self.queue.clone().try_reserve_owned().ok()
    }

    /// Puts a record in the queue, or counts it as missing.
    pub(super) fn push(&self, record: Arc<Record>) {
        match self.queue.try_send(record) {
            Ok(()) => {}
            Err(TrySendError::Full(record) | TrySendError::Closed(record)) => self.miss(&record),
        }
    }

    /// Counts a record for which there was no room.
    pub(super) fn miss(&self, record: &Record) {
        let mut missed = locked(&self.missed);
        missed.count = missed.count.saturating_add(record.count);
        missed.since.get_or_insert(record.time);
        drop(missed);
        let mut standing = self.standing();
        standing.missed = standing.missed.saturating_add(record.count);
    }

    /// What was missed since this was last asked.
    pub(super) fn take_missed(&self) -> Missed {
        std::mem::take(&mut *locked(&self.missed))
    }

    pub(super) fn standing(&self) -> MutexGuard<'_, Standing> {
        locked(&self.standing)
    }

    pub(super) fn status(&self) -> Status {
        let standing = self.standing().clone();
        let slow = standing.busy_since.map(|since| since.elapsed()).filter(|busy| *busy > SLOW);
        let silent = slow.map(|busy| format!("no answer for {} s", busy.as_secs()));
        Status {
            sink: self.name,
            depth: self.queue.max_capacity() - self.queue.capacity(),
            written: standing.written,
            missed: standing.missed,
            broken: standing.broken.or(silent),
            unsealed: standing.unsealed,
            checkpoint: standing.checkpoint,
        }
    }
}

/// A mutex whose holder panicked still guards a value that is whole.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
