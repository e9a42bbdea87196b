//! What should happen next to a key set, and why: pure, so that it can be property-tested.

use super::{KeySet, Kid, Place, Service, State, later};
use jiff::Timestamp;

/// One thing that is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What to do.
    pub act: Act,
    /// Why, for the log and the audit record.
    pub why: &'static str,
    /// Since when it is due.
    pub due: Timestamp,
}

/// What the clock, or a key set that lacks a key, can ask for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Act {
    /// Generate a key for an empty place.
    Generate(Place),
    /// Rotate the key set.
    Rotate,
    /// Take a previous key out of the JWKS.
    Retire(Kid),
    /// Destroy the material of a retired or revoked key.
    Destroy(Kid),
}

/// Everything that is due for `set` at `now`, the most urgent first: the key that signs, the key
/// that will sign, rotation, retirement, destruction. A rotation that is due stands here whether or
/// not it would be refused, so that one which does not happen is noticed at every attempt. A
/// disabled set is neither mended nor rotated; of a deleted one only the material is destroyed.
pub fn plan(now: Timestamp, set: &KeySet) -> Vec<Step> {
    let mut steps = Vec::new();
    if set.service == Service::Enabled {
        let missing = set.missing();
        if missing.current {
            let why = "the key set has no current key";
            steps.push(Step { act: Act::Generate(Place::Current), why, due: now });
        }
        if missing.next {
            let why = "the key set has no next key";
            steps.push(Step { act: Act::Generate(Place::Next), why, due: now });
        }
        if let Some(due) = rotation_due(set).filter(|due| *due <= now)
            && !missing.any()
        {
            steps.push(Step { act: Act::Rotate, why: "its rotation period has passed", due });
        }
    }
    if set.service != Service::Deleted {
        for key in set.previous() {
            if let Some(due) = set.retire_due(key).filter(|due| *due <= now) {
                let why = "its last token has expired and its retention has passed";
                steps.push(Step { act: Act::Retire(key.kid), why, due });
            }
        }
    }
    for key in &set.keys {
        if let State::Retired { destroy_due, .. } | State::Revoked { destroy_due, .. } = key.state
            && destroy_due <= now
        {
            let why = "it is out of use and destroy_after has passed";
            steps.push(Step { act: Act::Destroy(key.kid), why, due: destroy_due });
        }
    }
    steps
}

/// When `set` is next due to rotate by itself; none where it has no period. A hold does not change
/// when that is: a rotation that is due and held is noticed like any other that does not happen.
pub fn rotation_due(set: &KeySet) -> Option<Timestamp> {
    match (&set.current()?.state, set.policy.rotation_period) {
        (State::Current { since, .. }, Some(period)) => Some(later(*since, period)),
        _ => None,
    }
}
