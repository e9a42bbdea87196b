//! From the domain to the wire.

use super::encode;
use super::proto as pb;
use crate::key::{Hold, Key, KeySet, Policy, Reservation, Service, State, StateName, rotation_due};
use crate::keyring::{Barrier, Changed, Event, Mode};
use crate::x509::{self, fingerprint};
use jiff::Timestamp;
use prost::Message;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// A key. `set` is the set that it belongs to.
pub(super) fn key(key: &Key, set: &KeySet) -> pb::Key {
    let state = &key.state;
    let history = state.history();
    let (revoked, reason, destroyed) = end(state);
    let rotatable = set.rotatable().filter(|_| state.name() == StateName::Next);
    pb::Key {
        kid: key.kid.to_string(),
        key_set: key.key_set.to_string(),
        algorithm: key.algorithm.to_string(),
        state: state_of(state.name()).into(),
        create_time: Some(time(key.created)),
        publish_time: Some(time(state.publish_time())),
        current_since_time: state.current_since().map(time),
        current_until_time: history.map(|history| time(history.until)),
        revoke_time: revoked.map(time),
        revoke_reason: reason.to_owned(),
        certificate_pem: x509::pem(&key.certificate),
        public_key_pem: encode::public_key_pem(&key.public),
        thumbprint_sha1: fingerprint::sha1_plain(&key.certificate),
        thumbprint_sha256: fingerprint::sha256_plain(&key.certificate),
        backend: key.backend.to_string(),
        rotatable_time: rotatable.map(time),
        tokens_until_time: history.map(|history| time(history.tokens_until)),
        destroy_time: destroyed.map(time),
    }
}

/// When and why a key was revoked, and when it was destroyed.
fn end(state: &State) -> (Option<Timestamp>, &str, Option<Timestamp>) {
    match state {
        State::Revoked { revoked, reason, .. } => (Some(*revoked), reason, None),
        State::Destroyed { revoked, reason, destroyed, .. } => (*revoked, reason, Some(*destroyed)),
        _ => (None, "", None),
    }
}

/// A key that is being generated: it has no name yet.
pub(super) fn pending(reserved: &Reservation) -> pb::Key {
    pb::Key {
        key_set: reserved.key_set.to_string(),
        algorithm: reserved.algorithm.to_string(),
        state: pb::KeyState::Pending.into(),
        create_time: Some(time(reserved.reserved)),
        backend: reserved.backend.to_string(),
        ..pb::Key::default()
    }
}

/// A key set with its published keys.
pub(super) fn key_set(set: &KeySet) -> pb::KeySet {
    pb::KeySet {
        id: set.id.to_string(),
        algorithm: set.algorithm.to_string(),
        backend: set.backend.to_string(),
        issuer: set.issuer.to_string(),
        policy: Some(policy(&set.policy)),
        state: match set.service {
            Service::Enabled => pb::KeySetState::Enabled,
            Service::Disabled => pb::KeySetState::Disabled,
            Service::Deleted => pb::KeySetState::Deleted,
        }
        .into(),
        rotation_hold: set.rotation_hold == Hold::On,
        incomplete: set.missing().any(),
        etag: set.revision.to_string(),
        create_time: Some(time(set.created)),
        keys: published(set),
        next_rotation_time: rotation_due(set).map(time),
        can_roll_back: set.undo.is_some(),
    }
}

/// The published keys: next, current, previous.
fn published(set: &KeySet) -> Vec<pb::Key> {
    set.published().into_iter().map(|one| key(one, set)).collect()
}

/// The answer to Rotate.
pub(super) fn rotated(changed: Changed, mode: Mode) -> pb::RotateResponse {
    let set = &changed.key_set;
    let one = |found: &Arc<Key>| key(found, set);
    let mut lacking = set.missing();
    // A dry run generates no fresh next key; a rotation would.
    lacking.next &= mode == Mode::Commit;
    pb::RotateResponse {
        next: set.next().map(one),
        current: set.current().map(one),
        previous: changed.subject.as_ref().map(one),
        incomplete: lacking.any(),
        rotation_hold: set.rotation_hold == Hold::On,
        replayed: changed.replayed,
        barrier: (mode == Mode::Commit).then(|| barrier(changed.barrier)),
        caches_at_risk: changed.caches_at_risk,
        dry_run: mode == Mode::DryRun,
    }
}

