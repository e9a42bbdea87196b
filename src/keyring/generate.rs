//! How a key comes to be: reserved in the store, generated in the backend, certified by its own
//! signature, and published only by the change that wants it. Whatever fails on the way leaves
//! material that the store has marked as not wanted, and that is destroyed.

use super::snapshot::key_ref;
use super::{Error, Keyring, locked};
use crate::backend::{self, Input, KeyRef, Order};
use crate::jose::{thumbprint, verify};
use crate::key::{
    Algorithm, BackendName, Born, Issuer, Key, KeySet, KeySetId, MaterialId, Policy, Reservation,
};
use crate::store;
use crate::x509::certificate::Draft;
use jiff::Timestamp;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a new key's certificate may take to be signed.
const CERTIFY_MAX: Duration = Duration::from_secs(30);

/// What generation has to know of a key set, which may not exist yet.
pub(super) struct Brief<'a> {
    pub(super) id: &'a KeySetId,
    pub(super) algorithm: Algorithm,
    pub(super) issuer: &'a Issuer,
    pub(super) backend: &'a BackendName,
    pub(super) policy: &'a Policy,
}

impl<'a> From<&'a KeySet> for Brief<'a> {
    fn from(set: &'a KeySet) -> Self {
        let KeySet { id, algorithm, issuer, backend, policy, .. } = set;
        Self { id, algorithm: *algorithm, issuer, backend, policy }
    }
}

/// A key that exists and is not published yet.
#[derive(Clone)]
pub(super) struct Fresh {
    reservation: Reservation,
    born: Born,
}

impl Fresh {
    /// The key, published as `next` from `now` on.
    pub(super) fn publish(&self, now: Timestamp, policy: &Policy) -> Key {
        self.reservation.publish(now, policy, self.born.clone())
    }
}

impl Keyring {
    /// Generates a key for `brief`. If that fails, nothing is left of it.
    pub(super) async fn generate(&self, brief: Brief<'_>) -> Result<Fresh, Error> {
        let reservation = Reservation {
            material: MaterialId::from_bytes(random()?),
            key_set: brief.id.clone(),
            algorithm: brief.algorithm,
            spec: brief.algorithm.key_spec(brief.policy.rsa_bits),
            backend: brief.backend.clone(),
            reserved: self.now(),
        };
        self.store().reserve(&reservation).await.map_err(Error::Store)?;
        match self.bear(&reservation, brief.issuer).await {
            Ok(born) => Ok(Fresh { reservation, born }),
            Err(error) => {
                self.discard(&reservation).await;
                Err(error)
            }
        }
    }

    /// Generates a key and hands it to `place`; if that does not publish it, nothing is left of it.
    pub(super) async fn generate_and<T, Fut>(
        &self,
        brief: Brief<'_>,
        place: impl FnOnce(Fresh) -> Fut,
    ) -> Result<T, Error>
    where
        Fut: Future<Output = Result<T, Error>>,
    {
        let fresh = self.generate(brief).await?;
        let reservation = fresh.reservation.clone();
        let placed = place(fresh).await;
        // Where it is not known whether it was published, the store knows: it marks nothing that was.
        if placed.is_err() {
            self.discard(&reservation).await;
        }
        placed
    }

    /// Ends material that is not wanted: marked first, so that no change can publish it any more;
    /// then destroyed; then forgotten. What has been published after all is left alone. What fails
    /// here is tried again by the rotator.
    pub(super) async fn discard(&self, reservation: &Reservation) {
        match self.store().abandon(reservation.material).await {
            Ok(()) => {}
            Err(error) if error.kind == store::Kind::Conflict => return,
            Err(error) => {
                let material = reservation.material;
                tracing::warn!(%material, %error, "material that is not wanted could not be marked yet; it is tried again");
                return locked(&self.0.unwanted).push(reservation.clone());
            }
        }
        if let Err(error) = self.finish_off(reservation).await {
            self.left_over(reservation, &error);
        }
    }

