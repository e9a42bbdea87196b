//! Keys of which it is known that they do not sign: the exceptions that a signer looks up before it
//! trusts a handle.

use crate::key::MaterialId;
use cryptoki::error::RvError;
use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

/// How long a key that ails is left alone at first, and at most.
const REST_MIN: Duration = Duration::from_secs(1);
const REST_MAX: Duration = Duration::from_secs(60);

/// Why a key does not sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Missing even after the token was re-initialised to make sure. Searched for again each time,
    /// for someone may bring it back.
    Lost,
    /// The token fails this key, and did so again after it was re-initialised: the fault is not the
    /// token's at large, and a re-initialisation would disturb all others for nothing.
    Ailing(Ailment),
    /// Disabled by the service. PKCS#11 knows no such state, so it holds in this process alone.
    Disabled,
    /// Destroyed by the service.
    Destroyed,
}

/// What a key suffers from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ailment {
    /// The token's answer.
    pub(super) code: RvError,
    /// Until when it is not tried again.
    pub(super) until: Instant,
    /// The pause that ends then; the next is twice as long.
    rest: Duration,
}

/// The fates of keys that have one.
#[derive(Debug, Default)]
pub(super) struct Fates(RwLock<HashMap<MaterialId, Fate>>);

impl Fate {
    /// Whether a key can come back from it.
    const fn may_pass(self) -> bool {
        matches!(self, Self::Lost | Self::Ailing(_))
    }
}

impl Fates {
    /// The fate of a key; none for one that signs.
    pub(super) fn of(&self, material: MaterialId) -> Option<Fate> {
        let fates = self.0.read().unwrap_or_else(PoisonError::into_inner);
        fates.get(&material).copied()
    }

    /// The key is not where it was.
    pub(super) fn is_lost(&self, material: MaterialId) {
        self.change(|fates| {
            let fate = fates.entry(material).or_insert(Fate::Lost);
            if fate.may_pass() {
                *fate = Fate::Lost;
            }
        });
    }

    /// The token fails the key with `code`, although it was re-initialised for that or a
    /// re-initialisation was known not to help.
    pub(super) fn is_ailing(&self, material: MaterialId, code: RvError, now: Instant) {
        let first = Ailment { code, until: now + REST_MIN, rest: REST_MIN };
        self.change(|fates| {
            let fate = fates.entry(material).or_insert(Fate::Ailing(first));
            match fate {
                // Several signers may have found out at once.
                Fate::Ailing(known) if known.code == code && now < known.until => {}
                Fate::Ailing(known) if known.code == code => {
                    let rest = known.rest.saturating_mul(2).min(REST_MAX);
                    *known = Ailment { code, until: now + rest, rest };
                }
                Fate::Ailing(_) | Fate::Lost => *fate = Fate::Ailing(first),
                Fate::Disabled | Fate::Destroyed => {}
            }
        });
    }

    /// The key was lost or ailed, and signs again.
    pub(super) fn is_well(&self, material: MaterialId) {
        self.change(|fates| {
            if fates.get(&material).is_some_and(|fate| fate.may_pass()) {
                fates.remove(&material);
            }
        });
    }

    /// The key must not sign any more.
    pub(super) fn is_disabled(&self, material: MaterialId) {
        self.change(|fates| {
            let fate = fates.entry(material).or_insert(Fate::Disabled);
            if fate.may_pass() {
                *fate = Fate::Disabled;
            }
        });
    }

    /// The key is gone for good.
    pub(super) fn is_destroyed(&self, material: MaterialId) {
        self.change(|fates| {
            fates.insert(material, Fate::Destroyed);
        });
    }

    fn change(&self, change: impl FnOnce(&mut HashMap<MaterialId, Fate>)) {
        change(&mut self.0.write().unwrap_or_else(PoisonError::into_inner));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disabled_key_is_not_found_again() {
        let (fates, key) = (Fates::default(), MaterialId::from_bytes([1; 16]));
        fates.is_lost(key);
        fates.is_disabled(key);
        fates.is_well(key);
        fates.is_lost(key);
        assert_eq!(fates.of(key), Some(Fate::Disabled));
    }

    #[test]
    fn a_key_that_ails_is_left_alone_ever_longer() {
        let (fates, key) = (Fates::default(), MaterialId::from_bytes([1; 16]));
        let (mut now, mut pauses) = (Instant::now(), Vec::new());
        for _ in 0..8 {
            fates.is_ailing(key, RvError::GeneralError, now);
            fates.is_ailing(key, RvError::GeneralError, now);
            let Some(Fate::Ailing(ailment)) = fates.of(key) else {
                panic!("{:?}", fates.of(key));
            };
            pauses.push((ailment.until - now).as_secs());
            now = ailment.until;
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
        fates.is_well(key);
        assert_eq!(fates.of(key), None);
    }

    #[test]
    fn a_destroyed_key_stays_destroyed() {
        let (fates, key) = (Fates::default(), MaterialId::from_bytes([1; 16]));
        fates.is_destroyed(key);
        fates.is_disabled(key);
        fates.is_lost(key);
        fates.is_ailing(key, RvError::GeneralError, Instant::now());
        assert_eq!(fates.of(key), Some(Fate::Destroyed));
    }
}
