//! How many calls are under way, and how many wait for one of them to end.
//!
//! Both are bounded, and whoever would wait past their deadline is refused while they can still go
//! elsewhere: how long a place is held is known from those before.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, Semaphore, SemaphorePermit};

/// The share of the newest observation in the average, as a divisor.
const SMOOTHING: u64 = 8;

#[derive(Debug)]
pub(super) struct Gate {
    places: Semaphore,
    places_max: usize,
    waiting: AtomicUsize,
    waiting_max: usize,
    held: Average,
    left: Notify,
}

/// Why there is no way in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// As many wait as may.
    Full,
    /// It would take longer than there is time.
    TooLong,
    /// The backend is being stopped.
    Closed,
}

/// A place inside; ends when dropped.
#[derive(Debug)]
pub(super) struct Inside<'a> {
    place: Option<SemaphorePermit<'a>>,
    gate: &'a Gate,
    since: Instant,
}

/// One who waits; ends when dropped, also by a caller who has gone.
struct Waiting<'a>(&'a AtomicUsize);

impl Gate {
    /// At most `places_max` inside, at most `waiting_max` in front.
    pub(super) fn new(places_max: usize, waiting_max: usize) -> Self {
        Self {
            places: Semaphore::new(places_max),
            places_max,
            waiting: AtomicUsize::new(0),
            waiting_max,
            held: Average::default(),
            left: Notify::new(),
        }
    }

    /// A place as soon as there is one, in the order of asking.
    pub(super) async fn enter(&self, deadline: Instant) -> Result<Inside<'_>, Refused> {
        let place = match self.places.try_acquire() {
            Ok(place) => place,
            Err(tokio::sync::TryAcquireError::Closed) => return Err(Refused::Closed),
            Err(tokio::sync::TryAcquireError::NoPermits) => self.wait(deadline).await?,
        };
        Ok(Inside { place: Some(place), gate: self, since: Instant::now() })
    }

    async fn wait(&self, deadline: Instant) -> Result<SemaphorePermit<'_>, Refused> {
        let ahead = self.waiting.fetch_add(1, Ordering::Relaxed);
        let waiting = Waiting(&self.waiting);
        if ahead >= self.waiting_max {
            return Err(Refused::Full);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        let held = self.held.get();
        let turns = u32::try_from(ahead / self.places_max + 1).unwrap_or(u32::MAX);
        // One's own turn, too, has to fit in.
        let needed = held.saturating_mul(turns).saturating_add(held);
        if needed > left {
            return Err(Refused::TooLong);
        }
        let until = Instant::now() + left.saturating_sub(held.min(left / 2));
        let place = tokio::time::timeout_at(until.into(), self.places.acquire()).await;
        drop(waiting);
        match place {
            Ok(Ok(place)) => Ok(place),
            Ok(Err(_closed)) => Err(Refused::Closed),
            Err(_late) => Err(Refused::TooLong),
        }
    }

    /// How many are inside.
    pub(super) fn inside(&self) -> usize {
        self.places_max.saturating_sub(self.places.available_permits())
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed).min(self.waiting_max)
    }

    /// Lets nobody in any more, not even those who wait; returns when all have left, or after
    /// `limit`.
    pub(super) async fn close(&self, limit: Duration) {
        self.places.close();
        let deadline = Instant::now() + limit;
        loop {
            let left = self.left.notified();
            if self.inside() == 0 || tokio::time::timeout_at(deadline.into(), left).await.is_err() {
                return;
            }
        }
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.gate.held.add(self.since.elapsed());
        drop(self.place.take());
        self.gate.left.notify_one();
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A moving average of durations, and how far they stray from it.
#[derive(Debug, Default)]
pub(super) struct Average {
    mean: AtomicU64,
    deviation: AtomicU64,
}

impl Average {
    /// One more observation.
    pub(super) fn add(&self, took: Duration) {
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        // Two at once may lose one of them: it is an estimate.
        let before = self.mean.load(Ordering::Relaxed);
        if before == 0 {
            self.mean.store(took, Ordering::Relaxed);
            self.deviation.store(took / 2, Ordering::Relaxed);
            return;
        }
        let smooth = |old: u64, new: u64| old - old / SMOOTHING + new / SMOOTHING;
        self.mean.store(smooth(before, took), Ordering::Relaxed);
        let strays = self.deviation.load(Ordering::Relaxed);
        self.deviation.store(smooth(strays, took.abs_diff(before)), Ordering::Relaxed);
    }

    /// The average; zero before the first observation.
    pub(super) fn get(&self) -> Duration {
        Duration::from_micros(self.mean.load(Ordering::Relaxed))
    }

    /// What nearly all stay below: the average and four deviations, as TCP reckons its timeouts
    /// (RFC 6298).
    pub(super) fn nearly_all(&self) -> Duration {
        let strays = self.deviation.load(Ordering::Relaxed);
        self.get() + Duration::from_micros(strays.saturating_mul(4))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(20)
    }

    #[tokio::test]
    async fn a_full_gate_refuses_at_once_and_a_slow_one_before_the_deadline() {
        let gate = Gate::new(1, 1);
        let inside = gate.enter(soon()).await.unwrap();
        let deadline = soon();
        let (first, second) = tokio::join!(gate.enter(deadline), gate.enter(deadline));
        assert_eq!(first.unwrap_err(), Refused::TooLong);
        assert_eq!(second.unwrap_err(), Refused::Full);
        assert_eq!(gate.waiting(), 0);
        drop(inside);
        assert!(gate.enter(soon()).await.is_ok());
    }

    #[tokio::test]
    async fn who_cannot_be_served_in_time_is_told_at_once() {
        let gate = Gate::new(1, 100);
        gate.held.add(Duration::from_secs(10));
        let _inside = gate.enter(soon()).await.unwrap();
        let asked = Instant::now();
        let refused = gate.enter(asked + Duration::from_secs(5)).await.unwrap_err();
        assert_eq!(refused, Refused::TooLong);
        assert!(asked.elapsed() < Duration::from_secs(1));
    }

    #[tokio::test]
    async fn a_closed_gate_refuses_those_who_wait_too() {
        let gate = Gate::new(1, 1);
        let inside = gate.enter(soon()).await.unwrap();
        let far = Instant::now() + Duration::from_secs(30);
        let (waited, ()) = tokio::join!(gate.enter(far), async {
            let closing = gate.close(Duration::from_secs(30));
            let leaving = async { drop(inside) };
            tokio::join!(closing, leaving);
        });
        assert_eq!(waited.unwrap_err(), Refused::Closed);
        assert_eq!(gate.enter(far).await.unwrap_err(), Refused::Closed);
    }
}
