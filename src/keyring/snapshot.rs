//! What a replica signs with and publishes: immutable, swapped as a whole.

use super::{Error, Keyring};
use crate::backend::{Backend, KeyRef, ObjectRef};
use crate::key::{Algorithm, BackendName, Key, KeySet, KeySetId, Kid, Service, StateName};
use std::collections::BTreeMap;
use std::sync::Arc;

/// All key sets at one revision.
#[derive(Clone)]
pub(super) struct Snapshot {
    pub(super) revision: u64,
    pub(super) lines: BTreeMap<KeySetId, Arc<Line>>,
}

/// One key set, with what signing needs prepared.
pub(super) struct Line {
    pub(super) set: Arc<KeySet>,
    pub(super) signer: Option<Signer>,
}

/// The current key, ready to sign.
pub(super) struct Signer {
    pub(super) kid: Kid,
    pub(super) algorithm: Algorithm,
    pub(super) key: Arc<KeyRef>,
    /// None if the configuration no longer has its backend.
    pub(super) backend: Option<Arc<dyn Backend>>,
    pub(super) backend_name: BackendName,
}

type Backends = BTreeMap<BackendName, Arc<dyn Backend>>;

impl Snapshot {
    pub(super) fn new(revision: u64, key_sets: Vec<KeySet>, backends: &Backends) -> Self {
        let lines = key_sets.into_iter().map(|set| (set.id.clone(), Line::new(set, backends)));
        Self { revision, lines: lines.collect() }
    }

    /// The snapshot after one key set has changed.
    pub(super) fn with(&self, line: Arc<Line>) -> Self {
        let mut after = self.clone();
        after.revision = after.revision.max(line.set.revision);
        after.lines.insert(line.set.id.clone(), line);
        after
    }
}

impl Line {
    /// Prepares a key set; keys that it has just destroyed are left out from here on.
    pub(super) fn new(mut set: KeySet, backends: &Backends) -> Arc<Self> {
        set.keys.retain(|key| key.state.name() != StateName::Destroyed);
        let signer = set.current().map(|key| Signer {
            kid: key.kid,
            algorithm: key.algorithm,
            key: Arc::new(key_ref(key)),
            backend: backends.get(&key.backend).cloned(),
            backend_name: key.backend.clone(),
        });
        Arc::new(Self { set: Arc::new(set), signer })
    }
}

impl Keyring {
    /// The key set as it now stands: no I/O. Internal and deleted ones do not exist here.
    pub fn key_set(&self, id: &KeySetId) -> Result<Arc<KeySet>, Error> {
        self.line(id).map(|line| Arc::clone(&line.set))
    }

    /// At most `limit` key sets after `after`, by id: no I/O.
    pub fn key_sets(&self, after: Option<&KeySetId>, limit: usize) -> Vec<Arc<KeySet>> {
        use std::ops::Bound::{Excluded, Unbounded};
        let snapshot = self.0.snapshot.load();
        let from = after.map_or(Unbounded, Excluded);
        let lines = snapshot.lines.range::<KeySetId, _>((from, Unbounded));
        let open = lines.filter(|(_, line)| addressable(&line.set));
        open.map(|(_, line)| Arc::clone(&line.set)).take(limit).collect()
    }

    /// Enabled key sets that lack a current or a next key.
    pub fn incomplete(&self) -> Vec<KeySetId> {
        let snapshot = self.0.snapshot.load();
        let sets = snapshot.lines.values().map(|line| &line.set);
        let lacking = sets.filter(|set| set.service == Service::Enabled && set.missing().any());
        lacking.map(|set| set.id.clone()).collect()
    }

    pub(super) fn line(&self, id: &KeySetId) -> Result<Arc<Line>, Error> {
        let snapshot = self.0.snapshot.load();
        let line = snapshot.lines.get(id).filter(|line| addressable(&line.set));
        line.cloned().ok_or_else(|| Error::KeySetNotFound { id: id.to_string() })
    }
}

/// What a backend has to be told of `key`.
pub(super) fn key_ref(key: &Key) -> KeyRef {
    KeyRef {
        material: key.material,
        object: ObjectRef::new(key.object.clone()),
        algorithm: key.algorithm,
        public: key.public.clone(),
    }
}

fn addressable(set: &KeySet) -> bool {
    !set.id.is_internal() && set.service != Service::Deleted
}
