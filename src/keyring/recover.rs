//! What a crash left behind (invariant 7).
//!
//! Material that is reserved at start belongs to a change that was never committed: its caller was
//! never told of it, so it is ended, not adopted. Material that is in a backend under our label and
//! that no row explains is reported, and left alone: only what the store has marked is destroyed,
//! and what a row says was destroyed and is there again: its deletion was cancelled, or a backup of
//! the token put back.

use super::snapshot::key_ref;
use super::{Error, Keyring, locked};
use crate::backend::Listed;
use crate::key::{BackendName, Key, KeySet, KeySetId, Kid, MaterialId, Reservation, StateName};
use crate::store::{self, Image, Store};
use std::collections::HashSet;
use std::sync::Arc;

/// Destroyed keys that are read at once.
const PAGE: u32 = 1000;

/// Something in a backend that carries our label and that the store knows nothing of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unexplained {
    /// The backend that holds it.
    pub backend: BackendName,
    /// The backend's name for it.
    pub object: String,
    /// The key set in its label, if one can be read there.
    pub key_set: Option<String>,
}

/// A key that signs or will sign and that its backend does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Absent {
    /// The key set.
    pub key_set: KeySetId,
    /// The key.
    pub kid: Kid,
    /// Its state.
    pub state: StateName,
    /// The backend that should hold it.
    pub backend: BackendName,
}

/// How backends and store agree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survey {
    /// Keys that were destroyed and that their backends hold again.
    pub revived: Vec<Key>,
    /// What no row explains.
    pub unexplained: Vec<Unexplained>,
    /// What is not there.
    pub absent: Vec<Absent>,
}

impl Keyring {
    /// Marks what was reserved when the last process ended. Nothing is asked of a backend: it may be
    /// out, and the service is to start all the same.
    pub(super) async fn recover(
        &self,
        reserved: Vec<Reservation>,
        abandoned: &[Reservation],
    ) -> Result<(), store::Error> {
        locked(&self.0.backoff).leftovers = !(reserved.is_empty() && abandoned.is_empty());
        for Reservation { material, key_set, .. } in reserved {
            match self.store().abandon(material).await {
                Ok(()) => {}
                // It was published after all, a moment ago: a commit outlives whoever asked for it.
                Err(error) if error.kind == store::Kind::Conflict => continue,
                Err(error) => return Err(error),
            }
            tracing::warn!(%material, %key_set, "a generation was cut short; its material will be destroyed");
        }
        Ok(())
    }

    /// Ends what could not be ended at the time.
    pub(super) async fn sweep(&self) -> Result<(), Error> {
        let unwanted = std::mem::take(&mut *locked(&self.0.unwanted));
        for reservation in &unwanted {
            self.discard(reservation).await;
        }
        let marked = self.store().load().await.map_err(Error::Store)?.abandoned;
        for reservation in &marked {
            if let Err(error) = self.finish_off(reservation).await {
                self.left_over(reservation, &error);
            }
        }
        Ok(())
    }

    /// Compares what the backends hold with what the store knows, and reports both ways: objects
    /// that no row explains, each once in a process's life, and keys whose material is not there.
    pub(super) async fn look_around(&self) -> Result<(), Error> {
        let Survey { revived, unexplained, absent } = self.survey().await?;
        self.0.parts.metrics.surveyed();
        self.0.parts.metrics.unexplained(unexplained.len());
        self.0.parts.metrics.absent(absent.len());
        for Absent { key_set, kid, state, backend } in &absent {
            tracing::error!(%key_set, %kid, %state, %backend, "the backend does not hold the key; is it the one that the keys were made in?");
        }
        *locked(&self.0.absent) = absent;
        for Unexplained { backend, object, key_set } in unexplained {
            if locked(&self.0.reported).insert((backend.clone(), object.clone())) {
                let key_set = key_set.as_deref().unwrap_or("unknown");
                tracing::warn!(%backend, object, key_set, "the backend holds material that the store does not know; it is left alone");
            }
        }
        self.destroy_again(&revived).await
    }

    /// What was destroyed has to stay so, whoever has brought it back.
    async fn destroy_again(&self, revived: &[Key]) -> Result<(), Error> {
        for key in revived {
            let Key { key_set, kid, object, backend: name, .. } = key;
            tracing::error!(
                %key_set, %kid, %object, backend = %name,
                "the key was destroyed, and its backend holds it again: somebody has cancelled its deletion or put a backup back; it signs nothing here, and is destroyed again"
            );
            self.0.parts.metrics.revived();
            let (backend, reference) = (self.backend(name)?, key_ref(key));
            let failed = |source| Error::Backend { name: name.clone(), source };
            backend.disable(&reference).await.map_err(failed)?;
            let destroyed = backend.destroy(reference.material, Some(&reference.object)).await;
            destroyed.map_err(failed)?;
        }
        Ok(())
    }

