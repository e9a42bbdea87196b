//! What a crash left behind (invariant 7).
//!
//! Material that is reserved at start belongs to a change that was never committed: its caller was
//! never told of it, so it is ended, not adopted. Material that is in a backend under our label and
//! that no row explains is reported, and left alone: only what the store has marked is destroyed.

use super::{Error, Keyring};
use crate::key::{BackendName, Reservation};
use crate::store;
use std::collections::HashSet;

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

impl Keyring {
    pub(super) async fn recover(
        &self,
        reserved: Vec<Reservation>,
        abandoned: Vec<Reservation>,
    ) -> Result<(), store::Error> {
        for reservation in &reserved {
            self.store().abandon(reservation.material).await?;
            tracing::warn!(
                material = %reservation.material, key_set = %reservation.key_set,
                "a generation was cut short by a crash; its material will be destroyed"
            );
        }
        self.sweep(reserved.iter().chain(&abandoned)).await;
        Ok(())
    }

    /// Destroys what the store has marked as not wanted.
    pub(super) async fn sweep_abandoned(&self) -> Result<(), Error> {
        let image = self.store().load().await.map_err(Error::Store)?;
        self.sweep(image.abandoned.iter()).await;
        Ok(())
    }

    async fn sweep(&self, marked: impl Iterator<Item = &Reservation>) {
        for reservation in marked {
            if let Err(error) = self.finish_off(reservation).await {
                self.left_over(reservation, &error);
            }
        }
    }

    /// What the backends hold under our label and the store cannot explain. A backend that is out
    /// is an error: finding nothing there would prove nothing.
    pub async fn unexplained(&self) -> Result<Vec<Unexplained>, Error> {
        // The backends first: what is generated in between is then in the store's answer.
        let mut held = Vec::new();
        for (name, backend) in &self.0.parts.backends {
            let listed = backend.list().await;
            let listed = listed.map_err(|source| Error::Backend { name: name.clone(), source })?;
            held.extend(listed.into_iter().map(|listed| (name.clone(), listed)));
        }
        let image = self.store().load().await.map_err(Error::Store)?;
        let keys = image.key_sets.iter().flat_map(|set| &set.keys).map(|key| key.material);
        let others = image.reserved.iter().chain(&image.abandoned).map(|other| other.material);
        let known: HashSet<_> = keys.chain(others).collect();
        held.retain(|(_, listed)| {
            listed.material.is_none_or(|material| !known.contains(&material))
        });
        let report = |(backend, listed): (BackendName, crate::backend::Listed)| Unexplained {
            backend,
            object: listed.object.to_string(),
            key_set: listed.key_set.map(|id| id.to_string()),
        };
        Ok(held.into_iter().map(report).collect())
    }
}
