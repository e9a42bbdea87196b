//! A bounded queue between async callers and the threads that own sessions.
//!
//! Bounded, because a token is slower than the network in front of it: what it cannot keep up with
//! is refused while the caller can still go elsewhere, instead of growing old in memory.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Places beyond the bound, for [`Queue::push_ahead`] alone.
const PLACES_AHEAD: usize = 8;

/// Something that waits in a queue.
pub(super) trait Waiting {
    /// Whether nobody would look at its result any more.
    fn is_stale(&self, now: Instant) -> bool;
}

#[derive(Debug)]
pub(super) struct Queue<T> {
    state: Mutex<State<T>>,
    ready: Condvar,
    max: usize,
}

#[derive(Debug)]
struct State<T> {
    jobs: VecDeque<T>,
    closed: bool,
}

/// Why a job was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// As many wait as may.
    Full,
    /// The backend is being stopped.
    Closed,
}

impl<T: Waiting> Queue<T> {
    /// A queue in which at most `max` jobs wait.
    pub(super) fn new(max: usize) -> Self {
        Self {
            state: Mutex::new(State { jobs: VecDeque::new(), closed: false }),
            ready: Condvar::new(),
            max,
        }
    }

    /// Puts a job at the end; never waits. If there is no room, jobs that are stale make room first:
    /// otherwise those whose callers have gone would keep their places for as long as the token
    /// hangs.
    pub(super) fn push(&self, job: T) -> Result<(), Refused> {
        let mut state = self.open_with_room(self.max)?;
        state.jobs.push_back(job);
        self.ready.notify_one();
        Ok(())
    }

    /// Puts a job before all others; has a few places of its own, so that a probe of a busy backend
    /// finds out how it is instead of being refused.
    pub(super) fn push_ahead(&self, job: T) -> Result<(), Refused> {
        let mut state = self.open_with_room(self.max.saturating_add(PLACES_AHEAD))?;
        state.jobs.push_front(job);
        self.ready.notify_one();
        Ok(())
    }

    /// The next job, as soon as there is one; none once the queue is closed.
    pub(super) fn pop(&self) -> Option<T> {
        let mut state = self.lock();
        loop {
            if state.closed {
                return None;
            }
            if let Some(job) = state.jobs.pop_front() {
                return Some(job);
            }
            state = self.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Takes no more jobs and drops those that wait, which tells their callers.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        let dropped = std::mem::take(&mut state.jobs);
        drop(state);
        self.ready.notify_all();
        drop(dropped);
    }

    /// How many jobs wait.
    pub(super) fn len(&self) -> usize {
        self.lock().jobs.len()
    }

    /// Whether it takes no more jobs.
    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    fn open_with_room(&self, max: usize) -> Result<MutexGuard<'_, State<T>>, Refused> {
        let mut state = self.lock();
        if state.closed {
            return Err(Refused::Closed);
        }
        if state.jobs.len() >= max {
            let now = Instant::now();
            state.jobs.retain(|job| !job.is_stale(now));
        }
        if state.jobs.len() >= max { Err(Refused::Full) } else { Ok(state) }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Waiting for i32 {
        fn is_stale(&self, _: Instant) -> bool {
            *self < 0
        }
    }

    #[test]
    fn jobs_that_nobody_waits_for_make_room() {
        let queue = Queue::new(3);
        assert_eq!([-1, 2, -3].map(|job| queue.push(job)), [Ok(()); 3]);
        assert_eq!(queue.push(4), Ok(()));
        assert_eq!(queue.push(5), Ok(()));
        assert_eq!(queue.push(6), Err(Refused::Full));
        assert_eq!([queue.pop(), queue.pop(), queue.pop()], [Some(2), Some(4), Some(5)]);
    }

    #[test]
    fn a_full_queue_refuses_at_once() {
        let queue = Queue::new(2);
        assert_eq!(queue.push(1), Ok(()));
        assert_eq!(queue.push(2), Ok(()));
        assert_eq!(queue.push(3), Err(Refused::Full));
        assert_eq!(queue.len(), 2);
    }

    #[test]
    fn a_probe_goes_ahead_of_a_full_queue() {
        let queue = Queue::new(1);
        assert_eq!(queue.push(1), Ok(()));
        assert_eq!(queue.push_ahead(2), Ok(()));
        assert_eq!(queue.pop(), Some(2));
        assert_eq!(queue.pop(), Some(1));
    }

    #[test]
    fn a_closed_queue_drops_what_waits_and_takes_nothing() {
        let queue = Queue::new(2);
        assert_eq!(queue.push(1), Ok(()));
        queue.close();
        assert_eq!(queue.pop(), None);
        assert_eq!(queue.push(2), Err(Refused::Closed));
    }
}
