//! Requests that may be repeated, and changes that outlive whoever asked for them.
//!
//! A change runs in a task of its own: a caller that hangs up, or whose deadline passes, does not
//! stop it half-way. A repeat of the same request waits for the first and returns its answer.

use super::{Barrier, Changed, Context, Error, Keyring};
use crate::audit::{Action, Origin};
use crate::key::{Hold, Key, KeySet, KeySetId, Kid, Policy, Service, State, Undo, earlier};
use crate::store::{self, Answer, RequestKey};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

/// How long an answer can be repeated.
const KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// A change that was asked for, while it is being made.
#[derive(Clone)]
pub(super) struct Job {
    pub(super) origin: Origin,
    repeatable: Option<(RequestKey, [u8; 32])>,
    deadline: Option<Instant>,
    progress: Arc<AtomicU8>,
}

/// How far a change has come, for whoever stops waiting for it.
const NOT_BEGUN: u8 = 0;
const COMMITTING: u8 = 1;
const COMMITTED: u8 = 2;

impl Job {
    /// A change that the clock asks for.
    pub(super) fn by_clock() -> Self {
        Self {
            origin: Origin::service(""),
            repeatable: None,
            deadline: None,
            progress: Arc::default(),
        }
    }

    /// Refuses to go on for a caller who has stopped waiting: nothing has been changed, and after
    /// this nothing will be.
    pub(super) fn in_time(&self) -> Result<(), Error> {
        match self.deadline {
            Some(deadline) if deadline <= Instant::now() => {
                Err(Error::DeadlineExceeded { committed: Some(false) })
            }
            _ => Ok(()),
        }
    }

    /// The last chance to stop. The flag goes up before the time is looked at: whoever finds it
    /// down after the deadline can be sure that nothing will be committed.
    pub(super) fn begin_commit(&self) -> Result<(), Error> {
        self.progress.store(COMMITTING, Ordering::SeqCst);
        self.in_time().inspect_err(|_| self.not_committed())
    }

    pub(super) fn not_committed(&self) {
        self.progress.store(NOT_BEGUN, Ordering::SeqCst);
    }

    pub(super) fn committed(&self) {
        self.progress.store(COMMITTED, Ordering::SeqCst);
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
        let shown = set.published().into_iter().chain(subject.and_then(|kid| set.key(&kid)));
        let told = Told {
            service: set.service,
            rotation_hold: set.rotation_hold,
            policy: set.policy.clone(),
            undo: set.undo,
            keys: shown.map(|key| (key.kid, key.state.clone())).collect::<BTreeMap<_, _>>(),
            subject,
            caches_at_risk: caches_at_risk.to_vec(),
        };
        let body = serde_json::to_string(&told).map_err(|error| Error::Fault(error.to_string()))?;
        let request = request.clone();
        Ok(Some(Answer { request, asked: *asked, time: now, body, revision: set.revision }))
    }
}

/// An answer as it is kept: what may have changed since, and not what never does.
#[derive(Serialize, Deserialize)]
struct Told {
    service: Service,
    rotation_hold: Hold,
    policy: Policy,
    undo: Option<Undo>,
    keys: BTreeMap<Kid, State>,
    subject: Option<Kid>,
    caches_at_risk: Vec<String>,
}

/// Which changes a change waits in line with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Queue {
    /// Those that generate a key, and may wait for a slow HSM.
    Generating,
    /// Those that do not. A revocation is never refused because rotations wait.
    Prompt,
}

impl Keyring {
    /// Makes a change: once for each request id, to its end, and answered within the deadline.
    pub(super) async fn once<F, Fut>(
        &self,
        context: Context,
        id: &KeySetId,
        asked: Asked,
        queue: Queue,
        act: F,
    ) -> Result<Changed, Error>
    where
        F: FnOnce(Self, Job) -> Fut + Send + 'static,
        Fut: Future<Output = Result<Changed, Error>> + Send + 'static,
    {
        let places = match queue {
            Queue::Generating => &self.0.generations,
            Queue::Prompt => &self.0.changes,
        };
        let origin = context.origin.clone();
        let action = asked.0;
        let place = Arc::clone(places).try_acquire_owned();
        let place = place.map_err(|_| self.not_done(&origin, action, id, Error::Overloaded))?;
        let deadline = context.deadline;
        let job = Job {
            repeatable: context.request_id.map(|request_id| {
                let request_id = request_id.as_str().to_owned();
                let caller = context.origin.caller.to_string();
                (RequestKey { caller, request_id }, asked.1)
            }),
            origin: context.origin,
            deadline: Some(deadline),
            progress: Arc::default(),
        };
        let progress = Arc::clone(&job.progress);
        let (ring, about) = (self.clone(), id.clone());
        let task = tokio::spawn(async move {
            let _place = place;
            let Some((request, asked)) = job.repeatable.clone() else {
                return act(ring, job).await;
            };
            let _turn = ring.0.repeating.lock(&request).await;
            job.in_time()?;
            match ring.answered(&about, &request, asked).await? {
                Some(changed) => Ok(changed),
                None => act(ring, job).await,
            }
        });
        let outcome = match tokio::time::timeout_at(deadline.into(), task).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(panic)) => Err(Error::Fault(panic.to_string())),
            Err(_late) => Err(Error::DeadlineExceeded {
                committed: match progress.load(Ordering::SeqCst) {
                    NOT_BEGUN => Some(false),
                    COMMITTING => None,
                    _ => Some(true),
                },
            }),
        };
        outcome.map_err(|error| self.not_done(&origin, action, id, error))
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
        // An answer may have been kept by a commit that we never heard of: memory first.
        self.clear_doubt().await?;
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
        self.retell(id, told, answer.revision).await.map(Some)
    }

    async fn retell(&self, id: &KeySetId, told: Told, revision: u64) -> Result<Changed, Error> {
        let mut keys = Vec::with_capacity(told.keys.len());
        for (kid, state) in told.keys {
            let key = self.store().key(id, &kid).await.map_err(Error::Store)?;
            let key = key.ok_or_else(|| Error::Fault(format!("key {kid} is not in the store")))?;
            keys.push(Arc::new(Key { state, ..key }));
        }
        let set = self.store().key_set(id).await.map_err(Error::Store)?;
        let set = set.ok_or_else(|| Error::Fault(format!("key set {id} is not in the store")))?;
        let subject = told.subject.and_then(|kid| keys.iter().find(|key| key.kid == kid).cloned());
        let barrier = Barrier::all(revision);
        let Told { service, rotation_hold, policy, undo, caches_at_risk, .. } = told;
        let key_set =
            Arc::new(KeySet { service, rotation_hold, policy, undo, revision, keys, ..set });
        Ok(Changed { key_set, subject, replayed: true, barrier, caches_at_risk })
    }
}

/// What a request asks, and a hash of all of it.
pub(super) struct Asked(Action, [u8; 32]);

impl Asked {
    /// SHA-256 over the verb, the key set and the request as JSON. The names in that JSON are kept
    /// from one version to the next, and a field that is added later is left out where it is not
    /// set, so that a repeat is known again after an upgrade.
    pub(super) fn new(
        action: Action,
        id: &KeySetId,
        request: &impl Serialize,
    ) -> Result<Self, Error> {
        let asked = serde_json::to_vec(&(action.as_str(), id, request));
        let asked = asked.map_err(|error| Error::Fault(error.to_string()))?;
        Ok(Self(action, Sha256::digest(asked).into()))
    }
}