/// The answer to Revoke.
pub(super) fn revoked(changed: Changed, mode: Mode) -> pb::RevokeResponse {
    let set = &changed.key_set;
    pb::RevokeResponse {
        revoked: changed.subject.as_ref().map(|found| key(found, set)),
        keys: published(set),
        incomplete: set.missing().any(),
        rotation_hold: set.rotation_hold == Hold::On,
        replayed: changed.replayed,
        barrier: (mode == Mode::Commit).then(|| barrier(changed.barrier)),
        caches_at_risk: changed.caches_at_risk,
        dry_run: mode == Mode::DryRun,
    }
}

/// The answer to Rollback.
pub(super) fn rolled_back(changed: Changed, mode: Mode) -> pb::RollbackResponse {
    let set = &changed.key_set;
    pb::RollbackResponse {
        keys: published(set),
        incomplete: set.missing().any(),
        rotation_hold: set.rotation_hold == Hold::On,
        replayed: changed.replayed,
        barrier: (mode == Mode::Commit).then(|| barrier(changed.barrier)),
        dry_run: mode == Mode::DryRun,
    }
}

/// The messages of WatchKeys that tell an event: as few as hold its key sets with at most
/// `bytes_max` of them in each, or a single one.
pub(super) fn event(event: &Event, bytes_max: usize) -> VecDeque<pb::WatchKeysResponse> {
    let revision = event.revision;
    let mut pieces = VecDeque::new();
    let mut piece =
        pb::WatchKeysResponse { revision, snapshot: event.snapshot, ..Default::default() };
    let mut bytes = 0;
    for set in event.key_sets.iter().map(|set| key_set(set)) {
        let len = set.encoded_len();
        if bytes + len > bytes_max && !piece.key_sets.is_empty() {
            let rest = pb::WatchKeysResponse { revision, ..Default::default() };
            pieces.push_back(std::mem::replace(&mut piece, rest));
            bytes = 0;
        }
        bytes += len;
        piece.key_sets.push(set);
    }
    pieces.iter_mut().for_each(|piece: &mut pb::WatchKeysResponse| piece.more = true);
    pieces.push_back(piece);
    pieces
}

/// How certain a change is everywhere.
pub(super) fn barrier(barrier: Barrier) -> pb::Barrier {
    pb::Barrier {
        all_acknowledged: barrier.all_acknowledged,
        leases_expired: barrier.leases_expired,
        replicas_still_publishing: barrier.still_publishing,
        revision: barrier.revision,
    }
}

/// A point in time.
pub(super) fn time(at: Timestamp) -> prost_types::Timestamp {
    // The wire counts nanoseconds forward from the second, jiff towards zero.
    let forward = at.subsec_nanosecond() < 0;
    prost_types::Timestamp {
        seconds: at.as_second() - i64::from(forward),
        nanos: at.subsec_nanosecond() + i32::from(forward) * 1_000_000_000,
    }
}

fn policy(policy: &Policy) -> pb::Policy {
    pb::Policy {
        propagation_delay: Some(span(policy.propagation_delay)),
        max_token_ttl: Some(span(policy.max_token_ttl)),
        retention: policy.retention.map(span),
        rotation_period: policy.rotation_period.map(span),
        destroy_after: Some(span(policy.destroy_after)),
        rsa_bits: policy.rsa_bits.bits().try_into().unwrap_or_default(),
    }
}

fn span(span: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: span.as_secs().try_into().unwrap_or(i64::MAX),
        nanos: span.subsec_nanos().try_into().unwrap_or_default(),
    }
}

const fn state_of(state: StateName) -> pb::KeyState {
    match state {
        StateName::Pending => pb::KeyState::Pending,
        StateName::Next => pb::KeyState::Next,
        StateName::Current => pb::KeyState::Current,
        StateName::Previous => pb::KeyState::Previous,
        StateName::Retired => pb::KeyState::Retired,
        StateName::Revoked => pb::KeyState::Revoked,
        StateName::Destroyed => pb::KeyState::Destroyed,
    }
}

#[cfg(test)]
mod tests;
