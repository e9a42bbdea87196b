//! Key sets that the service makes for itself, such as the one that seals the audit record.
//!
//! They live like any other (`next`, `current`, mended when a key is missing) and are out of
//! everyone's reach: no rpc, list, watch or path finds them, whatever a policy says, because the
//! ways in for callers look only at what is addressable. What is here is for the service's own use.

use super::{Context, Create, Error, Keyring, Sign, Signed, deadline_in};
use crate::audit::Origin;
use crate::key::{Algorithm, BackendName, Issuer, KeySet, KeySetId, Policy, Service};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long making one may take: two keys are generated, perhaps in a slow HSM.
const MAKING_MAX: Duration = Duration::from_secs(120);

/// An internal key set as it is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Internal {
    /// Its name, one of the service's own ([`KeySetId::is_internal`]).
    pub id: KeySetId,
    /// What its keys sign with.
    pub algorithm: Algorithm,
    /// Where they are generated.
    pub backend: BackendName,
}

impl Keyring {
    /// The internal key set that `wanted` describes, made if it is not there. One that is there
    /// stands as it is, with whatever algorithm and backend it was made with.
    pub async fn internal(&self, wanted: Internal) -> Result<Arc<KeySet>, Error> {
        if !wanted.id.is_internal() {
            return Err(Error::Fault(format!("{} is not an internal key set's name", wanted.id)));
        }
        if let Some(there) = self.internal_key_set(&wanted.id) {
            return Ok(there);
        }
        let id = wanted.id.clone();
        let context = Context {
            origin: Origin::service(""),
            deadline: deadline_in(MAKING_MAX),
            request_id: None,
        };
        match self.create_any(context, creation(wanted)?).await {
            Ok(made) => Ok(made.key_set),
            // Somebody else was quicker.
            Err(Error::KeySetExists { .. }) => self.standing(&id),
            Err(error) => Err(error),
        }
    }

    /// The internal key set of that name as it now stands: no I/O.
    pub fn internal_key_set(&self, id: &KeySetId) -> Option<Arc<KeySet>> {
        self.standing(id).ok().filter(|set| set.id.is_internal())
    }

    /// Signs with the current key of an internal key set, by `deadline`. Nothing of it is recorded:
    /// it is what records are sealed with.
    pub async fn sign_internal(&self, deadline: Instant, sign: Sign) -> Result<Signed, Error> {
        self.certain_enough()?;
        let line = self.any_line(&sign.key_set)?;
        if !line.set.id.is_internal() {
            return Err(Error::Fault(format!("{} is not an internal key set", line.set.id)));
        }
        let signer = line.ready(sign.expected)?;
        let signature = signer.sign(sign.input, deadline).await?;
        // Withdrawn meanwhile: what it signed is not to be relied on.
        self.any_line(&sign.key_set)?.ready(Some(signer.kid))?;
        Ok(Signed { signature, kid: signer.kid, algorithm: signer.algorithm })
    }

    /// The key set as it now stands, internal ones included, deleted ones not.
    pub(super) fn standing(&self, id: &KeySetId) -> Result<Arc<KeySet>, Error> {
        self.any_line(id).map(|line| Arc::clone(&line.set))
    }

    fn any_line(&self, id: &KeySetId) -> Result<Arc<super::snapshot::Line>, Error> {
        let snapshot = self.0.snapshot.load();
        let line = snapshot.lines.get(id).filter(|line| line.set.service != Service::Deleted);
        line.cloned().ok_or_else(|| Error::KeySetNotFound { id: id.to_string() })
    }
}

/// Nobody verifies by the JWKS what such a key signs, so its policy is never looked at by a cache;
/// it rotates only when told to.
fn creation(wanted: Internal) -> Result<Create, Error> {
    let Internal { id, algorithm, backend } = wanted;
    let issuer: Issuer =
        id.as_str().parse().map_err(|error| Error::Fault(format!("issuer of {id}: {error}")))?;
    Ok(Create { id, algorithm, backend: Some(backend), issuer, policy: Policy::default() })
}
