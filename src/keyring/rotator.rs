//! What the clock asks for: missing keys, rotation, retirement, destruction, and the ends of what
//! failed before.
//!
//! What is due is thought out by [`crate::key::plan`] and done by the same verbs that operators
//! use. What fails is tried again after a pause that doubles, and is loud every time.

use super::change::{Decision, Entry, Verdict};
use super::generate::Brief;
use super::repeat::Job;
use super::snapshot::key_ref;
use super::{Error, Keyring, Mode, Rotate, locked};
use crate::audit::Action;
use crate::key::{
    Act, Approval, BackendName, KeySet, KeySetId, Kid, Place, Refusal, Step, later, plan,
};
use crate::store;
use futures_util::future::join_all;
use jiff::Timestamp;
use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

/// How often the plan is looked at when nothing wakes the rotator.
const PAUSE: Duration = Duration::from_secs(1);
/// The first pause after a failure; it doubles up to [`BACKOFF_MAX`].
const BACKOFF_MIN: Duration = Duration::from_millis(500);
const BACKOFF_MAX: Duration = Duration::from_secs(60);
/// How often old answers are dropped.
const HOUSEKEEPING: Duration = Duration::from_secs(60 * 60);

/// What has failed, and when it is worth another try.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    steps: HashMap<(KeySetId, Act), (Timestamp, Duration)>,
    /// Material that is not wanted is still to be destroyed.
    pub(super) leftovers: bool,
    swept: Option<(Timestamp, Duration)>,
    kept_house: Option<Timestamp>,
    look_around_at: Option<Timestamp>,
}

impl Keyring {
    /// Does what is due, whenever it is due, until `stop` completes.
    pub async fn run_rotator(&self, stop: impl Future<Output = ()> + Send) {
        tokio::select! {
            () = stop => {}
            // Each goes its own way: a doubt is cleared however long a backend takes over
            // something else.
            never = async {
                tokio::join!(
                    self.again_and_again(Self::try_to_clear_doubt),
                    self.again_and_again(Self::keep_house),
                    self.again_and_again(Self::do_what_is_due),
                )
            } => match never.0 {},
        }
    }

    /// Does everything that is due now, once.
    pub async fn tick(&self) {
        self.try_to_clear_doubt().await;
        self.keep_house().await;
        self.do_what_is_due().await;
    }

