//! What this process knows of its keys beyond what KMS says of them yet.
//!
//! KMS shows late what was done, so what we have done ourselves is remembered: keys that we made,
//! keys that must not sign any more, and since when a key has been looked for in vain. All of it is
//! bounded and can be lost: a restart only makes the service more patient.

use crate::key::{KeySpec, MaterialId};
use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Entries of each kind.
const ENTRIES_MAX: usize = 20_000;

/// What became of a key that this process was to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Birth {
    /// It was certainly not made.
    Not,
    /// It may have been made.
    Perhaps,
    /// It was made.
    Made(String),
}

/// Why a key does not sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// We have disabled it.
    Disabled,
    /// We have had its deletion scheduled.
    Destroyed,
}

/// The memory.
#[derive(Debug, Default)]
pub(super) struct Memory {
    births: Mutex<Bounded<MaterialId, (Birth, Instant)>>,
    fates: Mutex<Bounded<MaterialId, (Fate, Instant)>>,
    sought: Mutex<Bounded<MaterialId, Instant>>,
    refused: Mutex<Bounded<KeySpec, String>>,
}

impl Memory {
    /// Writes down what became of a birth; the time is that of the first entry.
    pub(super) fn born(&self, material: MaterialId, birth: Birth, now: Instant) {
        let mut births = lock(&self.births);
        let since = births.get(&material).map_or(now, |(_, since)| *since);
        births.insert(material, (birth, since));
    }

    /// What became of a birth; none if it was not in this process.
    pub(super) fn birth(&self, material: MaterialId) -> Option<Birth> {
        lock(&self.births).get(&material).map(|(birth, _)| birth.clone())
    }

    /// The keys that were made here less than `span` ago.
    pub(super) fn made_within(&self, span: Duration, now: Instant) -> Vec<(MaterialId, String)> {
        let births = lock(&self.births);
        let young = births.entries.iter().filter_map(|(material, (birth, since))| match birth {
            Birth::Made(arn) if now.saturating_duration_since(*since) < span => {
                Some((*material, arn.clone()))
            }
            _ => None,
        });
        young.collect()
    }

    /// Whether it was made here less than `span` ago.
    pub(super) fn is_young(&self, material: MaterialId, span: Duration, now: Instant) -> bool {
        let births = lock(&self.births);
        births.get(&material).is_some_and(|(_, since)| now.saturating_duration_since(*since) < span)
    }

    /// Since when it has been known that this key is looked for: since its birth if that was here,
    /// else since the first question.
    pub(super) fn sought_since(&self, material: MaterialId, now: Instant) -> Instant {
        if let Some((_, since)) = lock(&self.births).get(&material) {
            return *since;
        }
        let mut sought = lock(&self.sought);
        match sought.get(&material) {
            Some(since) => *since,
            None => {
                sought.insert(material, now);
                now
            }
        }
    }

    /// The key must not sign any more. What is destroyed stays so.
    pub(super) fn ends(&self, material: MaterialId, fate: Fate, now: Instant) {
        let mut fates = lock(&self.fates);
        let is_destroyed = fates.get(&material).is_some_and(|(fate, _)| *fate == Fate::Destroyed);
        if fate == Fate::Destroyed || !is_destroyed {
            fates.insert(material, (fate, now));
        }
    }

    /// Whether its deletion was scheduled here less than `span` ago.
    pub(super) fn is_just_destroyed(
        &self,
        material: MaterialId,
        span: Duration,
        now: Instant,
    ) -> bool {
        let fates = lock(&self.fates);
        fates.get(&material).is_some_and(|(fate, at)| {
            *fate == Fate::Destroyed && now.saturating_duration_since(*at) < span
        })
    }

    /// KMS makes no keys of that kind here, in words.
    pub(super) fn refuses(&self, spec: KeySpec, words: String) {
        lock(&self.refused).insert(spec, words);
    }

    /// In which words KMS refused to make a key of that kind, if it has.
    pub(super) fn refused(&self, spec: KeySpec) -> Option<String> {
        lock(&self.refused).get(&spec).cloned()
    }

    /// Why a key must not sign; none if it may.
    pub(super) fn fate(&self, material: MaterialId) -> Option<Fate> {
        lock(&self.fates).get(&material).map(|(fate, _)| *fate)
    }
}

/// A map that forgets what was put in first.
#[derive(Debug)]
pub(super) struct Bounded<K, V> {
    entries: HashMap<K, V>,
    order: VecDeque<K>,
}

impl<K, V> Default for Bounded<K, V> {
    fn default() -> Self {
        Self { entries: HashMap::new(), order: VecDeque::new() }
    }
}

impl<K: Clone + Eq + Hash, V> Bounded<K, V> {
    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.entries.get(key)
    }

    pub(super) fn insert(&mut self, key: K, value: V) {
        if self.entries.insert(key.clone(), value).is_none() {
            self.order.push_back(key);
        }
        if self.order.len() > ENTRIES_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.entries.remove(&oldest);
        }
    }
}

/// Locks, also what a panic has left locked: every entry is whole by itself.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_is_bounded() {
        let mut map = Bounded::default();
        for n in 0..=ENTRIES_MAX {
            map.insert(n, ());
        }
        assert_eq!(map.get(&0), None);
        assert_eq!(map.get(&ENTRIES_MAX), Some(&()));
    }

    #[test]
    fn what_is_destroyed_stays_destroyed() {
        let (memory, key) = (Memory::default(), MaterialId::from_bytes([1; 16]));
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        memory.ends(key, Fate::Destroyed, now);
        memory.ends(key, Fate::Disabled, now);
        assert_eq!(memory.fate(key), Some(Fate::Destroyed));
        assert!(memory.is_just_destroyed(key, second, now));
        assert!(!memory.is_just_destroyed(key, second, now + second));
        memory.ends(key, Fate::Destroyed, now + second);
        assert!(memory.is_just_destroyed(key, second, now + second));
    }

    #[test]
    fn a_birth_keeps_its_time() {
        let (memory, key) = (Memory::default(), MaterialId::from_bytes([1; 16]));
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        memory.born(key, Birth::Perhaps, start);
        memory.born(key, Birth::Made("arn".into()), start + second);
        assert!(memory.is_young(key, second, start));
        assert!(!memory.is_young(key, second, start + second));
        assert_eq!(memory.sought_since(key, start + second), start);
    }
}
