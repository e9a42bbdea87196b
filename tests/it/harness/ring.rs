//! A keyring on a real store and a vault, in memory unless a test has another, with a clock that
//! stands still: lives that begin and end while store and vault remain.

use super::fuse::{Fuse, FusedBackend, FusedStore};
use super::memory::{Memory, soon};
use jiff::Timestamp;
use signkeep::audit::{Origin, Recorder};
use signkeep::backend::{Backend, Input};
use signkeep::clock::{Clock, FrozenClock};
#[cfg(feature = "aws-kms")]
use signkeep::key::Service;
use signkeep::key::{
    Algorithm, Approval, Emergency, KeySet, KeySetId, Kid, Policy, PublicKey, PublicationLimits,
};
use signkeep::keyring::{
    Changed, Context, Create, Error, Keyring, Mode, OpenError, Parts, Revoke, Rollback, Rotate,
    Sign, Signed,
};
use signkeep::metrics::Metrics;
use signkeep::store::Store;
use signkeep::store::sqlite::SqliteStore;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

/// What outlives a process.
pub(crate) struct World<V = Memory> {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) vault: Arc<V>,
    pub(crate) clock: Arc<FrozenClock>,
    pub(crate) metrics: Metrics,
    /// What signatures are recorded by.
    pub(crate) recorder: Recorder,
    _dir: Arc<TempDir>,
}

/// One process.
#[derive(Clone)]
pub(crate) struct Life {
    pub(crate) ring: Keyring,
    pub(crate) id: KeySetId,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::on(Memory::new()).await
    }
}

impl<V: Backend> World<V> {
    pub(crate) async fn on(vault: Arc<V>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&dir.path().join("signkeep.db")).await.unwrap();
        let start = Timestamp::from_second(1_800_000_000).unwrap();
        let clock = Arc::new(FrozenClock::at(start));
        Self {
            store: Arc::new(store),
            vault,
            recorder: Recorder::none(Arc::clone(&clock) as Arc<dyn Clock>),
            clock,
            metrics: Metrics::new(),
            _dir: Arc::new(dir),
        }
    }

    /// The same store and clock with another vault, or the same vault as another process has it.
    #[cfg(feature = "aws-kms")]
    pub(crate) fn with(&self, vault: Arc<V>) -> Self {
        Self {
            store: Arc::clone(&self.store),
            vault,
            clock: Arc::clone(&self.clock),
            metrics: self.metrics.clone(),
            recorder: self.recorder.clone(),
            _dir: Arc::clone(&self._dir),
        }
    }

    pub(crate) async fn life(&self) -> Life {
        self.life_with(&Fuse::none()).await
    }

    pub(crate) async fn life_with(&self, fuse: &Arc<Fuse>) -> Life {
        let ring = Keyring::open(self.parts(fuse, Duration::from_secs(15))).await.unwrap();
        Life { ring, id: "default".parse().unwrap() }
    }

    /// A process that is configured to let the JWKS be kept for `max_age`.
    pub(crate) async fn start_with_max_age(&self, max_age: Duration) -> Result<Keyring, OpenError> {
        Keyring::open(self.parts(&Fuse::none(), max_age)).await
    }

    fn parts(&self, fuse: &Arc<Fuse>, max_age: Duration) -> Parts {
        let backend: Arc<dyn Backend> =
            Arc::new(FusedBackend(Arc::clone(&self.vault) as Arc<dyn Backend>, Arc::clone(fuse)));
        Parts {
            store: Arc::new(FusedStore(Arc::clone(&self.store), Arc::clone(fuse))),
            backends: BTreeMap::from([(self.vault.name().clone(), backend)]),
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
            limits: PublicationLimits {
                max_age,
                stale_while_revalidate: Duration::from_secs(15),
                lease: Duration::from_secs(60),
            },
            certificates: Default::default(),
            metrics: self.metrics.clone(),
            recorder: self.recorder.clone(),
        }
    }
}

pub(crate) fn tester() -> Origin {
    Origin { caller: "tester".into(), listener: "test".into(), request: "request".into() }
}

pub(crate) fn context(request_id: Option<&str>) -> Context {
    Context {
        origin: tester(),
        deadline: soon(),
        request_id: request_id.map(|id| id.parse().unwrap()),
    }
}

impl Life {
    pub(crate) fn set(&self) -> Arc<KeySet> {
        self.ring.key_set(&self.id).unwrap()
    }

    pub(crate) fn current(&self) -> Kid {
        self.set().current().unwrap().kid
    }

    pub(crate) fn next(&self) -> Kid {
        self.set().next().unwrap().kid
    }

    pub(crate) fn creation(&self) -> Create {
        Create {
            id: self.id.clone(),
            algorithm: Algorithm::Es256,
            backend: None,
            issuer: "https://issuer.example/".parse().unwrap(),
            policy: Policy { destroy_after: Duration::ZERO, ..Policy::default() },
        }
    }

    pub(crate) async fn create(&self) -> Result<Changed, Error> {
        self.ring.create(context(None), self.creation()).await
    }

    pub(crate) fn rotation(&self, approval: Approval) -> Rotate {
        Rotate {
            key_set: self.id.clone(),
            expected_current: None,
            approval,
            reason: "a test".to_owned(),
            mode: Mode::Commit,
        }
    }

    pub(crate) async fn rotate(&self) -> Result<Changed, Error> {
        self.ring.rotate(context(None), self.rotation(Approval::Forced)).await
    }

    pub(crate) fn revocation(&self, kid: Kid, emergency: Emergency) -> Revoke {
        Revoke {
            key_set: self.id.clone(),
            kid,
            approval: Approval::Forced,
            emergency,
            reason: "a test".to_owned(),
            mode: Mode::Commit,
        }
    }

    pub(crate) async fn revoke(&self, kid: Kid, emergency: Emergency) -> Result<Changed, Error> {
        self.ring.revoke(context(None), self.revocation(kid, emergency)).await
    }

    /// Enables, disables or deletes the key set.
    #[cfg(feature = "aws-kms")]
    pub(crate) async fn serve(&self, service: Service) -> Result<Changed, Error> {
        let (id, reason) = (self.id.clone(), "a test".to_owned());
        self.ring.set_service(context(None), id, service, reason).await
    }

    pub(crate) async fn roll_back(&self) -> Result<Changed, Error> {
        let rollback = Rollback {
            key_set: self.id.clone(),
            expected_current: None,
            reason: String::new(),
            mode: Mode::Commit,
        };
        self.ring.roll_back(context(None), rollback).await
    }

    pub(crate) async fn sign(&self, message: &'static [u8]) -> Result<Signed, Error> {
        let input = Input::Message(message.into());
        self.ring
            .sign(&tester(), soon(), Sign { key_set: self.id.clone(), input, expected: None })
            .await
    }
}

/// Whether `signed` is a signature over `message` by one of the keys that `set` publishes.
pub(crate) fn verifies(set: &KeySet, signed: &Signed, message: &[u8]) -> bool {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
    let published = set.published();
    let Some(key) = published.iter().find(|key| key.kid == signed.kid) else { return false };
    let PublicKey::Ec { x, y, .. } = &key.public else { return false };
    let point = [&[4], x.as_slice(), y.as_slice()].concat();
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
        .verify(message, &signed.signature)
        .is_ok()
}