    /// Keys that sign or will sign and whose material was not in their backend when last looked
    /// for, at start and then hourly.
    pub fn absent(&self) -> Vec<Absent> {
        locked(&self.0.absent).clone()
    }

    /// Whether a backend was found to hold none of the keys that are to sign in it.
    pub fn is_bereft(&self, backend: &BackendName) -> bool {
        let absent = locked(&self.0.absent);
        let gone = |kid: Kid| absent.iter().any(|absent| absent.kid == kid);
        let snapshot = self.0.snapshot.load();
        let signers = snapshot.lines.values().filter_map(|line| line.signer.as_ref());
        let mut here = signers.filter(|signer| signer.backend_name == *backend).peekable();
        !absent.is_empty() && here.peek().is_some() && here.all(|signer| gone(signer.kid))
    }

    /// What the backends hold under our label and the store cannot explain, and which keys they
    /// lack. A backend that is out is an error: finding nothing there would prove nothing.
    pub async fn survey(&self) -> Result<Survey, Error> {
        // The store on both sides: what is generated, or destroyed, meanwhile is in one of them.
        let before = self.store().load().await.map_err(Error::Store)?;
        let published = before.key_sets.iter().flat_map(KeySet::published);
        let expected = published.map(|key| key.material).collect();
        let mut held = Vec::new();
        for (name, backend) in &self.0.parts.backends {
            let listed = backend.list(&expected).await;
            let listed = listed.map_err(|source| Error::Backend { name: name.clone(), source })?;
            held.extend(listed.into_iter().map(|listed| (name.clone(), listed)));
        }
        let after = self.store().load().await.map_err(Error::Store)?;
        let found: HashSet<_> = held.iter().filter_map(|(_, listed)| listed.material).collect();
        let known: HashSet<_> = materials(&before).chain(materials(&after)).collect();
        held.retain(|(_, listed)| {
            listed.material.is_none_or(|material| !known.contains(&material))
        });
        let (mut revived, mut unexplained) = (Vec::new(), Vec::new());
        for (backend, listed) in held {
            match destroyed(self.store(), &backend, &listed).await.map_err(Error::Store)? {
                Some(key) => revived.push(key),
                None => unexplained.push(Unexplained {
                    backend,
                    object: listed.object.to_string(),
                    key_set: listed.key_set.map(|id| id.to_string()),
                }),
            }
        }
        let settled: HashSet<_> = materials(&after).collect();
        let mut missing: Vec<Arc<Key>> = Vec::new();
        for key in
            before.key_sets.iter().flat_map(|set| set.current().into_iter().chain(set.next()))
        {
            if settled.contains(&key.material) && !found.contains(&key.material) {
                missing.push(Arc::clone(key));
            }
        }
        let mut absent = Vec::new();
        for key in missing {
            if self.is_absent(&key).await {
                absent.push(Absent {
                    key_set: key.key_set.clone(),
                    kid: key.kid,
                    state: key.state.name(),
                    backend: key.backend.clone(),
                });
            }
        }
        Ok(Survey { revived, unexplained, absent })
    }

    /// A list can lag behind; only a backend that says outright that it has no such key is believed.
    async fn is_absent(&self, key: &Key) -> bool {
        let Ok(backend) = self.backend(&key.backend) else { return false };
        let Some(spec) = key.public.spec() else { return false };
        matches!(backend.find(key.material, spec).await, Ok(None))
    }
}

/// The key that was destroyed and that a backend holds again as `listed`; none if the store knows
/// of no such end.
pub async fn destroyed(
    store: &dyn Store,
    backend: &BackendName,
    listed: &Listed,
) -> Result<Option<Key>, store::Error> {
    let (Some(material), Some(id)) = (listed.material, &listed.key_set) else {
        return Ok(None);
    };
    let mut after = None;
    loop {
        let keys = store.keys(id, &[StateName::Destroyed], after, PAGE).await?;
        after = keys.last().map(|key| (key.created, key.kid));
        if after.is_none() {
            return Ok(None);
        }
        let same = |key: &Key| {
            key.material == material
                && key.backend == *backend
                && key.object == listed.object.as_str()
        };
        if let Some(key) = keys.into_iter().find(same) {
            return Ok(Some(key));
        }
    }
}

/// Everything that the store can explain.
fn materials(image: &Image) -> impl Iterator<Item = MaterialId> {
    let keys = image.key_sets.iter().flat_map(|set| &set.keys).map(|key| key.material);
    keys.chain(image.reserved.iter().chain(&image.abandoned).map(|other| other.material))
}
