//! The custodian: one verb a file, each a short function that shows the order of acts which makes
//! it safe.
//!
//! Reads come from a snapshot that is swapped as a whole after every commit. Changes are made one
//! at a time: read, decide (in [`crate::key`], purely), commit with the revision compared, publish
//! the snapshot, answer. Keys are generated before, under a lock that each key set has for itself,
//! so that a slow HSM never keeps a revocation waiting.
//!
//! With one process, the barrier of a change is the swap of the snapshot: whoever loads it
//! afterwards cannot see the key that was taken out, and a signature that was under way is checked
//! against it before it is released.

mod answer;
mod change;
mod create;
mod doubt;
mod error;
mod generate;
mod internal;
mod list;
mod recover;
mod repeat;
mod request;
mod revoke;
mod rollback;
mod rotate;
mod rotator;
mod sign;
mod sign_jwt;
mod snapshot;
mod update;
mod watch;

pub use answer::{Barrier, Changed, Cursor, Event, Jwt, Listed, Page, Signed};
pub use error::{Error, InvalidField, OpenError};
pub use internal::Internal;
pub use recover::{Absent, Survey, Unexplained, destroyed};
pub use request::{
    Context, Create, InvalidRequestId, Mode, PolicyUpdate, RequestId, Revoke, Rollback, Rotate,
    Sign, SignJwt, Update,
};
pub use watch::{WatchEnd, Watcher};

use crate::audit::Recorder;
use crate::backend::{self, Backend};
use crate::clock::Clock;
use crate::key::{BackendName, KeySet, KeySetId, PublicationLimits, Reservation, Service};
use crate::metrics::Metrics;
use crate::store::{RequestKey, Store};
use crate::x509::certificate;
use arc_swap::ArcSwap;
use doubt::Doubt;
use generate::deadline_in;
use jiff::Timestamp;
use rotator::Backoff;
use snapshot::Snapshot;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use tokio::sync::{Semaphore, broadcast, watch as signal};

/// Changes that generate keys and may be under way at once, waiting ones included.
const GENERATIONS_MAX: u32 = 64;
/// Other changes that may be, likewise.
const CHANGES_MAX: u32 = 256;
/// Changes that a watcher may fall behind before it is cut off.
const EVENTS_BEHIND_MAX: usize = 1024;

/// The custodian of every key set. Clones share one state.
#[derive(Clone)]
pub struct Keyring(Arc<Inner>);

/// What a keyring is made of.
pub struct Parts {
    /// Where the truth is kept.
    pub store: Arc<dyn Store>,
    /// Where private keys are kept, by name.
    pub backends: BTreeMap<BackendName, Arc<dyn Backend>>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// What the JWKS is served with.
    pub limits: PublicationLimits,
    /// What certificates of new keys say.
    pub certificates: certificate::Shape,
    /// Where things are counted.
    pub metrics: Metrics,
    /// What signatures are recorded by; changes are recorded by the store, in their commit.
    pub recorder: Recorder,
}

struct Inner {
    parts: Parts,
    snapshot: ArcSwap<Snapshot>,
    /// Held from reading the state that a change is decided on until its snapshot is published, so
    /// that revisions are published in order.
    changing: tokio::sync::Mutex<()>,
    /// Bounds the changes that generate keys and wait.
    generations: Arc<Semaphore>,
    /// Bounds the other changes that wait.
    changes: Arc<Semaphore>,
    /// One generation at a time for each key set.
    generating: Locks<KeySetId>,
    /// One change at a time for each request id.
    repeating: Locks<RequestKey>,
    events: broadcast::Sender<Event>,
    /// Wakes the rotator.
    wake: signal::Sender<()>,
    doubt: Doubt,
    /// Material that is not wanted any more and may not be marked yet.
    unwanted: Mutex<Vec<Reservation>>,
    backoff: Mutex<Backoff>,
    /// Unexplained objects that have been reported.
    reported: Mutex<HashSet<(BackendName, String)>>,
    /// Keys whose material was not in their backend when last looked for.
    absent: Mutex<Vec<Absent>>,
}

