//! How often, and how much at once, each caller may use a binding.
//!
//! The rate is a token bucket in its shortest form: one instant for each caller, at which the bucket
//! would be full again. An entry that says no more than its absence would is dropped, so memory
//! follows those who are busy; if there are more of them than places, those that are over share one
//! entry, and so are held back more, never less.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

const SHARDS: usize = 16;
/// Callers that one shard tells apart.
const CALLERS_MAX: usize = 1024;
/// The share of those for whom there is no room. No caller has an empty name.
const OVERFLOW: &str = "";
/// When to come back while too much is under way at once.
const AFTER_CONCURRENCY: Duration = Duration::from_secs(1);

/// What a binding sets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Calls a second, and as many at once after a rest; none: no limit.
    pub rate: Option<NonZeroU32>,
    /// Calls under way at once; none: no limit.
    pub concurrency: Option<NonZeroU32>,
}

/// Keeps to the limits of one binding.
#[derive(Debug)]
pub(super) struct Meter {
    limits: Limits,
    start: Instant,
    hasher: RandomState,
    shards: [Mutex<HashMap<Arc<str>, Use>>; SHARDS],
}

/// What one caller has used.
#[derive(Clone, Copy, Debug, Default)]
struct Use {
    /// When the bucket is full again, in nanoseconds from the meter's start.
    full: u64,
    under_way: u32,
}

/// A call under way; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Ticket {
    meter: Arc<Meter>,
    shard: usize,
    caller: Arc<str>,
}

/// Which limit is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reached {
    pub(super) limit: &'static str,
    pub(super) wait: Duration,
}

impl Meter {
    pub(super) fn new(limits: Limits, start: Instant) -> Self {
        Self { limits, start, hasher: RandomState::new(), shards: Default::default() }
    }

    /// Lets `caller` make a call at `now`, or says when to come back. None: it needs no ticket.
    pub(super) fn enter(
        self: &Arc<Self>,
        caller: &Arc<str>,
        now: Instant,
    ) -> Result<Option<Ticket>, Reached> {
        if self.limits == Limits::default() {
            return Ok(None);
        }
        let now = nanos(now.saturating_duration_since(self.start));
        let shard = self.shard_of(caller);
        let mut uses = self.shard(shard);
        if uses.len() >= CALLERS_MAX && !uses.contains_key(caller) {
            uses.retain(|_, used| used.under_way > 0 || used.full > now);
        }
        let has_room = uses.len() < CALLERS_MAX || uses.contains_key(caller);
        let caller = if has_room { caller.clone() } else { OVERFLOW.into() };
        let used = uses.entry(caller.clone()).or_default();
        if let Some(most) = self.limits.concurrency
            && used.under_way >= most.get()
        {
            return Err(Reached { limit: "concurrency", wait: AFTER_CONCURRENCY });
        }
        if let Some(rate) = self.limits.rate {
            let step = 1_000_000_000 / u64::from(rate.get());
            let next = used.full.max(now).saturating_add(step);
            // A bucket holds one second's calls; the first step is the call itself.
            let latest = now.saturating_add(1_000_000_000.max(step));
            if next > latest {
                let wait = Duration::from_nanos(next - latest);
                return Err(Reached { limit: "rate", wait });
            }
            used.full = next;
        }
        used.under_way = used.under_way.saturating_add(1);
        drop(uses);
        Ok(Some(Ticket { meter: self.clone(), shard, caller }))
    }

    fn shard_of(&self, caller: &str) -> usize {
        usize::try_from(self.hasher.hash_one(caller) % SHARDS as u64).unwrap_or_default()
    }

    fn shard(&self, at: usize) -> MutexGuard<'_, HashMap<Arc<str>, Use>> {
        let [first, ..] = &self.shards;
        let shard = self.shards.get(at).unwrap_or(first);
        // Nothing panics while it is held.
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(used) = self.meter.shard(self.shard).get_mut(&self.caller) {
            used.under_way = used.under_way.saturating_sub(1);
        }
    }
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meter(rate: u32, concurrency: u32) -> (Arc<Meter>, Instant) {
        let start = Instant::now();
        let limits =
            Limits { rate: NonZeroU32::new(rate), concurrency: NonZeroU32::new(concurrency) };
        (Arc::new(Meter::new(limits, start)), start)
    }

    fn caller(name: &str) -> Arc<str> {
        name.into()
    }

    #[test]
    fn a_second_has_as_many_calls_as_the_rate_and_each_caller_its_own() {
        let (meter, start) = meter(5, 0);
        let made = |name: &str, after: u64| {
            let at = start + Duration::from_millis(after);
            (0..100).take_while(|_| meter.enter(&caller(name), at).is_ok()).count()
        };
        assert_eq!(made("a", 0), 5);
        assert_eq!(made("b", 0), 5);
        assert_eq!(made("a", 199), 0);
        assert_eq!(made("a", 400), 2);
        assert_eq!(made("a", 60_000), 5, "a rest does not add up");
        let reached = meter.enter(&caller("a"), start + Duration::from_secs(60)).unwrap_err();
        assert_eq!((reached.limit, reached.wait), ("rate", Duration::from_millis(200)));
    }

    #[test]
    fn a_rate_of_one_lets_one_call_a_second_through() {
        let (meter, start) = meter(1, 0);
        let at = |ms| meter.enter(&caller("a"), start + Duration::from_millis(ms)).is_ok();
        assert_eq!(
            [at(0), at(1), at(999), at(1_000), at(1_500)],
            [true, false, false, true, false]
        );
    }

    #[test]
    fn what_is_under_way_counts_until_it_ends() {
        let (meter, now) = meter(0, 2);
        let first = meter.enter(&caller("a"), now).unwrap();
        let _second = meter.enter(&caller("a"), now).unwrap();
        let reached = meter.enter(&caller("a"), now).unwrap_err();
        assert_eq!(reached.limit, "concurrency");
        assert!(meter.enter(&caller("b"), now).is_ok());
        drop(first);
        assert!(meter.enter(&caller("a"), now).is_ok());
    }

    #[test]
    fn without_limits_nothing_is_kept() {
        let (meter, now) = meter(0, 0);
        assert!(meter.enter(&caller("a"), now).unwrap().is_none());
        assert!(meter.shards.iter().all(|shard| shard.lock().unwrap().is_empty()));
    }

    #[test]
    fn many_callers_take_bounded_memory_and_are_held_back_all_the_same() {
        let (meter, start) = meter(1, 0);
        for at in 0..100_000 {
            // Refused or not: what matters is what is kept.
            let _ = meter.enter(&caller(&format!("caller {at}")), start);
        }
        let kept: usize = meter.shards.iter().map(|shard| shard.lock().unwrap().len()).sum();
        assert!(kept <= SHARDS * (CALLERS_MAX + 1), "{kept}");
        assert!(meter.enter(&caller("one more"), start).is_err(), "they share what is left");
        let later = start + Duration::from_secs(2);
        assert!(meter.enter(&caller("one more"), later).is_ok(), "the others have rested");
    }
}
