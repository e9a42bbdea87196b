//! How often callers may ask: a bucket of calls for each client, and a number of rotations a day.

use super::{ClientId, Pace};
use crate::key::{KeySetId, earlier, later, until};
use axum::http::{HeaderValue, Response};
use jiff::Timestamp;
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Buckets beyond which those that are full are let go.
const BUCKETS_MAX: usize = 4096;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// What is left to a client, for the headers that Auth0's clients read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Allowance {
    limit: u32,
    remaining: u32,
    /// When all of it is there again.
    reset: Timestamp,
}

impl Allowance {
    /// Writes it into the headers of an answer.
    pub(super) fn stamp<B>(self, response: &mut Response<B>) {
        let headers = response.headers_mut();
        let reset = self.reset.as_second() + i64::from(self.reset.subsec_nanosecond() > 0);
        headers.insert("x-ratelimit-limit", HeaderValue::from(self.limit));
        headers.insert("x-ratelimit-remaining", HeaderValue::from(self.remaining));
        headers.insert("x-ratelimit-reset", HeaderValue::from(reset));
    }
}

/// There is nothing left for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spent {
    pub(super) allowance: Allowance,
    /// How long until there is something.
    pub(super) wait: Duration,
}

/// A bucket for each client that has asked lately.
pub(super) struct Buckets {
    pace: Pace,
    all: Mutex<HashMap<ClientId, Bucket>>,
}

/// When the bucket will be full again says how full it is.
struct Bucket {
    full: Timestamp,
}

impl Buckets {
    pub(super) fn new(pace: Pace) -> Self {
        Self { pace, all: Mutex::default() }
    }

    /// Takes one call from the client's bucket.
    pub(super) fn take(&self, client: &ClientId, now: Timestamp) -> Result<Allowance, Spent> {
        let (one, burst) = (Duration::from_secs(1) / self.pace.per_second.max(1), self.pace.burst);
        let mut all = locked(&self.all);
        if all.len() >= BUCKETS_MAX {
            all.retain(|_, bucket| bucket.full > now);
        }
        let bucket = all.entry(client.clone()).or_insert(Bucket { full: now });
        // A clock that went backwards makes nobody wait for longer than an empty bucket takes.
        let missing = until(now, bucket.full).min(one * burst);
        let after = missing + one;
        let allowance = |missing: Duration| Allowance {
            limit: burst,
            remaining: whole((one * burst).saturating_sub(missing), one),
            reset: later(now, missing),
        };
        if after > one * burst {
            let wait = after - one * burst;
            return Err(Spent { allowance: allowance(missing), wait });
        }
        bucket.full = later(now, after);
        Ok(allowance(after))
    }
}

/// How often `one` goes into `span`.
fn whole(span: Duration, one: Duration) -> u32 {
    u32::try_from(span.as_nanos() / one.as_nanos().max(1)).unwrap_or(u32::MAX)
}

/// The rotations of the last 24 hours that were asked for here, since the start.
pub(super) struct Rotations {
    per_day: u32,
    made: Mutex<HashMap<KeySetId, VecDeque<Timestamp>>>,
}

/// One of a day's rotations, spent unless it is given back.
#[must_use]
pub(super) struct Turn<'a> {
    rotations: &'a Rotations,
    key_set: KeySetId,
    at: Timestamp,
}

impl Rotations {
    pub(super) fn new(pace: Pace) -> Self {
        Self { per_day: pace.rotations_per_day, made: Mutex::default() }
    }

    /// Takes one, or says how long until there is one.
    pub(super) fn take(&self, key_set: &KeySetId, now: Timestamp) -> Result<Turn<'_>, Duration> {
        let mut made = locked(&self.made);
        let times = made.entry(key_set.clone()).or_default();
        times.retain(|at| *at > earlier(now, DAY));
        if u32::try_from(times.len()).unwrap_or(u32::MAX) >= self.per_day {
            let wait = times.front().map_or(DAY, |first| until(now, later(*first, DAY)));
            return Err(wait);
        }
        times.push_back(now);
        Ok(Turn { rotations: self, key_set: key_set.clone(), at: now })
    }
}

impl Turn<'_> {
    /// Nothing was rotated.
    pub(super) fn give_back(self) {
        let mut made = locked(&self.rotations.made);
        if let Some(times) = made.get_mut(&self.key_set)
            && let Some(place) = times.iter().position(|at| *at == self.at)
        {
            times.remove(place);
        }
    }
}

/// A mutex whose holder panicked still guards a value that is whole.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Pace = Pace { per_second: 2, burst: 3, rotations_per_day: 2 };

    fn at(milliseconds: i64) -> Timestamp {
        Timestamp::from_millisecond(1_800_000_000_000 + milliseconds).unwrap()
    }

    #[test]
    fn a_bucket_empties_and_fills_and_says_when() {
        let buckets = Buckets::new(PACE);
        let (one, other) = ("one".parse().unwrap(), "other".parse().unwrap());
        let left = |now| buckets.take(&one, now).map(|allowance| allowance.remaining);
        assert_eq!([left(at(0)), left(at(0)), left(at(0))], [Ok(2), Ok(1), Ok(0)]);
        let spent = buckets.take(&one, at(0)).unwrap_err();
        assert_eq!(spent.wait, Duration::from_millis(500));
        assert_eq!((spent.allowance.remaining, spent.allowance.reset), (0, at(1500)));
        assert!(buckets.take(&other, at(0)).is_ok());
        assert_eq!(left(at(499)).unwrap_err().wait, Duration::from_millis(1));
        assert_eq!(left(at(500)), Ok(0));
        assert_eq!(left(at(100_000)), Ok(2));
    }

    #[test]
    fn a_clock_that_goes_back_keeps_nobody_waiting_for_long() {
        let buckets = Buckets::new(PACE);
        let one = "one".parse().unwrap();
        assert!(buckets.take(&one, at(3_600_000)).is_ok());
        assert_eq!(buckets.take(&one, at(0)).unwrap_err().wait, Duration::from_millis(500));
    }

    #[test]
    fn rotations_are_counted_for_a_day_and_those_that_failed_are_not() {
        let rotations = Rotations::new(PACE);
        let (id, other) = ("default".parse().unwrap(), "other".parse().unwrap());
        rotations.take(&id, at(0)).ok().unwrap().give_back();
        assert!(rotations.take(&id, at(0)).is_ok());
        assert!(rotations.take(&id, at(1000)).is_ok());
        let Err(wait) = rotations.take(&id, at(3000)) else { panic!("a third in a day") };
        assert_eq!(wait, DAY - Duration::from_secs(3));
        assert!(rotations.take(&other, at(3000)).is_ok());
        assert!(rotations.take(&id, later(at(0), DAY)).is_ok());
        assert!(rotations.take(&id, later(at(0), DAY)).is_err());
    }
}
