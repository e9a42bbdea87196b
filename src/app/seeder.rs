//! Makes the key sets that the configuration names and the service lacks.
//!
//! What the file says of a key set that exists is not applied: it is compared and reported. A
//! backend that is out keeps nothing else waiting; its key sets are tried again until they stand.

use crate::audit::Origin;
use crate::backend;
use crate::config::{Present, Seed, differences};
use crate::key::KeySetId;
use crate::keyring::{Context, Create, Error, Keyring};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long one key set may take: two keys are generated, perhaps RSA in a slow HSM.
const PATIENCE: Duration = Duration::from_secs(120);
const PAUSE_FIRST: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// The key sets that are still to be looked after.
pub(super) struct Seeder {
    keyring: Keyring,
    left: BTreeMap<KeySetId, Seed>,
}

impl Seeder {
    pub(super) fn new(keyring: Keyring, seeds: BTreeMap<KeySetId, Seed>) -> Self {
        Self { keyring, left: seeds }
    }

    /// Tries each once; what is left then, if anything.
    pub(super) async fn once(self) -> Option<Self> {
        let Self { keyring, left } = self;
        let mut again = BTreeMap::new();
        for (id, seed) in left {
            if settle(&keyring, &id, &seed).await == Settled::TryAgain {
                again.insert(id, seed);
            }
        }
        (!again.is_empty()).then_some(Self { keyring, left: again })
    }

    /// Tries again until nothing is left.
    pub(super) async fn until_done(self) {
        let mut pause = PAUSE_FIRST;
        let mut seeder = self;
        loop {
            tokio::time::sleep(pause).await;
            pause = pause.saturating_mul(2).min(PAUSE_MAX);
            match seeder.once().await {
                Some(left) => seeder = left,
                None => return,
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Settled {
    Done,
    TryAgain,
}

async fn settle(keyring: &Keyring, id: &KeySetId, seed: &Seed) -> Settled {
    match keyring.key_set(id) {
        Ok(present) => {
            let present = Present {
                algorithm: present.algorithm.name().to_owned(),
                backend: present.backend.to_string(),
                issuer: present.issuer.to_string(),
                policy: present.policy.clone(),
            };
            for difference in differences(seed, &present) {
                tracing::warn!(
                    key_set = %id,
                    setting = difference.field,
                    file = %difference.file,
                    service = %difference.service,
                    "the configuration differs from the key set and is not applied; see `signkeep config diff`",
                );
            }
            Settled::Done
        }
        Err(Error::KeySetNotFound { .. }) => create(keyring, id, seed).await,
        Err(error) => {
            tracing::error!(key_set = %id, %error, "the key set cannot be looked up");
            Settled::TryAgain
        }
    }
}

async fn create(keyring: &Keyring, id: &KeySetId, seed: &Seed) -> Settled {
    let context = Context {
        origin: Origin::service(&format!("configuration/{id}")),
        deadline: Instant::now() + PATIENCE,
        request_id: None,
    };
    let create = Create {
        id: id.clone(),
        algorithm: seed.algorithm,
        backend: Some(seed.backend.clone()),
        issuer: seed.issuer.clone(),
        policy: seed.policy.clone(),
    };
    match keyring.create(context, create).await {
        Ok(_) => {
            tracing::info!(key_set = %id, algorithm = seed.algorithm.name(), "key set created");
            Settled::Done
        }
        Err(Error::KeySetExists { .. }) => {
            tracing::warn!(key_set = %id, "the key set was deleted; its name is not used again");
            Settled::Done
        }
        Err(error) if is_passing(&error) => {
            tracing::warn!(key_set = %id, %error, "the key set cannot be created yet");
            Settled::TryAgain
        }
        Err(error) => {
            tracing::error!(key_set = %id, %error, "the key set cannot be created");
            Settled::Done
        }
    }
}

/// Whether time may mend it.
fn is_passing(error: &Error) -> bool {
    match error {
        Error::Backend { source, .. } => source.kind != backend::Kind::Unsupported,
        Error::Store(_) | Error::DeadlineExceeded { .. } | Error::Fault(_) => true,
        _ => false,
    }
}
