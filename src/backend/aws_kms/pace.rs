//! How fast KMS is asked: a rate below the account's quota, which everybody in the account shares.
//!
//! Each call is given a turn, an instant at which it may begin, so how long it would wait is known
//! before it waits: whoever cannot be served in time is told so at once. When KMS says slow down
//! the rate falls by a third, once for all the calls that were under way; then it climbs again,
//! slowly where it was last too high, fast once KMS has not complained for two seconds.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Throttles within this time are one.
const SAME_STORM: Duration = Duration::from_millis(200);
/// How often the rate is raised.
const STEP: Duration = Duration::from_millis(200);
/// After this long without a throttle, the rate that was too high is forgotten.
const FORGET: Duration = Duration::from_secs(2);

/// Gives turns.
#[derive(Debug)]
pub(super) struct Pace {
    state: Mutex<State>,
    /// The rate that is never exceeded, in calls a second.
    most: f64,
    /// How much of it may be asked for at once after a rest.
    burst: Duration,
}

#[derive(Debug)]
struct State {
    rate: f64,
    /// The next turn that has not been given.
    next: Option<Instant>,
    throttled: Option<Throttled>,
    raised: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Throttled {
    at: Instant,
    /// The rate that was too high.
    rate: f64,
}

impl Pace {
    /// At most `per_second` calls a second, and as many at once as come due in `burst`.
    pub(super) fn new(per_second: u32, burst: Duration) -> Self {
        let most = f64::from(per_second.max(1));
        let state = State { rate: most, next: None, throttled: None, raised: None };
        Self { state: Mutex::new(state), most, burst }
    }

    /// The next turn, if it comes before `until`; else none is taken, and how long it would have
    /// taken is answered.
    pub(super) fn turn(&self, now: Instant, until: Instant) -> Result<Instant, Duration> {
        let mut state = self.lock();
        let rested = now.checked_sub(self.burst).unwrap_or(now);
        let due = state.next.map_or(rested, |next| next.max(rested));
        let turn = due.max(now);
        if turn > until {
            return Err(turn.duration_since(now));
        }
        state.next = Some(due + Duration::from_secs_f64(1.0 / state.rate));
        Ok(turn)
    }

    /// KMS has said slow down.
    pub(super) fn throttled(&self, now: Instant) {
        let mut state = self.lock();
        let before = state.throttled;
        if before.is_some_and(|before| now.saturating_duration_since(before.at) < SAME_STORM) {
            return;
        }
        state.throttled = Some(Throttled { at: now, rate: state.rate });
        state.rate = (state.rate * 2.0 / 3.0).max(self.least());
        state.raised = Some(now);
        let pause = now + Duration::from_secs_f64(1.0 / state.rate);
        state.next = Some(state.next.map_or(pause, |next| next.max(pause)));
    }

    /// KMS has done as asked.
    pub(super) fn went_well(&self, now: Instant) {
        let mut state = self.lock();
        if state.rate >= self.most {
            return;
        }
        let raised = state.raised.is_some_and(|at| now.saturating_duration_since(at) < STEP);
        if raised {
            return;
        }
        let near = state.throttled.is_some_and(|throttled| {
            now.saturating_duration_since(throttled.at) < FORGET
                && state.rate > 0.8 * throttled.rate
        });
        let factor = if near { 1.02 } else { 1.3 };
        state.rate = (state.rate * factor).min(self.most);
        state.raised = Some(now);
    }

    /// Calls a second that are let through now.
    pub(super) fn rate(&self) -> f64 {
        self.lock().rate
    }

    /// Whether KMS has said slow down, and the rate is not back yet.
    pub(super) fn is_slowed(&self) -> bool {
        self.rate() < self.most
    }

    fn least(&self) -> f64 {
        (self.most / 100.0).max(1.0).min(self.most)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const BURST: Duration = Duration::from_millis(100);

    /// Turns that are to be had within a second.
    fn turns(pace: &Pace, now: Instant) -> usize {
        (0..).take_while(|_| pace.turn(now, now + SECOND).is_ok()).count()
    }

    #[test]
    fn no_more_turns_are_given_than_the_rate_allows() {
        let (pace, now) = (Pace::new(100, BURST), Instant::now());
        let given = turns(&pace, now);
        assert!((100..=112).contains(&given), "{given}");
        let wait = pace.turn(now, now + SECOND).unwrap_err();
        assert!(wait > SECOND && wait < SECOND + Duration::from_millis(20), "{wait:?}");
    }

    #[test]
    fn a_turn_that_comes_too_late_is_not_taken() {
        let (pace, now) = (Pace::new(1, BURST), Instant::now());
        assert!(pace.turn(now, now).is_ok());
        assert!(pace.turn(now, now).is_err());
        assert!(pace.turn(now, now).is_err());
        assert!(pace.turn(now, now + SECOND).is_ok());
    }

    #[test]
    fn many_throttles_at_once_count_once() {
        let (pace, now) = (Pace::new(90, BURST), Instant::now());
        for _ in 0..64 {
            pace.throttled(now);
        }
        assert!((pace.rate() - 60.0).abs() < 0.1, "{}", pace.rate());
    }

    #[test]
    fn after_a_storm_the_rate_is_back_within_seconds() {
        let (pace, start) = (Pace::new(1000, BURST), Instant::now());
        for n in 0..100 {
            pace.throttled(start + n * SAME_STORM);
        }
        assert!(pace.rate() < 11.0, "{}", pace.rate());
        let calm = start + 100 * SAME_STORM;
        for n in 0..60 {
            pace.went_well(calm + n * Duration::from_millis(100));
        }
        assert!(pace.rate() > 900.0, "{}", pace.rate());
    }
}
