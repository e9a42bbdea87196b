//! Keys of which it is known that they do not sign: the exceptions that a signer looks up before it
//! trusts a handle.

use crate::key::MaterialId;
use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

/// Why a key does not sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Missing even after the token was re-initialised to make sure. Searched for again each time,
    /// for someone may bring it back.
    Lost,
    /// Disabled by the service. PKCS#11 knows no such state, so it holds in this process alone.
    Disabled,
    /// Destroyed by the service.
    Destroyed,
}

/// The fates of keys that have one.
#[derive(Debug, Default)]
pub(super) struct Fates(RwLock<HashMap<MaterialId, Fate>>);

impl Fates {
    /// The fate of a key; none for one that signs.
    pub(super) fn of(&self, material: MaterialId) -> Option<Fate> {
        let fates = self.0.read().unwrap_or_else(PoisonError::into_inner);
        fates.get(&material).copied()
    }

    /// The key is not where it was.
    pub(super) fn is_lost(&self, material: MaterialId) {
        self.change(|fates| {
            fates.entry(material).or_insert(Fate::Lost);
        });
    }

    /// The key was lost and is back.
    pub(super) fn is_found(&self, material: MaterialId) {
        self.change(|fates| {
            if fates.get(&material) == Some(&Fate::Lost) {
                fates.remove(&material);
            }
        });
    }

    /// The key must not sign any more.
    pub(super) fn is_disabled(&self, material: MaterialId) {
        self.change(|fates| {
            let fate = fates.entry(material).or_insert(Fate::Disabled);
            if *fate == Fate::Lost {
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
        fates.is_found(key);
        fates.is_lost(key);
        assert_eq!(fates.of(key), Some(Fate::Disabled));
    }

    #[test]
    fn a_destroyed_key_stays_destroyed() {
        let (fates, key) = (Fates::default(), MaterialId::from_bytes([1; 16]));
        fates.is_destroyed(key);
        fates.is_disabled(key);
        fates.is_lost(key);
        assert_eq!(fates.of(key), Some(Fate::Destroyed));
    }
}
