//! Something that is said at most once in a while, however often it happens, so that a peer cannot
//! fill the log.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The least pause between two sayings.
const PAUSE: Duration = Duration::from_secs(1);

/// When it was said last, and how often it has happened since.
#[derive(Debug, Default)]
pub(super) struct Seldom(Mutex<(Option<Instant>, u64)>);

impl Seldom {
    /// It has happened: how many times went unsaid, if it is to be said now.
    pub(super) fn say(&self) -> Option<u64> {
        self.say_at(Instant::now())
    }

    fn say_at(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (last, unsaid) = *state;
        if last.is_some_and(|last| now.saturating_duration_since(last) < PAUSE) {
            state.1 = unsaid.saturating_add(1);
            return None;
        }
        *state = (Some(now), 0);
        Some(unsaid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happens_often_is_said_once_a_second_with_its_count() {
        let seldom = Seldom::default();
        let start = Instant::now();
        assert_eq!(seldom.say_at(start), Some(0));
        assert_eq!(seldom.say_at(start), None);
        assert_eq!(seldom.say_at(start + PAUSE / 2), None);
        assert_eq!(seldom.say_at(start + PAUSE), Some(2));
        assert_eq!(seldom.say_at(start + 3 * PAUSE), Some(0));
    }
}
