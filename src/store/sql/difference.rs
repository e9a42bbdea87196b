//! What a change does to keys, found by comparing the key set before and after.

use super::fault::Fault;
use crate::key::{Key, KeySet, Kid, State, StateName};
use crate::store::Kind;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a change does to keys.
pub(super) struct Difference<'a> {
    /// Keys that go from the first state to that of the second, in an order that never has two
    /// keys in one place.
    pub(super) moved: Vec<(&'a State, &'a Arc<Key>)>,
    /// Keys that were not there before.
    pub(super) new: Vec<&'a Arc<Key>>,
}

impl<'a> Difference<'a> {
    /// What `after` changes; refuses what no operation on a key set does.
    pub(super) fn between(before: Option<&'a KeySet>, after: &'a KeySet) -> Result<Self, Fault> {
        if before.is_some_and(|before| {
            (&before.id, before.algorithm, &before.issuer, before.created)
                != (&after.id, after.algorithm, &after.issuer, after.created)
        }) {
            return Err(defect(format!(
                "the change alters what never changes of key set {}: id, algorithm, issuer or time of creation",
                after.id
            )));
        }
        let old: BTreeMap<Kid, &Arc<Key>> = before
            .into_iter()
            .flat_map(|before| before.keys.iter().map(|key| (key.kid, key)))
            .collect();
        let (mut moved, mut new) = (Vec::new(), Vec::new());
        let mut unseen = old.clone();
        for key in &after.keys {
            if key.key_set != after.id || key.algorithm != after.algorithm {
                return Err(defect(format!("{} belongs to another key set", key.kid)));
            }
            unseen.remove(&key.kid);
            match old.get(&key.kid) {
                Some(old) if Arc::ptr_eq(old, key) || *old == key => {}
                Some(old) if differs_in_state_alone(old, key) => moved.push((&old.state, key)),
                Some(_) => {
                    return Err(defect(format!(
                        "the change alters more of {} than its state",
                        key.kid
                    )));
                }
                None => new.push(key),
            }
        }
        match unseen.values().find(|key| key.state.name() != StateName::Destroyed) {
            Some(key) => {
                Err(defect(format!("the change loses {}, which is {}", key.kid, key.state.name())))
            }
            None => Ok(Self { moved: in_order(before, moved)?, new }),
        }
    }
}

fn differs_in_state_alone(one: &Key, other: &Key) -> bool {
    let state = other.state.clone();
    Key { state, ..one.clone() } == *other
}

/// The moves in an order in which no two keys are ever current, or next, at once: one whose place
/// is free goes first.
fn in_order<'a>(
    before: Option<&KeySet>,
    mut moves: Vec<(&'a State, &'a Arc<Key>)>,
) -> Result<Vec<(&'a State, &'a Arc<Key>)>, Fault> {
    let mut taken: BTreeMap<Kid, StateName> = before
        .into_iter()
        .flat_map(|before| before.keys.iter().map(|key| (key.kid, key.state.name())))
        .filter(|(_, state)| is_single(*state))
        .collect();
    let mut ordered = Vec::with_capacity(moves.len());
    while !moves.is_empty() {
        let free = moves.iter().position(|(_, key)| {
            let to = key.state.name();
            !is_single(to) || !taken.iter().any(|(kid, at)| *kid != key.kid && *at == to)
        });
        let Some(free) = free else {
            return Err(defect("the change has two keys for one place"));
        };
        let (from, key) = moves.swap_remove(free);
        taken.remove(&key.kid);
        if is_single(key.state.name()) {
            taken.insert(key.kid, key.state.name());
        }
        ordered.push((from, key));
    }
    Ok(ordered)
}

const fn is_single(state: StateName) -> bool {
    matches!(state, StateName::Current | StateName::Next)
}

/// A change that no operation on a key set makes: repeating it would not help.
pub(super) fn defect(message: impl Into<String>) -> Fault {
    Fault::new(Kind::Corrupt, message)
}
