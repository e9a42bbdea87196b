//! Keys that sign, or may have to, looked at one by one in the course of an hour.
//!
//! Which keys there are is found out by a few calls for all of them; in which state each is takes a
//! call for each. Anyone with the right to may disable a key in KMS or have its deletion
//! scheduled. Of the key that signs, the next signature tells; of one that waits for its turn only
//! a look does, and that is better found out before a rotation than by it.

use super::calls::Shared;
use super::client::State;
use super::memory::lock;
use crate::key::MaterialId;
use std::collections::{HashSet, VecDeque};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// How long it takes to look at all of them,
const ROUND: Duration = Duration::from_secs(60 * 60);
/// unless there are so many that they would be looked at more often than this.
const PERIOD_MIN: Duration = Duration::from_secs(1);
/// How long a look may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// The keys that are looked at.
#[derive(Debug, Default)]
pub(super) struct Watch(Mutex<Round>);

#[derive(Debug, Default)]
struct Round {
    keys: VecDeque<(MaterialId, String)>,
    looked: Option<Instant>,
    /// Those that did not sign when last looked at.
    astray: HashSet<MaterialId>,
}

impl Watch {
    /// These are relied upon from now on, and no others.
    pub(super) fn rely_on(&self, keys: impl Iterator<Item = (MaterialId, String)>) {
        let mut round = lock(&self.0);
        let (mut order, mut wanted) = (VecDeque::new(), keys.collect::<HashSet<_>>());
        // Those whose turn comes next keep it.
        order.extend(round.keys.drain(..).filter(|key| wanted.remove(key)));
        for key in wanted {
            order.push_front(key);
        }
        round.astray.retain(|astray| order.iter().any(|(material, _)| material == astray));
        round.keys = order;
    }

    /// Whether the key did not sign when last looked at.
    pub(super) fn is_astray(&self, material: MaterialId) -> bool {
        lock(&self.0).astray.contains(&material)
    }

    /// The key whose turn it is, if it is time for one.
    fn turn(&self, now: Instant) -> Option<(MaterialId, String)> {
        let mut round = lock(&self.0);
        let count = u32::try_from(round.keys.len()).unwrap_or(u32::MAX).max(1);
        let period = (ROUND / count).max(PERIOD_MIN);
        if round.looked.is_some_and(|looked| now.saturating_duration_since(looked) < period) {
            return None;
        }
        let key = round.keys.pop_front()?;
        round.keys.push_back(key.clone());
        round.looked = Some(now);
        Some(key)
    }

    /// What a look has shown; whether that is news.
    fn note(&self, material: MaterialId, signs: Signs) -> News {
        let astray = &mut lock(&self.0).astray;
        let new = match signs {
            Signs::Yes => astray.remove(&material),
            Signs::No => astray.insert(material),
        };
        if new { News::Yes } else { News::No }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Signs {
    Yes,
    No,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum News {
    Yes,
    No,
}

impl Shared {
    /// Looks at the next key, if it is time to.
    pub(super) async fn look_at_one_relied_on(&self) {
        let now = Instant::now();
        let Some((material, arn)) = self.watch.turn(now) else {
            return;
        };
        // What we have ended ourselves is not news.
        if self.memory.fate(material).is_some() {
            return;
        }
        let backend = &self.settings.name;
        let found = match self.seen(&arn, now + PATIENCE).await {
            Ok(found) => found.map_or(State::Leaving, |found| found.state),
            Err(fault) => {
                tracing::debug!(%backend, key = arn, error = %fault.words, "a key could not be looked at");
                return;
            }
        };
        match found {
            State::Enabled | State::Arriving => {
                if self.watch.note(material, Signs::Yes) == News::Yes {
                    tracing::info!(%backend, key = arn, "the key can sign again");
                }
            }
            state => {
                if self.watch.note(material, Signs::No) == News::Yes {
                    tracing::error!(
                        %backend, key = arn, ?state,
                        "a published key cannot sign: somebody has disabled it in KMS, or had its deletion scheduled; cancel that and enable it there, or rotate and revoke it here"
                    );
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u8) -> (MaterialId, String) {
        (MaterialId::from_bytes([number; 16]), format!("arn-{number}"))
    }

    #[test]
    fn every_key_has_its_turn_within_a_round_and_a_list_that_comes_again_starts_none_anew() {
        let (watch, start) = (Watch::default(), Instant::now());
        assert_eq!(watch.turn(start), None);
        watch.rely_on([key(1), key(2), key(3)].into_iter());
        let mut seen = HashSet::new();
        for turn in 0..3 {
            let now = start + ROUND / 3 * turn;
            seen.extend(watch.turn(now));
            assert_eq!(watch.turn(now), None, "one at a time");
            watch.rely_on([key(3), key(2), key(1)].into_iter());
        }
        assert_eq!(seen.len(), 3);
    }

    #[test]
    fn what_is_not_relied_upon_any_more_is_forgotten() {
        let watch = Watch::default();
        watch.rely_on([key(1)].into_iter());
        assert_eq!(watch.note(key(1).0, Signs::No), News::Yes);
        assert_eq!(watch.note(key(1).0, Signs::No), News::No);
        assert!(watch.is_astray(key(1).0));
        watch.rely_on([key(2)].into_iter());
        assert!(!watch.is_astray(key(1).0));
    }
}
