//! The circuit: after repeated failure KMS is left alone for a while, and callers are told at once
//! instead of each finding out for themselves.
//!
//! It opens after a streak of failures that has lasted a moment, so that one lost connection under
//! many calls does not count as an outage. While it is open somebody probes (see
//! [`super::calls`]); once KMS answers again, one call is let through on trial, and the circuit
//! closes if it goes well.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Failures in a row that open the circuit,
const STREAK: u32 = 5;
/// if the first of them was this long ago.
const STREAK_LASTS: Duration = Duration::from_millis(200);
/// The first pause before a probe; it doubles up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Breaker(Mutex<State>);

#[derive(Clone, Copy, Debug)]
enum State {
    Closed { failures: u32, first: Option<Instant> },
    Open { since: Instant, pause: Duration },
    Trial { since: Instant, pause: Duration, taken: bool },
}

/// Leave to make one call; what came of it is to be told to it.
#[derive(Debug)]
pub(super) struct Pass<'a> {
    breaker: &'a Breaker,
    on_trial: bool,
}

impl Default for Breaker {
    fn default() -> Self {
        Self(Mutex::new(State::Closed { failures: 0, first: None }))
    }
}

impl Breaker {
    /// Leave to make one call; if there is none, for how long KMS has been out.
    pub(super) fn pass(&self, now: Instant) -> Result<Pass<'_>, Duration> {
        let mut state = self.lock();
        match &mut *state {
            State::Closed { .. } => Ok(Pass { breaker: self, on_trial: false }),
            State::Trial { taken, .. } if !*taken => {
                *taken = true;
                Ok(Pass { breaker: self, on_trial: true })
            }
            State::Open { since, .. } | State::Trial { since, .. } => {
                Err(now.saturating_duration_since(*since))
            }
        }
    }

    /// For how long KMS has been out, if nobody may ask it now.
    pub(super) fn is_open(&self, now: Instant) -> Option<Duration> {
        match *self.lock() {
            State::Open { since, .. } | State::Trial { since, taken: true, .. } => {
                Some(now.saturating_duration_since(since))
            }
            State::Closed { .. } | State::Trial { taken: false, .. } => None,
        }
    }

    /// For how long KMS has been out; none while the circuit is closed.
    pub(super) fn out_for(&self, now: Instant) -> Option<Duration> {
        match *self.lock() {
            State::Closed { .. } => None,
            State::Open { since, .. } | State::Trial { since, .. } => {
                Some(now.saturating_duration_since(since))
            }
        }
    }

    /// A probe has reached KMS: the next call is let through on trial.
    pub(super) fn reached(&self) {
        let mut state = self.lock();
        if let State::Open { since, pause } = *state {
            *state = State::Trial { since, pause, taken: false };
        }
    }

    /// A probe has not reached KMS; how long to wait before the next, or none if the circuit is not
    /// open any more.
    pub(super) fn not_reached(&self) -> Option<Duration> {
        let mut state = self.lock();
        match &mut *state {
            State::Open { pause, .. } => {
                *pause = (*pause * 2).min(PAUSE_MAX);
                Some(*pause)
            }
            _ => None,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pass<'_> {
    /// KMS has answered, be it with a refusal.
    pub(super) fn answered(mut self) {
        self.on_trial = false;
        *self.breaker.lock() = State::Closed { failures: 0, first: None };
    }

    /// KMS has failed. If that opens the circuit, how long to wait before the first probe.
    pub(super) fn failed(mut self, now: Instant) -> Option<Duration> {
        self.on_trial = false;
        let mut state = self.breaker.lock();
        match &mut *state {
            State::Closed { failures, first } => {
                *failures = failures.saturating_add(1);
                let began = *first.get_or_insert(now);
                let lasted = now.saturating_duration_since(began) >= STREAK_LASTS;
                if *failures < STREAK || !lasted {
                    return None;
                }
                *state = State::Open { since: began, pause: PAUSE_MIN };
                Some(PAUSE_MIN)
            }
            State::Trial { since, pause, taken: true } => {
                let (since, pause) = (*since, (*pause * 2).min(PAUSE_MAX));
                *state = State::Open { since, pause };
                Some(pause)
            }
            State::Open { .. } | State::Trial { .. } => None,
        }
    }
}

impl Drop for Pass<'_> {
    /// A call that was given up says nothing; the next may have the trial.
    fn drop(&mut self) {
        if self.on_trial
            && let State::Trial { taken, .. } = &mut *self.breaker.lock()
        {
            *taken = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(breaker: &Breaker, start: Instant) -> bool {
        let mut opened = false;
        for n in 0..STREAK {
            let now = start + n * STREAK_LASTS;
            opened |= breaker.pass(now).is_ok_and(|pass| pass.failed(now).is_some());
        }
        opened
    }

    #[test]
    fn it_opens_after_a_streak_that_lasts_and_closes_after_a_trial() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        assert!(opened(&breaker, now));
        assert!(breaker.pass(now).is_err());
        assert!(breaker.not_reached().is_some());
        breaker.reached();
        let trial = breaker.pass(now).unwrap();
        assert!(breaker.pass(now).is_err(), "one at a time");
        drop(trial);
        breaker.pass(now).unwrap().answered();
        assert!(breaker.pass(now).is_ok());
        assert_eq!(breaker.out_for(now), None);
    }

    #[test]
    fn a_trial_that_fails_opens_it_again_for_longer() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        assert!(opened(&breaker, now));
        breaker.reached();
        assert_eq!(breaker.pass(now).unwrap().failed(now), Some(2 * PAUSE_MIN));
        assert!(breaker.pass(now).is_err());
    }

    #[test]
    fn many_failures_in_one_moment_are_no_outage() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        for _ in 0..64 {
            assert_eq!(breaker.pass(now).unwrap().failed(now), None);
        }
        breaker.pass(now).unwrap().answered();
        assert_eq!(breaker.pass(now + STREAK_LASTS).unwrap().failed(now + STREAK_LASTS), None);
    }
}
