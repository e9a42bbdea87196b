//! A signature's place in the record, from before it is made until it is known what became of it.

use super::Recorder;
use super::lane::Seat;
use crate::audit::Record;
use std::sync::Arc;

/// A place in every sink's queue. Once it has a draft, something is recorded whatever happens: if
/// the place is dropped unfilled, because whoever held it is gone, the draft itself.
#[must_use = "a place that is dropped without a draft records nothing"]
pub struct Place {
    recorder: Recorder,
    /// How many signatures the record stands for; nought: this one is not recorded.
    stands_for: u64,
    /// One for each sink, none where there was no room.
    pub(super) seats: Vec<Option<Seat>>,
    draft: Option<Record>,
    /// Whether a signature may have been made.
    used: bool,
}

impl Place {
    pub(super) const fn new(recorder: Recorder, stands_for: u64) -> Self {
        Self { recorder, stands_for, seats: Vec::new(), draft: None, used: false }
    }

    /// Says what is recorded unless [`Place::fill`] says otherwise: from here on a signature may
    /// be made. `draft` is only called if this signature is recorded.
    pub fn draft(&mut self, draft: impl FnOnce() -> Record) {
        self.used = true;
        if self.stands_for > 0 {
            self.draft = Some(Record { count: self.stands_for, ..draft() });
        }
    }

    /// Records the draft as `change` leaves it.
    pub fn fill(mut self, change: impl FnOnce(&mut Record)) {
        if let Some(draft) = &mut self.draft {
            change(draft);
        }
    }

    /// Gives the place back: no signature was made.
    pub fn leave(mut self) {
        (self.draft, self.used) = (None, false);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.used {
            return self.recorder.0.sampler.put_back(self.stands_for);
        }
        let Some(draft) = self.draft.take() else { return };
        let record = Arc::new(draft);
        let seats = std::mem::take(&mut self.seats);
        for (lane, seat) in self.recorder.0.lanes.iter().zip(seats) {
            match seat {
                Some(seat) => drop(seat.send(Arc::clone(&record))),
                None => lane.miss(&record),
            }
        }
    }
}