    async fn again_and_again(&self, work: impl AsyncFn(&Self)) -> Infallible {
        let mut woken = self.0.wake.subscribe();
        loop {
            work(self).await;
            tokio::select! {
                // The sender lives as long as we do.
                _ = woken.changed() => {}
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
    }

    /// Key sets of different backends do not wait for one another.
    async fn do_what_is_due(&self) {
        let snapshot = self.0.snapshot.load_full();
        let mut by_backend: BTreeMap<&BackendName, Vec<&Arc<KeySet>>> = BTreeMap::new();
        for line in snapshot.lines.values() {
            by_backend.entry(&line.set.backend).or_default().push(&line.set);
        }
        let steps = by_backend.into_values().map(|sets| async move {
            for set in sets {
                for step in plan(self.now(), set) {
                    self.attempt(set, &step).await;
                }
            }
        });
        join_all(steps).await;
    }

    async fn attempt(&self, set: &KeySet, step: &Step) {
        let name = (set.id.clone(), step.act.clone());
        let waits = locked(&self.0.backoff).steps.get(&name).copied();
        if waits.is_some_and(|(until, _)| self.now() < until) {
            return;
        }
        match self.take(set, step).await {
            Ok(()) => {
                locked(&self.0.backoff).steps.remove(&name);
            }
            Err(error) => {
                let pause = waits.map_or(BACKOFF_MIN, |(_, pause)| (pause * 2).min(BACKOFF_MAX));
                let until = later(self.now(), pause);
                locked(&self.0.backoff).steps.insert(name, (until, pause));
                self.0.parts.metrics.due_failed(&set.id, step.act.name());
                tracing::error!(
                    key_set = %set.id, action = step.act.name(), why = step.why, due = %step.due, %error,
                    retry_in_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX),
                    "what is due could not be done"
                );
            }
        }
    }

    async fn take(&self, set: &KeySet, step: &Step) -> Result<(), Error> {
        match &step.act {
            Act::Generate(place) => self.mend(&set.id, *place, step.why).await,
            Act::Rotate => self.rotate_by_clock(set, step.why).await,
            Act::Retire(kid) => {
                let (kid, why) = (*kid, step.why);
                self.by_clock(&set.id, kid, Action::Retire, why, |set, now| set.retire(now, kid))
                    .await
            }
            Act::Destroy(kid) => self.destroy(set, *kid, step.why).await,
        }
    }

    /// Generates what a key set lacks.
    async fn mend(&self, id: &KeySetId, place: Place, why: &'static str) -> Result<(), Error> {
        let _turn = self.0.generating.lock(id).await;
        let set = self.standing(id)?;
        let missing = set.missing();
        let wanted = match place {
            Place::Current => missing.current,
            Place::Next => missing.next,
        };
        if !wanted {
            return Ok(());
        }
        let job = Job::by_clock();
        self.generate_and(Brief::from(&*set), |fresh| async move {
            let decide = |set: &KeySet, now| {
                let fresh = fresh.publish(now, &set.policy);
                let kid = fresh.kid;
                Ok(clockwork(set.mend(now, place, fresh)?, kid, Action::Mend, why))
            };
            self.change(id, &job, decide).await.map(drop)
        })
        .await
    }

    async fn rotate_by_clock(&self, set: &KeySet, why: &'static str) -> Result<(), Error> {
        let rotate = Rotate {
            key_set: set.id.clone(),
            expected_current: set.current().map(|key| key.kid),
            approval: Approval::Guarded,
            reason: why.to_owned(),
            mode: Mode::Commit,
        };
        self.rotate_once(&Job::by_clock(), &rotate).await.map(drop)
    }

    /// The material first, then the record of it: a crash in between destroys once more, which is
    /// nothing.
    async fn destroy(&self, set: &KeySet, kid: Kid, why: &'static str) -> Result<(), Error> {
        let key = set.key(&kid).ok_or(Refusal::KeyNotFound { kid })?;
        let reference = key_ref(key);
        let backend = self.backend(&key.backend)?;
        backend.disable(&reference).await.map_err(|source| failed(key, source))?;
        let destroyed = backend.destroy(reference.material, Some(&reference.object)).await;
        destroyed.map_err(|source| failed(key, source))?;
        self.by_clock(&set.id, kid, Action::Destroy, why, |set, now| set.destroyed(now, kid)).await
    }

    async fn by_clock(
        &self,
        id: &KeySetId,
        kid: Kid,
        action: Action,
        why: &'static str,
        step: impl Fn(&KeySet, Timestamp) -> Result<KeySet, Refusal> + Send + Sync,
    ) -> Result<(), Error> {
        let decide = |set: &KeySet, now| Ok(clockwork(step(set, now)?, kid, action, why));
        self.change(id, &Job::by_clock(), decide).await.map(drop)
    }

    async fn try_to_clear_doubt(&self) {
        if let Err(error) = self.clear_doubt().await {
            tracing::error!(%error, "the store does not say whether a change was made; asking again");
        }
    }

    async fn keep_house(&self) {
        let now = self.now();
        if self.sweep_is_due(now)
            && let Err(error) = self.sweep().await
        {
            locked(&self.0.backoff).leftovers = true;
            tracing::warn!(%error, "material that is not wanted is still to be destroyed");
        }
        let due =
            |last: Option<Timestamp>| last.is_none_or(|last| later(last, HOUSEKEEPING) <= now);
        let kept = locked(&self.0.backoff).kept_house;
        if due(kept) {
            locked(&self.0.backoff).kept_house = Some(now);
            let dropped: Result<(), store::Error> = self.drop_old_answers().await;
            if let Err(error) = dropped {
                tracing::warn!(%error, "old answers could not be dropped");
            }
        }
        let look_at = locked(&self.0.backoff).look_around_at;
        if look_at.is_none_or(|at| at <= now) {
            // While a backend is out nothing is proven, and every look reads the whole store.
            let pause = match self.look_around().await {
                Ok(()) => HOUSEKEEPING,
                Err(error) => {
                    tracing::warn!(%error, "what the backends hold could not be compared with the store; it is tried again in a minute");
                    BACKOFF_MAX
                }
            };
            locked(&self.0.backoff).look_around_at = Some(later(now, pause));
        }
    }

    fn sweep_is_due(&self, now: Timestamp) -> bool {
        let waiting = !locked(&self.0.unwanted).is_empty();
        let mut backoff = locked(&self.0.backoff);
        if !waiting && !backoff.leftovers {
            backoff.swept = None;
            return false;
        }
        let due = backoff.swept.is_none_or(|(until, _)| until <= now);
        if due {
            let pause =
                backoff.swept.map_or(BACKOFF_MIN, |(_, pause)| (pause * 2).min(BACKOFF_MAX));
            backoff.swept = Some((later(now, pause), pause));
            backoff.leftovers = false;
        }
        due
    }
}

impl Act {
    const fn name(&self) -> &'static str {
        match self {
            Self::Generate(Place::Current) => "generate_current",
            Self::Generate(Place::Next) => "generate_next",
            Self::Rotate => "rotate",
            Self::Retire(_) => "retire",
            Self::Destroy(_) => "destroy",
        }
    }
}

fn clockwork(after: KeySet, kid: Kid, action: Action, why: &str) -> Verdict {
    let record = Entry { action, reason: why.to_owned(), detail: String::new() };
    Verdict::Change(Box::new(Decision {
        after,
        subject: Some(kid),
        caches_at_risk: Vec::new(),
        record,
    }))
}

fn failed(key: &Arc<crate::key::Key>, source: crate::backend::Error) -> Error {
    Error::Backend { name: key.backend.clone(), source }
}
