//! Requests that may be repeated, and changes that outlive whoever asked for them.
//!
//! A change runs in a task of its own: a caller that hangs up, or whose deadline passes, does not
//! stop it half-way. A repeat of the same request waits for the first and returns its answer.

use super::{Barrier, Changed, Context, Error, Keyring};
use crate::key::{Hold, Key, KeySet, KeySetId, Kid, Policy, Service, State, earlier};
use crate::store::{self, Answer, RequestKey};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How long an answer can be repeated.
const KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// A change that was asked for, while it is being made.
#[derive(Clone)]
pub(super) struct Job {
    pub(super) caller: String,
    pub(super) request: String,
    repeatable: Option<(RequestKey, [u8; 32])>,
    committed: Arc<AtomicBool>,
}

impl Job {
    /// A change that the clock asks for.
    pub(super) fn by_clock() -> Self {
        Self {
            caller: "signkeep".to_owned(),
            request: String::new(),
            repeatable: None,
            committed: Arc::default(),
        }
    }

    pub(super) fn committed(&self) {
        self.committed.store(true, Ordering::Release);
    }

    /// The answer to be kept with the change, if the request may be repeated.
    pub(super) fn answer(
        &self,
        now: jiff::Timestamp,
        set: &KeySet,
        subject: Option<Kid>,
        caches_at_risk: &[String],
    ) -> Result<Option<Answer>, Error> {
        let Some((request, asked)) = &self.repeatable else {
            return Ok(None);
        };
        let told = Told {
            service: set.service,
            rotation_hold: set.rotation_hold,
            policy: set.policy.clone(),
            undo: set.undo,
            keys: set.keys.iter().map(|key| (key.kid, key.state.clone())).collect(),
            subject,
            caches_at_risk: caches_at_risk.to_vec(),
        };
        let body = serde_json::to_string(&told).map_err(|error| Error::Fault(error.to_string()))?;
        let request = request.clone();
        Ok(Some(Answer { request, asked: *asked, time: now, body }))
    }
}

/// An answer as it is kept: what may have changed since, and not what never does.
#[derive(Serialize, Deserialize)]
struct Told {
    service: Service,
    rotation_hold: Hold,
    policy: Policy,
    undo: Option<Kid>,
    keys: Vec<(Kid, State)>,
    subject: Option<Kid>,
    caches_at_risk: Vec<String>,
}

impl Keyring {
    /// Makes a change: once for each request id, to its end, and answered within the deadline.
    pub(super) async fn once<F, Fut>(
        &self,
        context: Context,
        id: &KeySetId,
        asked: Asked,
        act: F,
    ) -> Result<Changed, Error>
    where
        F: FnOnce(Self, Job) -> Fut + Send + 'static,
        Fut: Future<Output = Result<Changed, Error>> + Send + 'static,
    {
        let place =
            Arc::clone(&self.0.changes).try_acquire_owned().map_err(|_| Error::Overloaded)?;
        let job = Job {
            repeatable: context.request_id.map(|request_id| {
                let request_id = request_id.as_str().to_owned();
                (RequestKey { caller: context.caller.clone(), request_id }, asked.0)
            }),
            caller: context.caller,
            request: context.request,
            committed: Arc::default(),
        };
        let committed = Arc::clone(&job.committed);
        let (ring, id) = (self.clone(), id.clone());
        let task = tokio::spawn(async move {
            let _place = place;
            let Some((request, asked)) = job.repeatable.clone() else {
                return act(ring, job).await;
            };
            let _turn = ring.0.repeating.lock(&request).await;
            match ring.answered(&id, &request, asked).await? {
                Some(changed) => Ok(changed),
                None => act(ring, job).await,
            }
        });
        match tokio::time::timeout_at(context.deadline.into(), task).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(panic)) => Err(Error::Fault(panic.to_string())),
            Err(_) => Err(Error::DeadlineExceeded { committed: committed.load(Ordering::Acquire) }),
        }
    }

    /// Drops answers that can no longer be repeated.
    pub(super) async fn drop_old_answers(&self) -> Result<(), store::Error> {
        self.store().drop_answers(earlier(self.now(), KEPT)).await
    }

    async fn answered(
        &self,
        id: &KeySetId,
        request: &RequestKey,
        asked: [u8; 32],
    ) -> Result<Option<Changed>, Error> {
        // One that has had its time must not stand in the way of a new one.
        self.drop_old_answers().await.map_err(Error::Store)?;
        let since = earlier(self.now(), KEPT);
        let Some(answer) = self.store().answer(request, since).await.map_err(Error::Store)? else {
            return Ok(None);
        };
        if answer.asked != asked {
            return Err(Error::RequestIdReused);
        }
        let told: Told =
            serde_json::from_str(&answer.body).map_err(|error| Error::Fault(error.to_string()))?;
        self.retell(id, told).await.map(Some)
    }

    async fn retell(&self, id: &KeySetId, told: Told) -> Result<Changed, Error> {
        let mut keys = Vec::with_capacity(told.keys.len());
        for (kid, state) in told.keys {
            let key = self.store().key(id, &kid).await.map_err(Error::Store)?;
            let key = key.ok_or_else(|| Error::Fault(format!("key {kid} is not in the store")))?;
            keys.push(Arc::new(Key { state, ..key }));
        }
        let set = self.store().key_set(id).await.map_err(Error::Store)?;
        let set = set.ok_or_else(|| Error::Fault(format!("key set {id} is not in the store")))?;
        let subject = told.subject.and_then(|kid| keys.iter().find(|key| key.kid == kid).cloned());
        let barrier = Barrier::all(set.revision);
        let Told { service, rotation_hold, policy, undo, caches_at_risk, .. } = told;
        let key_set = Arc::new(KeySet { service, rotation_hold, policy, undo, keys, ..set });
        Ok(Changed { key_set, subject, replayed: true, barrier, caches_at_risk })
    }
}

/// A hash of everything that a request asks.
pub(super) struct Asked([u8; 32]);

impl Asked {
    /// SHA-256 over the verb, the key set and the request as JSON. The names in that JSON are kept
    /// from one version to the next, and a field that is added later is left out where it is not
    /// set, so that a repeat is known again after an upgrade.
    pub(super) fn new(verb: &str, id: &KeySetId, request: &impl Serialize) -> Result<Self, Error> {
        let asked = serde_json::to_vec(&(verb, id, request));
        let asked = asked.map_err(|error| Error::Fault(error.to_string()))?;
        Ok(Self(Sha256::digest(asked).into()))
    }
}