    /// Takes note of marked material that is still to be destroyed.
    pub(super) fn left_over(&self, reservation: &Reservation, error: &Error) {
        let Reservation { material, key_set, .. } = reservation;
        tracing::warn!(%material, %key_set, %error, "material that is not wanted could not be destroyed yet; it is tried again");
        locked(&self.0.backoff).leftovers = true;
    }

    /// Destroys material that the store has marked, and removes the mark.
    pub(super) async fn finish_off(&self, reservation: &Reservation) -> Result<(), Error> {
        let name = &reservation.backend;
        let destroyed = self.backend(name)?.destroy(reservation.material, None).await;
        destroyed.map_err(|source| Error::Backend { name: name.clone(), source })?;
        self.store().forget(reservation.material).await.map_err(Error::Store)
    }

    async fn bear(&self, reservation: &Reservation, issuer: &Issuer) -> Result<Born, Error> {
        let name = &reservation.backend;
        let backend = self.backend(name)?;
        let failed = |source| Error::Backend { name: name.clone(), source };
        let order = Order {
            material: reservation.material,
            key_set: reservation.key_set.clone(),
            spec: reservation.spec,
        };
        let material = backend.generate(&order).await.map_err(failed)?;
        if material.public.spec() != Some(reservation.spec) {
            let message = format!("asked for {}, got {:?}", reservation.spec, material.public);
            return Err(failed(backend::Error::new(
                backend::Kind::Inconsistent,
                "generate",
                message,
            )));
        }
        let key = Arc::new(KeyRef {
            material: reservation.material,
            object: material.object,
            algorithm: reservation.algorithm,
            public: material.public,
        });
        let certificate = self.certify(backend.as_ref(), name, &key, issuer).await?;
        let KeyRef { object, public, .. } = (*key).clone();
        let kid = thumbprint::kid(&public);
        Ok(Born { kid, object: object.to_string(), public, certificate })
    }

    /// The key's self-signed certificate: the only thing that it signs before it is current.
    async fn certify(
        &self,
        backend: &dyn backend::Backend,
        name: &BackendName,
        key: &Arc<KeyRef>,
        issuer: &Issuer,
    ) -> Result<Vec<u8>, Error> {
        let fault =
            |error: crate::x509::certificate::Error| Error::Fault(format!("certificate: {error}"));
        let (shape, now) = (self.0.parts.certificates, self.now());
        let serial = random()?;
        let draft = Draft::of_shape(shape, &key.public, key.algorithm, issuer.host(), serial, now)
            .map_err(fault)?;
        let input = Input::Message(draft.to_be_signed().to_vec().into());
        let deadline = deadline_in(CERTIFY_MAX);
        let signature = backend.sign(key, input, deadline).await;
        let failed = |source| Error::Backend { name: name.clone(), source };
        let signature = signature.map_err(failed)?;
        // The first proof that the private key belongs to the public one, before anyone relies on it.
        if !verify::verifies(&key.public, key.algorithm, draft.to_be_signed(), &signature) {
            let why = "a new key's signature does not verify with its own public key";
            let error = backend::Error::new(backend::Kind::Inconsistent, "generate", why);
            return Err(failed(error));
        }
        draft.finish(&signature).map_err(fault)
    }

    /// Tells the backend that a key is out of use for good. The store's word has been given
    /// already: this only makes the backend forget what it keeps at hand.
    pub(super) async fn disable(&self, key: &Key) {
        let Ok(backend) = self.backend(&key.backend) else {
            return;
        };
        if let Err(error) = backend.disable(&key_ref(key)).await {
            tracing::warn!(kid = %key.kid, key_set = %key.key_set, %error, "the backend could not disable a revoked key; it will be destroyed when due");
        }
    }
}

/// Bytes from the operating system's random number generator.
pub(super) fn random<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|error| Error::Fault(format!("no random numbers: {error}")))?;
    Ok(bytes)
}

/// The instant that comes `wait` from now.
pub(super) fn deadline_in(wait: Duration) -> Instant {
    Instant::now() + wait
}