impl Keyring {
    /// Reads the store, marks what a crash left half-done, and is ready to serve; the rotator ends
    /// what is marked as soon as the backends are there.
    pub async fn open(parts: Parts) -> Result<Self, OpenError> {
        let image = parts.store.load().await?;
        propagates(&image.key_sets, &parts.limits)?;
        let snapshot = Snapshot::new(image.revision, image.key_sets, &parts.backends);
        let ring = Self(Arc::new(Inner {
            parts,
            snapshot: ArcSwap::from_pointee(snapshot),
            changing: tokio::sync::Mutex::default(),
            generations: Arc::new(Semaphore::new(GENERATIONS_MAX as usize)),
            changes: Arc::new(Semaphore::new(CHANGES_MAX as usize)),
            generating: Locks::default(),
            repeating: Locks::default(),
            events: broadcast::Sender::new(EVENTS_BEHIND_MAX),
            wake: signal::Sender::new(()),
            doubt: Doubt::default(),
            unwanted: Mutex::default(),
            backoff: Mutex::default(),
            reported: Mutex::default(),
            absent: Mutex::default(),
        }));
        for set in ring.key_sets(None, usize::MAX) {
            ring.tell_of_slow_destruction(&set);
        }
        ring.recover(image.reserved, &image.abandoned).await?;
        Ok(ring)
    }

    /// The wall clock as the keyring sees it.
    pub fn now(&self) -> Timestamp {
        self.0.parts.clock.now()
    }

    fn store(&self) -> &dyn Store {
        self.0.parts.store.as_ref()
    }

    fn backend(&self, name: &BackendName) -> Result<&Arc<dyn Backend>, Error> {
        self.0.parts.backends.get(name).ok_or_else(|| Error::Backend {
            name: name.clone(),
            source: backend::Error::new(
                backend::Kind::Unavailable,
                "find backend",
                "the configuration has no backend of that name",
            ),
        })
    }

    /// Something may be due.
    fn wake(&self) {
        self.0.wake.send_replace(());
    }

    /// Resolves once no change that a caller asked for is under way any more.
    pub async fn settled(&self) {
        let generations = self.0.generations.acquire_many(GENERATIONS_MAX);
        let changes = self.0.changes.acquire_many(CHANGES_MAX);
        // Neither is ever closed.
        let _ = tokio::join!(generations, changes);
    }
}

/// Refuses a JWKS that may be kept for longer than a key set waits before its next key signs.
/// Internal key sets are in no JWKS.
fn propagates(key_sets: &[KeySet], limits: &PublicationLimits) -> Result<(), OpenError> {
    let least = limits.propagation_delay_min();
    let served = |set: &&KeySet| set.service != Service::Deleted && !set.id.is_internal();
    let serving = key_sets.iter().filter(served);
    let short = serving.filter(|set| set.policy.propagation_delay < least);
    let key_sets: Vec<_> = short.map(|set| set.id.clone()).collect();
    if key_sets.is_empty() {
        Ok(())
    } else {
        Err(OpenError::PropagationTooShort { key_sets, least })
    }
}

/// Locks by name, kept only while somebody holds or awaits them.
struct Locks<K>(Mutex<HashMap<K, Weak<tokio::sync::Mutex<()>>>>);

impl<K> Default for Locks<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Clone + Eq + std::hash::Hash> Locks<K> {
    async fn lock(&self, name: &K) -> tokio::sync::OwnedMutexGuard<()> {
        let lock = {
            let mut locks = locked(&self.0);
            locks.retain(|_, lock| lock.strong_count() > 0);
            match locks.get(name).and_then(Weak::upgrade) {
                Some(lock) => lock,
                None => {
                    let lock = Arc::default();
                    locks.insert(name.clone(), Arc::downgrade(&lock));
                    lock
                }
            }
        };
        lock.lock_owned().await
    }
}

/// A mutex whose holder panicked still guards a value that is whole: none is left half-changed.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
